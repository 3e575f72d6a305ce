"""P14: of a second factor that was removed no byte is left."""

import sqlite3
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from control_plane import Plane, plane, plane_at
from database_files import Remains
from exuvia.api import identifiers
from exuvia.api.upkeep import Upkeep
from exuvia.errors import AlreadyExists
from exuvia.portal.site import Site
from exuvia.portal.state import State
from exuvia.store import factors
from exuvia.store.factors import MOST_PASSKEYS, Factor
from set_clocks import Time, times

__all__ = ["plane", "times"]


async def added(plane: Plane, number: str, kind: factors.Kind, secret: bytes) -> Factor:
    """Let an account ask for one factor more."""
    control = plane.inner.control
    id = identifiers.fresh(control.bits)
    sealed = State(control, Site(is_https=False)).sealer.seal(secret, id, control.bits)
    number_hash = control.hasher.account(number) or b""
    work = partial(factors.add, number_hash=number_hash, factor=Factor(id, kind, sealed), today=control.today)
    await control.store.writer.run(work)
    return Factor(id, kind, sealed)


def stored(folder: Path) -> int:
    """Return how many second factors are stored."""
    with sqlite3.connect(folder / "control.db") as database:
        return int(database.execute("SELECT count(*) FROM second_factor").fetchone()[0])


@pytest.mark.parametrize("end", ["cancel", "remove-second-factor"])
async def test_p14_nothing_is_left_of_a_second_factor(times: Time, tmp_path: Path, end: str) -> None:
    """P14: neither sealed nor open, once the account is cancelled or the operator removed it; others stay."""
    async with plane_at(tmp_path / "control.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        gone, kept = await plane.account(), await plane.account()
        made = [await added(plane, gone, "passkey", b"s3cr3t" * 20) for _ in range(MOST_PASSKEYS)]
        made.append(await added(plane, gone, "code", b"secret of an app"))
        other = await added(plane, kept, "code", b"secret of another")
        assert (await plane.act(gone, end)).status in (200, 204)
        for _ in range(15):
            await care.look_after(now=times.passes(timedelta(minutes=1)))
        remains = Remains(tmp_path)

        assert stored(tmp_path) == 1
        assert remains.found([part for factor in made for part in (factor.id, factor.sealed)]) == []
        assert remains.found([b"s3cr3t" * 20, b"secret of an app", b"secret of another"]) == []
        assert remains.found([other.sealed]) == [other.sealed]


async def test_an_account_has_one_app_and_few_passkeys(plane: Plane, tmp_path: Path) -> None:
    """Another app takes the place of the first; of passkeys one too many is refused."""
    number = await plane.account()
    for _ in range(2):
        await added(plane, number, "code", b"secret of an app")
    for _ in range(MOST_PASSKEYS):
        await added(plane, number, "passkey", b"a passkey")
    with pytest.raises(AlreadyExists):
        await added(plane, number, "passkey", b"a passkey")

    assert stored(tmp_path) == 1 + MOST_PASSKEYS
