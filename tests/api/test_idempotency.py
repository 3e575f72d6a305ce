"""Requests of billing systems that are asked twice, and done once."""

import asyncio
import itertools

import pytest

from control_plane import Plane, spellings
from exuvia.api.idempotency import KEPT_FOR, Answers
from exuvia.errors import IdempotencyKeyReused, InvalidRequest
from exuvia.messages import CreateAccount
from exuvia.rules.limits import MOST_ANSWERS_KEPT

ACCOUNTS = ("POST", "/v1/admin/accounts")
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


async def count(plane: Plane) -> int:
    """Return how many accounts there are."""
    return len((await plane.ask("GET", "/v1/admin/accounts", as_operator=True)).json)


async def test_an_account_is_created_once_however_often_it_is_asked(plane: Plane) -> None:
    """The second answer is the first, number included, and there is one account."""
    first = await plane.ask(*ACCOUNTS, body=CreateAccount(3), headers=KEY, as_operator=True)
    again = await plane.ask(*ACCOUNTS, body=CreateAccount(3), headers=KEY, as_operator=True)

    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert await count(plane) == 1


async def test_without_a_key_each_request_is_a_new_one(plane: Plane) -> None:
    """Two accounts, two numbers."""
    answers = [await plane.ask(*ACCOUNTS, body=CreateAccount(), as_operator=True) for _ in range(2)]

    assert answers[0].json != answers[1].json
    assert await count(plane) == 2


async def test_a_hundred_at_once_create_one(plane: Plane) -> None:
    """Those who ask while it is under way wait for the first one's answer."""
    ask = [plane.ask(*ACCOUNTS, body=CreateAccount(), headers=KEY, as_operator=True) for _ in range(100)]
    answers = await asyncio.gather(*ask)

    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert await count(plane) == 1


async def test_days_are_added_once(plane: Plane) -> None:
    """An extension that is sent twice is one."""
    id = await plane.account_id(await plane.account(expires="2199-01-01"))
    for _ in range(2):
        done = await plane.ask(
            "POST", f"/v1/admin/accounts/{id}/extend", body={"days": 30}, headers=KEY, as_operator=True
        )
        assert (done.status, done.json["expires"]) == (200, "2199-01-31")


async def test_a_key_belongs_to_one_request(plane: Plane) -> None:
    """With another body or another path it is refused, and nothing is done."""
    await plane.ask(*ACCOUNTS, body=CreateAccount(3), headers=KEY, as_operator=True)
    other_body = await plane.ask(*ACCOUNTS, body=CreateAccount(4), headers=KEY, as_operator=True)
    other_path = await plane.ask(
        "POST", "/v1/admin/gateways/se1/token", body=CreateAccount(3), headers=KEY, as_operator=True
    )

    assert (other_body.status, other_path.status) == (422, 422)
    assert other_body.json["type"] == "urn:exuvia:problem:idempotency-key-reused"
    assert await count(plane) == 1


async def test_what_failed_may_be_asked_again(plane: Plane) -> None:
    """A refusal is not remembered: with what was missing, the same request is granted."""
    wanted = {"name": "se1", "endpoint": "gw.example:51820"}
    refused = await plane.ask("POST", "/v1/admin/gateways/se1/token", headers=KEY, as_operator=True)
    await plane.ask("POST", "/v1/admin/gateways", body=wanted, as_operator=True)
    granted = await plane.ask("POST", "/v1/admin/gateways/se1/token", headers=KEY, as_operator=True)

    assert (refused.status, granted.status) == (404, 200)


async def test_nobody_but_the_operator_gets_an_answer_again(plane: Plane) -> None:
    """Whoever knows the key and not the operator's token is refused as ever."""
    await plane.ask(*ACCOUNTS, body=CreateAccount(), headers=KEY, as_operator=True)
    stranger = await plane.ask(*ACCOUNTS, body=CreateAccount(), headers=KEY)

    assert stranger.status == 401


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256])
async def test_a_strange_key_is_refused(plane: Plane, key: str) -> None:
    """400, and nothing is done."""
    answer = await plane.ask(
        *ACCOUNTS, body=CreateAccount(), headers={"Idempotency-Key": key}, as_operator=True
    )

    assert (answer.status, await count(plane)) == (400, 0)


async def test_p15_what_is_kept_of_an_answer_tells_nothing() -> None:
    """Neither the key nor the answer is in what is kept: only whoever asks with the key can open it."""
    answers, number = Answers(bytes(32)), b"ABCD-EFGH-JKMN"

    async def work() -> bytes:
        return number

    assert await answers.once(b"the-key", b"request", work, now=0) == number
    kept = [(name, a.request, a.done.result()) for name, a in answers._kept.items()]
    everything = b"".join(part for parts in kept for part in parts)
    assert len(kept) == 1
    assert not [s for secret in (number, b"the-key") for s in spellings(secret) if s in everything]


async def test_answers_are_forgotten_after_a_day_and_when_they_are_too_many() -> None:
    """A day later it is done anew; and 10,001 answers are never held."""
    answers, numbers = Answers(bytes(32)), itertools.count()

    async def work() -> bytes:
        return b"%d" % next(numbers)

    assert await answers.once(b"k", b"", work, now=0) == b"0"
    assert await answers.once(b"k", b"", work, now=KEPT_FOR - 1) == b"0"
    assert await answers.once(b"k", b"", work, now=KEPT_FOR) == b"1"
    for name in range(MOST_ANSWERS_KEPT + 10):
        await answers.once(b"%d" % name, b"", work, now=KEPT_FOR)
    assert len(answers._kept) == MOST_ANSWERS_KEPT


async def test_who_waits_for_one_that_fails_does_it_herself() -> None:
    """The first is told of the failure, the second succeeds."""
    answers, begun = Answers(bytes(32)), asyncio.Event()

    async def fails() -> bytes:
        begun.set()
        await asyncio.sleep(0)
        raise InvalidRequest("no")

    async def works() -> bytes:
        return b"done"

    first = asyncio.ensure_future(answers.once(b"k", b"", fails, now=0))
    await begun.wait()
    assert await answers.once(b"k", b"", works, now=0) == b"done"
    with pytest.raises(InvalidRequest):
        await first
    with pytest.raises(IdempotencyKeyReused):
        await answers.once(b"k", b"other", works, now=0)
