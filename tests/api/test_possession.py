"""Registering a key proves that one holds its private half."""

import asyncio
import base64
import hmac
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from control_plane import Answer, Plane, Server, fresh_key, server_in
from exuvia.api import possession as module
from exuvia.errors import InvalidKey
from exuvia.messages import ServerKey
from exuvia.store.writer import Writer
from exuvia.wg.keys import PrivateKey, PublicKey

HOUR = 3600
TAMPERED = "tampered with"


async def server_key(plane: Plane) -> bytes:
    """Ask for the key that proofs are made for."""
    return base64.b64decode((await plane.ask("GET", "/v1/possession")).as_(ServerKey).server_key)


def proven(private: bytes, for_key: bytes) -> str:
    """Return a proof, made from the description of how and nothing of ours."""
    own = X25519PrivateKey.from_private_bytes(private)
    shared = own.exchange(X25519PublicKey.from_public_bytes(for_key))
    public = own.public_key().public_bytes_raw()
    message = b"exuvia possession 1\0" + for_key + public
    return base64.b64encode(for_key + hmac.new(shared, message, sha256).digest()).decode()


def pair() -> tuple[bytes, str]:
    """Return a private key and its public one."""
    private = os.urandom(32)
    return private, PrivateKey(private).public_key().text()


def later(plane: Plane, hours: float) -> None:
    """Let time have passed, as far as it is believed."""
    clock = plane.inner.control.clock
    plane.inner.control.believe(replace(clock, wall=clock.wall + hours * HOUR))


@pytest.fixture
def strict(plane: Plane) -> Plane:
    """A control plane that refuses keys without a proof."""
    plane.inner.control.possession.is_required = True
    return plane


async def registered(plane: Plane, number: str, key: str, proof: str | None) -> Answer:
    """Try to register a key with a proof."""
    body = {"public_key": key} | ({} if proof is None else {"proof": proof})
    return await plane.ask("POST", "/v1/devices", bearer=number, body=body)


async def put(plane: Plane, token: str, key: str, proof: str | None) -> Answer:
    """Try to register a next key with a proof."""
    path = f"/v1/device/keys/{PublicKey.from_text(key).path()}"
    return await plane.ask("PUT", path, bearer=token, body=None if proof is None else {"proof": proof})


