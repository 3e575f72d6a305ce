"""
A gateway: its interface, its peer table, and what it hears of the control plane.

One caller, one thread. Every time is seconds of CLOCK_BOOTTIME.
"""

import math

from exuvia.errors import (
    ExuviaError,
    FeedGap,
    FeedRefused,
    GarbledRecord,
    RevisionWentBackwards,
)
from exuvia.gateway.alias import Alias
from exuvia.gateway.care import Care
from exuvia.gateway.keeping import Keeper, adopted
from exuvia.gateway.reception import Reception, Step
from exuvia.gateway.records import Applied, FromNetwork, Identity, StreamLost, Welcome, WentBack
from exuvia.gateway.saying import Alarms, say
from exuvia.gateway.settings import Settings
from exuvia.gateway.spawning import NetworkProcess
from exuvia.rules.feed import Follower, Position, Update
from exuvia.rules.ownership import Pools
from exuvia.rules.table import PeerTable
from exuvia.system import clock, entropy

WRITE_LATER = 1.0
"""Seconds after which it is written on the interface that peers were added; that some went, at once."""


class Gateway:
    """Everything of a gateway but its loop."""

    def __init__(self, settings: Settings, network: NetworkProcess) -> None:
        self._settings = settings
        self._network = network
        self._alarms = Alarms(clock.boottime)
        self._care = Care(settings, self._alarms)
        self._pools: list[Pools] = []
        self._reception: Reception | None = None
        self._complete = False
        self._settled: Position | None = None
        self._refused = 0
        self._ready = False
        self._write_at = math.inf

    # What the loop asks for.

    def begin(self) -> None:
        """Take the interface into care; whatever is in the way of that is raised."""
        self._take_up()
        for warning in self._care.warnings():
            say(f"warning: {warning}")

    def next_due(self) -> float:
        """Return when do_what_is_due() has something to do, if nothing happens before; math.inf: never."""
        times = [self._write_at]
        if self._care.taken is None:
            times.append(self._care.retry_at)
        if self._care.keeper is not None:
            times += [self._care.keeper.next_look, self._care.keeper.next_reconcile]
        if self._reception is not None:
            times.append(self._reception.follower.next_lapse)
        running = self._network.reads_from >= 0
        times.append(self._network.silent_at if running else self._network.start_at)
        return min(times)

    def do_what_is_due(self, *, now: float) -> None:
        """Look, reconcile, let leases end, and get back what went away."""
        self._look_after_network(now)
        if self._care.taken is None and now >= self._care.retry_at:
            self._try_to_take_up()
        if self._reception is not None and now >= self._reception.follower.next_lapse:
            self._lapse(self._reception.follower, now)
        if self._care.keeper is not None and now >= self._care.keeper.next_look:
            self._care.guarded(Keeper.look)
        if self._care.keeper is not None and now >= self._care.keeper.next_reconcile:
            self._care.reconcile()
            self._settle()
        if self._reception is not None and now >= self._write_at:
            self._write_alias(self._reception)

    def hear(self, *, now: float) -> None:
        """Take in what the network process has said."""
        self._network.flush()
        if self._network.reads_from < 0:
            return
        try:
            for record in self._network.records(now=now):
                self._take_in(record, now)
        except EOFError:
            self._network.restart(now=now, chance=_chance())
        except GarbledRecord:
            self._alarms.raise_("the network process says what can't be; it is started anew")
            self._network.restart(now=now, chance=_chance())

    def status(self) -> str:
        """Return in one line how it does."""
        name = self._settings.interface
        if self._care.taken is None:
            return f"{name} is missing"
        revision = "no table yet" if self._settled is None else f"revision {self._settled.revision}"
        return f"{name}: {self._count()} peers, {revision}"

    def farewell(self) -> str:
        """Return what is left behind, in one line."""
        return (
            f"stopped; {self._settings.interface} and its {self._count()} peers stay as they are, and nobody "
            "is forgotten until `exuvia gateway run` is back"
        )

    def close(self) -> None:
        """Let go of the interface, which stays as it is."""
        if self._reception is not None and self._write_at < math.inf:
            self._write_alias(self._reception)
        self._care.close()

    # The interface.

    def _take_up(self) -> None:
        alias = self._care.take_up()
        if self._reception is not None:
            self._table(self._reception).own_key = self._own_key()
            self._keep(self._reception)
        elif alias is not None:
            self._go_on(alias)
        self._introduce()

    def _try_to_take_up(self) -> None:
        try:
            self._take_up()
            say(f"{self._settings.interface} is back")
        except ExuviaError as error:
            self._care.lose(str(error))

    def _keep(self, reception: Reception) -> None:
        self._care.keep(self._table(reception), self._pools, complete=self._complete)
        self._write_alias(reception)

    def _introduce(self) -> None:
        """Let the network process know who we are, whenever that may have changed."""
        taken = self._care.taken
        if taken is not None:
            self._network.send(Identity(taken.public_key, taken.lasting(self._settings)))

    def _look_after_network(self, now: float) -> None:
        if self._network.reads_from >= 0:
            if now >= self._network.silent_at:
                self._alarms.raise_("the network process is stuck; it is started anew")
                self._network.restart(now=now, chance=_chance())
        elif now >= self._network.start_at:
            self._network.start(now=now)
            self._introduce()

    # The table.

    def _go_on(self, alias: Alias) -> None:
        """Go on where an earlier daemon left this interface."""
        now = clock.boottime()
        self._pools = [alias.pools]
        self._settled = alias.position
        self._follow(
            Follower(
                self._found(),
                position=alias.position,
                confirmed=min(alias.confirmed, now),
                lease=self._settings.lease,
                rewound=alias.rewound,
                keep_until=alias.keep_until,
                accept_snapshot=self._settings.accept_snapshot,
            )
        )

    def _begin_in(self, pools: Pools) -> None:
        """Begin in these pools, with whatever peers of ours are on the interface already."""
        before = None if self._reception is None else self._reception.follower
        self._pools = [pools, *(known for known in self._pools if known != pools)]
        self._complete = False
        self._follow(
            Follower(
                self._found(),
                position=None if before is None else before.position,
                confirmed=clock.boottime() if before is None else before.confirmed,
                lease=self._settings.lease,
                rewound=before is not None and before.rewound,
                accept_snapshot=self._settings.accept_snapshot,
            )
        )

    def _follow(self, follower: Follower) -> None:
        self._reception = Reception(follower)
        self._keep(self._reception)

    def _found(self) -> PeerTable:
        """Return the peers of ours that are on the interface, as a table: there is no other yet."""
        assert self._care.taken is not None  # noqa: S101  asked only while there is an interface
        return adopted(self._care.taken.interface, self._empty_table(), self._pools)

    def _empty_table(self) -> PeerTable:
        return PeerTable(self._pools[0], own_key=self._own_key())

    def _own_key(self) -> bytes:
        return self._care.taken.public_key if self._care.taken is not None else b""

    def _table(self, reception: Reception) -> PeerTable:
        return reception.follower.table

    def _count(self) -> int:
        return 0 if self._reception is None else len(self._table(self._reception))

    # What the network process says.

    def _take_in(self, record: FromNetwork, now: float) -> None:
        if isinstance(record, Welcome):
            self._welcome(record.pools)
        elif self._reception is None:
            return
        elif isinstance(record, StreamLost):
            self._claim(self._reception.follower)
            self._network.send(self._reception.ask())
        else:
            self._take_in_feed(self._reception, record, now)

    def _claim(self, follower: Follower) -> None:
        """
        Say what was applied here before a snapshot is asked for.

        A control plane that was put back to less has to know of it first: its own revisions may
        have grown past ours meanwhile, and then nothing else would tell.
        """
        if follower.resume is None and follower.position is not None:
            self._network.send(Applied(follower.position))

    def _welcome(self, pools: Pools) -> None:
        if self._care.taken is None or (self._pools and self._pools[0] == pools):
            return
        try:
            self._begin_in(pools)
        except ExuviaError as error:
            self._care.lose(str(error))

    def _take_in_feed(self, reception: Reception, record: FromNetwork, now: float) -> None:
        try:
            step = reception.take(record, now=now)
        except FeedRefused as refusal:
            if not isinstance(refusal, FeedGap):
                self._alarms.raise_(str(refusal))
            if isinstance(refusal, RevisionWentBackwards):
                self._write_alias(reception)
            self._network.send(reception.ask())
            return
        if isinstance(record, WentBack) and reception.follower.rewound:
            self._alarms.raise_(RevisionWentBackwards.ADVICE)
            self._write_alias(reception)
        if step is not None:
            self._follow_step(reception, step)

    def _follow_step(self, reception: Reception, step: Step) -> None:
        table = self._table(reception)
        if step.snapshot and self._care.keeper is not None:
            self._complete = True
            self._care.keeper.replace(table)
        self._apply(step.update)
        self._report(reception)
        if step.snapshot:
            self._care.reconcile()
        self._settle(write_later=not step.snapshot and not step.update.removed)

    def _report(self, reception: Reception) -> None:
        """Say what of the feed was not as it should be."""
        follower = reception.follower
        if follower.table.refused != self._refused:
            self._refused = follower.table.refused
            self._alarms.raise_(
                f"{follower.table.refused} rows of the peer table were refused: an address outside the "
                "pools, or another peer's, or a key that none can have"
            )
        if follower.kept:
            self._alarms.raise_(
                f"the new peer table lacks {len(follower.kept)} of the peers that are served here: they stay "
                "until their lease ends; restart with --accept-snapshot to drop them now"
            )

    def _lapse(self, follower: Follower, now: float) -> None:
        """Let go of peers whose lease is over."""
        update = follower.lapse(now=now)
        self._alarms.raise_(f"{len(update.removed)} peers were not confirmed for a lease, and are dropped")
        self._complete = True
        if self._care.keeper is not None:
            self._care.keeper.complete = True
        self._apply(update)
        if self._reception is not None:
            self._write_alias(self._reception)

    def _apply(self, update: Update) -> None:
        if update.removed or update.put:
            self._care.guarded(lambda keeper: keeper.apply(update))

    def _settle(self, *, write_later: bool = False) -> None:
        """Where the interface is equal to the table, write that on it and let the control plane know."""
        keeper, reception = self._care.keeper, self._reception
        if keeper is None or reception is None or not keeper.equal:
            return
        position = reception.follower.resume
        if position is None:
            return
        self._settled = position
        if not write_later:
            self._write_alias(reception)
        elif self._write_at == math.inf:
            self._write_at = clock.boottime() + WRITE_LATER
        self._network.send(Applied(position))
        if not self._ready:
            self._ready = True
            name, revision = self._settings.interface, position.revision
            print(f"exuvia gateway: {name} is ready: {self._count()} peers, revision {revision}", flush=True)

    def _write_alias(self, reception: Reception) -> None:
        follower = reception.follower
        self._write_at = math.inf
        self._care.write(
            Alias(self._settled, follower.confirmed, self._pools[0], follower.rewound, follower.keep_until)
        )


def _chance() -> float:
    return entropy.bits(16) / 0xFFFF
