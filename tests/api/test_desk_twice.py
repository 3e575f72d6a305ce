"""All that an operator can ask over HTTP is done once under an Idempotency-Key, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane import Answer, Plane
from database_files import locked
from exuvia.api import identifiers
from exuvia.api.routes import Who
from exuvia.api.table import router
from exuvia.errors import StoreUnavailable
from exuvia.store import accounts
from exuvia.store.reader import Reader

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
GATEWAY = {"name": "se2", "endpoint": "gw.example:51820"}

ASKED: dict[tuple[str, str], Any] = {
    ("POST", "/v1/admin/accounts"): {"devices": 3},
    ("POST", "/v1/admin/accounts/batch"): {"count": 4},
    ("POST", "/v1/admin/accounts/find"): "the number",
    ("POST", "/v1/admin/accounts/{id}/suspend"): None,
    ("POST", "/v1/admin/accounts/{id}/resume"): None,
    ("POST", "/v1/admin/accounts/{id}/cancel"): None,
    ("POST", "/v1/admin/accounts/{id}/extend"): {"days": 30},
    ("POST", "/v1/admin/accounts/{id}/device-limit"): {"devices": 7},
    ("POST", "/v1/admin/accounts/{id}/remove-second-factor"): None,
    ("POST", "/v1/admin/gateways"): GATEWAY,
    ("DELETE", "/v1/admin/gateways/{name}"): None,
    ("POST", "/v1/admin/gateways/{name}/token"): None,
}
"""All there is, with a body for each."""


class Desk:
    """An account and a gateway, and one request about them."""

    def __init__(self, plane: Plane, asked: tuple[str, str], number: str, id: str) -> None:
        self.plane, self.asked, self.number, self.id = plane, asked, number, id

    async def ask(self) -> Answer:
        """Send the request, with the key."""
        (method, path), body = self.asked, ASKED[self.asked]
        target = path.format(id=self.id, name="se1")
        body = {"account": self.number} if body == "the number" else body
        return await self.plane.ask(method, target, body=body, headers=KEY, as_operator=True)

    async def rows(self) -> list[tuple[Any, ...]]:
        """Return all that is stored of accounts and gateways."""
        return await self.plane.inner.control.store.reader.run(
            lambda connection: [
                tuple(row)
                for table in ("account", "gateway")
                for row in connection.execute(f"SELECT * FROM {table}")
            ]
        )


@pytest.fixture(params=ASKED, ids=lambda asked: " ".join(asked))
async def desk(request: pytest.FixtureRequest, plane: Plane) -> Desk:
    """Somebody about to ask for one of them."""
    number = await plane.account(expires="2199-01-01")
    await plane.gateway("se1")
    return Desk(plane, request.param, number, await plane.account_id(number))


def test_all_that_can_be_asked_is_tried_here() -> None:
    """Each call of the operator's that changes something."""
    routes = {(route.method, route.path) for route in router().routes if route.is_done_once}
    operators = {
        (route.method, route.path)
        for route in router().routes
        if route.who is Who.OPERATOR and route.method != "GET"
    }

    assert routes == operators == set(ASKED)


async def test_asked_again_it_is_answered_again_and_not_done(desk: Desk) -> None:
    """The same status and body, though by now it would be refused or give something else; nothing changes."""
    first = await desk.ask()
    rows = await desk.rows()
    again = await desk.ask()

    assert first.status < 300
    assert (again.status, again.body) == (first.status, first.body)
    assert await desk.rows() == rows


async def test_twenty_at_once_are_one(desk: Desk) -> None:
    """All have the same answer."""
    before = await desk.rows()
    answers = await asyncio.gather(*(desk.ask() for _ in range(20)))

    assert {(answer.status, answer.body) for answer in answers} == {(answers[0].status, answers[0].body)}
    assert answers[0].status < 300
    made = {("POST", "/v1/admin/accounts"): 1, ("POST", "/v1/admin/accounts/batch"): 4}
    gone = {("POST", "/v1/admin/accounts/{id}/cancel"): 1, ("DELETE", "/v1/admin/gateways/{name}"): 1}
    more = made.get(desk.asked, 0) - gone.get(desk.asked, 0) + (desk.asked == ("POST", "/v1/admin/gateways"))
    assert len(await desk.rows()) - len(before) == more
    if desk.asked[1].endswith("extend"):
        assert answers[0].json["expires"] == "2199-01-31"


