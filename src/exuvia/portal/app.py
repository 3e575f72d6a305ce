"""
The website as an ASGI application: finds the page and the session, checks forms, answers, explains.

Whatever a browser sends, it is told what to do next; nothing that it sent is repeated.
"""

import logging
from collections.abc import Awaitable
from http import HTTPStatus

from exuvia.api import problems
from exuvia.api.failures import client_of
from exuvia.api.problems import Kind
from exuvia.api.routes import Application, Receive, Router, Scope, Send
from exuvia.api.running import ControlPlane
from exuvia.errors import ExuviaError, NotFound, StoreUnavailable, UnknownCredential
from exuvia.portal.asking import Answer, Page, Request, Who, fields, read_form, redirect
from exuvia.portal.holder import holder
from exuvia.portal.showing import show
from exuvia.portal.site import ForeignForm, Site
from exuvia.portal.state import State
from exuvia.portal.table import router
from exuvia.system import clock

_log = logging.getLogger("exuvia.portal")
_FOREIGN = Kind(HTTPStatus.FORBIDDEN, "foreign-form", "This form is not from here, or out of date")
_NOWHERE = Kind(HTTPStatus.NOT_FOUND, "not-found", "Nothing is here")
_LOG_IN = Kind(HTTPStatus.UNAUTHORIZED, "log-in", "Log in first")


class Portal:
    """Answers browsers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._router: Router[Page] = router()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        request = Request(self._state, scope["method"], {}, {}, dict(scope["headers"]), {})
        request.client = client_of(scope)
        try:
            answer = await self._answer(request, scope, receive)
        except Exception as error:
            answer = self._explained(request, error)
        self._state.control.count(answer.status)
        await send({"type": "http.response.start", "status": answer.status, "headers": self._headers(answer)})
        await send({"type": "http.response.body", "body": answer.body})

    def _headers(self, answer: Answer) -> list[tuple[bytes, bytes]]:
        headers = [
            *answer.headers,
            *self._state.site.headers(),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))
        return headers

    async def _answer(self, request: Request, scope: Scope, receive: Receive) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        page, request.path = self._router.find(method, scope["path"])
        request.query = fields(scope["query_string"])
        await self._recognise(request)
        if method == "POST":
            self._state.site.require_own_form(request.headers)
            request.form = await read_form(request.headers, receive)
        if not _may_see(page.who, request):
            return _elsewhere(request)
        if method == "POST" and request.session is not None and page.who is not Who.ANYBODY:
            _require_own_form(request)
        return await page.handler(request)

    async def _recognise(self, request: Request) -> None:
        """
        Find the session, which ends if its account is no longer active, or asks for something else.

        So nothing that was opened before a second factor was set or removed stays open.
        """
        state = self._state
        request.session_id = state.site.session_id(request.headers)
        session = state.sessions.find(request.session_id, now=clock.boottime())
        if session is None:
            return
        account = await holder(state.control, session.number_hash)
        if account is None or account.asks_for != session.asked:
            state.sessions.end(request.session_id)
            return
        request.session = session
        request.found = account.account if session.is_complete else None

    def _explained(self, request: Request, error: Exception) -> Answer:
        kind = _kind_of(error)
        if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.exception("a page failed")
        if isinstance(error, StoreUnavailable):
            self._state.control.store_failed(error)
        detail = str(error) if isinstance(error, ExuviaError) and kind.status != 405 else None
        extra = [(b"retry-after", b"%d" % kind.retry_after)] if kind.retry_after is not None else []
        if kind.status == HTTPStatus.METHOD_NOT_ALLOWED:
            extra.append((b"allow", str(error).encode()))
        if request.wants_json:
            body = problems.document(kind, detail)
            return Answer(kind.status, body, ((b"content-type", problems.MEDIA_TYPE), *extra))
        shown = show(request, "refused", kind.status, title=kind.title, detail=detail)
        return Answer(shown.status, shown.body, (*shown.headers, *extra))


def _may_see(who: Who, request: Request) -> bool:
    if who is Who.ANYBODY:
        return True
    if request.session is None:
        return False
    return request.session.is_complete is (who is Who.HOLDER)


def _elsewhere(request: Request) -> Answer:
    """Return where somebody has to go first to see a page."""
    if request.wants_json:
        raise UnknownCredential("log in, and do this again")
    if request.session is None:
        return redirect("/login?ended" if request.session_id else "/login")
    return redirect("/" if request.session.is_complete else "/login/second-factor")


def _require_own_form(request: Request) -> None:
    """Raise ForeignForm unless the form was made for this session."""
    if not request.known.is_own_form(request.form.get("csrf", "")):
        raise ForeignForm("the page is out of date: open it anew, and try again from there")


def _kind_of(error: Exception) -> Kind:
    if isinstance(error, ForeignForm):
        return _FOREIGN
    if isinstance(error, UnknownCredential):
        return _LOG_IN
    if isinstance(error, NotFound):
        return _NOWHERE
    return problems.kind_of(error)


def beside(plane: ControlPlane, *, is_https: bool) -> Application:
    """Return what gives programs to the API, and everybody else to the website."""
    api, portal = plane.public, Portal(State(plane.control, Site(is_https)))
    paths_of_api = {route.path for route in api.router.routes}

    def front(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        if path.startswith("/v1") or path in paths_of_api:
            return api(scope, receive, send)
        return portal(scope, receive, send)

    return front
