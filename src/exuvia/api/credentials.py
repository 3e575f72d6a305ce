"""Whose call it is, as far as that can be told without asking the database."""

from exuvia.api.routes import Call, Who
from exuvia.errors import UnknownCredential
from exuvia.store.devices import UNKNOWN

_SCHEME = b"bearer "


def bearer(header: bytes) -> str:
    """Return the credential of an Authorization header; the empty string if there is none."""
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return ""
    return header[len(_SCHEME) :].strip().decode("latin-1")


def authorise(call: Call, who: Who, *, trusted: bool) -> None:
    """Fill in whose call it is; UnknownCredential, in always the same words, if it is nobody's."""
    if not (who is Who.ANYBODY or _is_known(call, who, trusted)):
        raise UnknownCredential(UNKNOWN)


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
