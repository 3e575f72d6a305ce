"""
Where commits become feed messages: encoded once, and given to every gateway that listens.
"""

import asyncio
from collections import deque

import msgspec

from exuvia.messages import Change, Heartbeat
from exuvia.store.peers import Difference, Position
from exuvia.store.writer import Committed

LONGEST_QUEUE = 8 * 1024 * 1024
"""Bytes that may wait for one gateway; a slower one is cut off, and asks again when it can."""
LONGEST_CHANGE = 1000
"""Peers in one message, so that no line grows without bound."""

_encode = msgspec.json.Encoder().encode


def line(message: msgspec.Struct) -> bytes:
    """Return a feed message as it travels."""
    return _encode(message) + b"\n"


def heartbeat(at: Position) -> bytes:
    """Return the message that says: nothing new, and the table is at this position."""
    return line(Heartbeat(at.epoch, at.revision))


def change_lines(change: Committed | Difference, epoch: str) -> list[tuple[int, bytes]]:
    """
    Return the messages of a change, each with the revision it leads to; removals come first.

    A change too large for one message is cut. What it says of each peer is how the peer is
    at the end, so being told a part of it early does no harm.
    """
    last = change.at.revision if isinstance(change, Difference) else change.revision
    steps = [(key, b"") for key in change.remove] + [(b"", peer) for peer in change.put]
    lines, after = [], change.after
    for start in range(0, len(steps), LONGEST_CHANGE):
        part = steps[start : start + LONGEST_CHANGE]
        is_last = start + LONGEST_CHANGE >= len(steps)
        revision = last if is_last else after + len(part)
        put = [bytes(peer) for _, peer in part if peer]
        remove = [bytes(key) for key, _ in part if key]
        lines.append((revision, line(Change(epoch, after, revision, put, remove))))
        after = revision
    return lines


class Subscriber:
    """What waits to be sent to one gateway."""

    def __init__(self, token_hash: bytes) -> None:
        self.token_hash = token_hash
        """Of the token with which it was asked for."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self.closed = False

    def offer(self, revision: int, message: bytes) -> None:
        """Queue a message; a queue that grows too long closes the subscription."""
        if self.closed:
            return
        self._waiting.append((revision, message))
        self._size += len(message)
        if self._size > LONGEST_QUEUE:
            self.close()
        self._wake.set()

    def close(self) -> None:
        """End the subscription; whoever waits for messages is told."""
        self.closed = True
        self._waiting.clear()
        self._wake.set()

    async def next(self, patience: float) -> list[tuple[int, bytes]]:
        """Return what waits, or nothing when the time (in seconds) is over or it is closed."""
        if not self._waiting and not self.closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                return []
        messages = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return messages


class Hub:
    """Knows the latest position, and tells everybody who subscribed of each change."""

    def __init__(self, at: Position) -> None:
        self.at = at
        self._subscribers: set[Subscriber] = set()

    def publish(self, committed: Committed) -> None:
        """Tell all subscribers of a commit."""
        self.at = Position(committed.epoch, committed.revision)
        if self._subscribers:
            for revision, message in change_lines(committed, committed.epoch):
                for subscriber in self._subscribers:
                    subscriber.offer(revision, message)

    def subscribe(self, token_hash: bytes = b"") -> Subscriber:
        """Return a subscription to everything after the present position."""
        subscriber = Subscriber(token_hash)
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forget a subscription."""
        subscriber.close()
        self._subscribers.discard(subscriber)

    def cut(self, token_hash: bytes) -> None:
        """End the subscriptions of a token that is good no more."""
        for subscriber in self._subscribers:
            if subscriber.token_hash == token_hash:
                subscriber.close()

    def close(self) -> None:
        """End all subscriptions."""
        for subscriber in self._subscribers:
            subscriber.close()

    def __len__(self) -> int:
        return len(self._subscribers)
