"""Whatever is sent: an answer that explains itself, and never what was sent."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane import Plane, Server, honest_key
from exuvia import errors
from exuvia.api import problems, protocol
from exuvia.api.server import listening
from exuvia.api.table import ROUTES
from exuvia.rules.limits import LONGEST_BODY, LONGEST_HEADERS

CANARY = "c4n4ry-s3nt-by-somebody"
PROBLEM = "application/problem+json"


async def answered(plane: Plane, raw: bytes, **headers: str) -> int:
    """Send a body to register a device with, and return the status."""
    answer = await plane.ask("POST", "/v1/devices", bearer=await plane.account(), raw=raw, headers=headers)
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json["status"] == answer.status
    assert CANARY.encode() not in answer.body
    return answer.status


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"public_key": 1}',
        b'{"public_key": null}',
        b'{"public_key": ["x"]}',
        b'{"public_key": {"x": "y"}}',
        b'{"public_key": "' + b"A" * 44 + b'", "' + CANARY.encode() + b'": 1}',
        b'{"' + CANARY.encode() + b'": "x"}',
        b'{"public_key": "x", "proof": 1}',
        b'{"public_key": "x"} {}',
        b'{"public_key": NaN}',
        b'{"public_key": "\xff\xfe"}',
        b'{"public_key": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b'{"public_key":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"public_key": ' + b"9" * 20_000 + b"}",
        b"\0" * 100,
        CANARY.encode(),
    ],
    ids=range(24),
)
async def test_what_is_no_registration_is_refused(plane: Plane, raw: bytes) -> None:
    """Not JSON, too deep, of wrong types, with unknown fields: 400, and no word of what was sent."""
    assert await answered(plane, raw) == 400


async def test_a_key_that_is_text_but_no_key_is_refused_like_any_bad_key(plane: Plane) -> None:
    """Words of a million kinds can stand where a key should be; none is repeated."""
    for text in (CANARY, "", "é" * 44, "\0" * 44, "A" * 60_000):
        assert await answered(plane, msgspec.json.encode({"public_key": text})) == 422


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", CANARY, "", "application/xml"]
)
async def test_what_is_not_said_to_be_json_is_refused(plane: Plane, media: str) -> None:
    """415, so that a form on some page in a browser can do nothing here."""
    assert await answered(plane, b"{}", **{"Content-Type": media}) == 415


@pytest.mark.parametrize("media", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_recognised_however_it_is_called(plane: Plane, media: str) -> None:
    """With a charset, in capitals."""
    raw = msgspec.json.encode({"public_key": honest_key()})
    number = await plane.account()
    headers = {"Content-Type": media}

    assert (await plane.ask("POST", "/v1/devices", bearer=number, raw=raw, headers=headers)).status == 201


@pytest.mark.parametrize("length", [str(LONGEST_BODY + 1), "9" * 30])
async def test_a_body_that_is_said_to_be_too_long_is_not_read(plane: Plane, length: str) -> None:
    """413 at once, whatever comes."""
    assert await answered(plane, b"{}", **{"Content-Length": length}) == 413


async def test_a_body_that_is_too_long_is_refused(plane: Plane) -> None:
    """413 also where its length was not said before; one byte less is read."""
    assert await answered(plane, b" " * (LONGEST_BODY + 1)) == 413
    assert await answered(plane, b" " * LONGEST_BODY) == 400
    assert await answered(plane, b"{}", **{"Content-Length": "-1"}) == 400


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/devices/", "/v1//devices", "/V1/devices", "/" + CANARY]
)
async def test_unknown_paths_are_not_found(plane: Plane, path: str) -> None:
    """404 with a problem document that doesn't say the path."""
    answer = await plane.ask("GET", path)

    assert (answer.status, answer.headers["content-type"]) == (404, PROBLEM)
    assert CANARY not in answer.body.decode()


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", CANARY])
async def test_other_methods_are_told_which_are_allowed(plane: Plane, method: str) -> None:
    """405 with Allow."""
    answer = await plane.ask(method, "/v1/devices")

    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "POST"})


async def test_nothing_that_is_sent_comes_back(plane: Plane) -> None:
    """A canary in each path, query, header and body of each route is in no answer."""
    plane.inner.control.operator_hash = plane.inner.control.hasher.operator("o" * 40)
    device = await plane.register(await plane.account())
    credentials = [None, CANARY, await plane.account(), device.token, await plane.gateway(), "o" * 40]
    for route in ROUTES:
        path = route.path.replace("{id}", CANARY).replace("{public_key}", CANARY)
        for bearer in credentials:
            if route.path == "/v1/feed" and bearer == credentials[4]:
                continue
            for raw in (
                CANARY.encode(),
                msgspec.json.encode({CANARY: CANARY, "name": CANARY, "endpoint": CANARY}),
            ):
                answer = await plane.ask(
                    route.method,
                    f"{path}?epoch={CANARY}&{CANARY}=1",
                    bearer=bearer,
                    raw=raw,
                    headers={"X-Y": CANARY},
                )
                assert answer.status < 500
                assert CANARY not in answer.body.decode() + str(answer.headers)


