"""
Random days of a small network, from a seed: what people, gateways, networks, clocks and accidents do.

After every step the model says whether a promise was broken. If one was, the error tells the
story: the seed, and the last steps before it, in names.
"""

from collections.abc import Mapping
from pathlib import Path

from accidents import Accidents
from persons import Persons
from scene import DAY, GATEWAYS
from traffic import Traffic

DEEDS = {
    "open_account": 4,
    "register": 12,
    "register_again": 2,
    "come_back": 5,
    "log_out": 4,
    "delete_device": 2,
    "suspend": 2,
    "resume": 3,
    "cancel": 1,
    "chat": 12,
    "half_open": 6,
    "replay": 2,
    "cut": 5,
    "disturb": 8,
    "miss_a_change": 2,
    "kill_soon": 10,
    "kill_now": 2,
    "kill_network_process": 3,
    "hang_network_process": 1,
    "restart_control": 2,
    "stop_control": 1,
    "new_epoch": 1,
    "back_up": 2,
    "put_back": 1,
    "put_back_whole": 1,
    "go_back": 1,
    "step_clock": 2,
    "delete_interface": 1,
    "add_foreign": 1,
    "remove_foreign": 1,
    "meddle": 2,
}
"""What can happen, and how often, relative to the others."""


class Story(Persons, Traffic, Accidents):
    """Random days."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        gateways: tuple[str, ...] = GATEWAYS,
        often: Mapping[str, int] | None = None,
    ) -> None:
        """`often` gives some deeds, by name, another weight than usual."""
        super().__init__(seed, folder, gateways=gateways)
        self._deeds = {**DEEDS, **(often or {})}

    def live(self, days: float) -> None:
        """Let so many days pass, with all that happens in them."""
        until = self.clocks.now + days * DAY

        def days_pass() -> None:
            while self.clocks.now < until:
                self.step()

        self.tell_if_broken(days_pass)

    def step(self) -> None:
        """Let something happen, and check everything."""
        (what,) = self.chance.choices(list(self._deeds), weights=list(self._deeds.values()))
        getattr(self, what)()
        self.pass_time(self._pause())
        self.check()

    def miss_a_change(self) -> None:
        """Somebody goes, of which one gateway is not told, and somebody comes, of which it is."""
        site = self._site()
        site.weather.fault = "drop"
        self.tell(f"the feed is disturbed: of {site.name}, drop")
        self.log_out()
        self.pass_time(1)
        self.register()

    def go_back(self) -> None:
        """The whole folder is put back right after somebody has gone, and a gateway begins anew."""
        self.back_up()
        self.pass_time(1)
        self.log_out()
        self.pass_time(2)
        self.put_back_whole()
        self.kill_now()

    def _pause(self) -> float:
        kind = self.chance.random()
        if kind < 0.15:
            return 0.0
        if kind < 0.35:
            return self.chance.uniform(0, 3)
        if kind < 0.6:
            return self.chance.uniform(3, 60)
        if kind < 0.85:
            return self.chance.uniform(60, 900)
        return self.chance.uniform(900, 5 * 3600)
