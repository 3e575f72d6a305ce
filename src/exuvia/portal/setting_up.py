"""Second factors of whoever is logged in: which there are, adding one, removing one."""

import msgspec
import segno
from markupsafe import Markup

from exuvia.api import identifiers
from exuvia.errors import NotFound
from exuvia.portal import factors, passkeys
from exuvia.portal.asking import Answer, Request, json, redirect
from exuvia.portal.factors import ToldFactor
from exuvia.portal.showing import show
from exuvia.portal.site import HOST_NAME
from exuvia.rules import totp
from exuvia.store.factors import MOST_PASSKEYS
from exuvia.system import clock

_WRONG = "This is not the code that the app shows now: look whether the clock of that machine is right."


async def page(request: Request) -> Answer:
    """GET /account/second-factor."""
    found = [factors.told(factor) for factor in await factors.of_account(request)]
    return show(request, "second_factor", factors=found, most=MOST_PASSKEYS)


async def code_page(request: Request) -> Answer:
    """GET /account/second-factor/code: a secret for an app, which is kept until the app has shown a code."""
    return _code_page(request)


async def add_code(request: Request) -> Answer:
    """POST /account/second-factor/code: the account asks for codes from now on."""
    id, secret, given = identifiers.fresh(request.state.control.bits), _secret(request), request.form
    if not request.state.codes.enroll(id, secret, given.get("code", ""), wall=clock.wall().timestamp()):
        return _code_page(request, 422, error=_WRONG)
    await factors.add(request, id, "code", secret)
    request.known.memory.pop("code", None)
    request.known.notice = "From now on logging in takes a code of your app as well."
    return redirect("/account/second-factor")


async def passkey_options(request: Request) -> Answer:
    """POST /account/second-factor/passkey/options."""
    known = factors.passkeys(request, await factors.of_account(request))
    body = await passkeys.registration_options(request, known)
    return Answer(200, body, ((b"content-type", b"application/json"),))


async def add_passkey(request: Request) -> Answer:
    """POST /account/second-factor/passkey/verify: the account asks for it from now on."""
    made = await passkeys.registered(request)
    id = identifiers.fresh(request.state.control.bits)
    await factors.add(request, id, "passkey", msgspec.json.encode(made))
    request.known.notice = "From now on logging in takes this passkey, or another second factor, as well."
    return json({"location": "/account/second-factor"})


async def remove_page(request: Request) -> Answer:
    """GET /account/second-factor/{id}/remove: asks whether it is meant."""
    found = [factors.told(factor) for factor in await factors.of_account(request)]
    return show(request, "factor_remove", factor=_named(request, found), is_last=len(found) == 1)


async def remove(request: Request) -> Answer:
    """POST /account/second-factor/{id}/remove."""
    await factors.remove(request, identifiers.from_text(request.path["id"]))
    request.known.notice = "The second factor was removed."
    return redirect("/account/second-factor")


def _named(request: Request, found: list[ToldFactor]) -> ToldFactor:
    for factor in found:
        if factor.id == request.path["id"]:
            return factor
    raise NotFound("the account has no such second factor; it may have been removed")


def _code_page(request: Request, status: int = 200, *, error: str = "") -> Answer:
    secret = _secret(request)
    drawn = segno.make(
        totp.uri(secret, place(request.state.site.host_name(request.headers))), micro=False
    ).svg_inline(scale=5, svgclass=None, lineclass=None, light="#fff")
    qr = Markup(drawn)  # noqa: S704  it is drawn of squares, and repeats no text
    return show(request, "code_new", status, secret=totp.text(secret), qr=qr, error=error)


def _secret(request: Request) -> bytes:
    """Return the secret that is being set up, the same one until it is: the app may have it already."""
    fresh = request.state.control.bits(8 * totp.SECRET_LENGTH).to_bytes(totp.SECRET_LENGTH, "big")
    return request.known.memory.setdefault("code", fresh)


def place(host: str) -> str:
    """Return what the app calls it: where the website is, if that can be told, and nothing of the account."""
    return host if HOST_NAME.fullmatch(host) else "exuvia"
