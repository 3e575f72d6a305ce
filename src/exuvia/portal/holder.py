"""Whose account it is, as long as it is active, and what it asks for."""

from dataclasses import dataclass

from exuvia.api.control import Control
from exuvia.errors import NotFound
from exuvia.store import accounts, factors
from exuvia.store.accounts import Account


@dataclass(frozen=True, slots=True)
class Holder:
    """An active account, and its second factors."""

    account: Account
    asks_for: frozenset[bytes]


async def holder(control: Control, number_hash: bytes) -> Holder | None:
    """Return the account with this number; None if there is none, or it is not active."""
    today = control.today
    try:
        account, found = await control.store.reader.run(
            lambda connection: (
                account := accounts.by_number(connection, number_hash, today=today),
                factors.of_account(connection, account.id),
            )
        )
    except NotFound:
        return None
    if account.state != "active":
        return None
    return Holder(account, frozenset(factor.id for factor in found))