LIKELY = st.sampled_from(
    [
        "public_key",
        "proof",
        "epoch",
        "revision",
        "lasting",
        "name",
        "endpoint",
        "devices",
        "expires",
        "account",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LIKELY | st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_p17_whatever_is_sent_is_answered_with_2xx_or_4xx(plane: Plane, data: st.DataObject) -> None:
    """Any body, of any JSON or none, by anybody, to any route: never a fault of ours."""
    route = data.draw(st.sampled_from([r for r in ROUTES if r.stream is None and r.query is None]))
    raw = data.draw(st.binary(max_size=300) | JSON.map(msgspec.json.encode))
    id = data.draw(st.text(alphabet="abcxyz234567%./~é\x00", max_size=30))
    bearer = data.draw(st.none() | st.text(alphabet=st.characters(codec="latin-1"), max_size=40))
    as_operator = data.draw(st.booleans())
    answer = await plane.ask(
        route.method,
        re.sub(r"{\w+}", lambda _: id, route.path),
        bearer=bearer,
        raw=raw,
        as_operator=as_operator,
    )

    assert 200 <= answer.status < 500, answer


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.text(alphabet=st.characters(codec="ascii"), max_size=60)
    | st.from_regex(
        r"(epoch|revision|wait|limit|after)=[0-9a-z.-]{0,40}(&(epoch|revision)=[0-9-]{0,30})?", fullmatch=True
    )
)
async def test_p17_whatever_is_asked_is_answered_with_2xx_or_4xx(plane: Plane, query: str) -> None:
    """Any query to any route that takes one; waiting is left out, for it only takes time."""
    for path in ("/v1/applied", "/v1/admin/accounts"):
        answer = await plane.ask(
            "GET", f"{path}?{query.replace('wait', 'w')}", bearer="A" * 86, as_operator=True
        )
        assert answer.status < 500, answer


def test_every_error_of_ours_has_a_status() -> None:
    """What handlers may raise is a 4xx if it was refused, and 429 or 503 if it can't be done now."""
    raised = [error for route in ROUTES for error in route.refusals]
    raised += [errors.UnknownCredential, errors.StoreUnavailable, errors.InvalidRequest]
    for error in raised:
        status = problems.kind(error).status
        assert status in (429, 503) if issubclass(error, errors.Unavailable) else 400 <= status < 429


async def test_a_fault_of_ours_is_500_and_tells_nothing(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The client learns that it was not its fault, the log which line it was, and neither what was sent."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"with {honest_key()} at 192.0.2.7:51820")

    monkeypatch.setattr(plane.inner.control.store.writer, "run_with_others", broken)
    answer = await plane.ask("POST", "/v1/devices", bearer="0" * 28, body={"public_key": honest_key()})

    assert (answer.status, set(answer.json)) == (500, {"type", "title", "status"})
    assert "a request failed" in caplog.text


@pytest.fixture
async def port(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The control plane behind a real socket, and less patient than usual."""
    monkeypatch.setattr(protocol, "SLOWEST_REQUEST", 0.3)
    sock = socket.create_server(("127.0.0.1", 0))
    async with listening(plane.inner.public, sock, None):
        yield sock.getsockname()[1]


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes, part by part, and return all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
        b"\r\n" * 10 + b"nonsense " + CANARY.encode() + b"\r\n\r\n",
    ],
    ids=range(9),
)
async def test_what_is_not_http_is_answered_with_400(port: int, sent: bytes) -> None:
    """A problem document and a closed connection; nothing of it comes back."""
    answer = await talk(port, sent)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert PROBLEM.encode() in answer
    assert CANARY.encode() not in answer


async def test_a_head_that_is_too_large_is_431(port: int) -> None:
    """Many headers, one long header, or a long target."""
    many = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 50) for n in range(1000))
    for head in (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (LONGEST_HEADERS + 1) + b"\r\n\r\n",
        b"GET /" + b"a" * (LONGEST_HEADERS + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        answer = await talk(port, head)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert PROBLEM.encode() in answer


async def test_a_request_that_does_not_end_is_408(port: int) -> None:
    """A head or a body that comes letter by letter is given up after a while."""
    head = await talk(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-A", b": ", b"y", pause=0.05)
    length = b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"0" * 28
    body = await talk(port, length + b"\r\nContent-Length: 100\r\n\r\n", b"{", b'"', pause=0.05)

    assert [answer[:13] for answer in (head, body)] == [b"HTTP/1.1 408 "] * 2


async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    """Without a word, for nothing was asked."""
    assert await talk(port) == b""


async def test_an_answer_is_not_followed_by_a_complaint(port: int) -> None:
    """When the answer has been given, a body that never comes closes the connection, and that is all."""
    answer = await talk(port, b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    assert answer.count(b"HTTP/1.1") == 1
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_a_connection_serves_many_requests(port: int) -> None:
    """Also when they are sent before the answers to those before them have come."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await talk(port, one + one, one, last, pause=0.02)

    assert answer.count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("size", [LONGEST_BODY + 1, 1 << 20])
def test_p17_a_mebibyte_is_refused_over_a_real_connection(server: Server, size: int) -> None:
    """413, or a closed connection while the rest of it was still being sent; and the server goes on."""
    number = server.account()
    for headers in ({}, {"Content-Type": "text/plain"}):
        try:
            status = server.ask("POST", "/v1/devices", bearer=number, raw=b"[" * size, headers=headers).status
        except ConnectionError:
            continue
        assert status in (413, 415)
    assert server.ask("GET", "/healthz").json["status"] == "ok"
