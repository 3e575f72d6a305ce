"""What the operator asks of accounts, through /v1/admin or the socket beside the database."""

from typing import Annotated

import msgspec

from exuvia.api import identifiers
from exuvia.api.routes import Call
from exuvia.errors import InvalidRequest, NotFound
from exuvia.messages import AccountCreated, AccountSummary
from exuvia.rules.expiry import last_day
from exuvia.rules.limits import MOST_DEVICES
from exuvia.store import accounts
from exuvia.store.credentials import new_account_number


class ListQuery(msgspec.Struct, frozen=True):
    """The query of GET /v1/admin/accounts."""

    after: Annotated[str, msgspec.Meta(max_length=26)] = ""
    """The last id of the page before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


async def create_account(call: Call) -> AccountCreated:
    """POST /v1/admin/accounts."""
    control, wanted = call.control, call.body
    if not 1 <= wanted.devices <= MOST_DEVICES:
        raise InvalidRequest(f"an account can have from 1 to {MOST_DEVICES} devices")
    expires = None if wanted.expires is None else last_day(wanted.expires, control.today)
    if expires is None and wanted.expires is not None:
        raise InvalidRequest("the last day must be a day to come, as YYYY-MM-DD")
    number, id = new_account_number(control.bits), identifiers.fresh(control.bits)
    number_hash = control.hasher.account(number)
    assert number_hash is not None  # noqa: S101  we have just made it
    await control.store.writer.run(
        lambda transaction: accounts.create(
            transaction, id=id, number_hash=number_hash, device_limit=wanted.devices, expires=expires
        )
    )
    return AccountCreated(identifiers.text(id), number)


async def list_accounts(call: Call) -> list[AccountSummary]:
    """GET /v1/admin/accounts: a page of them, in the order of their random ids."""
    after = identifiers.from_text(call.query.after) if call.query.after else b""
    today = call.control.today
    found = await call.control.store.reader.run(
        lambda connection: accounts.listed(connection, after=after, limit=call.query.limit, today=today)
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
    await call.control.store.writer.run(lambda transaction: accounts.suspend(transaction, id, hour=hour))
    return await show_account(call)


async def resume_account(call: Call) -> AccountSummary:
    """POST /v1/admin/accounts/{id}/resume."""
    id = identifiers.from_text(call.path["id"])
    await call.control.store.writer.run(lambda transaction: accounts.resume(transaction, id))
    return await show_account(call)


async def cancel_account(call: Call) -> None:
    """POST /v1/admin/accounts/{id}/cancel: nothing is left of it."""
    id, hour = identifiers.from_text(call.path["id"]), call.control.hour
    await call.control.store.writer.run(lambda transaction: accounts.cancel(transaction, id, hour=hour))


def _summary(account: accounts.Account) -> AccountSummary:
    return AccountSummary(
        identifiers.text(account.id), account.state, account.expires, account.devices, account.device_limit
    )
