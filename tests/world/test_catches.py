"""Self-test of the simulation: each safety line that is taken out is noticed within some days."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from model import Broken
from story import Story
from test_days import folder

from exuvia.gateway.keeping import Keeper
from exuvia.rules import feed, purge
from exuvia.rules.feed import Follower
from exuvia.store import devices
from exuvia.system import clock
from exuvia.system.kernel import KernelInterface

__all__ = ["folder"]

Breaks = Callable[[pytest.MonkeyPatch], None]
SEEDS, DAYS = 8, 6


def purge_by_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """Handshakes are compared with the wall clock, as most others do."""

    def see(watch: purge.Watch, sightings: Any, *, now: float) -> list[bytes]:
        wall = clock.wall().timestamp()
        return [key for key, handshake, *_ in sightings if handshake and wall - handshake / 1e9 >= 180]

    patch.setattr(purge.Watch, "see", see)


def never_connected(patch: pytest.MonkeyPatch) -> None:
    """A handshake of 0 counts as never connected."""
    real = purge.Watch.see

    def see(watch: purge.Watch, sightings: Any, *, now: float) -> list[bytes]:
        return real(watch, [one for one in sightings if one.handshake], now=now)

    patch.setattr(purge.Watch, "see", see)


def no_cap(patch: pytest.MonkeyPatch) -> None:
    """Whoever replays keeps a client visible for as long as he likes."""
    patch.setattr(purge, "CAP", 1e9)


def reinstate_without_addresses(patch: pytest.MonkeyPatch) -> None:
    """A purge reinstates what a dump that was cut off showed, not what the table says."""
    real = KernelInterface.purge

    def from_dump(interface: KernelInterface, peers: Any) -> list[bytes]:
        return real(interface, [type(peer)(peer[:52] + bytes(32)) for peer in peers])

    patch.setattr(KernelInterface, "purge", from_dump)


def purge_in_two_messages(patch: pytest.MonkeyPatch) -> None:
    """First all are removed, then all are added: somebody may be killed in between."""

    def twice(interface: KernelInterface, peers: Any) -> list[bytes]:
        peers = list(peers)
        return interface.apply(remove=[peer[:32] for peer in peers]) + interface.apply(put=peers)

    patch.setattr(KernelInterface, "purge", twice)


def remove_by_interrupted_dumps(patch: pytest.MonkeyPatch) -> None:
    """A dump that others interrupted lacks the end of what there is, and is believed all the same."""
    real = KernelInterface.compare

    def cut_short(interface: KernelInterface, table: Any, pools: Any = ()) -> Any:
        found = real(interface, dict(list(table.items())[: len(table) // 2]), pools)
        found.whole = True
        return found

    patch.setattr(KernelInterface, "compare", cut_short)


def accept_earlier_revisions(patch: pytest.MonkeyPatch) -> None:
    """In the same epoch, an earlier revision is believed."""
    patch.setattr(Follower, "_require_forward", lambda *_: None)
    patch.setattr(Follower, "went_back", lambda _: None)


def apply_what_does_not_follow(patch: pytest.MonkeyPatch) -> None:
    """A change is applied wherever one is."""
    real = Follower.change

    def change(follower: Follower, after: Any, revision: int, **parts: Any) -> Any:
        if follower.position is not None:
            after = after._replace(revision=follower.position.revision)
        return real(follower, after, revision, **parts)

    patch.setattr(Follower, "change", change)


def forget_removals(patch: pytest.MonkeyPatch) -> None:
    """The changes that a gateway missed are told without those who went."""
    real = devices._revoke

    def quietly(transaction: Any, *rest: Any) -> None:
        transaction.remove = lambda key: None
        try:
            real(transaction, *rest)
        finally:
            del transaction.remove

    patch.setattr(devices, "_revoke", quietly)


def reuse_addresses(patch: pytest.MonkeyPatch) -> None:
    """Addresses do not rest."""
    patch.setattr(devices, "rest", lambda *_: None)


def drop_most_peers(patch: pytest.MonkeyPatch) -> None:
    """The empty table of a new epoch is believed."""
    patch.setattr(Follower, "_kept", lambda *_: {})


def serve_without_end(patch: pytest.MonkeyPatch) -> None:
    """A lease never ends."""
    patch.setattr(Follower, "next_lapse", property(lambda _: 1e18))
    patch.setattr(Follower, "lapse", lambda *_, **__: feed.Update([], []))


def never_reconcile(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the interface still is as it should be."""
    patch.setattr(Keeper, "reconcile", lambda keeper: setattr(keeper, "next_reconcile", keeper._now() + 60))


MANY_COPIES = {"go_back": 30, "new_epoch": 10, "register": 40}
MANY_DEVICES = {"register": 60, "log_out": 40, "open_account": 20, "put_back_whole": 0}
MANY_GAPS = {"miss_a_change": 30, "open_account": 10, "register": 40, "put_back_whole": 0}
MANY_EPOCHS = {"new_epoch": 10}
MANY_CUTS = {"cut": 20, "new_epoch": 5}
MANY_REPLAYS = {"replay": 20, "half_open": 12}

BROKEN: dict[Breaks, tuple[str, dict[str, int]]] = {
    purge_by_wall_clock: ("P1|P3", {}),
    never_connected: ("P1", {}),
    no_cap: ("P1", MANY_REPLAYS),
    reinstate_without_addresses: ("P5", {}),
    purge_in_two_messages: ("P5", {}),
    remove_by_interrupted_dumps: ("P5|P10|P18", {}),
    accept_earlier_revisions: ("P8|P9|P18", MANY_COPIES),
    apply_what_does_not_follow: ("P8|P9|P18", MANY_GAPS),
    forget_removals: ("P8|P9|P18", {}),
    reuse_addresses: ("P7", MANY_DEVICES),
    drop_most_peers: ("P18", MANY_EPOCHS),
    serve_without_end: ("P8|P18", MANY_CUTS),
    never_reconcile: ("P5|P8|P9|P18", {}),
}
"""Each line, the promises that it keeps, and the accidents that it is there for."""


@pytest.fixture
def seeds() -> Iterator[range]:
    """The seeds that are tried until one shows the fault."""
    yield range(115, 115 + SEEDS)


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: line.__name__)
def test_a_broken_line_is_noticed(
    line: Breaks, monkeypatch: pytest.MonkeyPatch, folder: Any, seeds: range
) -> None:
    """P1, P3, P5, P6, P7, P8, P9 and P18: with this line broken a story breaks one, and is told."""
    line(monkeypatch)
    promises, often = BROKEN[line]
    said = ""
    for seed in seeds:
        (folder / str(seed)).mkdir()
        story = Story(seed, folder / str(seed), gateways=("alpha", "beta"), often=often)
        try:
            story.live(DAYS)
        except Broken as broken:
            said = str(broken)
            break
        finally:
            story.close()

    assert said, "no story noticed it"
    assert said.split(":")[0] in promises.split("|"), said.splitlines()[0]
    assert f"seed {seed}" in said
