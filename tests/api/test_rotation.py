"""A device's keys follow each other: no step takes the last that works, and each can be repeated."""

import asyncio
import threading
from datetime import timedelta
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from control_plane import Answer, Plane, feed_message, fresh_key, plane_at
from exuvia.api.upkeep import Upkeep
from exuvia.messages import DeviceKey, DeviceRegistered, DeviceState, KeyRegistered
from exuvia.rules.overlap import MOST_RETIRED
from exuvia.store import peers
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer
from set_clocks import Time, times

__all__ = ["times"]


class Owner:
    """A device and what it may ask of its keys."""

    def __init__(self, plane: Plane, number: str, first: PublicKey, made: DeviceRegistered) -> None:
        self.plane = plane
        self.number = number
        self.first = first
        self.made = made

    @classmethod
    async def of(cls, plane: Plane, **wanted: Any) -> "Owner":
        """Register a device of a new account."""
        number, first = await plane.account(**wanted), fresh_key()
        return cls(plane, number, first, await plane.register(number, first.text()))

    async def ask(self, method: str, key: PublicKey, what: str = "") -> Answer:
        """Ask something of a key."""
        path = f"/v1/device/keys/{key.path()}{what}"
        return await self.plane.ask(method, path, bearer=self.made.token)

    async def put(self, key: PublicKey) -> KeyRegistered:
        """Register a next key, which must be possible."""
        answer = await self.ask("PUT", key)
        assert answer.status == 200, answer
        granted: KeyRegistered = answer.as_(KeyRegistered)
        return granted

    async def confirm(self, key: PublicKey) -> int:
        """Say that a key works; return the status."""
        return (await self.ask("POST", key, "/confirm")).status

    async def delete(self, key: PublicKey) -> int:
        """Retire a key; return the status."""
        return (await self.ask("DELETE", key)).status

    async def keys(self) -> dict[str, DeviceKey]:
        """Return the keys that the device is shown, by how they stand."""
        state = (await self.plane.ask("GET", "/v1/device", bearer=self.made.token)).as_(DeviceState)
        listed = (await self.plane.ask("GET", "/v1/devices", bearer=self.number)).json
        assert sorted(k.public_key for k in state.keys) == sorted(listed[0]["public_keys"])
        assert len({key.standing for key in state.keys}) == len(state.keys)
        return {key.standing: key for key in state.keys}

    async def standings(self) -> dict[str, str]:
        """Return the keys that the device is shown, as text."""
        return {standing: key.public_key for standing, key in (await self.keys()).items()}


async def table(plane: Plane) -> dict[PublicKey, TunnelPeer]:
    """Return the peer table as gateways are told it."""
    packed, step = (await plane.inner.control.store.reader.run(peers.table)).packed, TunnelPeer.LENGTH
    found = [TunnelPeer(packed[at : at + step]) for at in range(0, len(packed), step)]
    return {peer.public_key: peer for peer in found}


async def test_a_rotation_from_its_first_step_to_its_last(plane: Plane) -> None:
    """Registered beside the other, confirmed, the old one retired: at each step one of them works."""
    owner, new = await Owner.of(plane, devices=1), fresh_key()
    granted = await owner.put(new)
    four, six = map(ip_interface, granted.addresses)
    peer = (await table(plane))[new]

    assert (granted.revision, granted.epoch) == (2, owner.made.epoch)
    assert (peer[32:36], peer[36:52]) == (four.ip.packed, six.ip.packed)
    assert peer.preshared_key.text() == granted.preshared_key != owner.made.preshared_key
    assert not set(granted.addresses) & set(owner.made.addresses)
    assert await owner.standings() == {"current": owner.first.text(), "next": new.text()}
    assert (await owner.keys())["next"].addresses == granted.addresses
    assert await owner.confirm(new) == 204
    assert await owner.standings() == {"current": new.text(), "old": owner.first.text()}
    assert await owner.delete(owner.first) == 204
    assert await owner.standings() == {"current": new.text()}
    # Gateways hear of it with the next batch, and not before.
    assert set(await table(plane)) == {owner.first, new}
    assert plane.inner.control.hub.at.revision == 2


