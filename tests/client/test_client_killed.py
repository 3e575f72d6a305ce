"""A client that is killed at any moment of a change of keys, or finds its state in any phase: it goes on."""

from pathlib import Path

import msgspec
import pytest
from biography import Biography
from virtual import run

from exuvia.errors import StateNotSaved


async def settle(life: Biography) -> None:
    """Wait until the client is connected and has nothing left to do, and see that it has one key."""
    await life.pass_time(300, until=lambda: life.settled)
    await life.pass_time(130)
    assert life.settled
    assert set(life.office.living) == life.own()
    assert len(life.office.living) == 1


async def changed_but_killed(folder: Path, seed: int, after: int) -> bool:
    """Change the key, and kill the client when it reaches out for the n-th time; say whether it was."""
    life = Biography(seed, folder)
    async with life.begun():
        await settle(life)
        (before,) = life.office.living
        life.ask_to_rotate()
        life.trouble.kill_at = life.trouble.edges + after
        await life.pass_time(700, until=lambda: life.settled and before not in life.own())
        killed = life.counts["start"] > 1
        life.trouble.kill_at = None
        await settle(life)
        assert life.office.most_keys <= 2
        if not killed:
            assert before not in life.office.living
    return killed


@pytest.mark.parametrize("seed", [3, 4])
def test_killed_at_every_edge_of_a_change(tmp_path: Path, seed: int) -> None:
    """Killed at whichever call to the outside, it is connected again in time, and one key is left."""
    killed, after = True, 1
    while killed:
        (folder := tmp_path / str(after)).mkdir()
        killed = run(changed_but_killed(folder, seed, after))
        after += 1

    assert after > 30


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_disk_that_is_full_at_any_step(tmp_path: Path, failing: int) -> None:
    """If a step can't be saved nothing of it is done: the tunnel stays, and it is tried again later."""

    async def live() -> None:
        life = Biography(5, tmp_path)
        async with life.begun():
            await settle(life)
            real, saves = life.disk.save, 0

            def save(state: object) -> None:
                nonlocal saves
                saves += 1
                if saves == failing:
                    raise StateNotSaved("No space left on device")
                real(state)  # type: ignore[arg-type]

            life.disk.save = save  # type: ignore[method-assign]
            life.ask_to_rotate()
            await life.pass_time(200)
            await settle(life)

    run(live())


def test_two_changes_asked_for_at_once(tmp_path: Path) -> None:
    """Who asks again while connections drain gets another key, and the first drain ends; never three keys."""

    async def live() -> None:
        life = Biography(6, tmp_path)
        async with life.begun():
            await settle(life)
            for _ in range(4):
                life.ask_to_rotate()
                await life.pass_time(6)
            await settle(life)
            assert life.machine.switches >= 2
            assert life.office.most_keys == 2

    run(live())


def test_a_key_that_is_refused_is_replaced(tmp_path: Path) -> None:
    """A pending key that was retired meanwhile can't be registered again: another one is."""

    async def live() -> None:
        life = Biography(7, tmp_path)
        async with life.begun():
            await settle(life)
            life.keeper.step("due")
            refused = bytes(life.keeper.pending.private_key.public_key())
            life.office.keys[refused] = "retired"
            life.ask_to_rotate()
            await settle(life)
            assert refused not in life.own()

    run(live())


def test_a_wrong_clock_costs_no_key(tmp_path: Path) -> None:
    """With a clock a year off nothing can be registered; the client says why, and keeps key and tunnel."""

    async def live() -> None:
        life = Biography(8, tmp_path)
        async with life.begun():
            await settle(life)
            before = msgspec.structs.replace(life.keeper.state)
            life.clock.wrong = -365 * 86_400.0
            life.ask_to_rotate()
            await life.pass_time(30)
            assert life.keeper.state.current == before.current
            assert life.machine.works(life.machine.used)
            assert any("check the clock" in line for line in life.told)
            life.clock.wrong = 0.0
            await life.pass_time(120)
            await settle(life)

    run(live())
