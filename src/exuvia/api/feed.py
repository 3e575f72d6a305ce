"""
The feed of one gateway: a snapshot or what it missed, then every change as it is committed.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated

import msgspec

from exuvia.api import gateways
from exuvia.api.control import Control
from exuvia.api.devices import Revision
from exuvia.api.hub import Subscriber, change_lines, heartbeat, line
from exuvia.api.routes import Call, Receive, Scope, Send
from exuvia.api.tables import Digested
from exuvia.messages import Snapshot, SnapshotEnd, SnapshotPeers
from exuvia.store import peers
from exuvia.store.peers import Difference, Position
from exuvia.system import clock
from exuvia.wg.peers import TunnelPeer

HEARTBEAT = 15.0
"""Seconds of silence after which a gateway is told that nothing happened."""
SLOWEST_READER = 30.0
"""Seconds that a gateway may take to accept what is sent."""
PEERS_A_LINE = 256

_HEADERS = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]


class FeedQuery(msgspec.Struct, frozen=True):
    """The query of GET /v1/feed: where the gateway is; nothing if it knows nothing."""

    epoch: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    revision: Revision = 0


async def stream(call: Call, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /v1/feed."""
    control, gateway = call.control, gateways.of(call)
    asked = Position(call.query.epoch or "", call.query.revision)
    await gateways.require_not_ahead(control, gateway, asked)
    control.fleet.hear(gateway.name, now=clock.boottime())
    subscriber = control.hub.subscribe(gateway.token_hash)
    watch = asyncio.ensure_future(_close_when_gone(subscriber, receive))
    try:
        first = await _beginning(control, asked)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        control.count(200)
        async with contextlib.aclosing(_messages(first, subscriber)) as messages:
            async for revision, data in messages:
                control.fleet.tell(gateway.name, revision)
                async with asyncio.timeout(SLOWEST_READER):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
    except TimeoutError:
        scope.get("abort", _nothing)()
    finally:
        control.hub.unsubscribe(subscriber)
        watch.cancel()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _beginning(control: Control, asked: Position) -> Digested | Difference:
    """Return what brings the gateway to at least where we were when it subscribed."""
    subscribed_at = control.hub.at
    if asked.epoch == subscribed_at.epoch:
        missed = await control.store.reader.run(
            lambda connection: peers.changes_after(connection, asked.revision)
        )
        if missed is not None:
            return missed
    return await control.tables.at_least(subscribed_at.revision)


async def _messages(
    first: Digested | Difference, subscriber: Subscriber
) -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield all that is to be sent, with the revision it leads to, until the subscription ends."""
    at = first.at
    for data in _snapshot(first) if isinstance(first, Digested) else _missed(first):
        yield at.revision, data
    while not subscriber.closed:
        waiting = await subscriber.next(HEARTBEAT)
        # What was committed before the table was read is in it already.
        news = [(revision, data) for revision, data in waiting if revision > at.revision]
        if news:
            at = Position(at.epoch, news[-1][0])
            yield at.revision, b"".join(data for _, data in news)
        elif not waiting and not subscriber.closed:
            yield at.revision, heartbeat(at)


def _snapshot(table: Digested) -> Iterator[bytes]:
    packed, step = table.packed, PEERS_A_LINE * TunnelPeer.LENGTH
    yield line(Snapshot(table.at.epoch, table.at.revision, len(packed) // TunnelPeer.LENGTH))
    for start in range(0, len(packed), step):
        part = packed[start : start + step]
        yield line(
            SnapshotPeers(
                [part[at : at + TunnelPeer.LENGTH] for at in range(0, len(part), TunnelPeer.LENGTH)]
            )
        )
    yield line(SnapshotEnd(table.digest))


def _missed(difference: Difference) -> Iterator[bytes]:
    changes = change_lines(difference, difference.at.epoch)
    yield b"".join(data for _, data in changes) or heartbeat(difference.at)


async def _close_when_gone(subscriber: Subscriber, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.close()


def _nothing() -> None:
    """Outside of a server there is no connection to cut."""
