"""Guessing is limited by where it comes from, and nobody else is kept out."""

import asyncio
import contextlib
import http.client
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from control_plane import Plane, Server, honest_key
from exuvia.api import failures as module
from exuvia.api.failures import Failures
from exuvia.api.server import listening
from exuvia.api.upkeep import Upkeep
from exuvia.errors import TooManyFailures, UnknownCredential
from exuvia.rules.failing import KEY_LIFETIME, REFILL, Credential
from exuvia.system import clock, entropy

WRONG = "0000-0000-0000-0000-0000-0000-0000"
LIMIT = Credential.ACCOUNT.burst
HERE, ELSEWHERE = b"here", b"elsewhere"


class Hours:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what time it is."""
        return self.now


@pytest.fixture
def time(plane: Plane) -> Hours:
    """The time of the control plane's limits: it stands still."""
    hours = Hours()
    plane.inner.control.failures = Failures(entropy.bits, time=hours)
    return hours


async def statuses(plane: Plane, count: int, bearer: str, **given: Any) -> Counter[int]:
    """Ask for gateways so many times at once, and count the answers."""
    asked = (plane.ask("GET", "/v1/gateways", bearer=bearer, **given) for _ in range(count))
    return Counter([answer.status for answer in await asyncio.gather(*asked)])


