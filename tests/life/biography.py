"""
The life of one client: days full of faults, on the client's real code, with its promises checked all along.

Nothing is sent and nobody waits; the same seed tells the same life. Where nothing happens for
hours, hours pass in one step.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from pathlib import Path
from random import Random

from landscape import FakeMachine, Killed, Trouble, Ways
from mishaps import MISHAPS
from office import HOUR, Office
from virtual import SimClock, TrueTime, VirtualLoop

from exuvia.client import remaining, session
from exuvia.client.edges import Edges
from exuvia.client.gateways import Known, locate
from exuvia.client.keeping import Keeper
from exuvia.client.parts import Parts
from exuvia.client.session import Session, Wishes
from exuvia.client.situation import Situation
from exuvia.client.state import FORMAT, ClientKey, ClientState, Device, StateFolder
from exuvia.errors import AccountInactive, StateNotSaved, Unavailable
from exuvia.rules.schedule import DAY
from exuvia.wg.keys import PrivateKey

CALM = 120.0
"""Seconds after the last fault within which the client has to be connected again."""
NOTICED = 300.0
"""The same if no gateway accepts its key any more, though all know it: that has to be noticed first."""
OVERDUE = 80 * 60.0
"""Seconds of calm after which no change may be overdue: retries come once an hour at the latest."""
LOOK = 2.0
"""Seconds from one look at everything to the next."""
ORPHANED = 25 * HOUR
"""Seconds for which a key may be known that the client does not have: a day, rounded up."""
LOOKS = {(session, "_LOOK_CONNECTING"): 1.0, (remaining, "_LOOK_DOUBTING"): 2.0}
"""Coarser than in reality, so that days pass quickly; nothing is decided by them."""


class Broken(AssertionError):
    """A promise was broken; the text tells how it came to that."""


class Chance:
    """Chance that repeats itself."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def bits(self, count: int, /) -> int:
        """Return so many random bits."""
        return self._random.getrandbits(count)

    def octets(self, count: int, /) -> bytes:
        """Return so many random bytes."""
        return self._random.randbytes(count)


class Disk(StateFolder):
    """A state folder whose disk may be full, and whose power may be cut."""

    def __init__(self, folder: Path, trouble: Trouble, random: Random) -> None:
        super().__init__(folder)
        self._trouble, self._random = trouble, random
        self.cut = False
        self.saves = 0

    def save(self, state: ClientState) -> None:
        """Save, if that is possible just now."""
        self._trouble.reach_out()
        if self._trouble.disk_full:
            raise StateNotSaved("No space left on device")
        self.saves += 1
        if self.cut:
            # The rename has reached the disk, or it has not.
            if self._random.random() < 0.5:
                super().save(state)
            self._trouble.dead = True
            raise Killed
        super().save(state)
        self._trouble.reach_out()


