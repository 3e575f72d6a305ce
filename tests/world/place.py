"""
One gateway of the simulation: a machine, the daemon on it, and its wire to the control plane.
"""

from collections.abc import Callable
from random import Random

from control import ControlPlane
from machine import INTERFACE, Clocks, Here, Killed, Machine
from model import Broken
from wire import NEVER, Talker, Weather, Wire

from exuvia.errors import ExuviaError
from exuvia.gateway.gateway import Gateway
from exuvia.gateway.keeping import RECONCILE_EVERY, Keeper
from exuvia.gateway.settings import Settings

SETTINGS = Settings(
    control="http://127.0.0.1:9", token_file="/nowhere", interface=INTERFACE, listen_port=51820
)

MOST_REFUSALS = 100


class Site:
    """A gateway: its machine stays, its daemons come and go."""

    def __init__(
        self, name: str, clocks: Clocks, chance: Random, control: Callable[[], ControlPlane | None]
    ) -> None:
        self.name = name
        self.machine = Machine(name, chance)
        self.weather = Weather()
        self.daemon: Gateway | None = None
        self.wire: Wire | None = None
        self.kills = 0
        self.refusals = 0
        """How often in a row the daemon could not begin."""
        self.every_look = False
        """Whether looks at an interface on which nothing has changed are made, too."""
        self.changes = 0
        """How often something has changed on the interface that the daemon did not do."""
        self.said: list[bytes] = []
        self.changes_by_hand = 0
        """How often somebody else has changed the configuration of the interface."""
        self._looked_at: object = None
        self._compared: object = None
        self._clocks = clocks
        self._chance = chance
        self._control = control

    @property
    def talker(self) -> Talker | None:
        """The network process, if it runs."""
        return None if self.wire is None else self.wire.talker

    @property
    def keeper(self) -> Keeper | None:
        """What looks after the interface, if anything does."""
        return None if self.daemon is None else self.daemon._care.keeper

    def known(self) -> list[bytes]:
        """Return the keys in the daemon's table."""
        reception = None if self.daemon is None else self.daemon._reception
        return [] if reception is None else list(reception.follower.table.peers)

    @property
    def following(self) -> bool:
        """Whether the daemon that runs has been told a table."""
        reception = None if self.daemon is None else self.daemon._reception
        return reception is not None and reception.follower.resume is not None

    @property
    def rewound(self) -> bool:
        """Whether the daemon believes that the control plane went back."""
        reception = None if self.daemon is None else self.daemon._reception
        return reception is not None and reception.follower.rewound

    def start(self) -> None:
        """Start the daemon; killed at once, it is simply not there."""
        Here.machine = self.machine
        self.wire = Wire(
            self.machine,
            self._clocks,
            lambda: Talker(self.name, self._control, self.weather, self._clocks, self._chance),
        )
        self._looked_at = self._compared = None
        try:
            self.daemon = Gateway(SETTINGS, self.wire)  # type: ignore[arg-type]
            self.daemon.begin()
        except Killed:
            self._killed()
        except ExuviaError as error:
            self.daemon = None
            self.refusals += 1
            if self.refusals > MOST_REFUSALS:
                raise Broken(f"{self.name} can't be started any more: {error}") from error
        else:
            self.refusals = 0

    def kill(self) -> None:
        """kill -9."""
        if self.daemon is not None:
            self._killed()

    def turn(self) -> bool:
        """Let the daemon and the network process do what they can do now; say whether that was anything."""
        if self.daemon is None or self.wire is None:
            return False
        Here.machine = self.machine
        now, talker = self._clocks.now, self.wire.talker
        try:
            self._do_what_is_due(self.daemon, now)
            moved = talker.turn() if talker is not None else False
            if self.wire.talker is not None and (self.wire.talker.outbox or self.wire.talker.dead):
                self.daemon.hear(now=now)
                moved = True
        except Killed:
            self._killed()
            return True
        finally:
            if talker is not None:
                self.said += talker.said
                talker.said = []
        return moved or talker is not self.wire.talker

    def next_due(self) -> float:
        """
        Return when it is this gateway's turn again.

        A look at an interface on which nothing has changed since the last one can do nothing,
        unless somebody falls due: those are left out, and so are comparisons, unless
        `every_look` says that they are to be made.
        """
        if self.daemon is None or self.wire is None:
            return NEVER
        due = [self.wire.silent_at]
        talker = self.wire.talker
        if talker is None:
            due.append(self.wire.start_at)
        elif talker.retry_at > self._clocks.now:
            due.append(talker.retry_at)
        keeper = self.keeper
        if self.every_look or keeper is None:
            return min([*due, self.daemon.next_due()])
        nearest = keeper._watch._nearest
        if self._traces() != self._looked_at:
            due.append(keeper.next_look)
        elif nearest is not None:
            due.append(max(nearest, keeper.next_look))
        if self._configuration() != self._compared:
            due.append(keeper.next_reconcile)
        if self.daemon._reception is not None:
            due.append(self.daemon._reception.follower.next_lapse)
        return min(due)

    def touched(self) -> None:
        """Note that something changed on the interface; the daemon will look within a second."""
        self.changes += 1
        keeper, now = self.keeper, self._clocks.now
        if keeper is not None and not self.every_look and keeper.next_look < now:
            keeper.next_look = now + self._chance.random()

    def _do_what_is_due(self, daemon: Gateway, now: float) -> None:
        """Let the daemon do what is due, and note what it has seen in doing so."""
        keeper = self.keeper
        before = (keeper.next_look, keeper.next_reconcile) if keeper is not None else (0.0, 0.0)
        daemon.do_what_is_due(now=now)
        if keeper is None or keeper is not self.keeper:
            return
        if keeper.next_look != before[0]:
            self._looked_at = self._traces()
        if keeper.next_reconcile != before[1] and keeper.next_reconcile >= now + RECONCILE_EVERY:
            self._compared = self._configuration()

    def _traces(self) -> object:
        return (self.changes, self._configuration())

    def _configuration(self) -> object:
        kernel = self.machine.kernel
        return (self.changes_by_hand, id(kernel), None if kernel is None else kernel._generation)

    def _killed(self) -> None:
        self.kills += 1
        self.machine.kill_after = None
        self.daemon = None
        if self.wire is not None:
            self.wire.stop()
        self.wire = None