async def test_of_a_hundred_wrong_numbers_at_once_as_many_are_tried_as_may_fail(
    plane: Plane, time: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are refused before anybody looks whether there is such an account."""
    looked, look = [], module.Failures.end
    monkeypatch.setattr(module.Failures, "end", lambda *given: looked.append(1) or look(*given))
    found = await statuses(plane, 100, WRONG, client=HERE)

    assert found == {401: LIMIT, 429: 100 - LIMIT}
    assert len(looked) == LIMIT


async def test_valid_requests_are_never_refused(plane: Plane, time: Hours) -> None:
    """Three hundred at once from one address with the right number, and a hundred registrations."""
    number = await plane.account(devices=5)
    body = {"public_key": honest_key()}

    async def register() -> int:
        wish = {**body, "public_key": honest_key()}
        return (await plane.ask("POST", "/v1/devices", bearer=number, body=wish, client=HERE)).status

    assert await statuses(plane, 300, number, client=HERE) == {200: 300}
    made = Counter(await asyncio.gather(*(register() for _ in range(100))))
    assert made == {201: 5, 409: 95}


async def test_a_flood_keeps_out_only_whoever_shares_its_address(plane: Plane, time: Hours) -> None:
    """The right number works from elsewhere at once, and from there as soon as the wrong ones stop."""
    number = await plane.account()
    await statuses(plane, 200, WRONG, client=HERE)
    answer = await plane.ask("GET", "/v1/devices", bearer=number, client=HERE)

    assert (answer.status, answer.json["type"]) == (429, "urn:exuvia:problem:too-many-failures")
    assert 1 <= int(answer.headers["retry-after"]) <= REFILL
    assert (await plane.ask("GET", "/v1/devices", bearer=number, client=ELSEWHERE)).status == 200
    time.now += int(answer.headers["retry-after"])
    assert await statuses(plane, 50, number, client=HERE) == {200: 50}


async def test_a_refusal_is_the_same_for_right_and_wrong_numbers(plane: Plane, time: Hours) -> None:
    """Whoever is over the limit learns nothing from going on."""
    number = await plane.account()
    await statuses(plane, LIMIT, WRONG, client=HERE)
    answers = [
        await plane.ask("POST", "/v1/devices", bearer=bearer, body={"public_key": honest_key()}, client=HERE)
        for bearer in (number, WRONG, "x", "é")
    ]

    assert {(a.status, a.body, tuple(a.headers.items())) for a in answers} == {
        (429, answers[0].body, tuple(answers[0].headers.items()))
    }


async def test_devices_go_on_behind_the_address_of_a_flood(plane: Plane, time: Hours) -> None:
    """Whoever has a token is not cut off by a neighbour's guesses, of numbers or of tokens."""
    device = await plane.register(await plane.account())
    await statuses(plane, 200, WRONG, client=HERE)
    guesses = await statuses(plane, 100, "A" * 86, client=HERE)

    assert guesses == {401: Credential.DEVICE.burst, 429: 100 - Credential.DEVICE.burst}
    assert await statuses(plane, 100, device.token, client=HERE) == {200: 100}


async def test_wrong_tokens_of_devices_keep_nobody_from_logging_in(plane: Plane, time: Hours) -> None:
    """When an account ends, all its devices are refused at once, maybe from one office."""
    number = await plane.account()
    await statuses(plane, 200, "A" * 86, client=HERE)

    assert await statuses(plane, 10, number, client=HERE) == {200: 10}


async def test_guesses_of_the_operators_token_are_limited(plane: Plane, time: Hours) -> None:
    """Over the limit the right one is refused as well; from elsewhere it works."""
    plane.inner.control.operator_hash = plane.inner.control.hasher.operator("o" * 40)

    async def ask(token: str, client: bytes) -> int:
        return (await plane.ask("GET", "/v1/admin/gateways", bearer=token, client=client)).status

    limit = Credential.OPERATOR.burst
    assert [await ask("o" * 39, HERE) for _ in range(limit + 1)] == [401] * limit + [429]
    assert [await ask("o" * 40, HERE), await ask("o" * 40, ELSEWHERE)] == [429, 200]


async def test_gateways_and_those_without_a_credential_are_not_counted(plane: Plane, time: Hours) -> None:
    """A gateway's wrong token, or none at all, is 401 as often as it comes."""
    token = await plane.gateway()
    for _ in range(2 * LIMIT):
        wrong = await plane.ask("GET", "/v1/feed", bearer="A" * 43, client=HERE)
        bare = await plane.ask("GET", "/v1/devices", client=HERE)
        assert (wrong.status, bare.status) == (401, 401)
    hello = {"public_key": honest_key(), "lasting": False}

    assert (await plane.ask("PUT", "/v1/gateway", bearer=token, body=hello, client=HERE)).status == 200
    assert not plane.inner.control.failures._full_at


async def test_other_refusals_are_not_counted(plane: Plane, time: Hours) -> None:
    """A bad key, a full account, a device that is gone: the number was right."""
    number = await plane.account(devices=1)
    await plane.register(number)
    for _ in range(2 * LIMIT):
        for key in ("x", honest_key()):
            await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": key}, client=HERE)
        await plane.ask("DELETE", "/v1/devices/" + "a" * 26, bearer=number, client=HERE)

    assert await statuses(plane, 1, number, client=HERE) == {200: 1}


async def test_whoever_waits_for_a_turn_gets_it(time: Hours) -> None:
    """Also when those before are wrong, right, or give up while they wait or just as their turn comes."""
    failures = Failures(entropy.bits, time=time)
    go = asyncio.Event()

    async def attempt(number: int) -> str:
        try:
            async with failures.trying(HERE):
                await go.wait()
                if number % 2:
                    raise UnknownCredential
        except UnknownCredential:
            return "wrong"
        except TooManyFailures:
            return "refused"
        return "right"

    tasks = [asyncio.ensure_future(attempt(n)) for n in range(10 * LIMIT)]
    await asyncio.sleep(0)
    for task in tasks[LIMIT // 2 : 3 * LIMIT]:
        task.cancel()
    go.set()
    async with asyncio.timeout(20):
        found = Counter(map(str, await asyncio.gather(*tasks, return_exceptions=True)))

    assert found["wrong"] == LIMIT
    assert sum(found.values()) == 10 * LIMIT
    assert failures._trying == {}


def test_the_key_dies_within_the_hour_with_all_that_was_counted(time: Hours) -> None:
    """Afterwards the same address is somebody else, and nothing is known of before."""
    failures = Failures(entropy.bits, time=time)
    before, key = failures.who("192.0.2.1"), failures._key
    for _ in range(LIMIT):
        failures.note(before)
    time.now += KEY_LIFETIME - 1
    assert failures.who("192.0.2.1") == before
    time.now += 1
    failures.forget_in_time()

    assert failures._key != key
    assert failures._full_at == {}
    assert failures.who("192.0.2.1") != before


async def test_the_key_dies_also_if_nobody_asks(plane: Plane, time: Hours) -> None:
    """The server looks after it, once a second."""
    key = plane.inner.control.failures._key
    time.now += KEY_LIFETIME
    await Upkeep(plane.inner.control, erase_after=900).look_after(now=clock.boottime())

    assert plane.inner.control.failures._key != key


async def test_a_turn_that_nobody_takes_goes_to_the_next(time: Hours) -> None:
    """Whoever gives up just as its turn comes keeps nobody waiting."""
    failures = Failures(entropy.bits, time=time)
    for _ in range(LIMIT - 1):
        failures.note(HERE)
    waiting: list[asyncio.Task[None]] = []

    async def attempt() -> None:
        async with failures.trying(HERE):
            await asyncio.sleep(0)

    async with failures.trying(HERE):
        waiting += [asyncio.ensure_future(attempt()) for _ in range(2)]
        await asyncio.sleep(0)
    waiting[0].cancel()
    async with asyncio.timeout(20):
        await waiting[1]

    assert failures._trying == {}


def test_what_is_remembered_is_bounded_and_holds_no_address(
    time: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many addresses those that failed last are remembered; each is 16 bytes that tell nothing."""
    monkeypatch.setattr(module, "MOST_BUCKETS", 100)
    failures = Failures(entropy.bits, time=time)
    known = [failures.who(f"2001:db8:{n:x}::1") for n in range(1000)]
    for who in known:
        failures.note(who)

    assert [who for _, who in failures._full_at] == known[-100:]
    failures.note(known[-100])
    failures.note(b"another")
    assert (Credential.ACCOUNT, known[-100]) in failures._full_at
    assert all(who is not None and len(who) == 16 for who in known)


@contextlib.asynccontextmanager
async def port(plane: Plane, *, behind_proxy: bool) -> AsyncIterator[int]:
    """The control plane behind a real socket."""
    sock = socket.create_server(("127.0.0.1", 0))
    failures = plane.inner.control.failures
    async with listening(plane.inner.public, sock, None, failures=failures, behind_proxy=behind_proxy):
        yield sock.getsockname()[1]


async def asked(at: int, bearer: str, forwarded: str | None = None) -> int:
    """Ask for gateways over a connection of its own."""

    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", at, timeout=20)
        headers = {"Authorization": f"Bearer {bearer}"}
        if forwarded is not None:
            headers["X-Forwarded-For"] = forwarded
        with contextlib.closing(connection):
            connection.request("GET", "/v1/gateways", headers=headers)
            return connection.getresponse().status

    return await asyncio.to_thread(ask)


async def test_without_a_proxy_nobody_can_say_where_he_is(plane: Plane, time: Hours) -> None:
    """What a client claims in a header makes it nobody else."""
    async with port(plane, behind_proxy=False) as at:
        for n in range(LIMIT):
            assert await asked(at, WRONG, f"192.0.2.{n}") == 401
        assert await asked(at, WRONG, "192.0.2.99") == 429


async def test_behind_a_proxy_clients_are_told_apart_by_what_it_says(
    plane: Plane, time: Hours, caplog: pytest.LogCaptureFixture
) -> None:
    """By the last entry: what a client wrote there itself stands before it. No entry, no limit, a warning."""
    async with port(plane, behind_proxy=True) as at:
        for n in range(LIMIT):
            assert await asked(at, WRONG, f"10.0.0.{n}, 192.0.2.1") == 401
        assert await asked(at, WRONG, "192.0.2.2, 192.0.2.1") == 429
        assert await asked(at, WRONG, "192.0.2.1, 192.0.2.2") == 401
        assert caplog.text == ""
        assert [await asked(at, WRONG) for _ in range(LIMIT + 1)] == [401] * (LIMIT + 1)
        assert caplog.text.count("X-Forwarded-For") == 1


async def test_nothing_behind_the_protocol_sees_an_address(plane: Plane) -> None:
    """Neither the peer's nor one that a proxy tells is anywhere in what the application is given."""
    seen: list[Any] = []

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        seen.append({name: value for name, value in scope.items() if name != "abort"})
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for behind_proxy in (False, True):
        sock = socket.create_server(("127.0.0.1", 0))
        failures = plane.inner.control.failures
        async with listening(application, sock, None, failures=failures, behind_proxy=behind_proxy):
            await asyncio.to_thread(_tell_addresses, sock.getsockname()[1])

    assert len(seen) == 2
    for scope in seen:
        assert scope["client"] is None
        assert len(scope["exuvia.client"]) == 16
        headers = dict(scope["headers"])
        del headers[b"host"]
        assert "192.0.2.77" not in str(scope)
        assert "127.0.0.1" not in str(headers) + str(scope["client"])


def _tell_addresses(port: int) -> None:
    told = dict.fromkeys(("X-Forwarded-For", "Forwarded", "X-Real-IP", "x-FORWARDED-for"), "192.0.2.77")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/", headers=told)
        connection.getresponse()


def test_a_real_server_limits_guesses_but_not_its_operator(server: Server) -> None:
    """Over the network the limit is there; on the socket beside the database it is not."""
    found = Counter(server.ask("GET", "/v1/devices", bearer=WRONG).status for _ in range(LIMIT + 5))

    assert found[401] >= LIMIT
    assert found[429] >= 4
    assert len({server.account() for _ in range(3)}) == 3
