"""
A gateway's machine: its kernel, its links and its clock, while daemons come, are killed, and come back.

What a daemon asks of the operating system ends here. Each request is an edge at which it can be
killed: nothing of it runs on after that, as after kill -9.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from unittest import mock

from exuvia.errors import InterfaceUnavailable
from exuvia.gateway import care, gateway, hygiene, nat, taking
from exuvia.gateway.keeping import Keeper
from exuvia.gateway.saying import Alarms
from exuvia.system import clock, entropy, links, process
from exuvia.system.kernel import KernelInterface
from exuvia.system.links import AddLink, Change, Link, ReplaceAddress, SetLink
from exuvia.testing.interface import FakeKernel
from exuvia.wg.keys import PrivateKey, PublicKey

INTERFACE = "wg0"
EPOCH_OF_TIME = datetime(2030, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The daemon was killed at this edge."""


class Clocks:
    """The two clocks of the simulated world."""

    def __init__(self) -> None:
        self.now = 1_000.0
        """Seconds of CLOCK_BOOTTIME, on all machines."""
        self.step = 0.0
        """By how many seconds the wall clock is wrong."""

    def true_time(self) -> datetime:
        """Return the time that a right clock shows."""
        return EPOCH_OF_TIME + timedelta(seconds=self.now)

    def wall(self) -> datetime:
        """Return what the wall clock shows."""
        return self.true_time() + timedelta(seconds=self.step)


class Machine:
    """Keeps what outlives a daemon: the interface with its peers, and its alias."""

    def __init__(self, name: str, chance: Random) -> None:
        self.name = name
        self.kernel: FakeKernel | None = None
        self.alias = ""
        self.group = 0
        self.edges = 0
        self.kill_after: int | None = None
        """How many more edges the daemon lives to see; None: it is not to be killed."""
        self.alarms: list[str] = []
        """What the daemons on it have said that somebody should look at."""
        self.watch: Callable[[], None] = lambda: None
        """Called after every message that the kernel has carried out."""
        self._chance = chance
        self._index = 6

    def edge(self) -> None:
        """Let the daemon ask something of the operating system, unless this is where it is killed."""
        self.edges += 1
        if self.kill_after is not None:
            if self.kill_after <= 0:
                raise Killed
            self.kill_after -= 1

    def create(self, *, group: int = 0, key: bytes | None = None) -> None:
        """Make the interface."""
        self._index += 1
        self.kernel = FakeKernel(self._index)
        self.kernel.private_key = None if key is None else _QuickKey(key)
        self.alias, self.group = "", group

    def delete(self) -> None:
        """Delete the interface with everything on it."""
        if self.kernel is not None:
            self.kernel.gone = True
            self.kernel = None
        self.alias = ""

    def run(self, changes: Iterable[Change]) -> None:
        """Do this to the interface."""
        for change in changes:
            self.edge()
            match change:
                case AddLink(name, group) if name == INTERFACE:
                    self.create(group=group)
                case SetLink() | ReplaceAddress():
                    if self.kernel is None:
                        raise InterfaceUnavailable("there is no such interface")
                case _:
                    raise AssertionError(f"nobody knows how to {type(change).__name__} here")


class _QuickKey(PrivateKey):
    """A private key that computes its public key once."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._public = super().public_key()

    def public_key(self) -> PublicKey:
        return self._public


class _Transport:
    """What carries messages to the kernel: each is an edge."""

    def __init__(self, machine: Machine, kernel: FakeKernel) -> None:
        self._machine = machine
        self._kernel = kernel
        self.buffer = kernel.buffer

    def send(self, messages: list[bytes], first: int) -> list[int]:
        codes: list[int] = []
        for place, message in enumerate(messages):
            self._machine.edge()
            codes += self._kernel.send([message], first + place)
            self._kernel.messages.clear()
            self._machine.watch()
        key = self._kernel.private_key
        if key is not None and not isinstance(key, _QuickKey):
            self._kernel.private_key = _QuickKey(key.expose())
        return codes

    @contextlib.contextmanager
    def dumping(self, request: bytes, *, small: bool, whole: bool = True) -> Iterator[Callable[[], int]]:
        self._machine.edge()
        with self._kernel.dumping(request, small=small, whole=whole) as receive:

            def next_part() -> int:
                self._machine.edge()
                return receive()

            yield next_part

    def close(self) -> None:
        """Nothing is open."""


class _Links:
    """The links of the machine that the daemon runs on."""

    def __init__(self) -> None:
        self._machine = Here.machine

    def find(self, name: str) -> Link | None:
        self._machine.edge()
        if self._machine.kernel is None:
            return None
        return Link(self._machine.kernel.index, name, True, self._machine.group, self._machine.alias)

    def write_alias(self, index: int, text: str) -> None:
        self._machine.edge()
        if self._machine.kernel is None or self._machine.kernel.index != index:
            raise InterfaceUnavailable("the interface is gone")
        self._machine.alias = text

    def close(self) -> None:
        """Nothing is open."""


class Here:
    """Which machine the daemon that runs at the moment runs on."""

    machine: Machine


def _open(name: str, *, alone: bool = True) -> KernelInterface:
    Here.machine.edge()
    kernel = Here.machine.kernel
    if kernel is None:
        raise InterfaceUnavailable(f"there is no network interface {name!r} here")
    return KernelInterface(name, kernel.index, _Transport(Here.machine, kernel), family=21)


@contextlib.contextmanager
def instead_of_the_system(clocks: Clocks, chance: Random) -> Iterator[None]:
    """Let everything that asks the operating system ask the simulated one."""
    keeper = {**(Keeper.__init__.__kwdefaults__ or {}), "now": lambda: clocks.now, "forget": len}
    alarms = {"tell": lambda text: Here.machine.alarms.append(text)}
    with contextlib.ExitStack() as stack:
        for place, name, stand_in in (
            (clock, "boottime", lambda: clocks.now),
            (clock, "wall", clocks.wall),
            (entropy, "bits", chance.getrandbits),
            (entropy, "octets", chance.randbytes),
            (links, "run", lambda changes: Here.machine.run(changes)),
            (links, "Links", _Links),
            (care, "Links", _Links),
            (taking, "open_interface", _open),
            (process, "in_child", lambda work: work()),
            (nat, "end", lambda interface: None),
            (hygiene, "tracking_warnings", lambda *, nat: iter(())),
            (gateway, "say", lambda text: None),
            (gateway, "print", lambda *_, **__: None),
            (Keeper.__init__, "__kwdefaults__", keeper),
            (Alarms.__init__, "__kwdefaults__", alarms),
        ):
            stack.enter_context(mock.patch.object(place, name, stand_in, create=name == "print"))
        yield
