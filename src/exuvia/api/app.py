"""
The API as an ASGI application: finds the route, checks the credential, reads, answers, explains.

No framework: a request costs what it needs, and no more (docs/decisions/ says what was measured).
"""

import logging
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from exuvia.api import problems
from exuvia.api.bodies import read_body
from exuvia.api.control import Control
from exuvia.api.credentials import authorise, bearer, looked_up
from exuvia.api.failures import client_of
from exuvia.api.routes import Call, Receive, Route, Router, Scope, Send
from exuvia.errors import ExuviaError, InvalidRequest, StoreUnavailable
from exuvia.system import clock

_log = logging.getLogger("exuvia.api")
_encode = msgspec.json.Encoder().encode
_JSON = b"application/json"
_NO_STORE = (b"cache-control", b"no-store")


class Application:
    """Answers requests. `trusted`: whoever can reach this one is the operator."""

    def __init__(self, control: Control, router: Router[Route], *, trusted: bool = False) -> None:
        self._control = control
        self.router = router
        self._trusted = trusted
        self._decode = {
            id(route): msgspec.json.Decoder(route.takes).decode for route in router.routes if route.takes
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        if scope["type"] != "http":
            return
        try:
            await self._serve(scope, receive, send)
        except Exception as error:
            await self._explain(error, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, path = self.router.find(scope["method"], scope["path"])
        headers = dict(scope["headers"])
        token = bearer(headers.get(b"authorization", b""))
        call = Call(self._control, token, path, client=client_of(scope))
        authorise(call, route.who, trusted=self._trusted)
        if route.query is not None:
            call.query = _query(scope["query_string"], route.query)
        text = b""
        if route.takes is not None:
            text = await _body(headers, receive)
            empty = b"{}" if route.may_be_empty else b""
            call.body = _decoded(self._decode[id(route)], text or empty)
        if route.stream is not None:
            await route.stream(call, scope, receive, send)
            return
        async with looked_up(call, route.who):
            body = await self._once(route, call, scope, headers, text)
        self._control.count(route.status)
        await _answer(route, body, send)

    async def _once(
        self, route: Route, call: Call, scope: Scope, headers: dict[bytes, bytes], text: bytes
    ) -> bytes:
        """Do what is asked, or give the answer of the first time again."""
        key = headers.get(b"idempotency-key")
        if key is None or not route.is_done_once:
            return await _done(route, call)
        request = b"\0".join((scope["method"].encode(), scope["path"].encode(), text))
        return await self._control.answers_kept.once(
            key, request, partial(_done, route, call), now=clock.boottime()
        )

    async def _explain(self, error: Exception, send: Send) -> None:
        kind = problems.kind_of(error)
        if kind.status == 500:
            _log.exception("a request failed")
        if isinstance(error, StoreUnavailable):
            self._control.store_failed(error)
        detail = str(error) if isinstance(error, ExuviaError) and kind.status != 405 else None
        body = problems.document(kind, detail)
        headers = problems.headers(kind, body)
        if kind.status == 405:
            headers.append((b"allow", str(error).encode()))
        self._control.count(kind.status)
        await send({"type": "http.response.start", "status": kind.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _done(route: Route, call: Call) -> bytes:
    """Do what is asked, and return the body of the answer."""
    assert route.handler is not None  # noqa: S101
    found = await route.handler(call)
    return b"" if route.gives is None else found if isinstance(found, bytes) else _encode(found)


async def _answer(route: Route, body: bytes, send: Send) -> None:
    headers = [_NO_STORE]
    if route.gives is not None:
        headers.append((b"content-type", route.media_type.encode()))
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": route.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """Return the request's body; an error if it is too long, or said not to be JSON."""
    media_type = headers.get(b"content-type", _JSON).partition(b";")[0].strip().lower()
    if media_type != _JSON:
        raise problems.WrongMediaType("send it as application/json")
    return await read_body(headers, receive)


def _decoded(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_in_our_words(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None


def _query(text: bytes, kind: type[msgspec.Struct]) -> Any:
    try:
        given = dict(parse_qsl(text.decode("ascii"), keep_blank_values=True))
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"in the query: {_in_our_words(error)}") from None
    except ValueError:
        raise InvalidRequest("the query can't be read") from None


def _in_our_words(error: msgspec.ValidationError) -> str:
    """Return what is wrong, but never what was sent."""
    text = str(error)
    if text.startswith(("Expected `", "Object missing required field")):
        return text
    return "a field is unknown, or holds what it can't hold"
