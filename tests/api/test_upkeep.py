"""What the control plane does by itself, under clocks that do what they like."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from control_plane import Plane, honest_key, plane_at
from exuvia.api.alarms import CLOCK, ERASURE, EXPIRY, POOL, RETIREMENT
from exuvia.api.running import opened
from exuvia.api.upkeep import Upkeep
from exuvia.errors import StoreUnavailable
from exuvia.messages import DeviceRegistered
from exuvia.store.store import Wanted
from set_clocks import NOON, Time, times

__all__ = ["times"]

LAST_DAY = "2026-11-24"


@pytest.fixture
async def kept(times: Time, tmp_path: Path) -> AsyncIterator[tuple[Plane, Upkeep]]:
    """A control plane at noon, and what looks after it."""
    async with plane_at(tmp_path / "x.db") as plane:
        yield plane, Upkeep(plane.inner.control, erase_after=900)


async def keys(plane: Plane, number: str) -> int:
    """Count the keys of an account's devices, whatever state it is in."""
    hashed = plane.inner.control.hasher.account(number)
    found = await plane.inner.control.store.reader.run(
        lambda connection: connection.execute(
            "SELECT count(*) FROM key JOIN account ON account.id = account_id WHERE number_hash = ?",
            (hashed,),
        ).fetchone()
    )
    return int(found[0])


async def test_an_account_ends_after_its_last_day(kept: tuple[Plane, Upkeep], times: Time) -> None:
    """At midnight, UTC, its keys and addresses go, gateways are told, and others stay."""
    plane, care = kept
    ending, staying = await plane.account(expires=LAST_DAY, devices=200), await plane.account()
    token = (await plane.register(ending)).token
    for _ in range(70):
        await plane.register(ending)
    await plane.register(staying)
    await care.look_after(now=times.passes(timedelta(days=2, hours=11, minutes=59)))
    assert (await keys(plane, ending), plane.inner.control.today) == (71, LAST_DAY)
    subscriber = plane.inner.control.hub.subscribe()
    await care.look_after(now=times.passes(timedelta(minutes=1)))

    assert (await keys(plane, ending), await keys(plane, staying)) == (0, 1)
    assert len(await subscriber.next(0)) == 1
    assert (await plane.ask("GET", "/v1/device", bearer=token)).json["detail"] == "the account is expired"
    shown = await plane.ask("POST", "/v1/admin/accounts/find", body={"account": ending}, as_operator=True)
    assert shown.json["state"] == "expired"


@pytest.mark.parametrize("years", [10, -10])
async def test_a_wrong_clock_ends_no_account(kept: tuple[Plane, Upkeep], times: Time, years: int) -> None:
    """A step of ten years either way raises an alarm; time goes on by the other clock."""
    plane, care = kept
    number = await plane.account(expires=LAST_DAY)
    device = await plane.register(number)
    await care.look_after(now=times.passes(timedelta(seconds=1)))
    times.wall += timedelta(days=365 * years)
    for _ in range(3):
        await care.look_after(now=times.passes(timedelta(hours=8)))

    assert plane.inner.control.alarms.are_on() == {CLOCK}
    assert (await keys(plane, number), plane.inner.control.today) == (1, "2026-11-23")
    assert (await plane.ask("GET", "/v1/device", bearer=device.token)).status == 200
    await plane.register(number)
    times.wall -= timedelta(days=365 * years)
    await care.look_after(now=times.passes(timedelta(hours=8)))
    assert plane.inner.control.alarms.are_on() == set()
    await care.look_after(now=times.passes(timedelta(days=3)))
    assert await keys(plane, number) == 0


async def test_a_clock_set_back_is_noticed_over_a_restart(times: Time, tmp_path: Path) -> None:
    """The latest hour is remembered; an earlier one pauses expiry until an operator vouches for it."""
    path = tmp_path / "x.db"
    async with plane_at(path) as plane:
        number = await plane.account(expires=LAST_DAY)
        await plane.register(number)
        await Upkeep(plane.inner.control, erase_after=900).look_after(now=times.passes(timedelta(minutes=2)))
        await Upkeep(plane.inner.control, erase_after=1).look_after(now=times.passes(timedelta(minutes=2)))
    times.wall = NOON - timedelta(days=3650)
    async with plane_at(path) as plane:
        await Upkeep(plane.inner.control, erase_after=900).look_after(now=times.passes(timedelta(seconds=1)))
        assert plane.inner.control.alarms.are_on() == {CLOCK}
        assert plane.inner.control.today == "2026-11-22"
    async with opened(path, Wanted(), trust_clock=True) as plane_of_then:
        assert plane_of_then.control.today == "2016-11-24"
        assert not plane_of_then.control.clock.paused


