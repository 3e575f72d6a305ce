"""An account's second factors as pages and sessions need them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from exuvia.api import identifiers
from exuvia.portal.asking import Request
from exuvia.portal.passkeys import Passkey
from exuvia.rules.naming import FIRST, SECOND
from exuvia.store import factors
from exuvia.store.factors import Factor, Kind


@dataclass(frozen=True, slots=True)
class ToldFactor:
    """A second factor, in words."""

    id: str
    kind: Kind
    name: str


async def of_account(request: Request) -> list[Factor]:
    """Return what the session's account asks for beside its number."""
    number_hash, today = request.known.number_hash, request.state.control.today
    return await request.state.control.store.reader.run(
        partial(factors.of_number, number_hash=number_hash, today=today)
    )


def told(factor: Factor) -> ToldFactor:
    """Return a second factor in words; a passkey is called by two words that its random id makes."""
    words = f"{FIRST[factor.id[0] % len(FIRST)]} {SECOND[factor.id[1] % len(SECOND)]}"
    name = "Authenticator app" if factor.kind == "code" else f"Passkey “{words}”"
    return ToldFactor(identifiers.text(factor.id), factor.kind, name)


def secrets_of_codes(request: Request, found: Sequence[Factor]) -> list[tuple[bytes, bytes]]:
    """Return the authenticators among these, each with its secret."""
    opened = request.state.sealer.open
    return [(factor.id, opened(factor.sealed, factor.id)) for factor in found if factor.kind == "code"]


def passkeys(request: Request, found: Sequence[Factor]) -> list[Passkey]:
    """Return the passkeys among these."""
    opened = request.state.sealer.open
    return [
        msgspec.json.decode(opened(factor.sealed, factor.id), type=Passkey)
        for factor in found
        if factor.kind == "passkey"
    ]


async def add(request: Request, id: bytes, kind: Kind, secret: bytes) -> None:
    """Let the account ask for this as well; all its other sessions end by that."""
    state = request.state
    factor = Factor(id, kind, state.sealer.seal(secret, id, state.control.bits))
    await state.control.store.writer.run(
        partial(factors.add, number_hash=request.known.number_hash, factor=factor, today=state.control.today)
    )
    await _remember(request)


async def remove(request: Request, id: bytes) -> None:
    """Let the account no longer ask for this; all its other sessions end by that."""
    control = request.state.control
    await control.store.writer.run(
        partial(factors.remove, number_hash=request.known.number_hash, id=id, today=control.today)
    )
    await _remember(request)


async def _remember(request: Request) -> None:
    """Note that this session knows of the change: one that does not ends at its next request."""
    request.known.asked = frozenset(factor.id for factor in await of_account(request))
