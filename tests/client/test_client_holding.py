"""What is due while the machine sleeps comes before the user's traffic, and never keeps it waiting long."""

from datetime import datetime

from virtual import START

from exuvia.client.holding import LONGEST, MARGIN, Hold


class Clock:
    """Clocks that are set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wrong = 0.0

    def boottime(self) -> float:
        """Return seconds since boot."""
        return self.now

    def wall(self) -> datetime:
        """Return the time of day."""
        return datetime.fromtimestamp(START.timestamp() + self.now + self.wrong, START.tzinfo)

    def boot(self) -> str:
        """Return the name of this boot."""
        return "boot"


class Gate:
    """Notes until when traffic is let out."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.until: datetime | None = None
        self.moved = 0

    def hold(self, until: datetime | None) -> None:
        """Note it."""
        self.until, self.moved = until, self.moved + 1

    @property
    def open(self) -> bool:
        """Whether the kernel lets anything out now."""
        return self.until is None or self.clock.wall() < self.until


def begun() -> tuple[Clock, Gate, Hold]:
    """Return a hold on a gate."""
    clock = Clock()
    gate = Gate(clock)
    return clock, gate, Hold(gate, clock)  # type: ignore[arg-type]


def watch(clock: Clock, hold: Hold, gate: Gate, due: float, seconds: float) -> list[bool]:
    """Look every two seconds, as an awake client does; return whether the gate was open each time."""
    seen = []
    for _ in range(int(seconds / 2)):
        clock.now += 2
        seen.append(gate.open)
        hold.look(max(0.0, due - clock.now))
    return seen


def test_an_awake_client_holds_nothing_back() -> None:
    """While the client is awake the gate is open, before the change is due and while it is overdue."""
    clock, gate, hold = begun()
    hold.look(100)

    assert all(watch(clock, hold, gate, due=1100.0, seconds=300))


def test_before_it_is_due_the_kernel_is_left_alone() -> None:
    """The limit is set once and not touched again until it is near, or the time of day steps."""
    clock, gate, hold = begun()
    hold.look(10_000)
    watch(clock, hold, gate, due=11_000.0, seconds=5_000)
    assert gate.moved == 1
    clock.wrong = 3_600.0
    watch(clock, hold, gate, due=11_000.0, seconds=10)

    assert gate.moved == 2
    assert gate.open


def test_due_while_asleep_means_before_the_first_traffic() -> None:
    """Who wakes after the change was due finds the gate closed, until the change is made."""
    clock, gate, hold = begun()
    hold.look(100)
    clock.now += 5_000
    assert not gate.open
    assert hold.look(0) is False
    assert not gate.open
    clock.now += 1
    hold.look(50_000)

    assert gate.open


def test_a_change_that_can_not_be_made_lets_traffic_out_again() -> None:
    """After 15 s the gate opens all the same, that is told once, and it stays open while awake."""
    clock, gate, hold = begun()
    hold.look(100)
    clock.now += 5_000
    told = [hold.look(0)]
    while not any(told):
        assert not gate.open
        clock.now += 2
        told.append(hold.look(0))

    assert 2 * (len(told) - 1) - 2 < LONGEST <= 2 * (len(told) - 1)
    assert all(watch(clock, hold, gate, due=0.0, seconds=200))
    assert hold.look(0) is False


def test_asleep_again_while_overdue() -> None:
    """Each sleep closes the gate anew while the change is overdue."""
    clock, gate, hold = begun()
    hold.look(0)
    assert gate.open
    clock.now += 60
    assert not gate.open
    hold.look(0)
    assert not gate.open


def test_connected_with_a_key_that_is_overdue() -> None:
    """A client that could only connect with an overdue key lets nothing out until it is changed."""
    clock, gate, hold = begun()
    hold.begin()
    assert not gate.open
    clock.now += 2
    hold.look(MARGIN * 1000)

    assert gate.open