async def test_item_21_each_step_can_be_repeated(plane: Plane) -> None:
    """Whoever lost an answer asks again, at any time, and gets the same one; nothing changes by it."""
    owner, new = await Owner.of(plane), fresh_key()
    granted = await owner.put(new)
    again = [await owner.put(new) for _ in range(3)]
    confirmed = [await owner.confirm(new) for _ in range(3)]
    after = await owner.put(new)
    own = await owner.put(owner.first)
    deleted = [await owner.delete(owner.first) for _ in range(3)]

    assert again == [granted] * 3
    assert after == granted
    assert own.addresses == owner.made.addresses
    assert confirmed == deleted == [204] * 3
    assert plane.inner.control.hub.at.revision == 2


async def test_another_next_key_takes_the_place_of_one_that_was_never_confirmed(plane: Plane) -> None:
    """A client that forgot its pending key makes another; the device never has more than two."""
    owner, lost, new = await Owner.of(plane), fresh_key(), fresh_key()
    await owner.put(lost)
    await owner.put(new)

    assert await owner.standings() == {"current": owner.first.text(), "next": new.text()}
    assert await owner.confirm(lost) == 404
    assert (await owner.ask("PUT", lost)).status == 422


async def test_a_next_key_during_the_overlap_ends_it(plane: Plane) -> None:
    """Rotating again before the old key drained retires that one first."""
    owner, second, third = await Owner.of(plane), fresh_key(), fresh_key()
    await owner.put(second)
    await owner.confirm(second)
    await owner.put(third)

    assert await owner.standings() == {"current": second.text(), "next": third.text()}


async def test_what_is_refused_and_in_which_words(plane: Plane) -> None:
    """A device's only key stays; what was replaced can't be confirmed; nobody confirms what isn't there."""
    owner, new = await Owner.of(plane), fresh_key()
    only = await owner.ask("DELETE", owner.first)
    unknown = await owner.ask("POST", new, "/confirm")
    await owner.put(new)
    await owner.confirm(new)
    superseded = await owner.ask("POST", owner.first, "/confirm")

    assert (only.status, only.json["type"]) == (409, "urn:exuvia:problem:only-key")
    assert (unknown.status, unknown.json["type"]) == (404, "urn:exuvia:problem:not-found")
    assert (superseded.status, superseded.json["type"]) == (409, "urn:exuvia:problem:key-superseded")
    assert await owner.delete(fresh_key()) == 204


async def test_retiring_the_current_key_makes_the_other_one_current(plane: Plane) -> None:
    """Before it is confirmed and after it: a device is never left with a key that is about to be due."""
    for confirmed in (False, True):
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
        if confirmed:
            await owner.confirm(new)
        gone, stays = (new, owner.first) if confirmed else (owner.first, new)
        assert await owner.delete(gone) == 204
        assert await owner.standings() == {"current": stays.text()}
        assert await owner.delete(stays) == 409


async def test_p11_next_keys_are_refused_like_first_ones(plane: Plane) -> None:
    """Malformed, of low order, a gateway's, somebody else's, a retired one's: the answer that POST gives."""
    owner, other, retired = await Owner.of(plane), await Owner.of(plane), fresh_key()
    await other.put(others_next := fresh_key())
    await owner.put(retired)
    await owner.delete(retired)
    await plane.gateway()
    (gateway,) = (await plane.ask("GET", "/v1/gateways", bearer=owner.number)).json
    refused = await plane.ask("POST", "/v1/devices", bearer=owner.number, body={"public_key": "x"})
    also = await plane.ask("POST", "/v1/devices", bearer=owner.number, body={"public_key": retired.text()})
    good = fresh_key()
    paths = [
        *(key.path() for key in (other.first, others_next, retired)),
        PublicKey.from_text(gateway["public_key"]).path(),
        PublicKey(bytes(32)).path(),
        PublicKey(b"\xff" * 32).path(),
        good.text(),
        good.path()[:-1],
        good.path() + "A",
        good.hex(),
        "x",
        "é",
    ]
    answers = [
        await plane.ask("PUT", f"/v1/device/keys/{path}", bearer=owner.made.token)
        for path in paths
        if "/" not in path
    ]

    assert {(answer.status, answer.body) for answer in answers} == {(422, refused.body)}
    assert (also.status, also.body) == (422, refused.body)
    assert await owner.standings() == {"current": owner.first.text()}


async def test_a_device_can_do_nothing_to_keys_of_others(plane: Plane) -> None:
    """Somebody else's key is to a device what an unknown one is."""
    owner, other = await Owner.of(plane), await Owner.of(plane)
    await other.put(theirs := fresh_key())
    unknown = await owner.ask("POST", fresh_key(), "/confirm")

    assert (await owner.ask("POST", theirs, "/confirm")).body == unknown.body
    assert await owner.delete(theirs) == 204
    assert await other.standings() == {"current": other.first.text(), "next": theirs.text()}