class Biography:
    """A client, what befalls it, and what is told of it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.told: list[str] = []
        self.counts: Counter[str] = Counter()
        self.random = Random(seed)
        self._seed = seed
        self.true = TrueTime()
        self.clock = SimClock(self.true)
        self.trouble = Trouble()
        self.office = Office(self.true, self.random, gateways=self.random.choice((1, 2, 3)))
        self.machine = FakeMachine(self.office, self.clock, self.trouble)
        self.disk = Disk(folder / "client", self.trouble, self.random)
        self._chance = Chance(self.random)
        self.parts: Parts | None = None
        self.wrong: set[str] = set()
        """What is wrong at the moment; empty when the client has no excuse."""
        self.faults = 0
        self.interval = self.random.choice((1, 1, 1, 2, 7))
        self._running: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._asking: asyncio.Task[None] | None = None
        self._calm_since = 0.0
        self._taken = False
        self._put_back = -DAY
        self._own_keys: tuple[object, set[bytes]] = (None, set())
        self._orphans: dict[bytes, float] = {}
        self._unsettled: float | None = None
        self._endings: list[tuple[float, str, Callable[[], None]]] = []

    async def live(self, days: float, *, every: float = 8 * HOUR) -> None:
        """Let days pass, with something that goes wrong every so many seconds."""
        with contextlib.ExitStack() as patched:
            for (module, name), seconds in LOOKS.items():
                patched.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, seconds)
            async with self.begun():
                await self._days(days, every)

    @contextlib.asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        """Log in, and run the client while the block lasts."""
        await self._log_in()
        self.start()
        try:
            yield
        finally:
            await self._end_process()

    async def pass_time(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let so much time pass, or less if something is so earlier, without anything going wrong."""
        end = self.true.now + seconds
        while self.true.now < end and not until():
            await asyncio.sleep(LOOK)
            await self._look_after()
            self._check()

    async def _days(self, days: float, every: float) -> None:
        end = self.true.now + days * DAY
        following = self.true.now + every / 96
        while self.true.now < end:
            if self.true.now >= following:
                following = self.true.now + self.random.expovariate(1 / every)
                for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                    self.faults += 1
                    self.random.choice(MISHAPS)(self)
                if self.random.random() < 0.7:
                    self.ask_to_rotate()
            await asyncio.sleep(LOOK)
            await self._look_after()
            self._check()
            self._hurry(following)

    def _hurry(self, following: float) -> None:
        """Let time pass in which nothing happens."""
        ends = [when for when, *_ in self._endings]
        if self._running is None:
            left = 0.0 if not ends else min(ends) - self.true.now - 1
        elif self._is_calm(CALM + 30) and self.keeper.phase == "settled":
            left = min([following, *ends, self.true.now + self.keeper.left() - 20]) - self.true.now
        else:
            return
        loop = asyncio.get_running_loop()
        if left > 60 and isinstance(loop, VirtualLoop):
            loop.passed += left

    async def _look_after(self) -> None:
        """End what is over, and the process that was killed."""
        now = self.true.now
        for ending in [ending for ending in self._endings if ending[0] <= now]:
            self._endings.remove(ending)
            ending[2]()
            if ending[1]:
                self.wrong.discard(ending[1])
                self.tell(f"over: {ending[1]}")
            self._calm_since = now
        if self.trouble.dead and self._running is not None:
            await self._end_process()
            self.later(2 + 8 * self.random.random(), self.start)
        elif self._running is not None and self._running.done():
            self._ended(self._running)

    # The client.

    @property
    def keeper(self) -> Keeper:
        """The client's state."""
        assert self.parts is not None
        return self.parts.keeper

    async def _log_in(self) -> None:
        self.disk.create()
        key = PrivateKey(self._chance.octets(32))
        grant = self.office.put(key.public_key())
        await asyncio.sleep(5)
        self.disk.save(
            ClientState(
                *(FORMAT, "settled", "https://203.0.113.2"),
                device=Device("d", "quiet heron", "token"),
                current=ClientKey(key, grant),
                interval=self.interval,
            )
        )
        gateways = await locate([gateway.listing() for gateway in self.office.gateways])
        self.disk.known.write_bytes(Known((ip_address("203.0.113.2"),), gateways).encode())

    def start(self) -> None:
        """Start the client, as systemd would."""
        if self._running is not None or "off" in self.wrong:
            return
        self.trouble.dead = self.disk.cut = False
        try:
            keeper = Keeper(self.disk, clock=self.clock, entropy=self._chance)
        except Exception as error:
            raise self._broken(f"the state can't be used: {error}") from error
        ways = Ways(self.office, self.machine, self.clock, self.trouble, self.random)
        edges = Edges(self.machine, ways, self.clock, self._chance)
        shut = self.machine.is_shut
        self.parts = Parts(self.disk, keeper, Situation(shut=shut, may_open=not shut), edges, self._say)
        drain = self.random.choice((0.0, 60.0, 600.0))
        self._session = Session(self.parts, Wishes(on_connect=self.random.random() < 0.2, drain=drain))
        self._running = asyncio.ensure_future(self._session.stay())
        self._calm_since = self.true.now
        self.tell("start")

    async def _end_process(self) -> None:
        """End the client's process at whatever it is doing; nothing is tidied up, nothing runs on."""
        self.trouble.dead = True
        running, self._running = self._running, None
        if running is not None and running.done() and not running.cancelled():
            running.exception()
        for _ in itertools.count():
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if not others:
                break
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            for task in others:
                if not task.cancelled():
                    task.exception()
        self.machine.forget()

    def _ended(self, running: "asyncio.Task[None]") -> None:
        """The client has ended by itself, as it does when it is refused before it was ever connected."""
        error = None if running.cancelled() else running.exception()
        self._running = None
        self.tell(f"ended: {error!r}")
        excused = self.wrong or self.trouble.dead or not self._is_calm(CALM)
        if not isinstance(error, Killed | AccountInactive | Unavailable) or not excused:
            raise self._broken(f"the client has ended for no reason: {error!r}") from error
        self.later(10, self.start)

    def ask_to_rotate(self) -> None:
        if self._session is not None and self._running is not None:
            self.tell("rotate")
            self._asking = asyncio.ensure_future(_heard(self._session))

    # What mishaps do.

    def goes_wrong(self, name: str, seconds: float, undo: Callable[[], None]) -> bool:
        """Note that something is wrong from now on, for so long; False if it is so already."""
        if name in self.wrong:
            return False
        self.tell(f"{name}: for {seconds:.0f} s")
        self.wrong.add(name)
        self._endings.append((self.true.now + seconds, name, undo))
        return True

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Let something happen."""
        self._endings.append((self.true.now + seconds, "", what))

    def disturbed(self, what: str) -> None:
        """Note that something happened that is over at once."""
        self.tell(what)
        self._calm_since = self.true.now
        self._taken = not self._known()

    def put_back(self, what: str) -> None:
        """Note that the control plane has forgotten what it was told."""
        self._put_back = self.true.now
        self.disturbed(what)

    def switch_off(self, seconds: float) -> None:
        """Cut the power, and switch the machine on again later."""
        if "off" not in self.wrong and self._running is not None:
            self.trouble.dead = True
            self.machine.is_shut = False
            self.machine.until = None
            self.goes_wrong("off", seconds, self._boot)

    def _boot(self) -> None:
        self.clock.reboot()
        self.wrong.discard("off")
        self.later(2, self.start)

    # What must be so.

    def _check(self) -> None:
        self.office.tick()
        now = self.true.now
        if self.office.most_keys > 2:
            raise self._broken("the device had more than two keys")
        self._check_keys(now)
        self._check_orphans(now)
        locked = any(self.own() & gateway.locked for gateway in self.office.gateways)
        if self._running is None or not self._is_calm(NOTICED if locked else CALM):
            return
        assert self.parts is not None
        if self.parts.situation.condition != "connected" or not self.machine.works(self.machine.used):
            raise self._broken(f"not connected though nothing was wrong for {CALM:.0f} s")
        if not self.machine.lets_out:
            raise self._broken("connected, but the user's traffic is held back")
        if self.machine.used is None or self.machine.used.key not in self.own():
            raise self._broken("the tunnel in use has a key that is not saved")
        settled = self.keeper.phase == "settled" and self.keeper.left() > 0
        self._unsettled = None if settled else self._unsettled or now
        if self._unsettled is not None and now - max(self._unsettled, self._calm_since) > OVERDUE:
            raise self._broken("a change of keys is overdue though nothing was wrong")

    def _check_keys(self, now: float) -> None:
        if self._known():
            self._taken = False
        elif not self._taken:
            # What was confirmed before an older database was put back is unconfirmed in that.
            if now - self._put_back > ORPHANED + HOUR or not self.office.active:
                raise self._broken("the client has no key that the control plane knows")
            self._taken, self._calm_since = True, max(self._calm_since, now)

    def _check_orphans(self, now: float) -> None:
        own = self.own()
        # A current one is the control plane's only one, until the client is back.
        orphans = [
            key for key, standing in self.office.living.items() if key not in own and standing != "current"
        ]
        self._orphans = {key: self._orphans.get(key, now) for key in orphans}
        if any(now - since > ORPHANED for since in self._orphans.values()):
            raise self._broken("a key that the client does not have is known for too long")

    @property
    def settled(self) -> bool:
        """Whether the client is connected and has nothing left to do."""
        running = self._running is not None and not self.trouble.dead and self.parts is not None
        return (
            running
            and self.parts.situation.condition == "connected"
            and self.keeper.phase == "settled"
            and set(self.office.living) == self.own()
        )

    def own(self) -> set[bytes]:
        """Return the public keys that the client has saved."""
        state = self.keeper.state
        if state is not self._own_keys[0]:
            self._own_keys = (state, {bytes(key.private_key.public_key()) for key in state.keys if key})
        return self._own_keys[1]

    def _known(self) -> bool:
        return self.parts is None or bool(self.own() & set(self.office.living))

    def _is_calm(self, seconds: float) -> bool:
        return not self.wrong and self.true.now - self._calm_since > seconds

    # What is told.

    def tell(self, what: str) -> None:
        """Note what happens."""
        self.counts[what.partition(":")[0]] += 1
        phase = "" if self.parts is None else self.parts.keeper.phase
        self.told.append(f"{self.true.now / DAY:9.5f} {phase:12} {what}")

    def _say(self, text: str) -> None:
        self.tell(f"the client says: {text}")

    def _broken(self, what: str) -> Broken:
        known = [f"{key[:3].hex()} {standing}" for key, standing in self.office.keys.items()]
        own = [key[:3].hex() for key in self.own()] if self.parts else []
        lines = [
            f"seed {self._seed}: {what}",
            *self.told[-60:],
            f"known: {known}, own: {own}, wrong: {self.wrong}",
        ]
        return Broken("\n".join(lines))


async def _heard(session: Session) -> None:
    async for _ in session.rotate():
        pass
