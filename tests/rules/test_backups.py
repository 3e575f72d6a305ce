"""When backups are over, and which file comes next."""

from hypothesis import given
from hypothesis import strategies as st

from exuvia.rules.backups import KEEP_DAYS, Term, is_to_go, name, standing, term

NOW = 500_000


@given(st.integers(2, 60), st.integers(0, 100), st.integers(0, 2))
def test_p14_daily_backups_are_gone_when_their_time_is_over(keep: int, days: int, late: int) -> None:
    """A daily backup, made up to two hours late: none outlasts its time in the folder."""
    made = term(hour=NOW, keep_days=keep)
    removed = next(
        hour
        for day in range(1, keep + 1)
        if is_to_go(made, hour=(hour := NOW + 24 * day + (late if day % 2 else 0)), keep_days=keep)
    )

    assert NOW < removed <= made.until


def test_a_backup_is_good_until_its_time_is_over() -> None:
    """For seven days, to the hour; one from the future, by more than an hour, is neither good nor over."""
    made = term(hour=NOW, keep_days=KEEP_DAYS)

    assert [standing(made, hour=NOW + hours) for hours in (-2, -1, 0, 167, 168)] == [
        "ahead",
        "good",
        "good",
        "good",
        "over",
    ]


def test_who_keeps_less_from_now_on_keeps_no_older_ones() -> None:
    """A backup that was to be kept for a month goes after two days if that is the rule now."""
    made = term(hour=NOW, keep_days=30)

    assert not is_to_go(made, hour=NOW + 49, keep_days=30)
    assert is_to_go(made, hour=NOW + 49, keep_days=2)


def test_a_wrong_clock_removes_nothing_from_its_future() -> None:
    """A clock that went back ten years finds backups from the future, and leaves them."""
    assert not is_to_go(Term(NOW, NOW + 168), hour=NOW - 87_600, keep_days=2)


@given(st.integers(0, 10**6), st.integers(2, 366))
def test_a_name_comes_again_on_the_day_when_its_file_is_over(hour: int, keep: int) -> None:
    """So many days have different names, and the next day has the first one again."""
    names = [name(hour=hour + 24 * day, keep_days=keep) for day in range(keep + 1)]

    assert len(set(names)) == keep
    assert names[0] == names[-1]