@pytest.mark.parametrize(
    ("method", "what"), [("PUT", ""), ("POST", "/confirm"), ("DELETE", "")], ids=["put", "confirm", "delete"]
)
async def test_tokens_that_may_do_nothing(plane: Plane, method: str, what: str) -> None:
    """401 for an unknown one, also after a cancellation; 403 with the reason for a suspended account."""
    owner, gone = await Owner.of(plane), await Owner.of(plane)
    await plane.act(owner.number, "suspend")
    await plane.act(gone.number, "cancel")
    answer = await owner.ask(method, fresh_key(), what)
    path = f"/v1/device/keys/{fresh_key().path()}{what}"

    assert (answer.status, answer.json["detail"]) == (403, "the account is suspended")
    assert (await gone.ask(method, gone.first, what)).status == 401
    assert (await plane.ask(method, path, bearer="A" * 86)).status == 401
    assert (await plane.ask(method, path)).status == 401
    assert (await plane.ask(method, path, bearer=owner.number)).status == 401


async def test_a_device_that_was_suspended_begins_again(plane: Plane) -> None:
    """A suspension in the midst of a rotation takes all keys; the next one it registers is current."""
    owner = await Owner.of(plane)
    await owner.put(fresh_key())
    await plane.act(owner.number, "suspend")
    assert await table(plane) == {}
    await plane.act(owner.number, "resume")
    await owner.put(new := fresh_key())

    assert await owner.standings() == {"current": new.text()}


async def test_a_hundred_next_keys_at_once_are_two_keys(plane: Plane) -> None:
    """Whatever order they come in, the device has its current key and one next key; gateways lose none."""
    owner, keys = await Owner.of(plane), [fresh_key() for _ in range(100)]
    answers = await asyncio.gather(*(owner.ask("PUT", key) for key in keys))
    granted = [key for key, answer in zip(keys, answers, strict=True) if answer.status == 200]
    found = await owner.standings()

    assert [answer.status for answer in answers if answer.status != 200] == [429] * (100 - MOST_RETIRED)
    assert found == {"current": owner.first.text(), "next": found["next"]}
    assert found["next"] in {key.text() for key in granted}
    assert set(await table(plane)) == {owner.first, *granted}


async def test_the_same_key_a_hundred_times_at_once_is_one_key(plane: Plane) -> None:
    """All get the same addresses, of a key that is registered once."""
    owner, new = await Owner.of(plane), fresh_key()
    answers = await asyncio.gather(*(owner.put(new) for _ in range(100)))

    assert {(*answer.addresses, answer.preshared_key, answer.revision) for answer in answers} == {
        (*answers[0].addresses, answers[0].preshared_key, 2)
    }
    assert set(await table(plane)) == {owner.first, new}


async def test_everything_at_once_leaves_one_current_key(plane: Plane) -> None:
    """A hundred requests of all kinds for four keys: one key is current, at most one beside it."""
    owner = await Owner.of(plane)
    keys = [owner.first, *(fresh_key() for _ in range(3))]
    asked = [(method, key, what) for key in keys for method, what in STEPS] * 8
    answers = await asyncio.gather(*(owner.ask(*one) for one in asked))
    found = await owner.standings()

    assert {answer.status for answer in answers} <= {200, 204, 404, 409, 422}
    assert "current" in found and len(found) <= 2


STEPS = [("PUT", ""), ("POST", "/confirm"), ("DELETE", "")]


async def test_who_rotates_without_end_is_told_to_wait(times: Time, tmp_path: Path) -> None:
    """At most 60 retired keys of a device wait; 429 says when the batch goes, and then it goes on."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner = await Owner.of(plane)
        times.passes(timedelta(seconds=100.5))
        for _ in range(MOST_RETIRED):
            await owner.put(new := fresh_key())
            await owner.confirm(new)
        answer = await owner.ask("PUT", fresh_key())
        same = await owner.put(new)
        await owner.delete(await owner_old(owner))
        most = len(await table(plane))
        await care.look_after(now=times.passes(timedelta(seconds=500)))

        assert (answer.status, answer.json["type"]) == (429, "urn:exuvia:problem:rotated-too-often")
        assert answer.headers["retry-after"] == "500"
        assert same.addresses
        assert most == MOST_RETIRED + 1
        assert set(await table(plane)) == {new}
        await owner.put(fresh_key())


async def owner_old(owner: Owner) -> PublicKey:
    """Return a device's old key."""
    return PublicKey.from_text((await owner.standings())["old"])


