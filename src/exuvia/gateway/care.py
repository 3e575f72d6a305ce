"""
The interface in a gateway's care: taken up, kept, lost, and taken up again.
"""

from collections.abc import Callable, Iterator, Sequence

from exuvia.errors import GarbledAnswer, InterfaceUnavailable, NotPermitted
from exuvia.gateway import hygiene, nat, taking
from exuvia.gateway.alias import Alias, is_foreign
from exuvia.gateway.keeping import Keeper
from exuvia.gateway.saying import Alarms
from exuvia.gateway.settings import Settings
from exuvia.gateway.taking import Taken
from exuvia.rules.ownership import Pools
from exuvia.rules.table import PeerTable
from exuvia.system import clock
from exuvia.system.links import Links

RETRY_EVERY = 1.0
"""Seconds between two tries to get at an interface that went away, or that can't be read."""


class Care:
    """
    One interface by its name, whichever of that name there is.

    `taken` is the interface while there is one, `keeper` looks after its peers once a table is
    known.
    """

    def __init__(self, settings: Settings, alarms: Alarms) -> None:
        self.taken: Taken | None = None
        self.keeper: Keeper | None = None
        self.retry_at = 0.0
        self._settings = settings
        self._alarms = alarms
        self._links = Links()
        # A daemon that was started makes an interface that is missing; later, only what it made.
        self._makes = True

    def take_up(self) -> Alias | None:
        """
        Take the interface, and return what an earlier daemon wrote on it.

        Whatever is in the way is raised.
        """
        taken = taking.take(self._settings, self._links, make=self._makes)
        self.taken, self._makes = taken, taken.made
        self._exempt()
        return Alias.read(taken.alias)

    def warnings(self) -> Iterator[str]:
        """Say what of the interface and around it can't be as it should."""
        if self.taken is not None and is_foreign(self.taken.alias):
            yield (
                f"{self._settings.interface} has an alias of its own, which stays: a gateway that is started "
                "anew will not know what was applied"
            )
        yield from hygiene.tracking_warnings(nat=self._settings.nat is not None)

    def keep(self, table: PeerTable, pools: Sequence[Pools], *, complete: bool) -> None:
        """From now on keep the interface equal to this table, with our own addresses on it."""
        assert self.taken is not None  # noqa: S101  it is taken before it is kept
        taking.give_addresses(self.taken.interface.name, pools[0])
        self.keeper = Keeper(
            self.taken.interface,
            table,
            pools,
            complete=complete,
            forget_flows=self._settings.forget_flows,
        )

    def guarded(self, action: Callable[[Keeper], None]) -> None:
        """Do something with the keeper, if there is one; if the interface is gone, let go of it."""
        if self.keeper is None:
            return
        try:
            action(self.keeper)
        except (InterfaceUnavailable, NotPermitted) as error:
            self.lose(str(error))
        except GarbledAnswer as error:
            self._alarms.raise_(str(error))
            self.keeper.put_off(RETRY_EVERY)

    def reconcile(self) -> None:
        """Compare all of the interface with the table, and what else has to be as it should."""
        self.guarded(Keeper.reconcile)
        if self.keeper is None:
            return
        if self.keeper.stubborn:
            self._alarms.raise_(
                f"{self.keeper.stubborn} peers do not stay as they should: does another program change "
                f"{self._settings.interface}?"
            )
        if self.keeper.flows_left:
            self._alarms.raise_("connection tracking refuses to forget where peers were connected to")
        self._check_port()

    def lose(self, why: str) -> None:
        """Let go of an interface that went away, and try again in a moment."""
        self._alarms.raise_(f"{why}; waiting until it is back")
        if self.taken is not None:
            self.taken.interface.close()
        self.taken = self.keeper = None
        self.retry_at = clock.boottime() + RETRY_EVERY

    def write(self, alias: Alias) -> None:
        """Write on the interface what a daemon that comes after us has to know."""
        if self.taken is None or is_foreign(self.taken.alias):
            return
        try:
            self._links.write_alias(self.taken.interface.index, alias.text())
        except (InterfaceUnavailable, NotPermitted) as error:
            self.lose(str(error))

    def close(self) -> None:
        """Let go of the interface, which stays as it is."""
        if self.taken is not None:
            self.taken.interface.close()
        self._links.close()

    def _exempt(self) -> None:
        """Let clients out, if they are to, and keep the tunnel's own packets from being tracked."""
        if self._settings.nat is None:
            nat.end(self._settings.interface)
        elif self.taken is not None:
            nat.begin(self._settings.interface, self._settings.nat, self.taken.listen_port)

    def _check_port(self) -> None:
        """Follow a listen port that somebody changed: its packets are exempt by it."""
        if self.taken is None or self._settings.nat is None:
            return
        try:
            port = self.taken.interface.facts().listen_port
            if port != self.taken.listen_port:
                self.taken.listen_port = port
                self._exempt()
        except (InterfaceUnavailable, NotPermitted, GarbledAnswer) as error:
            self.lose(str(error))
