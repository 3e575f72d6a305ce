"""The operator's desk: many accounts at once, their last day and limit, and the end of gateways."""

import asyncio
from typing import Any

import pytest

from control_plane import Plane, honest_key
from exuvia.system import clock


async def ask(plane: Plane, method: str, path: str, body: Any = None) -> Any:
    """Ask as the operator; return the status and what was answered."""
    answer = await plane.ask(method, f"/v1/admin{path}", body=body, as_operator=True)
    return answer.status, answer.json if answer.body else None


async def test_many_accounts_are_created_in_one_request(plane: Plane) -> None:
    """So many numbers, all different, each of an account as described."""
    status, made = await ask(plane, "POST", "/accounts/batch", {"count": 50, "devices": 2})

    assert (status, len({one["account"] for one in made})) == (201, 50)
    _, listed = await ask(plane, "GET", "/accounts")
    assert {one["id"] for one in listed} == {one["id"] for one in made}
    assert {one["device_limit"] for one in listed} == {2}


@pytest.mark.parametrize("wanted", [{"count": 0}, {"count": 1001}, {"count": 1, "devices": 0}])
async def test_impossible_batches_create_nothing(plane: Plane, wanted: dict[str, int]) -> None:
    """400, and no account."""
    assert (await ask(plane, "POST", "/accounts/batch", wanted))[0] == 400
    assert await ask(plane, "GET", "/accounts") == (200, [])


async def test_accounts_are_listed_by_state(plane: Plane) -> None:
    """Active, suspended and expired ones apart, a page at a time; one that is both is suspended."""
    numbers = [await plane.account(expires=plane.inner.control.today) for _ in range(4)]
    lasting = await plane.account()
    await plane.act(numbers[0], "suspend")
    plane.inner.control.today = "2999-01-01"
    for state, wanted in (("active", [lasting]), ("suspended", numbers[:1]), ("expired", numbers[1:])):
        ids, after = set(), ""
        while page := (await ask(plane, "GET", f"/accounts?state={state}&limit=2&after={after}"))[1]:
            assert {one["state"] for one in page} == {state}
            ids |= {one["id"] for one in page}
            after = page[-1]["id"]
        assert ids == {await plane.account_id(number) for number in wanted}
    assert (await ask(plane, "GET", "/accounts?state=cancelled"))[0] == 400


async def test_an_expired_account_that_is_extended_works_again(plane: Plane) -> None:
    """So does the token of its device, which was refused until then."""
    number, key = await plane.account(expires=plane.inner.control.today), honest_key()
    before = await plane.register(number, key)
    id = await plane.account_id(number)
    plane.inner.control.today = "2199-06-01"
    assert (await plane.ask("GET", "/v1/device", bearer=before.token)).status == 403

    _, extended = await ask(plane, "POST", f"/accounts/{id}/extend", {"days": 10})

    assert (extended["state"], extended["expires"]) == ("active", "2199-06-11")
    assert (await plane.ask("GET", "/v1/device", bearer=before.token)).status == 200


@pytest.mark.parametrize(
    ("wanted", "expires"),
    [
        ({"days": 30}, "2199-01-31"),
        ({"expires": "2198-02-03"}, "2198-02-03"),
        ({"never": True}, None),
    ],
)
async def test_an_account_gets_another_last_day(
    plane: Plane, wanted: dict[str, Any], expires: str | None
) -> None:
    """So many days after the present one, a day that is named, or none."""
    id = await plane.account_id(await plane.account(expires="2199-01-01"))

    status, shown = await ask(plane, "POST", f"/accounts/{id}/extend", wanted)

    assert (status, shown["expires"]) == (200, expires)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"days": 1, "never": True},
        {"days": 0},
        {"days": -1},
        {"days": 10**9},
        {"expires": "2001-01-01"},
        {"expires": "soon"},
    ],
)
async def test_an_impossible_last_day_changes_nothing(plane: Plane, wanted: dict[str, Any]) -> None:
    """400, and the day is what it was."""
    number = await plane.account(expires="2199-01-01")
    id = await plane.account_id(number)

    assert (await ask(plane, "POST", f"/accounts/{id}/extend", wanted))[0] == 400
    assert (await ask(plane, "GET", f"/accounts/{id}"))[1]["expires"] == "2199-01-01"


async def test_the_calendar_has_an_end(plane: Plane) -> None:
    """More days than the calendar has are refused, and so are more days for an account without a last one."""
    late = await plane.account_id(await plane.account(expires="9999-12-31"))
    endless = await plane.account_id(await plane.account())

    assert (await ask(plane, "POST", f"/accounts/{late}/extend", {"days": 1}))[0] == 400
    assert (await ask(plane, "POST", f"/accounts/{endless}/extend", {"days": 1}))[0] == 400


