"""
Passkeys as a second factor: what is asked of the browser, and whether its answer is right (WebAuthn).

Of a passkey its name and public key are kept, sealed; no counter, which would tell how often it was used.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from exuvia.errors import InvalidRequest
from exuvia.portal.asking import Request
from exuvia.portal.site import HOST_NAME

if TYPE_CHECKING:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor

CHALLENGE_LENGTH = 32
_NAME = "exuvia"


class Passkey(msgspec.Struct, frozen=True):
    """What checks a passkey."""

    credential_id: bytes
    public_key: bytes


class _Named(msgspec.Struct):
    """Which passkey an answer of the browser is about."""

    rawId: str  # noqa: N815  WebAuthn's name


async def registration_options(request: Request, known: list[Passkey]) -> bytes:
    """Return what the browser is asked in order to make a passkey, which is none of those."""
    return await asyncio.to_thread(_registration_options, request, known, _new_challenge(request))


async def registered(request: Request) -> Passkey:
    """Return the passkey that the browser made; InvalidRequest if it can't be accepted."""
    challenge, text = _taken_challenge(request), request.form.get("credential", "")
    return await asyncio.to_thread(_registered, request, challenge, text)


async def login_options(request: Request, known: list[Passkey]) -> bytes:
    """Return what the browser is asked in order to show one of these passkeys."""
    return await asyncio.to_thread(_login_options, request, known, _new_challenge(request))


async def is_right(request: Request, known: list[Passkey]) -> bool:
    """Return whether the browser showed one of these passkeys, and somebody who may use it."""
    challenge, text = _taken_challenge(request), request.form.get("credential", "")
    return await asyncio.to_thread(_is_right, request, known, challenge, text)


def _new_challenge(request: Request) -> bytes:
    challenge = request.state.control.bits(8 * CHALLENGE_LENGTH).to_bytes(CHALLENGE_LENGTH, "big")
    request.known.memory["challenge"] = challenge
    return challenge


def _taken_challenge(request: Request) -> bytes:
    """Return the challenge that the browser was given, which is good once."""
    challenge = request.known.memory.pop("challenge", None)
    if challenge is None:
        raise InvalidRequest("start again: this was answered before, or never asked")
    return challenge


# What follows runs in a thread: webauthn takes 0.2 s to import, and the API must not wait for it.


def _registration_options(request: Request, known: list[Passkey], challenge: bytes) -> bytes:
    import webauthn
    from webauthn.helpers import structs

    options = webauthn.generate_registration_options(
        rp_id=_host_name(request),
        rp_name=_NAME,
        user_name=_NAME,
        user_id=challenge,  # random, and of no use to anybody
        challenge=challenge,
        exclude_credentials=_descriptors(known),
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.DISCOURAGED,
            user_verification=structs.UserVerificationRequirement.REQUIRED,
        ),
    )
    return webauthn.options_to_json(options).encode()


def _registered(request: Request, challenge: bytes, text: str) -> Passkey:
    import webauthn

    try:
        found = webauthn.verify_registration_response(
            credential=text,
            expected_challenge=challenge,
            expected_rp_id=_host_name(request),
            expected_origin=request.state.site.origin(request.headers),
            require_user_verification=True,
        )
    except Exception:  # anything may be sent, and the library has many ways to say that it is wrong
        raise InvalidRequest("the browser's passkey was not accepted: try again, or another one") from None
    return Passkey(found.credential_id, found.credential_public_key)


def _login_options(request: Request, known: list[Passkey], challenge: bytes) -> bytes:
    import webauthn
    from webauthn.helpers import structs

    options = webauthn.generate_authentication_options(
        rp_id=_host_name(request),
        challenge=challenge,
        allow_credentials=_descriptors(known),
        user_verification=structs.UserVerificationRequirement.REQUIRED,
    )
    return webauthn.options_to_json(options).encode()


def _is_right(request: Request, known: list[Passkey], challenge: bytes, text: str) -> bool:
    import webauthn
    from webauthn.helpers import base64url_to_bytes

    try:
        raw_id = base64url_to_bytes(msgspec.json.decode(text, type=_Named).rawId)
        passkey = next(one for one in known if one.credential_id == raw_id)
        webauthn.verify_authentication_response(
            credential=text,
            expected_challenge=challenge,
            expected_rp_id=_host_name(request),
            expected_origin=request.state.site.origin(request.headers),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except Exception:  # as above
        return False
    return True


def _descriptors(known: list[Passkey]) -> "list[PublicKeyCredentialDescriptor]":
    from webauthn.helpers import structs

    return [structs.PublicKeyCredentialDescriptor(id=passkey.credential_id) for passkey in known]


def _host_name(request: Request) -> str:
    """Return the host that passkeys belong to; InvalidRequest unless it has a name, as browsers ask for."""
    host = request.state.site.host_name(request.headers)
    if not HOST_NAME.fullmatch(host) or host.rpartition(".")[2].isdigit():
        raise InvalidRequest("passkeys belong to a website's name: open it by its name, not by its address")
    return host
