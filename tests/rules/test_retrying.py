"""How long to wait before trying again."""

import pytest

from exuvia.rules.retrying import FIRST, LONGEST, pause


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.2), (1, 0.2), (2, 0.4), (3, 0.8), (7, 12.8), (8, 15.0), (10**6, 15.0)]
)
def test_the_pause_doubles_up_to_the_longest(failures: int, seconds: float) -> None:
    """After each failure twice as long, from 0.2 s to 15 s."""
    assert pause(failures, chance=1.0) == pytest.approx(seconds)


def test_chance_spreads_the_pause_over_its_upper_half() -> None:
    """Nobody comes back at once, and nobody waits longer than the longest."""
    assert pause(1, chance=0.0) == FIRST / 2
    assert pause(99, chance=0.0) == LONGEST / 2
    assert pause(99, chance=0.5) == LONGEST * 3 / 4
    assert pause(99, chance=1.0, longest=300) == 300