async def test_a_clock_far_ahead_is_noticed_over_a_restart(times: Time, tmp_path: Path) -> None:
    """A server that seems to have slept for years ends no account."""
    path = tmp_path / "x.db"
    async with plane_at(path) as plane:
        number = await plane.account(expires=LAST_DAY)
        await plane.register(number)
        care = Upkeep(plane.inner.control, erase_after=1)
        await care.look_after(now=times.passes(timedelta(minutes=2)))
    times.wall = NOON + timedelta(days=3650)
    async with plane_at(path) as plane:
        await Upkeep(plane.inner.control, erase_after=900).look_after(now=times.passes(timedelta(seconds=1)))
        assert await keys(plane, number) == 1
        assert plane.inner.control.alarms.are_on() == {CLOCK}


async def test_p7_an_address_rests_for_24_hours(times: Time, tmp_path: Path) -> None:
    """In a pool of one address, nobody gets it before it has rested, and then somebody does."""
    async with plane_at(tmp_path / "x.db", pool4=ip_network("10.9.8.0/30")) as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        number = await plane.account()
        device = await plane.register(number)
        await care.look_after(now=times.passes(timedelta(minutes=59)))
        assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 204
        body = {"public_key": honest_key()}
        for _ in range(24):
            await care.look_after(now=times.passes(timedelta(hours=1)))
            assert (await plane.ask("POST", "/v1/devices", bearer=number, body=body)).status == 503
        await care.look_after(now=times.passes(timedelta(hours=1)))
        again = await plane.register(number)

        assert again.addresses[0] == device.addresses[0]
        assert again.addresses[1] != device.addresses[1]


async def test_a_wrong_clock_wakes_no_resting_address(times: Time, tmp_path: Path) -> None:
    """A step ahead does not cut the rest short, nor does it begin at a wrong hour."""
    async with plane_at(tmp_path / "x.db", pool4=ip_network("10.9.8.0/30")) as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        number = await plane.account()
        times.wall -= timedelta(days=3650)
        await care.look_after(now=times.passes(timedelta(minutes=2)))
        device = await plane.register(number)
        await plane.ask("DELETE", "/v1/device", bearer=device.token)
        times.wall += timedelta(days=3650)
        await care.look_after(now=times.passes(timedelta(hours=2)))
        await care.look_after(now=times.passes(timedelta(hours=2)))
        answer = await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": honest_key()})

        assert answer.status == 503


async def registered_at_last(plane: Plane, number: str) -> DeviceRegistered:
    """Register a device; one draw in a hundred finds none of the last two free addresses of 29."""
    for _ in range(20):
        with contextlib.suppress(AssertionError):
            return await plane.register(number)
    return await plane.register(number)


async def test_a_pool_that_is_nearly_full_is_alarmed(times: Time, tmp_path: Path) -> None:
    """Before registrations fail, and no longer than it is so."""
    async with plane_at(tmp_path / "x.db", pool4=ip_network("10.9.8.0/27")) as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        number = await plane.account(devices=100)
        made = [await registered_at_last(plane, number) for _ in range(28)]
        await care.look_after(now=times.passes(timedelta(minutes=2)))
        assert POOL in plane.inner.control.alarms.are_on()
        for device in made[:10]:
            await plane.ask("DELETE", "/v1/device", bearer=device.token)
        await care.look_after(now=times.passes(timedelta(days=2)))

        assert POOL not in plane.inner.control.alarms.are_on()
        assert plane.inner.control.peers == 18


async def test_what_fails_is_tried_again(
    kept: tuple[Plane, Upkeep], times: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the database can't be used, expiry and erasure are alarmed, and done when it can."""
    plane, care = kept
    number = await plane.account(expires=LAST_DAY)
    await plane.register(number)

    async def refuse(_operation: object) -> None:
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patched:
        patched.setattr(type(plane.inner.control.store.writer), "run", lambda _self, op: refuse(op))
        await care.look_after(now=times.passes(timedelta(days=3)))
    assert plane.inner.control.alarms.are_on() == {ERASURE, EXPIRY, RETIREMENT}
    await care.look_after(now=times.passes(timedelta(seconds=61)))

    assert plane.inner.control.alarms.are_on() == set()
    assert await keys(plane, number) == 0
