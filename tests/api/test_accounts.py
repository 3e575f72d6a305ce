"""What an operator can do with accounts, and what happens at once."""

import msgspec
import pytest

from control_plane import Plane, honest_key
from exuvia.messages import AccountSummary

OPERATOR = "the operator's token, of forty characters"


async def summary(plane: Plane, number: str) -> AccountSummary:
    """Return what the operator sees of an account."""
    found = await plane.ask("POST", "/v1/admin/accounts/find", body={"account": number}, as_operator=True)
    assert found.status == 200
    shown: AccountSummary = found.as_(AccountSummary)
    return shown


async def test_an_account_is_found_by_number_and_by_id(plane: Plane) -> None:
    """Both show the same: state, last day, devices and limit; however the number was typed."""
    number = await plane.account(devices=3, expires="2199-12-31")
    await plane.register(number)
    by_number = await summary(plane, number.lower().replace("-", " "))
    by_id = await plane.ask("GET", f"/v1/admin/accounts/{by_number.id}", as_operator=True)

    assert by_number == by_id.as_(AccountSummary)
    assert msgspec.structs.asdict(by_number) | {"id": ""} == {
        "id": "",
        "state": "active",
        "expires": "2199-12-31",
        "devices": 1,
        "device_limit": 3,
        "second_factor": False,
    }


@pytest.mark.parametrize(
    "wanted",
    [
        {"devices": 0},
        {"devices": -1},
        {"devices": 1001},
        {"devices": "5"},
        {"devices": 1.5},
        {"expires": "2000-01-01"},
        {"expires": "soon"},
        {"expires": 20991231},
        {"number": "1"},
    ],
)
async def test_an_impossible_account_is_refused(plane: Plane, wanted: dict[str, object]) -> None:
    """400, and no account is made."""
    answer = await plane.ask("POST", "/v1/admin/accounts", body=wanted, as_operator=True)

    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert (await plane.ask("GET", "/v1/admin/accounts", as_operator=True)).json == []


async def test_accounts_are_listed_page_by_page(plane: Plane) -> None:
    """Each page begins after the last id of the one before; every account is there once."""
    for _ in range(25):
        await plane.account()
    found: list[str] = []
    while page := (
        await plane.ask(
            "GET", f"/v1/admin/accounts?limit=10&after={found[-1] if found else ''}", as_operator=True
        )
    ).json:
        found += [account["id"] for account in page]

    assert len(found) == len(set(found)) == 25


@pytest.mark.parametrize("what", ["suspend", "cancel"])
async def test_suspending_and_cancelling_take_keys_and_addresses_at_once(plane: Plane, what: str) -> None:
    """When the answer comes they are out of the database and gateways have been told; addresses rest."""
    number, other = await plane.account(), await plane.account()
    for _ in range(3):
        await plane.register(number)
    kept = await plane.register(other)
    subscriber = plane.inner.control.hub.subscribe()
    answer = await plane.act(number, what)
    (message,) = await subscriber.next(0)
    table = await plane.inner.control.tables.at_least(0)
    resting = await plane.inner.control.store.reader.run(
        lambda connection: connection.execute("SELECT count(*) FROM resting").fetchone()[0]
    )

    assert answer.status in (200, 204)
    assert len(msgspec.json.decode(message[1])["remove"]) == 3
    assert len(table.packed) == 84
    assert resting == 6
    assert (await plane.ask("GET", "/v1/device", bearer=kept.token)).status == 200


async def test_a_suspended_account_keeps_its_devices(plane: Plane) -> None:
    """They are listed again after it is resumed, without keys."""
    number = await plane.account()
    device = await plane.register(number)
    suspended = (await plane.act(number, "suspend")).as_(AccountSummary)
    resumed = (await plane.act(number, "resume")).as_(AccountSummary)
    listed = await plane.ask("GET", "/v1/devices", bearer=number)

    assert (suspended.state, resumed.state) == ("suspended", "active")
    assert listed.json == [{"id": device.id, "name": device.name, "public_keys": []}]


async def test_nothing_is_left_of_a_cancelled_account(plane: Plane) -> None:
    """No row of account, device or key; it can't be found, nor cancelled again."""
    number = await plane.account()
    await plane.register(number)
    id = await plane.account_id(number)
    assert (await plane.act(number, "cancel")).status == 204
    rows = await plane.inner.control.store.reader.run(
        lambda connection: [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("account", "device", "key")
        ]
    )
    again = await plane.ask("POST", f"/v1/admin/accounts/{id}/cancel", as_operator=True)
    found = await plane.ask("POST", "/v1/admin/accounts/find", body={"account": number}, as_operator=True)

    assert rows == [0, 0, 0]
    assert (again.status, found.status) == (404, 404)


@pytest.mark.parametrize("what", ["suspend", "resume", "cancel", ""])
@pytest.mark.parametrize("id", ["a" * 26, "x", "%2e%2e", "a" * 2000])
async def test_an_unknown_account_is_not_found(plane: Plane, what: str, id: str) -> None:
    """Whatever the id looks like."""
    method, tail = ("POST", f"/{what}") if what else ("GET", "")
    answer = await plane.ask(method, f"/v1/admin/accounts/{id}{tail}", as_operator=True)

    assert answer.status == 404


async def test_only_the_operator_is_the_operator(plane: Plane) -> None:
    """Over the network it takes the operator's token; without one configured nobody is."""
    number = await plane.account()
    device, gateway = await plane.register(number), await plane.gateway()
    calls = [("GET", "/v1/admin/accounts"), ("POST", "/v1/admin/accounts"), ("GET", "/metrics")]
    calls += [("POST", "/v1/admin/gateways"), ("POST", f"/v1/admin/accounts/{'a' * 26}/cancel")]
    for operator in (None, plane.inner.control.hasher.operator(OPERATOR)):
        plane.inner.control.operator_hash = operator
        for bearer in (None, "", number, device.token, gateway, OPERATOR[:-1], OPERATOR + "x"):
            answers = [await plane.ask(method, path, bearer=bearer, body={}) for method, path in calls]
            assert {answer.status for answer in answers} == {401}

    assert (await plane.ask("GET", "/v1/admin/accounts", bearer=OPERATOR)).status == 200


async def test_an_account_can_be_created_over_the_network(plane: Plane) -> None:
    """201 with id and number, which works at once."""
    plane.inner.control.operator_hash = plane.inner.control.hasher.operator(OPERATOR)
    made = await plane.ask("POST", "/v1/admin/accounts", bearer=OPERATOR, body={"devices": 2})

    assert made.status == 201
    assert set(made.json) == {"id", "account"}
    await plane.register(made.json["account"], honest_key())
