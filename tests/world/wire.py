"""
What lies between a gateway's kernel process and the control plane: pipes, the network process, the network.

The lines of the feed and the records of the pipes are the real ones. On their way they can be
cut, doubled, left out, put in another order, changed, or arrive when nobody asks for them any more.
"""

from collections.abc import Callable, Iterator
from random import Random

from control import ControlPlane, Stream
from machine import Clocks, Machine

from exuvia.errors import ControlPlaneUnreachable, KeyRefused, RevisionWentBackwards
from exuvia.gateway import streaming
from exuvia.gateway.records import (
    LENGTH,
    Alive,
    Applied,
    Follow,
    FromKernel,
    FromNetwork,
    Identity,
    StreamBegins,
    StreamLost,
    Welcome,
    WentBack,
    from_kernel,
    from_network,
    split,
)
from exuvia.messages import GatewayWelcome
from exuvia.rules.retrying import pause
from exuvia.store.peers import Position

HEARTBEAT = 15.0
SILENT_FOR = 60.0
RETRY_REFUSED = 900.0
PATIENT_FOR = 5
NEVER = 1e18


class Weather:
    """How the network between one gateway and the control plane is."""

    def __init__(self) -> None:
        self.up = True
        self.fault: str | None = None
        """What happens to something of the feed next: see Talker._mistreat."""


class Wire:
    """The network process as the kernel process sees it; stands in for spawning.NetworkProcess."""

    def __init__(self, machine: Machine, clocks: Clocks, make: Callable[[], "Talker"]) -> None:
        self._machine = machine
        self._clocks = clocks
        self._make = make
        self.talker: Talker | None = None
        self._buffer = bytearray()
        self._failures = 0
        self.start_at = 0.0

    @property
    def reads_from(self) -> int:
        return -1 if self.talker is None else 1

    @property
    def writes_to(self) -> int:
        return -1

    @property
    def silent_at(self) -> float:
        hung_since = None if self.talker is None else self.talker.hung_since
        return NEVER if hung_since is None else hung_since + SILENT_FOR

    def start(self, *, now: float) -> None:
        self._machine.edge()
        self.talker = self._make()

    def records(self, *, now: float) -> Iterator[FromNetwork]:
        self._machine.edge()
        talker = self.talker
        assert talker is not None
        if talker.dead and not talker.outbox:
            raise EOFError
        self._buffer += talker.take_outbox()
        for raw in split(self._buffer):
            self._machine.edge()
            record = from_network(raw)
            if isinstance(record, Alive):
                self._failures = 0
            else:
                yield record

    def send(self, record: FromKernel) -> None:
        self._machine.edge()
        if self.talker is not None:
            self.talker.inbox.append(record.encode())

    def flush(self) -> None:
        """Nothing waits to be written."""

    def stop(self) -> None:
        if self.talker is not None:
            self.talker.end()
        self.talker = None
        self._buffer.clear()

    def restart(self, *, now: float, chance: float) -> None:
        self.stop()
        self._failures += 1
        self.start_at = now + pause(self._failures, chance=chance)


