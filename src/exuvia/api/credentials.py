"""Whose call it is, as far as that can be told without asking the database."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from exuvia.api.routes import Call, Who
from exuvia.errors import UnknownCredential
from exuvia.rules.failing import Credential
from exuvia.store.devices import UNKNOWN

_SCHEME = b"bearer "
_COUNTED = {
    Who.ACCOUNT: Credential.ACCOUNT,
    Who.DEVICE: Credential.DEVICE,
    Who.DEVICE_OR_ACCOUNT: Credential.ACCOUNT,
    Who.OPERATOR: Credential.OPERATOR,
}


def bearer(header: bytes) -> str:
    """Return the credential of an Authorization header; the empty string if there is none."""
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return ""
    return header[len(_SCHEME) :].strip().decode("latin-1")


def authorise(call: Call, who: Who, *, trusted: bool) -> None:
    """
    Fill in whose call it is; UnknownCredential, in always the same words, if it is nobody's.

    Where too many were wrong a number or an operator's token is refused whatever it is. A device's
    is looked up all the same: a neighbour behind the same address must not cut it off.
    """
    if who is Who.ANYBODY:
        return
    is_known, sort = _is_known(call, who, trusted), _counted_as(call, who)
    if sort is not None and not (is_known and sort is Credential.DEVICE):
        call.control.failures.refuse_if_many(call.client, sort)
    if not is_known:
        if sort is not None and call.bearer:
            call.control.failures.note(call.client, sort)
        raise UnknownCredential(UNKNOWN)


def looked_up(call: Call, who: Who) -> AbstractAsyncContextManager[None]:
    """Hold this around what asks the database who it is: a credential that nobody has is counted."""
    sort = _counted_as(call, who)
    if sort is Credential.ACCOUNT:
        return call.control.failures.trying(call.client)
    return _device_looked_up(call) if sort is Credential.DEVICE else nullcontext()


@asynccontextmanager
async def _device_looked_up(call: Call) -> AsyncIterator[None]:
    failures = call.control.failures
    try:
        yield
    except UnknownCredential:
        failures.refuse_if_many(call.client, Credential.DEVICE)
        failures.note(call.client, Credential.DEVICE)
        raise


def _counted_as(call: Call, who: Who) -> Credential | None:
    """Return what is guessed if this credential is a guess; a gateway's is never counted."""
    return Credential.DEVICE if call.device is not None else _COUNTED.get(who)


def _is_known(call: Call, who: Who, trusted: bool) -> bool:
    control = call.control
    if who is Who.OPERATOR:
        return trusted or control.is_operator(call.bearer)
    if not call.bearer:
        return False
    if who is Who.GATEWAY:
        call.gateway = control.fleet.by_token(control.hasher.gateway(call.bearer))
        return call.gateway is not None
    if who is not Who.DEVICE:
        call.number_hash = control.hasher.account(call.bearer) or b""
    if who is not Who.ACCOUNT:
        call.device = control.hasher.device(call.bearer)
    return bool(call.number_hash or call.device)