async def test_p12_whoever_holds_the_private_half_registers(strict: Plane) -> None:
    """With one question: for a device, for its next key, and for the same key again."""
    private, key = pair()
    number, theirs = await strict.account(), await server_key(strict)
    first = await registered(strict, number, key, proven(private, theirs))
    again = await registered(strict, number, key, proven(private, theirs))
    assert (first.status, again.status) == (201, 201)

    following, next_key = pair()
    answers = [await put(strict, again.json["token"], next_key, proven(following, theirs)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body


def wrongs(private: bytes, key: str, theirs: bytes) -> dict[str, str]:
    """Return what is no proof for this key."""
    right = proven(private, theirs)
    raw = base64.b64decode(right)
    flipped = bytearray(raw)
    flipped[-1] ^= 1
    nothing = hmac.new(
        bytes(32), b"exuvia possession 1\0" + bytes(32) + base64.b64decode(key), sha256
    ).digest()
    return {
        "another key's": proven(os.urandom(32), theirs),
        "for another server": proven(private, PrivateKey(os.urandom(32)).public_key()),
        TAMPERED: base64.b64encode(flipped).decode(),
        "for a key that is none of the server's": base64.b64encode(bytes([9] * 32) + raw[32:]).decode(),
        "of a shared secret of zeros": base64.b64encode(bytes(32) + nothing).decode(),
        "zeros": base64.b64encode(theirs + bytes(32)).decode(),
        "its own public key as the server's": proven(private, base64.b64decode(key)),
        "too short": right[:-4],
        "too long": right + "AAAA",
        "without padding": right.rstrip("="),
        "with a line break": right[:-1] + "\n",
        "URL-safe": base64.urlsafe_b64encode(b"\xff" * 64).decode(),
        "spare bits": right[:-3] + chr(ord(right[-3]) + 1) + "==",
        "no base64": "é" * 88,
        "words": "x",
        "NUL": "\0" * 88,
        "long": "A" * 60_000,
    }


async def test_p12_nobody_registers_a_key_without_its_private_half(strict: Plane) -> None:
    """A wrong, malformed or missing proof, a low-order key, a known key: one answer, nothing stored."""
    number, other = await strict.account(), await strict.account()
    private, key = pair()
    theirs = await server_key(strict)
    known_private, known = pair()
    assert (await registered(strict, other, known, proven(known_private, theirs))).status == 201
    at = strict.inner.control.hub.at
    answers = [
        await registered(strict, number, key, proof) for proof in wrongs(private, key, theirs).values()
    ]
    answers += [
        await registered(strict, number, known, proof)
        for proof in wrongs(known_private, known, theirs).values()
    ]
    answers += [
        await registered(strict, number, key, None),
        await registered(strict, number, key, ""),
        await registered(strict, number, known, None),
        await registered(strict, number, known, proven(known_private, theirs)),
        await registered(strict, number, base64.b64encode(bytes(32)).decode(), proven(private, theirs)),
    ]

    assert {(a.status, a.body, tuple(a.headers.items())) for a in answers} == {
        (422, answers[0].body, tuple(answers[0].headers.items()))
    }
    assert strict.inner.control.hub.at == at
    assert (await strict.ask("GET", "/v1/devices", bearer=number)).json == []


async def test_p12_no_device_takes_a_next_key_without_its_private_half(strict: Plane) -> None:
    """The same for a rotation, where the key stands in the path."""
    private, key = pair()
    theirs = await server_key(strict)
    device = (await registered(strict, await strict.account(), key, proven(private, theirs))).json
    following, next_key = pair()
    answers = [
        await put(strict, device["token"], next_key, proof)
        for proof in (*wrongs(following, next_key, theirs).values(), None, "")
    ]

    assert {(a.status, a.body) for a in answers} == {(422, answers[0].body)}
    state = await strict.ask("GET", "/v1/device", bearer=device["token"])
    assert [one["public_key"] for one in state.json["keys"]] == [key]


@pytest.mark.parametrize(("hours", "status"), [(0, 201), (1, 201), (2, 422), (-1, 422), (24, 422)])
async def test_the_servers_key_is_good_for_its_hour_and_the_next(
    strict: Plane, hours: int, status: int
) -> None:
    """A proof that was made for a key of any other hour is refused; asking again always helps."""
    private, key = pair()
    number, theirs = await strict.account(), await server_key(strict)
    later(strict, hours)

    assert (await registered(strict, number, key, proven(private, theirs))).status == status
    fresh = await server_key(strict)
    assert (fresh == theirs) is (hours == 0)
    assert (await registered(strict, number, key, proven(private, fresh))).status == 201


async def test_the_servers_key_lasts_as_long_as_it_says(strict: Plane) -> None:
    """At any moment of the hour: in the last of its seconds it is accepted."""
    private, key = pair()
    number = await strict.account()
    for _ in range(5):
        later(strict, 0.23)
        said = (await strict.ask("GET", "/v1/possession")).as_(ServerKey)
        proof = proven(private, base64.b64decode(said.server_key))
        before = strict.inner.control.clock
        later(strict, said.seconds / HOUR)
        assert HOUR <= said.seconds <= 2 * HOUR
        assert (await registered(strict, number, key, proof)).status == 201
        strict.inner.control.believe(before)


async def test_only_current_server_keys_lie_in_memory(strict: Plane) -> None:
    """However long it runs; and another server with the same secret has the same ones."""
    keys = []
    for _ in range(50):
        keys.append(await server_key(strict))
        later(strict, 1)
    control = strict.inner.control

    assert len(set(keys)) == 50
    assert len(control.possession._pairs) <= 3
    replica = module.Possession(control.hasher, lambda: control.clock.wall)
    assert replica.server_key() == await server_key(strict)


async def test_every_proof_costs_the_same_work(strict: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right, wrong or nothing like a proof: one shared secret, and the database is asked after it."""
    private, key = pair()
    number, theirs = await strict.account(), await server_key(strict)
    work: list[str] = []
    monkeypatch.setattr(module, "_mac", noted(module._mac, lambda: work.append("shared secret")))
    monkeypatch.setattr(
        Writer, "run_with_others", noted(Writer.run_with_others, lambda: work.append("database"))
    )
    for proof in wrongs(private, key, theirs).values():
        await registered(strict, number, key, proof)
        assert work == ["shared secret"]
        work.clear()
    await registered(strict, number, key, proven(private, theirs))

    assert work == ["shared secret", "database"]


def noted(called: Callable[..., Any], note: Callable[[], None]) -> Callable[..., Any]:
    """Return what does the same, and notes that it is done."""

    def noting(*given: Any) -> Any:
        note()
        return called(*given)

    return noting


async def test_while_proofs_are_not_required_a_wrong_one_is_refused_all_the_same(plane: Plane) -> None:
    """Without one a key is taken; whoever sends one means it."""
    plane.inner.control.possession.is_required = False
    private, key = pair()
    number = await plane.account()
    wrong = wrongs(private, key, await server_key(plane))[TAMPERED]

    assert (await registered(plane, number, key, wrong)).status == 422
    made = await registered(plane, number, key, None)
    assert made.status == 201
    assert (await put(plane, made.json["token"], pair()[1], None)).status == 200


async def test_a_hundred_proofs_at_once_make_as_many_devices_as_there_is_room_for(strict: Plane) -> None:
    """Checking them opens no gap between looking and doing."""
    number, theirs = await strict.account(devices=5), await server_key(strict)

    async def one() -> int:
        private, key = pair()
        return (await registered(strict, number, key, proven(private, theirs))).status

    assert Counter(await asyncio.gather(*(one() for _ in range(100)))) == {201: 5, 409: 95}


def test_the_operator_decides_whether_a_proof_is_needed(tmp_path: Any) -> None:
    """A key without a proof is refused, unless the operator says `--unproven-keys allow`."""
    choices: tuple[tuple[list[str], int], ...] = (
        ([], 422),
        (["--unproven-keys", "refuse"], 422),
        (["--unproven-keys", "allow"], 201),
    )
    for options, status in choices:
        folder = tmp_path / "-".join(["as", *options])
        folder.mkdir()
        with server_in(folder, *options, takes_unproven_keys=False) as server:
            assert _tried(server) == status


def _tried(server: Server) -> int:
    body = {"public_key": fresh_key().text()}
    return server.ask("POST", "/v1/devices", bearer=server.account(), body=body).status


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20])
def test_a_shared_secret_of_zeros_is_refused(point: int) -> None:
    """A point of low order, should one ever be let through, leads to no secret."""
    with pytest.raises(InvalidKey):
        PrivateKey(os.urandom(32)).shared_with(PublicKey(point.to_bytes(32, "little")))
