"""What the operator asks of accounts, through /v1/admin or the socket beside the database."""

from functools import partial
from typing import Annotated, Literal

import msgspec

from exuvia.api import identifiers
from exuvia.api.routes import Call
from exuvia.errors import InvalidRequest, NotFound
from exuvia.messages import AccountCreated, AccountSummary
from exuvia.rules.expiry import extended, last_day
from exuvia.rules.limits import LONGEST_EXTENSION, MOST_ACCOUNTS_AT_ONCE, MOST_DEVICES
from exuvia.store import accounts
from exuvia.store.credentials import new_account_number
from exuvia.store.writer import Operation, Transaction


class ListQuery(msgspec.Struct, frozen=True):
    """The query of GET /v1/admin/accounts."""

    after: Annotated[str, msgspec.Meta(max_length=26)] = ""
    """The last id of the page before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    state: Literal["active", "suspended", "expired"] | None = None


async def create_account(call: Call) -> AccountCreated:
    """POST /v1/admin/accounts."""
    return (await _create(call, 1))[0]


async def create_accounts(call: Call) -> list[AccountCreated]:
    """POST /v1/admin/accounts/batch: all of them, or none."""
    if not 1 <= call.body.count <= MOST_ACCOUNTS_AT_ONCE:
        raise InvalidRequest(f"from 1 to {MOST_ACCOUNTS_AT_ONCE} accounts can be created at once")
    return await _create(call, call.body.count)


async def list_accounts(call: Call) -> list[AccountSummary]:
    """GET /v1/admin/accounts: a page of them, in the order of their random ids."""
    after = identifiers.from_text(call.query.after) if call.query.after else b""
    query, today = call.query, call.control.today
    found = await call.control.store.reader.run(
        lambda connection: accounts.listed(
            connection, after=after, limit=query.limit, today=today, state=query.state
        )
    )
    return [_summary(account) for account in found]


async def show_account(call: Call) -> AccountSummary:
    """GET /v1/admin/accounts/{id}."""
    id, today = identifiers.from_text(call.path["id"]), call.control.today
    return _summary(
        await call.control.store.reader.run(lambda connection: accounts.by_id(connection, id, today=today))
    )


async def find_account(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/find."""
    number_hash, today = call.control.hasher.account(call.body.account), call.control.today
    if number_hash is None:
        raise NotFound("there is no such account")
    return _summary(
        await call.control.store.reader.run(
            lambda connection: accounts.by_number(connection, number_hash, today=today)
        )
    )


async def suspend_account(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/{id}/suspend."""
    id, hour = identifiers.from_text(call.path["id"]), call.control.hour
    return await _changed(call, id, lambda transaction: accounts.suspend(transaction, id, hour=hour))


async def resume_account(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/{id}/resume."""
    id = identifiers.from_text(call.path["id"])
    return await _changed(call, id, lambda transaction: accounts.resume(transaction, id))


async def cancel_account(call: Call) -> None:
    """POST /v1/admin/accounts/{id}/cancel: nothing is left of it."""
    id, hour = identifiers.from_text(call.path["id"]), call.control.hour
    await call.control.store.writer.run(lambda transaction: accounts.cancel(transaction, id, hour=hour))


async def extend_account(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/{id}/extend."""
    id, wanted, today = identifiers.from_text(call.path["id"]), call.body, call.control.today
    if (wanted.expires is not None) + (wanted.days is not None) + wanted.never != 1:
        raise InvalidRequest("say exactly one of expires, days and never")
    if wanted.days is None:
        day = None if wanted.never else _last_day(wanted.expires, today)
        return await _changed(call, id, lambda transaction: accounts.extend(transaction, id, lambda _: day))
    later = partial(_later, days=wanted.days, today=today)
    return await _changed(call, id, lambda transaction: accounts.extend(transaction, id, later))


async def limit_devices(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/{id}/device-limit."""
    id, devices = identifiers.from_text(call.path["id"]), call.body.devices
    _require_devices(devices)
    return await _changed(call, id, lambda transaction: accounts.limit_devices(transaction, id, devices))


async def _changed(call: Call, id: bytes, operation: Operation[None]) -> AccountSummary:
    """
    Return the account as it is after a change.

    It is read in the same transaction: a change that was made is never answered as one that failed,
    for whoever asks again would have it made twice.
    """
    today = call.control.today

    def work(transaction: Transaction) -> accounts.Account:
        operation(transaction)
        return accounts.by_id(transaction, id, today=today)

    return _summary(await call.control.store.writer.run(work))


async def remove_second_factor(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/{id}/remove-second-factor: its number alone opens it again."""
    id = identifiers.from_text(call.path["id"])
    return await _changed(call, id, lambda transaction: accounts.remove_second_factor(transaction, id))


async def _create(call: Call, count: int) -> list[AccountCreated]:
    control, wanted = call.control, call.body
    _require_devices(wanted.devices)
    expires = _last_day(wanted.expires, control.today)
    numbers = [(identifiers.fresh(control.bits), new_account_number(control.bits)) for _ in range(count)]
    rows = [(id, control.hasher.account(number) or b"") for id, number in numbers]

    def create(transaction: Transaction) -> None:
        for id, number_hash in rows:
            accounts.create(
                transaction, id=id, number_hash=number_hash, device_limit=wanted.devices, expires=expires
            )

    await control.store.writer.run(create)
    return [AccountCreated(identifiers.text(id), number) for id, number in numbers]


def _require_devices(devices: int) -> None:
    if not 1 <= devices <= MOST_DEVICES:
        raise InvalidRequest(f"an account can have from 1 to {MOST_DEVICES} devices")


def _last_day(text: str | None, today: str) -> str | None:
    expires = None if text is None else last_day(text, today)
    if expires is None and text is not None:
        raise InvalidRequest("the last day must be a day to come, as YYYY-MM-DD")
    return expires


def _later(expires: str | None, *, days: int, today: str) -> str:
    """Return the last day of an account after so many more."""
    if expires is None:
        raise InvalidRequest("this account has no last day that could be put off")
    found = extended(expires, days, today) if 1 <= days <= LONGEST_EXTENSION else None
    if found is None:
        raise InvalidRequest(f"an account can be extended by 1 to {LONGEST_EXTENSION} days")
    return found


def _summary(account: accounts.Account) -> AccountSummary:
    return AccountSummary(
        identifiers.text(account.id),
        account.state,
        account.expires,
        account.devices,
        account.device_limit,
        account.second_factor,
    )
