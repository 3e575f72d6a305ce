"""Lives of clients, on their real code: whatever goes wrong, a working key is kept or regained in time."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from biography import Biography
from office import HOUR
from virtual import run

DAYS = 10
SEEDS = range(1, 31)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, if there is one: nobody cuts the power here."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="exuvia-life.", dir=shm if shm.is_dir() else None) as name:
        yield Path(name)


async def lived(seed: int, folder: Path, *, every: float = 8 * HOUR, days: float = DAYS) -> Biography:
    """Return a life that has been lived."""
    life = Biography(seed, folder)
    await life.live(days, every=every)
    return life


@pytest.mark.parametrize("seed", SEEDS)
def test_p6_p9_a_life_full_of_faults(seed: int, folder: Path) -> None:
    """P6 and P9: ten days of faults, kills and wrong clocks cost no client its key for long."""
    life = run(lived(seed, folder))

    assert life.counts["start"] >= 1


def test_a_key_that_was_registered_by_a_device_without_any_is_not_given_up(folder: Path) -> None:
    """While no gateway answers, the one key that the control plane knows stays, whatever else is tried."""
    run(lived(100_328, folder, every=HOUR, days=4))


def test_a_life_without_any_fault(folder: Path) -> None:
    """Where nothing goes wrong the key is changed every day, and the tunnel in use is never lost."""
    life = run(lived(1_000, folder, every=1e9, days=20))

    assert life.counts["start"] == 1
    assert life.counts["the client says"] <= 2
    assert life.machine.switches >= 16 or life.interval > 1


def test_a_life_repeats_itself(folder: Path) -> None:
    """The same seed tells the same life."""
    told = []
    for number in range(2):
        (folder / str(number)).mkdir()
        told.append(run(lived(77, folder / str(number))).told)

    assert told[0] == told[1]
    assert len(told[0]) > 5