async def test_what_the_database_refused_is_done_when_it_can_be(desk: Desk) -> None:
    """503 while it is locked, and nothing happened; then the same request is granted, once."""
    before = await desk.rows()
    with locked(desk.plane.inner.control.store.path):
        refused = await desk.ask()
    if not desk.asked[1].endswith("find"):
        assert (refused.status, await desk.rows()) == (503, before)
    first, again = await desk.ask(), await desk.ask()

    assert first.status < 300
    assert (again.status, again.body) == (first.status, first.body)


async def test_what_was_done_is_never_answered_as_if_it_was_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing can be read after a change the answer still comes: who asked again would have it twice."""
    if desk.asked[1].endswith("find"):
        return  # it changes nothing

    async def fails(_reader: Reader, _question: object) -> None:
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "run", fails)
        answer = await desk.ask()

    assert answer.status < 300


async def test_a_token_stays_away_whatever_can_be_read(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that was retired while the database could not be read is let in no more."""
    token = await plane.gateway("se1")

    async def fails(_reader: Reader, _question: object) -> None:
        raise StoreUnavailable("not now")

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "run", fails)
        gone = await plane.ask("DELETE", "/v1/admin/gateways/se1", as_operator=True)

    assert gone.status == 204
    assert (await plane.ask("PUT", "/v1/gateway", bearer=token, body={})).status == 401


async def test_of_tokens_that_follow_each_other_at_once_only_the_last_is_good(plane: Plane) -> None:
    """However many operators rotate a gateway's token at the same time, no feed of an earlier one goes on."""
    tokens = [await plane.gateway("se1")]
    hub = plane.inner.control.hub
    subscribed = [hub.subscribe(plane.inner.control.hasher.gateway(tokens[0]))]

    async def rotate() -> None:
        made = await plane.ask("POST", "/v1/admin/gateways/se1/token", as_operator=True)
        tokens.append(made.json["token"])
        subscribed.append(hub.subscribe(plane.inner.control.hasher.gateway(tokens[-1])))

    await asyncio.gather(*(rotate() for _ in range(8)))

    known = [plane.inner.control.fleet.by_token(plane.inner.control.hasher.gateway(one)) for one in tokens]
    assert [gateway is not None for gateway in known].count(True) == 1
    assert [one.closed for one in subscribed].count(False) == 1
    assert subscribed[known.index(next(filter(None, known)))].closed is False


async def test_numbers_are_told_once_and_never_listed(plane: Plane) -> None:
    """Nothing that is answered about an account has its number, in no spelling; only creating it has."""
    number = await plane.account()
    id = await plane.account_id(number)
    bare = number.replace("-", "")
    asked: list[Callable[[], Awaitable[Answer]]] = [
        lambda: plane.ask("GET", "/v1/admin/accounts", as_operator=True),
        lambda: plane.ask("GET", f"/v1/admin/accounts/{id}", as_operator=True),
        lambda: plane.ask("POST", "/v1/admin/accounts/find", body={"account": number}, as_operator=True),
        lambda: plane.act(number, "suspend"),
        lambda: plane.act(number, "resume"),
        lambda: plane.ask("GET", f"/v1/admin/accounts/{number}", as_operator=True),
        lambda: plane.ask("GET", f"/v1/admin/accounts?after={number}", as_operator=True),
    ]
    for ask in asked:
        text = (await ask()).body.decode().upper()
        assert text and number not in text and bare not in text


async def test_an_account_that_was_extended_in_time_keeps_its_keys(plane: Plane) -> None:
    """Though it was among those to end when the server looked, a moment before."""
    number = await plane.account(expires=plane.inner.control.today)
    device = await plane.register(number)
    id = await plane.account_id(number)
    body = {"never": True}
    await plane.ask("POST", f"/v1/admin/accounts/{id}/extend", body=body, as_operator=True)
    await plane.inner.control.store.writer.run(
        lambda transaction: accounts.expire(
            transaction, [identifiers.from_text(id)], today="2199-01-01", hour=0
        )
    )

    assert len((await plane.ask("GET", "/v1/device", bearer=device.token)).json["keys"]) == 1
