"""
How a gateway's peer table follows the control plane's: in order, whole, and never backwards.

A revision only means something within its epoch, which is drawn anew whenever a database is
restored. What can't be confirmed any more is served for one lease, and then dropped.

Every time is seconds of CLOCK_BOOTTIME.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import inf
from typing import NamedTuple

from exuvia.errors import FeedGap, MalformedSnapshot, RevisionWentBackwards
from exuvia.rules.table import PeerTable
from exuvia.wg.peers import TunnelPeer

LEASE = 86_400.0
"""Seconds for which a gateway serves what nothing confirms, unless the operator says otherwise."""

MOST_PEERS = 1 << 20
"""As many as the kernel lets an interface have (MAX_PEERS_PER_DEVICE)."""

DIGEST_LENGTH = 32
_ALL_BITS = (1 << 8 * DIGEST_LENGTH) - 1


def table_digest(peers: Iterable[bytes]) -> bytes:
    """
    Return the digest of a set of packed peers, whatever their order.

    The sum of a hash for each, modulo 2^256: it guards against a table cut short or mixed
    up, not against the control plane, which is free to send any table.
    """
    return _digest(sum(map(_row_hash, peers)))


class Position(NamedTuple):
    """Which table a gateway has: that of a revision in an epoch."""

    epoch: str
    revision: int


class Update(NamedTuple):
    """What an application of the feed changed in the table; removals come first."""

    removed: list[TunnelPeer]
    put: list[TunnelPeer]


class Staging:
    """
    A snapshot on its way in: nothing of it counts until it is complete.

    It is gathered in a copy of the present table, which shares all that stays the same: a second
    table of its own would cost a gateway as much memory again.
    """

    __slots__ = ("_left", "_sum", "_waiting", "missing", "position", "put", "table")

    def __init__(self, position: Position, count: int, table: PeerTable) -> None:
        self.position = position
        self.table = table.copy()
        self.put: list[TunnelPeer] = []
        """Rows that are new, or other than before."""
        self.missing = set(table.peers)
        """Keys of the present table that have not come."""
        self._waiting: list[TunnelPeer] = []
        self._left = count
        self._sum = 0

    def add(self, peer: TunnelPeer) -> None:
        """Take a row in; MalformedSnapshot if there are more than were announced, or one comes twice."""
        key = peer[:32]
        present = self.table.peers.get(key)
        if not self._left or (present is not None and key not in self.missing):
            raise MalformedSnapshot("a snapshot has other rows than it announced")
        self._left -= 1
        self._sum += _row_hash(peer)
        if present == peer:
            self.missing.discard(key)
        elif self.table.fits(peer):
            self._take(peer)
        else:
            # Its address may be that of a peer that is about to leave.
            self._waiting.append(peer)

    def check(self, digest: bytes) -> None:
        """Raise MalformedSnapshot unless every row has come and the digest is theirs."""
        if self._left or _digest(self._sum) != digest:
            raise MalformedSnapshot("a snapshot arrived cut short or changed on its way")

    def settle(self) -> None:
        """Let those who are missing leave, and those who waited for an address of theirs come."""
        waiting = {peer[:32] for peer in self._waiting}
        for key in self.missing | waiting:
            self.table.remove(key)
        for peer in self._waiting:
            if self.table.fits(peer):
                self._take(peer)
            else:
                self.table.refused += 1

    def _take(self, peer: TunnelPeer) -> None:
        self.table.put(peer)
        self.missing.discard(peer[:32])
        self.put.append(peer)


class Follower:
    """
    A gateway's place in the feed and the table that it leads to.

    `position` is None until a table of the control plane was applied; the table may then hold
    what was found on the interface. `kept` are peers that the table of a new epoch lacks, with
    when they go. `rewound` is sticky: the epoch went back to an earlier revision, and nothing
    more of it is believed.
    """

    def __init__(
        self,
        table: PeerTable,
        *,
        confirmed: float,
        lease: float = LEASE,
        position: Position | None = None,
        rewound: bool = False,
        keep_until: float | None = None,
        accept_snapshot: bool = False,
    ) -> None:
        self.table = table
        self.position = position
        self.confirmed = confirmed
        self.lease = lease
        self.rewound = rewound
        self.kept: dict[bytes, float] = {}
        self._keep_until = keep_until
        self._accept_snapshot = accept_snapshot
        self._following = False

    @property
    def resume(self) -> Position | None:
        """From where to ask for changes; None if only a snapshot will do."""
        return self.position if self._following and not self.rewound else None

    @property
    def lease_ends(self) -> float:
        """When the table is dropped if nothing confirms it before."""
        return self.confirmed + self.lease

    @property
    def next_lapse(self) -> float:
        """When lapse() next has something to drop; infinitely far if never."""
        ends = min(self.kept.values(), default=inf)
        return min(ends, self.lease_ends) if self.table.peers else ends

    @property
    def keep_until(self) -> float | None:
        """When the last of the kept peers goes, or of those that may yet turn out to be kept; or None."""
        return max(self.kept.values(), default=self._keep_until)

    def begin(self, position: Position, count: int) -> Staging:
        """
        Return where a snapshot is to be gathered, or raise FeedRefused.

        In the epoch that the gateway is in, an earlier revision is a rewind.
        """
        if count > MOST_PEERS:
            raise MalformedSnapshot("a snapshot of more peers than an interface can have")
        self._require_forward(position)
        return Staging(position, count, self.table)

    def finish(self, staging: Staging, digest: bytes, *, now: float) -> Update:
        """
        Make a complete snapshot the table, and return what that changed.

        One of a new epoch that lacks more than half of the peers takes none of them away until
        their lease ends or an operator accepts it: a database that was restored, or broke, must
        not log everybody out.
        """
        staging.check(digest)
        self._require_forward(staging.position)
        staging.settle()
        before, table = self.table, staging.table
        kept = self._kept(staging, now)
        for key in kept:
            table.put(before.peers[key])
        removed = [before.peers[key] for key in staging.missing if key not in table.peers]
        self.table, self.kept = table, kept
        self.position, self.confirmed, self.rewound = staging.position, now, False
        self._following, self._accept_snapshot, self._keep_until = True, False, None
        return Update(removed, staging.put)

    def change(
        self,
        after: Position,
        revision: int,
        *,
        remove: Sequence[bytes],
        put: Sequence[TunnelPeer],
        now: float,
    ) -> Update:
        """
        Apply what came after a revision, removals first, and return what that changed.

        FeedGap if it does not follow; one that was applied already changes nothing.
        """
        if self.rewound:
            raise RevisionWentBackwards(RevisionWentBackwards.ADVICE)
        position = self.resume
        if position is None or after.epoch != position.epoch:
            raise FeedGap("a change of another epoch: a snapshot is needed")
        if revision <= position.revision:
            return Update([], [])
        if after.revision != position.revision:
            raise FeedGap("a change is missing")
        update = Update([], [])
        for key in remove:
            self._take(key, update)
        for peer in put:
            self._give(peer, update)
        self.position, self.confirmed = Position(position.epoch, revision), now
        return update

    def heartbeat(self, position: Position, *, now: float) -> None:
        """Take the control plane's word that the table is as it should be, or raise FeedRefused."""
        self._require_forward(position)
        if self.resume is None or position.epoch != self.resume.epoch:
            raise FeedGap("a heartbeat of another epoch: a snapshot is needed")
        if position.revision > self.resume.revision:
            raise FeedGap("a change is missing")
        self.confirmed = now

    def went_back(self) -> None:
        """Note that the control plane itself says that it is at an earlier revision."""
        self.rewound = self.position is not None

    def lapse(self, *, now: float) -> Update:
        """Drop what has not been confirmed for a lease, and return what that changed."""
        update = Update([], [])
        if now >= self.lease_ends and self.table.peers:
            self._following = False
            ended = list(self.table.peers)
        else:
            ended = [key for key, until in self.kept.items() if now >= until]
        for key in ended:
            self._take(key, update)
        return update

    def _require_forward(self, position: Position) -> None:
        if self.position is None or position.epoch != self.position.epoch:
            return
        if position.revision < self.position.revision:
            self.rewound = True
        if self.rewound:
            raise RevisionWentBackwards(RevisionWentBackwards.ADVICE)

    def _kept(self, staging: Staging, now: float) -> dict[bytes, float]:
        """Return who is kept although the new table lacks him, and until when."""
        if self._accept_snapshot:
            return {}
        if self.position is not None and self.position.epoch == staging.position.epoch:
            otherwise = self._keep_until or 0
        elif 2 * len(staging.missing) <= len(self.table):
            return {}
        else:
            otherwise = self.lease_ends
        kept = {}
        for key in staging.missing:
            until = self.kept.get(key, otherwise)
            # A kept peer's address may have been given to another meanwhile, who then has it.
            if until > now and staging.table.fits(self.table.peers[key]):
                kept[key] = until
        return kept

    def _take(self, key: bytes, update: Update) -> None:
        self.kept.pop(key, None)
        peer = self.table.remove(key)
        if peer is not None:
            update.removed.append(peer)

    def _give(self, peer: TunnelPeer, update: Update) -> None:
        for holder in self.table.holders(peer, self.kept):
            self._take(holder, update)
        same = self.table.peers.get(peer[:32]) == peer
        if not same and not self.table.put(peer):
            return
        self.kept.pop(peer[:32], None)
        if not same:
            update.put.append(peer)


def _row_hash(peer: bytes) -> int:
    return int.from_bytes(blake2b(peer, digest_size=DIGEST_LENGTH).digest(), "little")


def _digest(total: int) -> bytes:
    return (total & _ALL_BITS).to_bytes(DIGEST_LENGTH, "little")
