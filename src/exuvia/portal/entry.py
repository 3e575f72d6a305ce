"""Coming in and going out: with an account number, and whatever else the account asks for."""

from exuvia.api.control import Control
from exuvia.errors import TooManyFailures, UnknownCredential
from exuvia.portal.asking import Answer, Request, redirect
from exuvia.portal.devices import overview
from exuvia.portal.holder import Holder, holder
from exuvia.portal.showing import show
from exuvia.store.devices import UNKNOWN
from exuvia.system import clock

NOT_ACCEPTED = (
    "This account number is not accepted. Either it has a typing mistake, or there is no such account, "
    "or the account is suspended, or its last day has passed. Compare it sign by sign; if it is right, "
    "ask whoever gave it to you."
)
"""What is said of a number, whatever is wrong with it."""
TOO_MANY = (
    "Too many numbers that came from your address were wrong, so none is looked at now. Wait a minute, and "
    "compare the number sign by sign before you try again."
)


async def home(request: Request) -> Answer:
    """GET /: the devices of whoever is logged in; else where to log in."""
    if request.session is None:
        return await login_page(request)
    if not request.session.is_complete:
        return redirect("/login/second-factor")
    return await overview(request)


async def login_page(request: Request) -> Answer:
    """GET /login."""
    return redirect("/") if request.session is not None else _login(request)


async def log_in(request: Request) -> Answer:
    """POST /login: whoever comes in gets a session that nobody knew before."""
    state, given = request.state, request.form.get("account", "")
    try:
        async with state.control.failures.trying(request.client):
            number_hash, found = await _recognised(state.control, given)
    except UnknownCredential:
        return _login(request, 403, error=NOT_ACCEPTED)
    except TooManyFailures as error:
        return later(_login(request, 429, error=TOO_MANY), error)
    state.sessions.end(request.session_id)
    id, _session = state.sessions.begin(
        number_hash, is_complete=not found.asks_for, asked=found.asks_for, now=clock.boottime()
    )
    return redirect("/login/second-factor" if found.asks_for else "/", state.site.set_cookie(id))


async def _recognised(control: Control, given: str) -> tuple[bytes, Holder]:
    """Return whose number it is; UnknownCredential, whatever is wrong with it."""
    number_hash = control.hasher.account(given)
    found = None if number_hash is None else await holder(control, number_hash)
    if number_hash is None or found is None:
        raise UnknownCredential(UNKNOWN)
    return number_hash, found


def later(answer: Answer, error: TooManyFailures) -> Answer:
    """Return an answer that says when to try again."""
    headers = (*answer.headers, (b"retry-after", b"%d" % error.retry_after))
    return Answer(answer.status, answer.body, headers)


async def log_out(request: Request) -> Answer:
    """POST /logout."""
    request.state.sessions.end(request.session_id)
    return redirect("/login?out", request.state.site.set_cookie(None))


def _login(request: Request, status: int = 200, *, error: str = "") -> Answer:
    query = request.query
    return show(
        request,
        "login",
        status,
        error=error,
        has_ended="ended" in query,
        has_left="out" in query,
        is_cancelled="cancelled" in query,
    )
