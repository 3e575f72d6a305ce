"""
Random days of a small network, from a seed: what people, gateways, networks, clocks and accidents do.

After every step the model says whether a promise was broken. If one was, the error tells the
story: the seed, and the last steps before it, in names.
"""

import heapq
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from random import Random

from control import ControlPlane
from machine import EPOCH_OF_TIME, Clocks, instead_of_the_system
from model import LEASE, REJECT_AFTER_TIME, Account, Broken, C, G, Model, People, Session, peer_of
from place import Site

from exuvia.errors import (
    AccountInactive,
    AddressPoolExhausted,
    DatabaseRewound,
    DeviceLimitReached,
    KeyRefused,
    Refused,
    UnknownCredential,
)
from exuvia.testing.interface import KernelPeer
from exuvia.wg.attributes import AF_INET

GATEWAYS = ("alpha", "beta", "gamma")
DAY = 86_400.0
REKEY_AFTER_TIME = 120.0
INITIATION, DATA = 148, 32
SOMEWHERE = bytes.fromhex("0200c1a7c0000201") + bytes(8)
"""A client's endpoint, as the kernel holds one."""
YEAR = 365.25 * DAY
TOLD_WITHIN = 31.0
"""Seconds after which everybody who is connected has heard a heartbeat, and asked again if need be."""
LAST_STEPS = 40
FAULTS = ("double", "drop", "hold", "garble", "html", "cut", "cut in snapshot", "drop row")


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
    "step_clock": 2,
    "delete_interface": 1,
    "add_foreign": 1,
    "remove_foreign": 1,
    "meddle": 2,
}
"""What can happen, and how often, relative to the others."""


