"""Random days of a small network, on the real rules, store and gateway; the same seed tells the same."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from story import Story

DAYS = 8
SEEDS = range(1, 11)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, if there is one: nobody cuts the power here."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="exuvia-world.", dir=shm if shm.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_days_break_no_promise(seed: int, folder: Path) -> None:
    """P1, P2, P3, P5, P6, P7, P8, P9, P10, P13 and P18: eight days of accidents break none of them."""
    story = Story(seed, folder, gateways=("alpha", "beta"))
    try:
        story.live(DAYS)
    finally:
        story.close()

    assert story.steps


def test_every_look_of_a_day_is_made(folder: Path) -> None:
    """Also if no look at an unchanged interface is left out, a day breaks no promise."""
    story = Story(1_000, folder, gateways=("alpha",))
    for site in story.sites.values():
        site.every_look = True
    try:
        story.live(0.5)
    finally:
        story.close()

    assert story.steps


def test_a_story_repeats_itself(folder: Path) -> None:
    """The same seed tells the same story, to the millisecond."""
    told = []
    for number in range(2):
        (folder / str(number)).mkdir()
        story = Story(7, folder / str(number), gateways=("alpha", "beta"))
        try:
            story.live(1)
        finally:
            story.close()
        told.append(story.steps)

    assert told[0] == told[1]
