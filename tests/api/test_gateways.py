"""Gateways: how they are enrolled, what they say, and what clients are told of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane import Plane, honest_key
from exuvia.api import fleet
from exuvia.messages import GatewayWelcome
from exuvia.system import clock

PUT_APPLIED = ("PUT", "/v1/gateway/applied")


async def applied(plane: Plane, token: str, epoch: str, revision: int, wait: float = 0) -> bool:
    """Ask whether every live gateway has come so far."""
    target = f"/v1/applied?epoch={epoch}&revision={revision}&wait={wait}"
    answer = await plane.ask("GET", target, bearer=token)
    assert answer.status == 200
    return bool(answer.json["applied"])


async def acknowledge(plane: Plane, gateway: str, epoch: str, revision: int) -> int:
    """Say that a gateway has come so far."""
    body = {"epoch": epoch, "revision": revision}
    return (await plane.ask(*PUT_APPLIED, bearer=gateway, body=body)).status


@pytest.fixture
async def told(plane: Plane) -> AsyncIterator[None]:
    """Let gateways have been told of whatever is committed, as a feed would have done."""
    publish = plane.inner.control.hub.publish
    heard = plane.inner.control.fleet

    def publish_and_tell(committed: object) -> None:
        publish(committed)  # type: ignore[arg-type]
        for gateway in heard.all():
            heard.hear(gateway.name, now=clock.boottime())
            heard.tell(gateway.name, plane.inner.control.hub.at.revision)

    plane.inner.control.hub.publish = publish_and_tell  # type: ignore[method-assign]
    yield


async def test_a_gateway_says_its_key_and_is_told_the_pools(plane: Plane) -> None:
    """Clients then see name, key, endpoint and place; before it said its key they don't."""
    wanted = {
        "name": "se-sto-1",
        "endpoint": "[2001:db8::1]:51820",
        "country": "SE",
        "city": "Göteborg",
        "dns": "10.0.0.1",
    }
    enrolled = await plane.ask("POST", "/v1/admin/gateways", body=wanted, as_operator=True)
    device = await plane.register(await plane.account())
    before = await plane.ask("GET", "/v1/gateways", bearer=device.token)
    key = honest_key()
    hello = await plane.ask(
        "PUT", "/v1/gateway", bearer=enrolled.json["token"], body={"public_key": key, "lasting": True}
    )
    after = await plane.ask("GET", "/v1/gateways", bearer=device.token)
    pools = plane.inner.control.store.pools

    assert enrolled.status == 201
    assert before.json == []
    assert after.json == [wanted | {"public_key": key}]
    assert hello.as_(GatewayWelcome) == GatewayWelcome(
        "10.0.0.0/8", str(pools.pool6), "10.0.0.1/8", pools.gateway6()
    )


async def test_a_name_is_enrolled_once(plane: Plane) -> None:
    """The second time is refused, and the first token still works."""
    token = await plane.gateway("se1")
    again = await plane.ask(
        "POST", "/v1/admin/gateways", body={"name": "se1", "endpoint": "x:1"}, as_operator=True
    )

    assert (again.status, again.json["type"]) == (409, "urn:exuvia:problem:already-exists")
    assert await acknowledge(plane, token, "e", 0) == 204


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "-a"},
        {"name": "a-"},
        {"name": "A"},
        {"name": "a b"},
        {"name": "a" * 64},
        {"name": "../x"},
        {"endpoint": "gw"},
        {"endpoint": "gw:0"},
        {"endpoint": "gw:65536"},
        {"endpoint": "gw:٣"},
        {"endpoint": "gw:-1"},
        {"endpoint": "gw:1\n"},
        {"endpoint": "fd00::1:51820"},
        {"endpoint": "[fd00::1%eth0]:51820"},
        {"endpoint": "[10.0.0.1]:51820"},
        {"endpoint": ":51820"},
        {"endpoint": "g" * 254 + ":1"},
        {"country": "se"},
        {"country": "SWE"},
        {"city": ""},
        {"city": "a\nb"},
        {"city": "a" * 65},
        {"dns": "dns.example"},
        {"dns": "fe80::1%eth0"},
        {"token": "x"},
    ],
)
async def test_an_impossible_gateway_is_refused(plane: Plane, change: dict[str, str]) -> None:
    """What clients could not use, or what would break somebody's configuration file, is never stored."""
    wanted = {"name": "se1", "endpoint": "gw.example:51820"} | change
    answer = await plane.ask("POST", "/v1/admin/gateways", body=wanted, as_operator=True)

    assert answer.status == 400
    assert (await plane.ask("GET", "/v1/admin/gateways", as_operator=True)).json == []


