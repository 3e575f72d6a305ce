"""Coming in, second half: the code or passkey that an account asks for beside its number."""

from exuvia.errors import InvalidRequest
from exuvia.portal import factors, passkeys
from exuvia.portal.asking import Answer, Request, json, redirect
from exuvia.portal.showing import show
from exuvia.rules.failing import Credential
from exuvia.store.factors import Factor
from exuvia.system import clock

WRONG = (
    "This code is not accepted. Each is good once, for about a minute: wait until the app shows the next "
    "one, and look whether the clock of that machine is right."
)
TOO_MANY = (
    "Too many wrong codes were given for this account within an hour, so none is looked at now. If that "
    "was not you, somebody knows your account number. A passkey still opens the account; codes do again "
    "within an hour."
)


async def page(request: Request) -> Answer:
    """GET /login/second-factor."""
    return _page(request, await factors.of_account(request))


async def give_code(request: Request) -> Answer:
    """POST /login/second-factor: with the right code the session is replaced by one that sees everything."""
    found, codes = await factors.of_account(request), request.state.codes
    account, now = request.known.number_hash, clock.boottime()
    # From here on nothing waits: of many who try at once each is counted.
    request.state.control.failures.refuse_if_many(request.client, Credential.SECOND_FACTOR)
    if codes.are_too_many(account, now=now):
        return _page(request, found, 429, error=TOO_MANY)
    wall, given = clock.wall().timestamp(), request.form.get("code", "")
    if not any(
        codes.accept(id, secret, given, wall=wall) for id, secret in factors.secrets_of_codes(request, found)
    ):
        codes.note_wrong(account, now=now)
        request.state.control.failures.note(request.client, Credential.SECOND_FACTOR)
        return _page(request, found, 403, error=WRONG)
    return redirect("/", _come_in(request))


async def passkey_options(request: Request) -> Answer:
    """POST /login/passkey/options."""
    known = factors.passkeys(request, await factors.of_account(request))
    return Answer(200, await passkeys.login_options(request, known), _JSON)


async def give_passkey(request: Request) -> Answer:
    """POST /login/passkey/verify."""
    known = factors.passkeys(request, await factors.of_account(request))
    if not await passkeys.is_right(request, known):
        raise InvalidRequest("the passkey is not accepted: try again, or use another one")
    came_in = _come_in(request)
    answer = json({"location": "/"})
    return Answer(answer.status, answer.body, (*answer.headers, came_in))


_JSON = ((b"content-type", b"application/json"),)


def _come_in(request: Request) -> tuple[bytes, bytes]:
    """Begin a session anew, under a name that nobody knew before, and return the header that tells it."""
    state, half = request.state, request.known
    state.sessions.end(request.session_id)
    id, _session = state.sessions.begin(
        half.number_hash, is_complete=True, asked=half.asked, now=clock.boottime()
    )
    return state.site.set_cookie(id)


def _page(request: Request, found: list[Factor], status: int = 200, *, error: str = "") -> Answer:
    kinds = {factor.kind for factor in found}
    return show(request, "second_factor_login", status, kinds=kinds, error=error)