class Story:
    """One simulated network and its accidents."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        gateways: tuple[str, ...] = GATEWAYS,
        often: Mapping[str, int] | None = None,
    ) -> None:
        """`often` gives some deeds, by name, another weight than usual."""
        self.seed = seed
        self._deeds = {**DEEDS, **(often or {})}
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

    def live(self, days: float) -> None:
        """Let so many days pass, with all that happens in them."""
        until = self.clocks.now + days * DAY

        def days_pass() -> None:
            while self.clocks.now < until:
                self.step()

        self.tell_if_broken(days_pass)

    def tell_if_broken(self, what: Callable[[], None]) -> None:
        """Do something; if it breaks a promise, or anything else, tell the story."""
        try:
            what()
        except Exception as error:
            raise Broken(f"{error or type(error).__name__}\n{self.told()}") from error

    def step(self) -> None:
        """Let something happen, and check everything."""
        (what,) = self.chance.choices(list(self._deeds), weights=list(self._deeds.values()))
        getattr(self, what)()
        self.pass_time(self._pause())
        self.check()

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
        site.start()
        if site.daemon is not None and site.keeper is not None:
            station.watching_since = self.clocks.now

    def _note_contact(self, site: Site) -> None:
        station, talker = self.model.stations[site.name], site.talker
        if station.watching_since == 0.0 and site.keeper is not None:
            station.watching_since = self.clocks.now
        if site.keeper is None and station.watching_since > 0:
            station.watching_since = 0.0
        if talker is not None and talker.streaming and talker.hung_since is None and not site.rewound:
            station.confirmed = self.clocks.now

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

    # People.

    def open_account(self) -> None:
        name = f"account {len(self.numbers) + 1}"
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        id, number = self.chance.randbytes(16), "".join(self.chance.choices(alphabet, k=28))
        expires = None
        if self.chance.random() < 0.3:
            expires = (self.clocks.now // DAY + self.chance.randrange(1, 6)) * DAY
        limit = self.chance.randrange(1, 5)
        last_day = None if expires is None else self._day(expires - 1)
        if self._plane is None:
            return
        self.tell(f"{name} is opened: for {limit} devices")
        self._plane.create_account(id, number, device_limit=limit, expires=last_day)
        self.numbers[name] = (id, number)
        self.model.people.accounts[name] = Account(limit, expires)

    def register(self) -> None:
        name = self._some(self.model.people.accounts)
        if name is not None:
            self.devices += 1
            self._register(name, f"device {self.devices}", self._new_key())

    def register_again(self) -> None:
        """Somebody whose answer was lost asks again, or somebody takes another's key."""
        device = self._some(self.model.people.devices)
        account = self._some(self.model.people.accounts)
        if device is None or account is None:
            return
        known = self.model.people.devices[device]
        if known.key is None:
            return
        if self.chance.random() < 0.7:
            account = known.account
        self._register(account, device, known.key)

    def _register(self, account: str, device: str, key: bytes) -> None:
        people, plane = self.model.people, self._plane
        if plane is None:
            return
        self.tell(f"{device} registers: with {account}")
        known, now = people.accounts[account], self.clocks.now
        active = self._active(account)
        owner = next((d.account for d in people.devices.values() if d.key == key), None)
        others = {name: d for name, d in people.devices.items() if d.account == account}
        full = len(others) >= known.device_limit
        useless = [name for name, d in others.items() if d.key is None]
        granted = active and (owner == account or (owner is None and (not full or bool(useless))))
        try:
            made, token = plane.register(self.numbers[account][1], key)
        except AddressPoolExhausted:
            return
        except Refused as refusal:
            if granted:
                raise Broken(f"{device} was refused: {type(refusal).__name__}") from refusal
            expected = UnknownCredential if not active else DeviceLimitReached if full else KeyRefused
            if not isinstance(refusal, expected | KeyRefused):
                raise Broken(f"{device} got a refusal for the wrong reason") from refusal
            return
        if not granted:
            raise Broken(f"{device} was registered and should not have been")
        if full and owner is None:
            self._make_room(plane, useless)
        self.model.registered(device, account, bytes(made.peer), token, now=now)

    def _make_room(self, plane: ControlPlane, useless: list[str]) -> None:
        """Exactly one device that has no key any more has given way to the new one."""
        gone = []
        for name in useless:
            try:
                plane.device(self.model.people.devices[name].token)
            except UnknownCredential:
                gone.append(name)
        if len(gone) != 1:
            raise Broken("a device was deleted that should have stayed, or too many were let in")
        del self.model.people.devices[gone[0]]

    def _active(self, account: str) -> bool:
        """
        Say whether an account may do anything, by the time that the control plane believes it is.

        It may be some minutes late, or, started with a wrong clock, some hours.
        """
        plane, known = self._plane, self.model.people.accounts[account]
        assert plane is not None
        believed = plane.control.clock.wall - EPOCH_OF_TIME.timestamp()
        return self.model.active(known, now=believed)

    def log_out(self) -> None:
        device, plane = self._some(self.model.people.devices), self._plane
        if device is None or plane is None:
            return
        self.tell(f"{device} logs out")
        plane.log_out(self.model.people.devices[device].token)
        self._forget_device(device)

    def delete_device(self) -> None:
        device, plane = self._some(self.model.people.devices), self._plane
        if device is None or plane is None:
            return
        account = self.model.people.devices[device].account
        if not self._active(account):
            return
        self.tell(f"{device} is deleted: by its account")
        id = plane.control.hasher.device(self.model.people.devices[device].token)
        assert id is not None
        plane.delete_device(self.numbers[account][1], id.device_id)
        self._forget_device(device)

    def _forget_device(self, device: str) -> None:
        key = self.model.people.devices[device].key
        self._revoke([] if key is None else [key])
        del self.model.people.devices[device]

    def suspend(self) -> None:
        name, plane = self._some(self.model.people.accounts), self._plane
        if name is None or plane is None:
            return
        self.tell(f"{name} is suspended")
        plane.suspend(self.numbers[name][0])
        self.model.people.accounts[name].suspended = True
        self._revoke(self.model.keys_of(name))
        for device, known in self.model.people.devices.items():
            if known.account == name:
                try:
                    plane.device(known.token)
                except AccountInactive:
                    continue
                raise Broken("a device of a suspended account is still let in")

    def resume(self) -> None:
        suspended = [name for name, known in self.model.people.accounts.items() if known.suspended]
        name = self._some(suspended)
        if name is None or self._plane is None:
            return
        self.tell(f"{name} is resumed")
        self._plane.resume(self.numbers[name][0])
        self.model.people.accounts[name].suspended = False

    def cancel(self) -> None:
        name, people = self._some(self.model.people.accounts), self.model.people
        if name is None or self._plane is None:
            return
        self.tell(f"{name} is cancelled")
        self._plane.cancel(self.numbers[name][0])
        self._revoke(self.model.keys_of(name))
        people.devices = {n: d for n, d in people.devices.items() if d.account != name}
        del people.accounts[name]

    def come_back(self) -> None:
        """A device that lost its key logs out and in again, with the same key or a new one."""
        people, plane = self.model.people, self._plane
        device = self._some([name for name, known in people.devices.items() if known.key is None])
        if device is None or plane is None:
            return
        account = people.devices[device].account
        if not self._active(account):
            return
        self.tell(f"{device} logs in anew")
        known = people.devices.pop(device)
        plane.log_out(known.token)
        key = known.last_key if self.chance.random() < 0.6 else self._new_key()
        self._register(account, device, key)

    def _revoke(self, keys: list[bytes]) -> None:
        self.model.revoked(keys, now=self.clocks.now)
        for name, site in self.sites.items():
            station = self.model.stations[name]
            is_told = site.talker is not None and site.talker.streaming
            if is_told:
                self._expect_gone(name, keys)
            if (not is_told or site.machine.kill_after is not None) and self.clocks.now < station.limbo_ends:
                # Restarted, it can't tell these from those of the earlier epoch that it is to keep
                # (docs/known-limits.md).
                station.limbo.update(dict.fromkeys(keys, station.limbo_ends))

    def _expect_gone(self, name: str, keys: list[bytes]) -> None:
        """From a moment after a gateway was told on, it must never have these keys again."""
        station = self.model.stations[name]

        def check() -> None:
            kernel, site = self.sites[name].machine.kernel, self.sites[name]
            still = [key for key in keys if key not in self.model.people.peers]
            if kernel is None or site.daemon is None or not set(still).isdisjoint([*kernel.peers, *site.known()]):
                return
            station.gone.update(still)

        self.later(1.0, check)

    def _expire(self) -> None:
        """Accounts whose last day is over lose their keys, unless the wall clock is known to be wrong."""
        plane = self._plane
        if plane is None or plane.control.clock.paused:
            return
        for name, account in self.model.people.accounts.items():
            if not account.suspended and not self._active(name):
                keys = self.model.keys_of(name)
                if keys:
                    self.tell(f"{name} expires")
                self._revoke(keys)

    # Traffic.

    def chat(self) -> None:
        """A client connects, sends packets for a while, and falls silent."""
        place = self._somewhere_held()
        if place is None:
            return
        site, key = place
        self.tell(f"{self._name_of(key)} connects: to {site.name}")
        self._shake_hands(site, key)
        every = self.chance.choice((1.0, 10.0, 25.0, 100.0, 170.0, 179.0))
        self._go_on_talking(site, key, every, self.chance.randrange(1, 8))

    def _go_on_talking(self, site: Site, key: bytes, every: float, left: int) -> None:
        if left:
            self.later(every, lambda: self._talk(site, key, every, left))

    def _talk(self, site: Site, key: bytes, every: float, left: int) -> None:
        session = self._session(site, key)
        if session is None:
            return
        if self.clocks.now - (session.lives_until - REJECT_AFTER_TIME) >= REKEY_AFTER_TIME:
            if self.clocks.now < session.lives_until:
                self._receive(site, session, DATA)
            self._shake_hands(site, key)
        elif self.clocks.now < session.lives_until:
            self._receive(site, session, DATA)
        self._go_on_talking(site, key, every, left - 1)

    def half_open(self) -> None:
        """A first message arrives, from a client that then hears nothing."""
        place = self._somewhere_held()
        if place is not None:
            site, key = place
            self.tell(f"{self._name_of(key)} begins a handshake: with {site.name}")
            self._first_message(site, key)

    def replay(self) -> None:
        """Somebody sends recorded first messages, again and again."""
        place = self._somewhere_held()
        if place is None:
            return
        site, key = place
        every, times = self.chance.choice(((5.0, 60), (10.0, 40), (19.0, 25))), 0
        self.tell(f"a stranger replays first messages: of {self._name_of(key)} at {site.name}")
        for times in range(every[1]):
            self.later(every[0] * times, lambda: self._first_message(site, key))

    def _shake_hands(self, site: Site, key: bytes) -> None:
        self._first_message(site, key)
        self.later(self.chance.choice((0.0, 0.05, 0.3, 4.0)), lambda: self._first_data(site, key, began=self.clocks.now))

    def _first_message(self, site: Site, key: bytes) -> None:
        kernel, now = site.machine.kernel, self.clocks.now
        peer = None if kernel is None else kernel.peers.get(key)
        if peer is None:
            return
        sessions = self.model.stations[site.name].sessions
        session = sessions.get(key)
        if session is None or session.peer is not peer:
            session = sessions[key] = Session(peer, now, now)
        self._receive(site, session, INITIATION)
        peer.endpoint = SOMEWHERE
        peer.tx += 92
        session.calling_until = min(now + G, session.stale_at + C)

    def _first_data(self, site: Site, key: bytes, *, began: float) -> None:
        session = self._session(site, key)
        if session is None or session.packet > self.clocks.now:
            return
        self._receive(site, session, DATA)
        session.peer.handshake = max(1, int(self.clocks.wall().timestamp() * 1e9))
        session.handshake = self.clocks.now
        session.lives_until = self.clocks.now - 4.0 + REJECT_AFTER_TIME

    def _receive(self, site: Site, session: Session, octets: int) -> None:
        session.peer.rx += octets
        session.packet = self.clocks.now
        site.touched()

    def _session(self, site: Site, key: bytes) -> Session | None:
        """Return what a client has with a gateway, if the kernel still knows of it."""
        session = self.model.stations[site.name].sessions.get(key)
        kernel = site.machine.kernel
        if session is None or kernel is None or kernel.peers.get(key) is not session.peer:
            return None
        return session

    # Accidents.

    def cut(self) -> None:
        site = self._site()
        self.tell(f"{site.name} is cut off")
        site.weather.up = False
        self.later(self.chance.choice((0.5, 20.0, 600.0, 7200.0, 30 * 3600.0)), lambda: self._reconnect(site))

    def _reconnect(self, site: Site) -> None:
        if not site.weather.up:
            self.tell(f"{site.name} is connected again")
            site.weather.up = True

    def disturb(self) -> None:
        site = self._site()
        site.weather.fault = self.chance.choice(FAULTS)
        self.tell(f"the feed is disturbed: of {site.name}, {site.weather.fault}")

    def kill_soon(self) -> None:
        """The kernel process is killed at one of the next things that it asks of the system."""
        site = self._site()
        site.machine.kill_after = self.chance.randrange(60)
        self.tell(f"the gateway is killed: {site.name}, {site.machine.kill_after} edges from now")

    def kill_now(self) -> None:
        site = self._site()
        self.tell(f"the gateway is killed: {site.name}, at once")
        site.kill()

    def kill_network_process(self) -> None:
        site = self._site()
        if site.talker is not None:
            self.tell(f"the network process is killed: of {site.name}")
            site.talker.end()

    def hang_network_process(self) -> None:
        site = self._site()
        if site.talker is not None and site.talker.hung_since is None:
            self.tell(f"the network process hangs: of {site.name}")
            site.talker.hung_since = self.clocks.now

    def restart_control(self) -> None:
        if self._plane is None or self.rewound:
            return
        self.tell("the control plane is restarted")
        self._stop_control()
        self._start_control()

    def stop_control(self) -> None:
        if self._plane is None or self.rewound:
            return
        self.tell("the control plane is stopped")
        self._stop_control()
        # Nor does one know that was off, and starts with a wrong clock.
        self.clocks.step = 0.0
        self.later(self.chance.choice((1.0, 60.0, 3600.0, 30 * 3600.0)), self._start_control)

    def _stop_control(self) -> None:
        if self._plane is not None:
            self._plane.stop()
            self._plane = None

    def _start_control(self, *, new_epoch: bool = False) -> None:
        if self._plane is not None:
            return
        # A clock that is less than a month ahead can't be told from a month of rest.
        if -3 * 3600 < self.clocks.step < 31 * DAY:
            self.clocks.step = 0.0
        self.plane.start(new_epoch=new_epoch)
        self._plane = self.plane
        self._tick_at = self.clocks.now
        if new_epoch:
            # Put back with all beside it, a copy of an earlier epoch is one that nobody has heard of.
            self.rewound, self.backup_epoch = False, -1
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        served: dict[str, dict[bytes, bytes]] = {}
        for name, site in self.sites.items():
            kernel, foreign = site.machine.kernel, self.model.stations[name].foreign
            found = {} if kernel is None else kernel.peers
            peers = {key: peer_of(peer) for key, peer in found.items() if key not in foreign}
            served[name] = {key: peer for key, peer in peers.items() if peer is not None}
        self.model.began_epoch(served, now=self.clocks.now)

    def new_epoch(self) -> None:
        if self._plane is None:
            return
        self.tell("the control plane begins a new epoch")
        self._stop_control()
        self._start_control(new_epoch=True)

    def back_up(self) -> None:
        if self._plane is not None and not self.rewound:
            self.tell("the database is copied")
            self.backup_epoch = 0
            self.backup = (self._plane.back_up(), deepcopy(self.model.people))

    def put_back(self) -> None:
        """The database file is put back alone: it is refused, and a new epoch begins."""
        self._put_back(whole=False)

    def put_back_whole(self) -> None:
        """The whole folder is put back, as by a snapshot of the machine: nobody can tell at the start."""
        self._put_back(whole=True)

    def _put_back(self, *, whole: bool) -> None:
        if self.backup is None or self._plane is None or self.rewound or (whole and self.backup_epoch < 0):
            return
        content, people = self.backup
        newer = self._plane.control.hub.at
        self.tell(f"an earlier database is put back: {'with all beside it' if whole else 'the file alone'}")
        self._stop_control()
        # An earlier database does not know what time it was when it was put back (docs/known-limits.md).
        self.clocks.step = 0.0
        self.plane.put_back(content, whole=whole)
        known = self.model.people
        self.model.people = deepcopy(people)
        for station in self.model.stations.values():
            # Whether they still may or must be there depends on what each gateway had been told.
            for key in (*station.held, *known.peers, *self.model.people.peers):
                station.limbo.setdefault(key, station.confirmed + LEASE)
            station.held = {}
        if not whole:
            try:
                self._start_control()
            except DatabaseRewound:
                self._start_control(new_epoch=True)
                return
            if newer != self._plane_at():
                raise Broken("P9: an older database was served as if nothing had happened")
            return
        self.rewound = True
        for name, site in self.sites.items():
            if not site.machine.alias:
                # It has never been told anything, or that went with the interface.
                self.model.stations[name].gone.clear()
        self._start_control()
        self.later(self.chance.choice((3600.0, 10 * 3600.0, 30 * 3600.0)), self._end_rewind)

    def _end_rewind(self) -> None:
        if self.rewound:
            self.new_epoch()

    def _plane_at(self) -> object:
        return None if self._plane is None else self._plane.control.hub.at

    def step_clock(self) -> None:
        by = self.chance.choice((-10 * YEAR, 10 * YEAR, -YEAR, 3 * 3600.0, -5 * 3600.0, 40 * DAY))
        self.clocks.step = 0.0 if self.clocks.step else by
        self.tell(f"the wall clock is wrong: by {self.clocks.step / 3600:.0f} hours")

    # Hands on the interface.

    def delete_interface(self) -> None:
        site = self._site()
        if site.machine.kernel is None:
            return
        self.tell(f"the interface is deleted: on {site.name}")
        site.machine.delete()
        station = self.model.stations[site.name]
        station.held, station.foreign, station.sessions = {}, {}, {}
        station.kept, station.before = {}, {}
        if self.rewound:
            # With the interface, what it was told went, too.
            station.gone.clear()
        site.changes_by_hand += 1
        if self.chance.random() < 0.3:
            self.later(2.0, lambda: self._make_by_hand(site))

    def _make_by_hand(self, site: Site) -> None:
        if site.machine.kernel is None:
            self.tell(f"somebody makes the interface: on {site.name}")
            site.machine.create(key=self.chance.randbytes(32))

    def add_foreign(self) -> None:
        site = self._site()
        kernel, station = site.machine.kernel, self.model.stations[site.name]
        if kernel is None:
            return
        self.tell(f"somebody adds a peer of their own: on {site.name}")
        key, number = self._new_key(), self.chance.randrange(1, 250)
        kernel._places += 1
        peer = kernel.peers[key] = KernelPeer(key, kernel._places)
        kernel._give(peer, (AF_INET, bytes((192, 168, 7, number)), 32))
        if self.chance.random() < 0.5:
            peer.endpoint, peer.rx, peer.handshake = SOMEWHERE, 148, 1
        kernel.touch()
        station.foreign[key] = peer
        site.changes_by_hand += 1

    def remove_foreign(self) -> None:
        site = self._site()
        station, kernel = self.model.stations[site.name], site.machine.kernel
        key = self._some(station.foreign)
        if key is not None and kernel is not None:
            self.tell(f"somebody removes their peer: on {site.name}")
            del station.foreign[key]
            kernel._remove(key)
            kernel.touch()
            site.changes_by_hand += 1

    def meddle(self) -> None:
        """Somebody changes a peer of ours by hand; it is mended within a minute."""
        site = self._site()
        station, kernel = self.model.stations[site.name], site.machine.kernel
        key = self._some(station.held)
        if key is None or kernel is None or key not in kernel.peers:
            return
        how = self.chance.choice(("removes", "changes the preshared key of", "takes the addresses of"))
        self.tell(f"somebody {how}: {self._name_of(key)} on {site.name}")
        del station.held[key]
        station.sessions.pop(key, None)
        station.tampered.add(key)
        if how == "removes":
            kernel._remove(key)
        elif how.startswith("changes"):
            kernel.peers[key].preshared_key = self.chance.randbytes(32)
        else:
            kernel._strip(kernel.peers[key])
        kernel.touch()
        site.changes_by_hand += 1
        self.pass_time(61)

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
