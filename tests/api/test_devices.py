"""Registering, listing and deleting devices."""

import asyncio
import base64
import re
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from control_plane import Plane, honest_key, plane_at
from exuvia.messages import DeviceState, DeviceSummary
from exuvia.rules import allocation
from exuvia.store import registration
from exuvia.wg.keys import PublicKey

PRIME = 2**255 - 19
# Points of order 1, 2, 4 and 8, as cr.yp.to/ecdh.html lists them.
LOW_ORDER = [
    0,
    1,
    int.from_bytes(
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"
    ),
    PRIME - 1,
]


def text_of(number: int) -> str:
    """Return a number as WireGuard writes a key."""
    return base64.b64encode(number.to_bytes(32, "little")).decode()


async def test_a_device_is_told_what_it_needs(plane: Plane) -> None:
    """An id, a name of two words, a token, an address of each family, a preshared key, and when it works."""
    number = await plane.account()
    answer = await plane.register(number)
    four, six = map(ip_interface, answer.addresses)
    pools = plane.inner.control.store.pools

    assert re.fullmatch(r"[a-z2-7]{26}", answer.id)
    assert re.fullmatch(r"[a-z]+ [a-z]+", answer.name)
    assert four in pools.pool4 and four.network.prefixlen == 32
    assert six in pools.pool6 and six.network.prefixlen == 128
    assert len(base64.b64decode(answer.preshared_key)) == 32
    assert (answer.revision, answer.epoch) == (1, plane.inner.control.hub.at.epoch)


async def test_the_same_key_again_is_the_same_device_with_a_new_token(plane: Plane) -> None:
    """An answer that was lost can be asked for again, even if the account has no room left."""
    number, key = await plane.account(devices=1), honest_key()
    first = await plane.register(number, key)
    second = await plane.register(number, key)

    same = ("id", "name", "addresses", "preshared_key", "epoch")
    assert [getattr(first, name) for name in same] == [getattr(second, name) for name in same]
    assert first.token != second.token
    assert (await plane.ask("GET", "/v1/device", bearer=first.token)).status == 401
    assert (await plane.ask("GET", "/v1/device", bearer=second.token)).status == 200


async def test_two_at_once_are_one_device(plane: Plane) -> None:
    """The same registration sent twenty times at the same moment makes one device."""
    number, key = await plane.account(), honest_key()
    made = await asyncio.gather(*(plane.register(number, key) for _ in range(20)))
    listed = await plane.ask("GET", "/v1/devices", bearer=number)

    assert len({answer.id for answer in made}) == 1
    assert len(listed.json) == 1


async def test_exactly_as_many_devices_as_allowed_whatever_comes_at_once(plane: Plane) -> None:
    """Of a hundred registrations at the same moment exactly the limit succeed."""
    number = await plane.account(devices=7)

    async def try_one() -> int:
        body = {"public_key": honest_key()}
        return (await plane.ask("POST", "/v1/devices", bearer=number, body=body)).status

    statuses = await asyncio.gather(*(try_one() for _ in range(100)))

    assert sorted(statuses) == [201] * 7 + [409] * 93
    assert len((await plane.ask("GET", "/v1/devices", bearer=number)).json) == 7


async def test_devices_of_an_account_have_different_names(plane: Plane) -> None:
    """People tell their devices apart by their names."""
    number = await plane.account(devices=300)
    names = [(await plane.register(number)).name for _ in range(300)]

    assert len(set(names)) == 300