async def test_a_next_key_that_is_never_confirmed_goes_after_a_day(times: Time, tmp_path: Path) -> None:
    """Not before 24 hours, at the latest an hour later; the current key stays."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner, new = await Owner.of(plane), fresh_key()
        await care.look_after(now=times.passes(timedelta(minutes=7)))
        await owner.put(new)
        await care.look_after(now=times.passes(timedelta(hours=23, minutes=59)))
        assert set(await owner.keys()) == {"current", "next"}
        await care.look_after(now=times.passes(timedelta(hours=1)))
        assert await owner.standings() == {"current": owner.first.text()}
        await care.look_after(now=times.passes(timedelta(days=300)))
        assert await owner.standings() == {"current": owner.first.text()}


async def test_an_old_key_goes_twenty_minutes_after_the_confirmation(times: Time, tmp_path: Path) -> None:
    """To the second, unless its device retires it before; confirming again does not prolong it."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
        await owner.confirm(new)
        await care.look_after(now=times.passes(timedelta(minutes=19)))
        await owner.confirm(new)
        await care.look_after(now=times.passes(timedelta(seconds=59)))
        assert set(await owner.keys()) == {"current", "old"}
        await care.look_after(now=times.passes(timedelta(seconds=1)))
        assert await owner.standings() == {"current": new.text()}


async def test_an_old_key_that_is_current_again_is_not_due(times: Time, tmp_path: Path) -> None:
    """Whoever retires the new key has the old one for good, also when its twenty minutes are over."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
        await owner.confirm(new)
        await owner.delete(new)
        await care.look_after(now=times.passes(timedelta(minutes=20)))
        await care.look_after(now=times.passes(timedelta(days=2)))

        assert await owner.standings() == {"current": owner.first.text()}
        assert set(await table(plane)) == {owner.first}


async def test_a_key_that_comes_back_is_not_taken_for_the_old_one(times: Time, tmp_path: Path) -> None:
    """Retired, removed, and registered again as a next key: the twenty minutes of before mean nothing."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
        await owner.confirm(new)
        await owner.delete(owner.first)
        await care.look_after(now=times.passes(timedelta(minutes=11)))
        await owner.put(owner.first)
        await care.look_after(now=times.passes(timedelta(minutes=10)))

        assert await owner.standings() == {"current": new.text(), "next": owner.first.text()}


async def test_a_restart_forgets_minutes_but_not_hours(times: Time, tmp_path: Path) -> None:
    """The server that was told is gone; the next one goes by the hour that is stored, never early."""
    path = tmp_path / "x.db"
    async with plane_at(path) as plane:
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
        await owner.confirm(new)
    async with plane_at(path) as plane:
        owner.plane = plane
        care = Upkeep(plane.inner.control, erase_after=900)
        await care.look_after(now=times.passes(timedelta(minutes=21)))
        assert set(await owner.keys()) == {"current", "old"}
        await care.look_after(now=times.passes(timedelta(minutes=39)))
        assert await owner.standings() == {"current": new.text()}


