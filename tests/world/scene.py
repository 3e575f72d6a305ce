"""
The simulated world: its clocks, its control plane, its gateways, and what is checked as time passes.
"""

import heapq
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random

from control import ControlPlane
from machine import EPOCH_OF_TIME, Clocks, instead_of_the_system
from model import Broken, Model, People
from place import Site

GATEWAYS = ("alpha", "beta", "gamma")
DAY = 86_400.0
SOMEWHERE = bytes.fromhex("0200c1a7c0000201") + bytes(8)
"""A client's endpoint, as the kernel holds one."""
TOLD_WITHIN = 31.0
"""Seconds after which everybody who is connected has heard a heartbeat, and asked again if need be."""
LAST_STEPS = 40


class Scene:
    """One simulated network, in which nothing happens by itself but what time brings."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        gateways: tuple[str, ...] = GATEWAYS,
    ) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.clocks = Clocks()
        self.model = Model(gateways)
        self.steps: list[str] = []
        self.counts: dict[str, int] = {}
        self.numbers: dict[str, tuple[bytes, str]] = {}
        """Name of an account → its id and its number."""
        self.devices = 0
        self.backup: tuple[dict[str, bytes], People] | None = None
        self.backup_epoch = -1
        """-1 if the copy is of an earlier epoch."""
        self.rewound = False
        """Whether the whole folder of the database was put back, in this epoch."""
        self.came_back: set[bytes] = set()
        """Keys that only an earlier database, put back in this epoch, still has."""
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._tick_at = 0.0
        self._scanned: set[bytes] = set()
        self._system = instead_of_the_system(self.clocks, Random(seed + 1))
        self._system.__enter__()
        self._plane: ControlPlane | None = ControlPlane(folder, Random(seed + 2))
        self.plane = self._plane
        self.sites = {
            name: Site(name, self.clocks, Random(f"{seed} {name}"), lambda: self._plane) for name in gateways
        }
        for site in self.sites.values():
            self.plane.enroll(site.name)
            site.machine.watch = self._watch(site)
            self._start(site)

    def close(self) -> None:
        """Leave the simulated world."""
        if self._plane is not None:
            self._plane.stop()
        self._system.__exit__(None, None, None)

    # Telling.

    def tell(self, text: str) -> None:
        """Note what happens now."""
        day, second = divmod(self.clocks.now, DAY)
        hour, minute = divmod(second / 60, 60)
        self.steps.append(f"day {day:.0f} {hour:02.0f}:{minute:06.3f}  {text}")
        self.counts[text.split(":")[0]] = self.counts.get(text.split(":")[0], 0) + 1

    def told(self) -> str:
        """Return the story so far, its last steps."""
        steps = self.steps[-LAST_STEPS:]
        first = len(self.steps) - len(steps)
        lines = [f"  {first + place:>5}  {step}" for place, step in enumerate(steps)]
        return "\n".join([f"seed {self.seed}, {len(self.steps)} steps; the last of them:", *lines])

    def tell_if_broken(self, what: Callable[[], None]) -> None:
        """Do something; if it breaks a promise, or anything else, tell the story."""
        try:
            what()
        except Exception as error:
            raise Broken(f"{error or type(error).__name__}\n{self.told()}") from error

    # Time.

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Let something happen after so many seconds."""
        self._order += 1
        heapq.heappush(self._later, (self.clocks.now + seconds, self._order, what))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everybody do what is due in it."""
        until = self.clocks.now + seconds
        self._turns()
        while True:
            times = [site.next_due() for site in self.sites.values()]
            if self._later:
                times.append(self._later[0][0])
            if self._plane is not None:
                times.append(max(self._tick_at, self.clocks.now + 600))
            due = min(times)
            if due >= until:
                break
            self.clocks.now = max(due, self.clocks.now + 0.001)
            while self._later and self._later[0][0] <= self.clocks.now:
                heapq.heappop(self._later)[2]()
            self._turns()
        self.clocks.now = until
        self._turns()

    def _turns(self) -> None:
        if self._plane is not None and self.clocks.now >= self._tick_at:
            self._tick_at = self.clocks.now + 60
            self._plane.tick()
            self._expire()
        for site in self.sites.values():
            for _ in range(200):
                if not site.turn():
                    break
            else:
                raise Broken(f"{site.name} goes round and round")
            self._note_contact(site)
            self._after_death(site)
            self.model.at_any_instant(site.name, site.machine.kernel, now=self.clocks.now)
            self.model.check_traces(site.name, site.machine.kernel, now=self.clocks.now)

    def _after_death(self, site: Site) -> None:
        """A daemon that was killed is started again, sooner or later."""
        station = self.model.stations[site.name]
        if site.daemon is None and station.watching_since != -1.0:
            station.watching_since = -1.0
            self.later(self.chance.choice((0.0, 0.0, 0.1, 5.0, 100.0)), lambda: self._start(site))

    def _start(self, site: Site) -> None:
        station = self.model.stations[site.name]
        station.watching_since = 0.0
        station.mistake_the_unheard()
        station.fresh = not site.machine.alias
        site.start()
        if site.daemon is not None and site.keeper is not None:
            station.watching_since = self.clocks.now

    def _note_contact(self, site: Site) -> None:
        station, talker = self.model.stations[site.name], site.talker
        if station.watching_since == 0.0 and site.keeper is not None:
            station.watching_since = self.clocks.now
        if site.keeper is None and station.watching_since > 0:
            station.watching_since = 0.0
        if talker is not None and talker.streaming and talker.hung_since is None:
            if station.fresh or not site.rewound:
                station.confirmed = self.clocks.now
            station.fresh = station.fresh and not site.known()

    def _watch(self, site: Site) -> Callable[[], None]:
        return lambda: self.model.at_any_instant(site.name, site.machine.kernel, now=self.clocks.now)

    # Checking.

    def check(self) -> None:
        """Check what must be true now; with everybody who can be told, that they know."""
        if self.chance.random() < 0.5:
            self._settle()
        for site in self.sites.values():
            self.model.cut_off(site.name, site.machine.kernel, now=self.clocks.now)
        self._check_words()

    def _settle(self) -> None:
        """Give everybody the time to hear a heartbeat, and check who is connected."""
        for site in self.sites.values():
            site.weather.fault = None
        self.pass_time(TOLD_WITHIN)
        self.pass_time(TOLD_WITHIN)
        plane = self._plane
        if plane is None:
            return
        if {key: bytes(peer) for key, peer in plane.table().items()} != self.model.people.peers:
            raise Broken("the database has another peer table than was asked for")
        for site in self.sites.values():
            talker, kernel = site.talker, site.machine.kernel
            if talker is None or not talker.streaming or talker.hung_since is not None or kernel is None:
                continue
            if talker.refused or site.rewound:
                if not self.rewound:
                    raise Broken(f"{site.name} was told that it is ahead, but nothing was put back")
                continue
            self.model.in_agreement(site.name, kernel, site.known(), now=self.clocks.now)
            self.model.stations[site.name].tampered.clear()

    def _check_words(self) -> None:
        """P13: nothing of accounts and devices is in what gateways are told."""
        said = b"\n".join(part for site in self.sites.values() for part in site.said)
        for site in self.sites.values():
            site.said.clear()
        if self._plane is None or not said:
            return
        lower = said.lower()
        for secret in self._plane.secrets():
            if secret in said or secret.hex().encode() in lower:
                raise Broken("P13: a gateway was told something of an account or a device")
        if any(known.token.encode() in said for known in self.model.people.devices.values()):
            raise Broken("P15: a token was told to a gateway")

    def believed_now(self) -> float:
        """
        Return what time the control plane takes it for.

        Started with a wrong clock it is late, and addresses that are given back then rest less
        once its clock is right (docs/known-limits.md).
        """
        if self._plane is None:
            return self.clocks.now
        believed = self._plane.control.clock
        passed = self.clocks.now - believed.boottime
        return min(self.clocks.now, believed.wall + passed - EPOCH_OF_TIME.timestamp())

    # Choosing.

    def _site(self) -> Site:
        return self.sites[self.chance.choice(list(self.sites))]

    def _some(self, names):  # type: ignore[no-untyped-def]
        names = sorted(names)
        return self.chance.choice(names) if names else None

    def _somewhere_held(self) -> tuple[Site, bytes] | None:
        """Return a gateway and a key that it serves."""
        site = self._site()
        key = self._some(self.model.stations[site.name].held)
        return None if key is None or site.machine.kernel is None else (site, key)

    def _name_of(self, key: bytes) -> str:
        return next((name for name, d in self.model.people.devices.items() if d.key == key), "a device")

    def _new_key(self) -> bytes:
        return self.chance.randbytes(31) + b"\x07"

    def _day(self, now: float) -> str:
        return (EPOCH_OF_TIME + timedelta(seconds=now)).date().isoformat()