async def test_p11_keys_that_no_honest_peer_has_are_refused_before_storage(plane: Plane) -> None:
    """Malformed, not canonical, of low order, zero, a gateway's, somebody else's: always the same answer."""
    number, other = await plane.account(), await plane.account()
    somebody_elses = honest_key()
    await plane.register(other, somebody_elses)
    await plane.gateway()
    (gateway,) = (await plane.ask("GET", "/v1/gateways", bearer=number)).json
    good = honest_key()
    spare_bits = good[:-2] + chr(ord(good[-2]) + 1) + "="
    bad = [
        *(text_of(low) for low in LOW_ORDER),
        *(text_of(low | 1 << 255) for low in LOW_ORDER),
        *(text_of(PRIME + offset) for offset in range(19)),
        text_of(2**255 - 1),
        text_of(2**256 - 1),
        text_of(2**255 + 9),
        "",
        "A" * 43,
        "A" * 44,
        good[:-1],
        good + "=",
        good + "\n",
        " " + good,
        good.replace("=", ""),
        good[:-4] + good[-4:-1] + "é",
        spare_bits,
        base64.b64encode(b"x" * 31).decode(),
        base64.b64encode(b"x" * 33).decode(),
        base64.b64decode(good).hex(),
        somebody_elses,
        gateway["public_key"],
    ]
    answers = [await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": key}) for key in bad]

    assert {(answer.status, answer.body) for answer in answers} == {(422, answers[0].body)}
    assert (await plane.ask("GET", "/v1/devices", bearer=number)).json == []
    assert plane.inner.control.hub.at.revision == 1


async def test_a_full_account_learns_nothing_of_others_keys(plane: Plane) -> None:
    """Whoever has no room is told so, whether the key is new or somebody else's."""
    full, other, theirs = await plane.account(devices=1), await plane.account(), honest_key()
    await plane.register(full)
    await plane.register(other, theirs)
    answers = [
        await plane.ask("POST", "/v1/devices", bearer=full, body={"public_key": key})
        for key in (theirs, honest_key())
    ]

    assert answers[0].status == 409
    assert answers[0].body == answers[1].body


async def test_every_bad_account_number_gets_the_same_answer(plane: Plane) -> None:
    """Unknown, malformed, missing, suspended, cancelled or expired: nobody can tell which."""
    suspended, cancelled, expired = [await plane.account() for _ in range(3)]
    await plane.act(suspended, "suspend")
    await plane.act(cancelled, "cancel")
    await _expire(plane, expired)
    numbers = ["0000-0000-0000-0000-0000-0000-0000", "x", "é", "", None, suspended, cancelled, expired]
    body = {"public_key": honest_key()}
    answers = [
        answer
        for number in numbers
        for answer in (
            await plane.ask("POST", "/v1/devices", bearer=number, body=body),
            await plane.ask("GET", "/v1/devices", bearer=number),
            await plane.ask("GET", "/v1/gateways", bearer=number),
            await plane.ask("DELETE", "/v1/devices/" + "a" * 26, bearer=number),
        )
    ]

    assert {(answer.status, answer.body, answer.headers["www-authenticate"]) for answer in answers} == {
        (401, answers[0].body, "Bearer")
    }


async def test_an_account_lists_and_deletes_its_own_devices(plane: Plane) -> None:
    """And no others: whose a device is, is no part of the answer."""
    mine, theirs, key = await plane.account(), await plane.account(), honest_key()
    device, foreign = await plane.register(mine, key), await plane.register(theirs)

    listed = (await plane.ask("GET", "/v1/devices", bearer=mine)).as_(list[DeviceSummary])
    assert listed == [DeviceSummary(device.id, device.name, [key])]
    for unknown in (foreign.id, "a" * 26, "x", "A" * 26, device.id.upper(), device.id + "a"):
        assert (await plane.ask("DELETE", f"/v1/devices/{unknown}", bearer=mine)).status == 404
    assert (await plane.ask("DELETE", f"/v1/devices/{device.id}", bearer=mine)).status == 204
    assert (await plane.ask("GET", "/v1/devices", bearer=mine)).json == []
    assert (await plane.ask("GET", "/v1/device", bearer=device.token)).status == 401
    assert (await plane.ask("GET", "/v1/device", bearer=foreign.token)).status == 200


async def test_a_device_knows_itself_and_logs_out(plane: Plane) -> None:
    """It is told its keys and addresses; after logging out its token is worth nothing."""
    number, key = await plane.account(), honest_key()
    device = await plane.register(number, key)
    state = (await plane.ask("GET", "/v1/device", bearer=device.token)).as_(DeviceState)

    assert (state.id, state.name) == (device.id, device.name)
    assert [(k.public_key, k.addresses, k.preshared_key) for k in state.keys] == [
        (key, device.addresses, device.preshared_key)
    ]
    assert (state.rotation_days.shortest, state.rotation_days.usual, state.rotation_days.longest) == (
        1,
        7,
        30,
    )
    assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 204
    assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 401
    assert (await plane.ask("GET", "/v1/device", bearer=device.token)).status == 401


async def test_another_devices_token_is_of_no_use(plane: Plane) -> None:
    """A token whose secret is not that of the device it names is refused like any other."""
    number = await plane.account()
    one, two = await plane.register(number), await plane.register(number)
    mixed = base64.urlsafe_b64encode(
        base64.urlsafe_b64decode(one.token + "==")[:32] + base64.urlsafe_b64decode(two.token + "==")[32:]
    )

    for wrong in (mixed.decode().rstrip("="), one.token[:-1], "A" * 86, number, "x"):
        assert (await plane.ask("GET", "/v1/device", bearer=wrong)).status == 401


async def test_the_token_of_an_inactive_account_says_why(plane: Plane) -> None:
    """403 with the reason for a suspended or expired account; after a cancellation the token is unknown."""
    numbers = [await plane.account() for _ in range(3)]
    tokens = [(await plane.register(number)).token for number in numbers]
    await plane.act(numbers[0], "suspend")
    await _expire(plane, numbers[1])
    await plane.act(numbers[2], "cancel")

    answers = [await plane.ask("GET", "/v1/device", bearer=token) for token in tokens]
    assert [(a.status, a.json.get("detail")) for a in answers[:2]] == [
        (403, "the account is suspended"),
        (403, "the account is expired"),
    ]
    assert answers[2].status == 401
    assert (await plane.ask("GET", "/v1/gateways", bearer=tokens[0])).status == 403
    assert (await plane.ask("DELETE", "/v1/device", bearer=tokens[0])).status == 204


async def test_after_a_suspension_a_device_has_no_key_and_makes_room(plane: Plane) -> None:
    """It shows no key; the account may register as many devices as ever, and gets other addresses."""
    number, key = await plane.account(devices=1), honest_key()
    device = await plane.register(number, key)
    await plane.act(number, "suspend")
    await plane.act(number, "resume")

    assert (await plane.ask("GET", "/v1/device", bearer=device.token)).json["keys"] == []
    again = await plane.register(number, key)
    assert again.id != device.id
    assert not set(again.addresses) & set(device.addresses)
    assert again.preshared_key != device.preshared_key
    assert len((await plane.ask("GET", "/v1/devices", bearer=number)).json) == 1


async def test_a_full_pool_is_said_to_be_full(tmp_path: Any) -> None:
    """When no address is left the answer is 503, nothing is made, and resting addresses stay unused."""
    async with plane_at(tmp_path / "small.db", pool4=ip_network("10.9.8.0/29")) as plane:
        number = await plane.account(devices=100)
        made = [await plane.register(number) for _ in range(5)]
        answer = await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": honest_key()})
        await plane.ask("DELETE", "/v1/device", bearer=made[0].token)
        still = await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": honest_key()})

        assert {a.addresses[0] for a in made} == {f"10.9.8.{n}/32" for n in range(2, 7)}
        assert (answer.status, answer.json["type"]) == (503, "urn:exuvia:problem:address-pool-exhausted")
        assert int(answer.headers["retry-after"]) > 0
        assert still.status == 503
        assert len((await plane.ask("GET", "/v1/devices", bearer=number)).json) == 4


async def test_p7_the_database_itself_refuses_an_address_twice(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if nobody looked whether an address is free, it is never somebody else's as well."""
    monkeypatch.setattr(registration, "_are_free", lambda *_: True)
    monkeypatch.setattr(allocation, "draw4", lambda pool, _bits: pool[77])
    number = await plane.account()
    await plane.register(number)
    answer = await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": honest_key()})

    assert answer.status >= 500
    assert len((await plane.ask("GET", "/v1/devices", bearer=number)).json) == 1
    assert plane.inner.control.hub.at.revision == 1


async def test_p7_a_drawn_address_that_is_taken_is_drawn_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collision costs another draw and is seen by nobody."""
    draw, hosts = allocation.draw4, iter([9, 9, 9, 10])
    monkeypatch.setattr(allocation, "draw4", lambda pool, _bits: pool[next(hosts)])
    number = await plane.account()
    made = [await plane.register(number), await plane.register(number)]

    assert draw is not allocation.draw4
    assert [answer.addresses[0] for answer in made] == ["10.0.0.9/32", "10.0.0.10/32"]


async def test_registered_keys_are_kept_exactly(plane: Plane) -> None:
    """What gateways are told is the key that was sent, the addresses and the preshared key of the answer."""
    number, key = await plane.account(), honest_key()
    made = await plane.register(number, key)
    table = await plane.inner.control.tables.at_least(1)
    four, six = map(ip_interface, made.addresses)

    assert table.packed == (
        PublicKey.from_text(key) + four.ip.packed + six.ip.packed + base64.b64decode(made.preshared_key)
    )


async def _expire(plane: Plane, number: str) -> None:
    """Let the account's last day have been yesterday."""
    hashed = plane.inner.control.hasher.account(number)
    await plane.inner.control.store.writer.run(
        lambda t: (
            t.execute("UPDATE account SET expires = '2000-01-01' WHERE number_hash = ?", (hashed,)) and None
        )
    )
