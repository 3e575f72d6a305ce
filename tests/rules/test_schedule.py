"""When a key is changed: time asleep counts, and a wrong time of day is never believed for long."""

from hypothesis import example, given
from hypothesis import strategies as st

from exuvia.rules.schedule import DAY, SPREAD, Moment, anchored, drawn, remaining, retry, within

YEAR = 365 * DAY
WALL = 1.8e9

chances = st.floats(0, 1, exclude_max=True)
days = st.integers(1, 30)
walls = st.floats(-WALL, 10 * WALL)


@given(days, chances)
def test_an_interval_is_spread(number: int, chance: float) -> None:
    """The next change is due after the interval, up to a fifth sooner or later."""
    now = Moment(WALL, 100.0, "one")
    left = remaining(drawn(number, chance=chance, now=now), number, now=now)

    assert (1 - SPREAD) * number * DAY - 1 <= left <= (1 + SPREAD) * number * DAY + 1


def test_the_spread_is_used() -> None:
    """Chance reaches from a fifth sooner to a fifth later."""
    now = Moment(WALL, 100.0, "one")
    lefts = [remaining(drawn(10, chance=chance, now=now), 10, now=now) / DAY for chance in (0.0, 0.5, 0.999)]

    assert [round(left) for left in lefts] == [8, 10, 12]


@given(days, chances, walls, st.floats(0, 40 * DAY))
def test_p6_in_one_boot_the_wall_clock_decides_nothing(
    number: int, chance: float, wall: float, passed: float
) -> None:
    """P6: however the time of day steps, what is left is what CLOCK_BOOTTIME says, sleep included."""
    due = drawn(number, chance=chance, now=Moment(WALL, 100.0, "one"))
    left = remaining(due, number, now=Moment(wall, 100.0 + passed, "one"))

    assert abs(left - max(0.0, due.boottime - 100.0 - passed)) < 1e-3


@given(days, chances, walls, st.floats(0, 1e9))
@example(7, 0.5, WALL - YEAR, 5.0)
@example(7, 0.5, WALL + YEAR, 5.0)
def test_p6_after_another_boot_never_later_than_one_interval(
    number: int, chance: float, wall: float, boottime: float
) -> None:
    """P6: whatever the time of day is after another boot, the change is due within one longest interval."""
    due = drawn(number, chance=chance, now=Moment(WALL, 1e6, "one"))
    left = remaining(due, number, now=Moment(wall, boottime, "two"))

    assert 0 <= left <= number * DAY * (1 + SPREAD)


def test_a_clock_that_was_set_back_changes_the_key_now() -> None:
    """A time of day before the last change by more than can be, or beyond the due time: the change is due."""
    due = drawn(7, chance=0.5, now=Moment(WALL, 1e6, "one"))
    for step in (-YEAR, YEAR, 8 * DAY):
        assert remaining(due, 7, now=Moment(WALL + step, 5.0, "two")) == 0

    assert remaining(due, 7, now=Moment(WALL + 3 * DAY, 5.0, "two")) == 4 * DAY


@given(days, chances, walls, walls)
def test_anchored_to_a_boot_the_wall_clock_may_step_again(
    number: int, chance: float, wall: float, later: float
) -> None:
    """Once looked at in a new boot, the due time stays where it is on that boot's clock."""
    due = drawn(number, chance=chance, now=Moment(WALL, 1e6, "one"))
    now = Moment(wall, 5.0, "two")
    left = remaining(due, number, now=now)
    again = anchored(due, number, now=now)

    assert abs(remaining(again, number, now=Moment(later, 5.0, "two")) - left) < 1e-3


def test_an_unknown_boot_is_another_one() -> None:
    """Where the kernel does not say which boot it is, CLOCK_BOOTTIME is not compared across them."""
    due = Moment(WALL + DAY, 1e9, "")

    assert remaining(due, 7, now=Moment(WALL, 5.0, "")) == DAY


@given(st.integers(1, 10**6), chances)
def test_retries_come_after_one_to_sixty_minutes(failures: int, chance: float) -> None:
    """Each failure doubles the wait, from about one minute to about an hour."""
    assert 0.8 * 60 <= retry(failures, chance=chance) <= 1.2 * 3600
    assert retry(1, chance=0.5) == 60
    assert retry(2, chance=0.5) == 120
    assert retry(100, chance=0.5) == 3600


def test_what_the_control_plane_allows() -> None:
    """An interval beyond what is allowed becomes the nearest one that is."""
    assert [within(number) for number in (0, 1, 7, 30, 99)] == [1, 1, 7, 30, 30]
    assert within(30, shortest=2, longest=14) == 14