async def test_a_gateway_can_not_take_somebodys_key(plane: Plane) -> None:
    """A device's key, another gateway's, or no key at all: refused, and nothing changes."""
    number, key = await plane.account(), honest_key()
    await plane.register(number, key)
    one, two = await plane.gateway("a"), await plane.gateway("b")
    (first, _) = (await plane.ask("GET", "/v1/gateways", bearer=number)).json
    for bad in (key, first["public_key"], "x", "A" * 43 + "="):
        answer = await plane.ask("PUT", "/v1/gateway", bearer=two, body={"public_key": bad, "lasting": False})
        assert answer.status == 422

    again = {"public_key": first["public_key"], "lasting": False}
    assert (await plane.ask("PUT", "/v1/gateway", bearer=one, body=again)).status == 200
    assert len({g["public_key"] for g in (await plane.ask("GET", "/v1/gateways", bearer=number)).json}) == 2


async def test_a_gateways_token_opens_nothing_else(plane: Plane) -> None:
    """Nor does anybody else's open what is for gateways."""
    gateway, number = await plane.gateway(), await plane.account()
    device = await plane.register(number)
    for path in ("/v1/device", "/v1/devices", "/v1/gateways", "/v1/admin/accounts"):
        assert (await plane.ask("GET", path, bearer=gateway)).status == 401
    for bearer in (number, device.token, None, gateway[:-1]):
        assert (await plane.ask("GET", "/v1/feed", bearer=bearer)).status == 401
        assert (await plane.ask(*PUT_APPLIED, bearer=bearer, body={"epoch": "", "revision": 0})).status == 401


@pytest.mark.usefixtures("told")
async def test_applied_means_by_every_live_gateway(plane: Plane) -> None:
    """True once each live gateway has said so; with none alive, or in another epoch, false."""
    device = await plane.register(await plane.account())
    at = (device.epoch, device.revision)
    assert not await applied(plane, device.token, *at)
    one, two = await plane.gateway("a"), await plane.gateway("b")
    await plane.register(await plane.account())
    assert await acknowledge(plane, one, *at) == 204
    assert not await applied(plane, device.token, *at)
    assert await acknowledge(plane, two, device.epoch, device.revision - 1) == 204
    assert not await applied(plane, device.token, *at)
    assert await acknowledge(plane, two, device.epoch, device.revision + 1) == 204
    assert await applied(plane, device.token, *at)
    assert not await applied(plane, device.token, "another", 0)
    assert not await applied(plane, device.token, device.epoch, device.revision + 1)


@pytest.mark.usefixtures("told")
async def test_a_gateway_that_is_not_heard_no_longer_counts(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 45 s of silence nobody waits for it."""
    one, _silent = await plane.gateway("a"), await plane.gateway("b")
    device = await plane.register(await plane.account())
    await acknowledge(plane, one, device.epoch, device.revision)
    assert not await applied(plane, device.token, device.epoch, device.revision)

    now = clock.boottime()
    later = plane.inner.control.fleet
    later.acknowledge("a", plane.inner.control.hub.at, now=now + 40)
    assert not later.have_applied(plane.inner.control.hub.at, now=now + 44)
    assert later.have_applied(plane.inner.control.hub.at, now=now + 46)
    assert later.live(now=now + 46) == 1
    assert fleet.LIVE_FOR == 45


@pytest.mark.usefixtures("told")
async def test_whoever_waits_is_told_at_once(plane: Plane) -> None:
    """A waiting client is answered by the acknowledgement, not by a clock."""
    gateway, device = await plane.gateway(), await plane.register(await plane.account())
    await plane.register(await plane.account())
    waiting = asyncio.ensure_future(applied(plane, device.token, device.epoch, device.revision, 30))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await acknowledge(plane, gateway, device.epoch, device.revision)
    for _ in range(3):
        await asyncio.sleep(0)

    assert waiting.done() and waiting.result()


async def test_waiting_ends(plane: Plane) -> None:
    """When the time that was asked for is over, the answer is no."""
    device = await plane.register(await plane.account())

    assert not await applied(plane, device.token, device.epoch, device.revision, 0.05)


@pytest.mark.parametrize(
    "query",
    ["", "epoch=e", "revision=1", "epoch=e&revision=-1", "epoch=e&revision=x", "epoch=e&revision=1&wait=x"],
)
async def test_a_question_that_makes_no_sense_is_refused(plane: Plane, query: str) -> None:
    """400 for what is missing or no number."""
    device = await plane.register(await plane.account())

    assert (await plane.ask("GET", f"/v1/applied?{query}", bearer=device.token)).status == 400
