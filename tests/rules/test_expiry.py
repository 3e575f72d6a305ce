"""What ends by itself, and what happens when the wall clock is wrong."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.rules.expiry import (
    ChangeAges,
    Clock,
    account_state,
    first_look,
    is_over,
    last_day,
    look,
    rested_before,
)
from exuvia.rules.limits import LONGEST_WAIT, has_room, waiting_time

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
HOUR = int(NOON // 3600)
TEN_YEARS = 10 * 365 * 86400.0


@pytest.mark.parametrize(
    ("expires", "over"),
    [(None, False), ("2026-11-21", True), ("2026-11-22", False), ("2026-11-23", False), ("2025-12-31", True)],
)
def test_an_account_is_over_after_its_last_day(expires: str | None, over: bool) -> None:
    """The last day itself still counts; without one an account never ends."""
    assert is_over(expires, "2026-11-22") is over


def test_only_an_active_account_expires() -> None:
    """A suspended one stays what it is, so that resuming it tells the truth."""
    assert account_state("active", "2026-11-21", "2026-11-22") == "expired"
    assert account_state("suspended", "2026-11-21", "2026-11-22") == "suspended"
    assert account_state("active", None, "2026-11-22") == "active"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-22", "2026-11-22"),
        ("2027-01-01", "2027-01-01"),
        ("2026-11-21", None),
        ("2026-1-1", None),
        ("20271231", None),
        ("2027-W01-1", None),
        ("2027-02-30", None),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_a_last_day_is_a_day_to_come(text: str, day: str | None) -> None:
    """Only YYYY-MM-DD is taken, and no day that is over."""
    assert last_day(text, "2026-11-22") == day


@given(st.floats(0, 3599.9), st.integers(0, 10**6))
def test_an_address_rests_for_at_least_24_hours(seconds_into_hour: float, hour: int) -> None:
    """Stored is the hour in which it was given back; however late in it, 24 whole hours pass."""
    given_back = hour * 3600 + seconds_into_hour
    woken = next(now for now in range(hour, hour + 30) if rested_before(now) >= hour)

    assert woken * 3600 - given_back >= 24 * 3600
    assert woken == hour + 25


@pytest.mark.parametrize("step", [TEN_YEARS, -TEN_YEARS, 3601.0, -3601.0])
def test_a_step_of_the_clock_pauses_and_time_goes_on_by_the_other_clock(step: float) -> None:
    """While the wall clock is wrong, what is believed goes on second by second."""
    clock = look(Clock(NOON, 100.0), wall=NOON + 5 + step, boottime=105.0)
    later = look(clock, wall=NOON + 600 + step, boottime=700.0)

    assert clock == Clock(NOON + 5, 105.0, paused=True)
    assert (later.wall, later.paused) == (NOON + 600, True)
    assert (clock.day(), clock.hour()) == ("2026-11-22", HOUR)


@pytest.mark.parametrize("step", [0.0, 3599.0, -3599.0])
def test_a_small_step_is_followed(step: float) -> None:
    """Within an hour the wall clock is right."""
    clock = look(Clock(NOON, 100.0), wall=NOON + 5 + step, boottime=105.0)

    assert clock == Clock(NOON + 5 + step, 105.0)


def test_expiry_goes_on_when_the_clock_is_right_again() -> None:
    """The pause ends by itself once the clock agrees with what is believed."""
    paused = look(Clock(NOON, 100.0), wall=NOON - TEN_YEARS, boottime=101.0)
    again = look(paused, wall=NOON + 50, boottime=150.0)

    assert again == Clock(NOON + 50, 150.0)


def test_time_asleep_is_no_step() -> None:
    """A week of suspend moves both clocks alike."""
    week = 7 * 86400.0
    assert not look(Clock(NOON, 100.0), wall=NOON + week, boottime=100.0 + week).paused


@pytest.mark.parametrize(
    ("ahead", "paused"),
    [
        (0, False),
        (-1, False),
        (-2, True),
        (-87600, True),
        (48, False),
        (720, False),
        (721, True),
        (87600, True),
    ],
)
def test_a_restart_notices_a_clock_set_back_or_far_ahead(ahead: int, paused: bool) -> None:
    """Between two runs only the latest hour is known: an earlier one is doubted, or one much later."""
    clock = first_look(wall=NOON + ahead * 3600, boottime=5.0, latest_hour=HOUR, trusted=False)

    assert clock.paused is paused
    assert clock.hour() == (HOUR if paused else HOUR + ahead)


def test_an_operator_can_vouch_for_the_clock() -> None:
    """With --trust-clock nothing is doubted; nor is it when nothing is known yet."""
    assert not first_look(wall=NOON, boottime=5.0, latest_hour=HOUR + 90000, trusted=True).paused
    assert not first_look(wall=NOON, boottime=5.0, latest_hour=0, trusted=False).paused


def test_a_doubted_clock_is_believed_once_it_makes_sense() -> None:
    """After a start with a clock set back, the right time may be days ahead of what was known."""
    doubted = first_look(wall=0.0, boottime=5.0, latest_hour=HOUR, trusted=False)
    right = look(doubted, wall=NOON + 5 * 86400, boottime=60.0)

    assert right == Clock(NOON + 5 * 86400, 60.0)


@given(
    erase_after=st.sampled_from([1.0, 2.0, 60.0, 900.0, 86400.0]),
    delays=st.lists(st.floats(0, 0.2), min_size=40, max_size=40),
    changes=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_no_change_outlives_its_time_and_none_is_erased_at_once(
    erase_after: float, delays: list[float], changes: list[float]
) -> None:
    """Whenever a change is made and however late ticks come, it is erased in time, yet stays for a while."""
    ages = ChangeAges(erase_after=erase_after, now=0.0)
    made = sorted(at * 4 * ages.interval for at in changes)
    now, erased_at = 0.0, dict.fromkeys(range(1, len(made) + 1), 1e9)
    for delay in delays:
        now += ages.interval * (1 + delay)
        until = ages.tick(sum(at <= now for at in made), now=now)
        for revision in range(1, until + 1):
            erased_at[revision] = min(erased_at[revision], now)

    for revision, at in enumerate(made, 1):
        if now - at > erase_after:
            assert erased_at[revision] - at <= erase_after
        assert erased_at[revision] - at >= erase_after / 4 or erased_at[revision] == 1e9


def test_waiting_is_bounded() -> None:
    """Nobody makes the server wait for longer than half a minute, or for less than nothing."""
    assert [waiting_time(asked) for asked in (-1.0, 0.0, 5.0, 1e9)] == [0.0, 0.0, 5.0, LONGEST_WAIT]


def test_room_ends_at_the_limit() -> None:
    """The limit is the number of devices that there may be, not one more."""
    assert [has_room(devices, 5) for devices in (0, 4, 5, 6)] == [True, True, False, False]