@pytest.mark.parametrize("years", [10, -10])
async def test_p6_a_wrong_clock_retires_no_next_key(times: Time, tmp_path: Path, years: int) -> None:
    """A step of ten years ends no overlap early, and keeps no old key beyond its twenty minutes."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner, other = await Owner.of(plane), await Owner.of(plane)
        await care.look_after(now=times.passes(timedelta(seconds=1)))
        await owner.put(fresh_key())
        await other.put(new := fresh_key())
        await other.confirm(new)
        times.wall += timedelta(days=365 * years)
        for _ in range(8):
            await care.look_after(now=times.passes(timedelta(minutes=10)))
        assert set(await owner.keys()) == {"current", "next"}
        assert await other.standings() == {"current": new.text()}
        await care.look_after(now=times.passes(timedelta(days=3)))
        assert set(await owner.keys()) == {"current", "next"}
        times.wall -= timedelta(days=365 * years)
        await care.look_after(now=times.passes(timedelta(seconds=1)))
        assert await owner.standings() == {"current": owner.first.text()}


async def test_item_22_a_key_is_applied_when_every_live_gateway_has_it(plane: Plane) -> None:
    """A client that waits for the revision of its answer switches to a key that gateways know."""
    gateways = {name: await plane.gateway(name) for name in ("se1", "fr1")}
    owner = await Owner.of(plane)
    granted = await owner.put(fresh_key())
    asked = f"/v1/applied?epoch={granted.epoch}&revision={granted.revision}"
    found = []
    for name, gateway in gateways.items():
        plane.inner.control.fleet.tell(name, granted.revision)
        found.append((await plane.ask("GET", asked, bearer=owner.made.token)).json["applied"])
        body = {"epoch": granted.epoch, "revision": granted.revision}
        assert (await plane.ask("PUT", "/v1/gateway/applied", bearer=gateway, body=body)).status == 204
    found.append((await plane.ask("GET", asked, bearer=owner.made.token)).json["applied"])

    assert found == [False, False, True]


async def test_a_restored_backup_between_two_steps(tmp_path: Path) -> None:
    """Under a new epoch no key is known; whichever of its keys the device registers is its current one."""
    path = tmp_path / "x.db"
    async with plane_at(path) as plane:
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
    async with plane_at(path, new_epoch=True) as plane:
        owner.plane = plane
        assert await owner.standings() == {}
        assert await owner.confirm(new) == 404
        assert await owner.delete(owner.first) == 204
        granted = await owner.put(new)
        assert granted.epoch != owner.made.epoch
        assert await owner.standings() == {"current": new.text()}
        assert await owner.confirm(new) == 204


async def test_p8_a_revocation_takes_retired_keys_too_and_at_once(plane: Plane) -> None:
    """Logged out, deleted, suspended or cancelled in the midst of a rotation: nothing of it is left."""
    for how in ("log out", "delete", "suspend", "cancel"):
        owner = await Owner.of(plane)
        for _ in range(3):
            await owner.put(new := fresh_key())
            await owner.confirm(new)
        await owner.put(fresh_key())
        assert len(await table(plane)) == 5
        if how == "log out":
            await plane.ask("DELETE", "/v1/device", bearer=owner.made.token)
        elif how == "delete":
            await plane.ask("DELETE", f"/v1/devices/{owner.made.id}", bearer=owner.number)
        else:
            await plane.act(owner.number, how)
        assert await table(plane) == {}


async def test_p7_addresses_of_retired_keys_rest(times: Time, tmp_path: Path) -> None:
    """From the batch on, for 24 hours; until then they are still on the gateways."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owner, new = await Owner.of(plane), fresh_key()
        await owner.put(new)
        await owner.confirm(new)
        await owner.delete(owner.first)
        assert await resting(plane) == set()
        await care.look_after(now=times.passes(timedelta(minutes=10)))
        assert await resting(plane) == {ip_interface(address).ip.packed for address in owner.made.addresses}
        await care.look_after(now=times.passes(timedelta(hours=26)))
        assert await resting(plane) == set()


async def test_p13_a_batch_is_told_by_itself(times: Time, tmp_path: Path) -> None:
    """Also when registrations and next keys wait for the writer before it and after it."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        owners = [await Owner.of(plane) for _ in range(4)]
        for owner in owners:
            await owner.put(new := fresh_key())
            await owner.confirm(new)
            await owner.delete(owner.first)
        await care.look_after(now=times.passes(timedelta(minutes=9)))
        subscriber, go_on = plane.inner.control.hub.subscribe(), threading.Event()
        writer = plane.inner.control.store.writer
        waiting = [asyncio.ensure_future(writer.run_alone(lambda _connection: go_on.wait(10)))]
        now = times.passes(timedelta(minutes=1))
        for owner in owners:
            waiting.append(asyncio.ensure_future(owner.put(fresh_key())))
            waiting.append(asyncio.ensure_future(plane.register(owner.number)))
            await asyncio.sleep(0)
            if owner is owners[1]:
                waiting.append(asyncio.ensure_future(care._retire(now)))
                await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*waiting)
        told = [feed_message(line) for _, line in await subscriber.next(0)]

        assert [(len(change.put), len(change.remove)) for change in told] == [(4, 0), (0, 4), (4, 0)]


async def resting(plane: Plane) -> set[bytes]:
    """Return the addresses that rest."""
    rows = await plane.inner.control.store.reader.run(
        lambda connection: connection.execute("SELECT address FROM resting").fetchall()
    )
    return {address for (address,) in rows}