async def test_a_lower_limit_keeps_devices_and_lets_no_more_in(plane: Plane) -> None:
    """Two devices stay at a limit of one; a third is refused until the limit is raised."""
    number = await plane.account()
    devices = [await plane.register(number) for _ in range(2)]
    id = await plane.account_id(number)

    _, shown = await ask(plane, "POST", f"/accounts/{id}/device-limit", {"devices": 1})

    assert (shown["devices"], shown["device_limit"]) == (2, 1)
    assert [(await plane.ask("GET", "/v1/device", bearer=one.token)).status for one in devices] == [200, 200]
    third = {"public_key": honest_key()}
    assert (await plane.ask("POST", "/v1/devices", bearer=number, body=third)).status == 409
    assert (await ask(plane, "POST", f"/accounts/{id}/device-limit", {"devices": 3}))[0] == 200
    assert (await plane.ask("POST", "/v1/devices", bearer=number, body=third)).status == 201
    assert (await ask(plane, "POST", f"/accounts/{id}/device-limit", {"devices": 0}))[0] == 400


async def test_who_does_not_exist_is_not_found(plane: Plane) -> None:
    """404 for accounts and gateways alike."""
    nobody = "a" * 25 + "a"
    assert (await ask(plane, "POST", f"/accounts/{nobody}/extend", {"never": True}))[0] == 404
    assert (await ask(plane, "POST", f"/accounts/{nobody}/device-limit", {"devices": 1}))[0] == 404
    assert (await ask(plane, "DELETE", "/gateways/nowhere"))[0] == 404
    assert (await ask(plane, "POST", "/gateways/nowhere/token"))[0] == 404


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/gateways/se1"), ("POST", "/gateways/se1/token")])
async def test_a_token_that_was_taken_away_opens_nothing(plane: Plane, method: str, path: str) -> None:
    """401 at once, and the feed that it had opened ends; another gateway's goes on."""
    token, other = await plane.gateway("se1"), await plane.gateway("se2")
    hub = plane.inner.control.hub
    feeds = [asyncio.ensure_future(listen(plane, one)) for one in (token, other)]
    while len(hub) < 2:  # noqa: ASYNC110  the hub tells nobody who listens
        await asyncio.sleep(0.01)

    assert (await ask(plane, method, path))[0] in (200, 204)

    await asyncio.wait_for(feeds[0], 10)
    assert (await plane.ask("GET", "/v1/feed", bearer=token)).status == 401
    assert not feeds[1].done()
    assert len(hub) == 1
    hub.close()
    await feeds[1]


async def listen(plane: Plane, token: str) -> None:
    """Follow the feed until it ends."""
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {}

    async def send(_message: Any) -> None:
        pass

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/v1/feed", "query_string": b"", "headers": headers}
    await plane.inner.public(scope, receive, send)


async def test_a_retired_gateway_is_waited_for_no_more(plane: Plane) -> None:
    """Clients are not led there, and "applied everywhere" does not ask for it, though it was just heard."""
    control = plane.inner.control
    await plane.gateway("se1")
    device = await plane.register(await plane.account())
    assert control.fleet.live(now=clock.boottime()) == 1

    await ask(plane, "DELETE", "/gateways/se1")

    assert control.fleet.live(now=clock.boottime()) == 0
    assert (await plane.ask("GET", "/v1/gateways", bearer=device.token)).json == []
    assert await ask(plane, "GET", "/gateways") == (200, [])


async def test_a_name_that_was_retired_can_be_enrolled_again(plane: Plane) -> None:
    """With another token; the old one does not come back with the name."""
    token = await plane.gateway("se1")
    await ask(plane, "DELETE", "/gateways/se1")
    fresh = await plane.gateway("se1")

    assert fresh != token
    assert (await plane.ask("GET", "/v1/feed", bearer=token)).status == 401


async def test_a_new_token_is_the_same_gateway(plane: Plane) -> None:
    """It keeps its name and key, and says hello with the new token."""
    await plane.gateway("se1")
    device = await plane.register(await plane.account())
    before = (await plane.ask("GET", "/v1/gateways", bearer=device.token)).json

    _, made = await ask(plane, "POST", "/gateways/se1/token")

    hello = {"public_key": before[0]["public_key"], "lasting": False}
    assert made["name"] == "se1"
    assert (await plane.ask("PUT", "/v1/gateway", bearer=made["token"], body=hello)).status == 200
    assert (await plane.ask("GET", "/v1/gateways", bearer=device.token)).json == before
