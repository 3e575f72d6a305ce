"""Coming in and going out: with an account number, and whatever else the account asks for."""

from exuvia.portal.asking import Answer, Request, redirect
from exuvia.portal.devices import overview
from exuvia.portal.holder import holder
from exuvia.portal.showing import show
from exuvia.system import clock

NOT_ACCEPTED = (
    "This account number is not accepted. Either it has a typing mistake, or there is no such account, "
    "or the account is suspended, or its last day has passed. Compare it sign by sign; if it is right, "
    "ask whoever gave it to you."
)
"""What is said of a number, whatever is wrong with it."""


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
    number_hash = state.control.hasher.account(given)
    found = None if number_hash is None else await holder(state.control, number_hash)
    if number_hash is None or found is None:
        return _login(request, 403, error=NOT_ACCEPTED)
    state.sessions.end(request.session_id)
    id, _session = state.sessions.begin(
        number_hash, is_complete=not found.asks_for, asked=found.asks_for, now=clock.boottime()
    )
    return redirect("/login/second-factor" if found.asks_for else "/", state.site.set_cookie(id))


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