class Talker:
    """The network process: what Conversation does, one turn at a time."""

    def __init__(
        self,
        name: str,
        control: Callable[[], ControlPlane | None],
        weather: Weather,
        clocks: Clocks,
        chance: Random,
    ) -> None:
        self._name = name
        self._control = control
        self._weather = weather
        self._clocks = clocks
        self._chance = chance
        self.inbox: list[bytes] = []
        self.outbox = bytearray()
        self.said: list[bytes] = []
        """Every line and record, for whoever looks for what must not be in them."""
        self.dead = False
        self.hung_since: float | None = None
        self.retry_at = 0.0
        self.refused = False
        """Whether the control plane says that this gateway was told more than it knows."""
        self._failures = 0
        self._identity: Identity | None = None
        self._follow: Follow | None = None
        self._asked = False
        self._applied: Position | None = None
        self._stream: Stream | None = None
        self._last_line = 0.0
        self._held: bytes | None = None

    @property
    def streaming(self) -> bool:
        """Whether there is a stream that the control plane has not ended."""
        return self._stream is not None and not self._stream.closed

    def take_outbox(self) -> bytes:
        """Return what is in the pipe, which may end in the middle of a record."""
        count = len(self.outbox)
        if count > 128 and self._chance.random() < 0.3 and not self.dead:
            count = self._chance.randrange(1, count)
        data = bytes(self.outbox[:count])
        del self.outbox[:count]
        return data

    def end(self) -> None:
        """End, in whatever it was doing."""
        self.dead = True
        self._break_off()

    def turn(self) -> bool:
        """Do what can be done now; say whether anything was."""
        if self.dead or self.hung_since is not None:
            return False
        moved = bool(self.inbox)
        inbox, self.inbox = self.inbox, []
        for raw in inbox:
            self._take_in(from_kernel(raw))
        control = self._control() if self._weather.up else None
        if control is None or (self._stream is not None and self._stream.closed):
            self._lose()
            return moved
        self._acknowledge(control)
        return self._converse(control) or moved

    def _take_in(self, record: FromKernel) -> None:
        if isinstance(record, Applied):
            self._applied = Position(*record.position)
            if not self._asked or self._follow is not None:
                self._failures = 0
        elif isinstance(record, Identity):
            self._identity = record
            self._lose(pausing=False)
        elif self._asked and self._follow is None:
            self._follow = record
        else:
            self._lose()

    def _acknowledge(self, control: ControlPlane) -> None:
        applied, self._applied = self._applied, None
        if applied is not None:
            try:
                control.acknowledge(self._name, applied)
            except RevisionWentBackwards:
                self.refused = True
                self._say(WentBack())

    def _converse(self, control: ControlPlane) -> bool:
        now = self._clocks.now
        if self._stream is not None:
            return self._pass_on(self._stream)
        if self._follow is not None:
            return self._begin(control, self._follow)
        if self._asked or self._identity is None or now < self.retry_at:
            return False
        pools = control.control.store.pools
        try:
            control.hello(self._name, self._identity.public_key, lasting=self._identity.lasting)
        except KeyRefused:
            self._lose()
            return False
        welcome = GatewayWelcome(str(pools.pool4), str(pools.pool6), pools.gateway4(), pools.gateway6())
        self._say(Welcome(streaming._pools(welcome)), StreamLost())
        self._asked = True
        return True

    def _begin(self, control: ControlPlane, follow: Follow) -> bool:
        position = follow.position
        self._say(StreamBegins(follow.number))
        try:
            asked = Position("", 0) if position is None else Position(*position)
            self._stream = control.stream(self._name, asked)
        except RevisionWentBackwards:
            self.refused = True
            self._say(WentBack())
            self._lose()
            return True
        self.refused = False
        self._last_line = self._clocks.now
        return True

    def _pass_on(self, stream: Stream) -> bool:
        lines = list(stream.news())
        if not lines and self._clocks.now - self._last_line >= HEARTBEAT:
            lines = [stream.heartbeat()]
        if not lines:
            return False
        self._last_line = self._clocks.now
        self.said += lines
        try:
            for line in self._mistreat(lines):
                self._say_raw(streaming._passed_on(line))
        except (ControlPlaneUnreachable, _Cut):
            self._lose()
        return True

    def _mistreat(self, lines: list[bytes]) -> Iterator[bytes]:
        """Yield the lines as they arrive in this weather."""
        if self._held is not None:
            lines = [*lines, self._held]
            self._held = None
        for place, line in enumerate(lines):
            fault = self._weather.fault
            is_change, is_row = line.startswith(b'{"type":"change"'), line.startswith(b'{"type":"peers"')
            if fault is None or (fault in ("double", "drop", "hold") and not is_change):
                yield line
                continue
            if fault in ("cut in snapshot", "drop row") and not is_row:
                yield line
                continue
            self._weather.fault = None
            if fault == "double":
                yield from (line, line)
            elif fault == "hold":
                self._held = line
            elif fault == "garble":
                at = self._chance.randrange(len(line))
                yield line[:at] + b"\0" + line[at + 1 :]
            elif fault == "html":
                yield b"<html><body>502 Bad Gateway</body></html>"
            elif fault == "cut":
                yield from lines[:place][:0]
                raise _Cut
            elif fault == "cut in snapshot":
                self._say_raw(streaming._passed_on(line)[: LENGTH * self._chance.randrange(3)])
                raise _Cut

    def _say(self, *records: FromNetwork) -> None:
        self._say_raw(b"".join(record.encode() for record in records))

    def _say_raw(self, raw: bytes) -> None:
        self.said.append(raw)
        self.outbox += raw

    def _lose(self, *, pausing: bool = True) -> None:
        if not (self._asked or self._stream):
            return
        self._break_off()
        self._failures += 1
        if pausing:
            wait = pause(self._failures, chance=self._chance.random())
            # One that is refused tries again for hours: here less often, to save time.
            self.retry_at = self._clocks.now + (wait if self._failures < PATIENT_FOR else RETRY_REFUSED)

    def _break_off(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = self._follow = self._held = None
        self._asked = False


class _Cut(Exception):
    """The connection was cut."""
