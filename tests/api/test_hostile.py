"""Hostile input over real connections: nothing of it comes back, and others are served meanwhile."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import Plane, Server, server_in
from exuvia.api import crowd as crowds
from exuvia.api import protocol
from exuvia.api import server as serving
from exuvia.api.crowd import Crowd
from exuvia.api.server import listening
from exuvia.rules.limits import GRACE, MOST_AT_ONCE

CANARY = b"c4n4ry"
SLACK = 24 * 1024
"""KiB by which the server's memory may grow while it refuses what has gigabytes."""

SLOW, MOST_OF_ONE = 5_000, 16
"""Connections that say little, and KiB that each may cost the server."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of these tests, with the website: whatever came before, it has to go on."""
    with server_in(tmp_path_factory.mktemp("hostile")) as server:
        yield server
        assert server.ask("GET", "/healthz").json["status"] == "ok"
        assert "Traceback" not in server.log.read_text()
        assert CANARY not in server.log.read_bytes()


def dial(server: Server) -> socket.socket:
    """Open a connection."""
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def talk(server: Server, sent: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes or has said nothing more for a while."""
    with dial(server) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.settimeout(0.5)
            while part := connection.recv(1 << 16):
                found += part
        return found


def memory(server: Server) -> int:
    """Return how much memory the server uses, in KiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def get(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    """Return a request."""
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", b"Host: x", *headers, b"", b""))


PATHS = [
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/static/%2e%2e/%2e%2e/app.py",
    b"/static/..%2f..%2fapp.py",
    b"/static/....//app.py",
    b"/static/%00",
    b"/static/%c0%ae%c0%ae/app.py",
    b"/static/\\..\\app.py",
    b"//v1/devices",
    b"/v1//devices",
    b"/v1/devices/",
    b"/v1/./devices",
    b"/v1/../healthz",
    b"/v1/devices/%00",
    b"/v1/devices%00",
    b"/v1/devices/%ff%fe",
    b"/v1/devices/" + CANARY * 1000,
    b"/v1/device/keys/" + b"%2f" * 500,
    b"/v1/admin/accounts/%2e%2e",
    b"/" + b"a/" * 7000,
    b"/?" + b"a=b&" * 3000,
    b"/?" + b"%" * 5000,
    b"/login?" + CANARY,
    b"http://" + CANARY + b"/v1/devices",
    b"http://",
    b"*",
    b"/" + CANARY + b"%0d%0aSet-Cookie:%20a=b",
    b"/\xc3\xa9",
    b"/devices/" + CANARY,
    b"/devices/%F0%9F%92%A9",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"])
def test_p17_path_tricks_lead_nowhere(running: Server, path: bytes, method: bytes) -> None:
    """Dots, doubled slashes, NUL, what is no UTF-8, very long ones: refused, and nothing of it comes back."""
    answer = talk(running, get(path, b"Connection: close", b"Cookie: " + CANARY, method=method))

    assert answer.split(b" ")[1][:1] in (b"3", b"4") or (path, method) in WELCOME
    assert CANARY not in answer
    assert b"root:" not in answer
    assert b"import " not in answer
    assert b"Set-Cookie: a=b" not in answer


WELCOME = {(path, method) for path in (PATHS[19], PATHS[20], PATHS[21]) for method in (b"GET", b"HEAD")}
"""The website's own pages, with a query that means nothing to them."""

SMUGGLED = get(b"/" + CANARY)
ODD = {
    "both lengths": get(b"/healthz", b"Content-Length: 5", b"Transfer-Encoding: chunked")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "two lengths": get(b"/healthz", b"Content-Length: 0", b"Content-Length: 60") + SMUGGLED,
    "lengths in one": get(b"/healthz", b"Content-Length: 0, 60") + SMUGGLED,
    "negative length": get(b"/healthz", b"Content-Length: -1"),
    "plus length": get(b"/healthz", b"Content-Length: +1") + b"x",
    "huge length": get(b"/healthz", b"Content-Length: 99999999999999999999999"),
    "chunked twice": get(b"/healthz", b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked not last": get(b"/healthz", b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "unknown coding": get(b"/healthz", b"Transfer-Encoding: " + CANARY) + b"0\r\n\r\n",
    "bad chunk": get(b"/healthz", b"Transfer-Encoding: chunked") + b"zz\r\n\r\n",
    "huge chunk": get(b"/healthz", b"Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n",
    "space before colon": get(b"/healthz", b"Content-Length : 5"),
    "folded": get(b"/healthz", b"X: a\r\n b"),
    "bare LF": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "NUL in a header": get(b"/healthz", b"X: a\0b"),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "upgrade to WebSocket": get(
        b"/healthz",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "upgrade to h2c": get(
        b"/healthz", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"
    ),
    "CONNECT": b"CONNECT " + CANARY + b":443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "TRACE": get(b"/healthz", b"X: " + CANARY, method=b"TRACE"),
    "OPTIONS": get(b"*", method=b"OPTIONS"),
    "expectation": get(b"/v1/devices", b"Expect: " + CANARY, b"Content-Length: 2", method=b"POST") + b"{}",
    "many credentials": get(b"/v1/devices", *(b"Authorization: Bearer " + CANARY for _ in range(100))),
    "many types": get(b"/login", *(b"Content-Type: text/" + CANARY for _ in range(50)), method=b"POST"),
    "many cookies": get(b"/", *(b"Cookie: session=" + CANARY for _ in range(300))),
    "header flood": get(b"/", *(b"X-%d: %s" % (n, CANARY) for n in range(5000))),
    "one long header": get(b"/", b"X: " + CANARY * 20_000),
    "an endless line": b"GET /" + b"a" * 1_000_000,
    "another host": get(b"/", b"X-Forwarded-Host: " + CANARY, b"X-Original-URL: /v1/admin/accounts"),
    "another method": get(b"/login", b"X-HTTP-Method-Override: DELETE"),
}


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
def test_p17_odd_requests_are_answered_or_refused(running: Server, sent: bytes) -> None:
    """Never 5xx, never repeated, and never two requests where a proxy in front would see one."""
    answer = talk(running, sent)
    statuses = [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]

    assert statuses and all(status[:1] in (b"2", b"3", b"4") for status in statuses)
    assert CANARY not in answer
    if SMUGGLED in sent:
        assert statuses == [b"400"]


def test_p17_a_gibibyte_is_refused_before_it_has_come(running: Server) -> None:
    """Declared or in chunks, with a valid number or without: soon refused, and memory stays as it is."""
    number = running.account().encode()
    before = memory(running)
    chunk = b"100000\r\n" + b"[" * (1 << 20) + b"\r\n"
    for path, kind in (
        (b"/v1/devices", b"application/json"),
        (b"/login", b"application/x-www-form-urlencoded"),
    ):
        for length in (b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"):
            head = (
                length,
                b"Content-Type: " + kind,
                b"Sec-Fetch-Site: same-origin",
                b"Authorization: Bearer " + number,
            )
            sent = 0
            with dial(running) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(get(path, *head, method=b"POST"))
                for _ in range(1024):
                    connection.sendall(chunk)
                    sent += 1
            assert sent < 64

    assert memory(running) - before < SLACK


@pytest.mark.parametrize(
    "raw", [b'{"a":' * 12_000, b"[" * 65_000, b'{"public_key":"' + b"\\u0000" * 10_000 + b'"}']
)
def test_p17_json_bombs_cost_nothing(running: Server, raw: bytes) -> None:
    """Nested or escaped as deep as a body can be, a hundred times over."""
    number, before = running.account(), memory(running)
    for _ in range(100):
        assert running.ask("POST", "/v1/devices", bearer=number, raw=raw).status in (400, 422)

    assert memory(running) - before < SLACK


def test_p17_five_thousand_slow_connections_keep_nobody_waiting(running: Server) -> None:
    """While so many send their requests letter by letter others are answered; memory stays within bounds."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    token = running.register(running.account()).token
    before = memory(running)
    try:
        with contextlib.ExitStack() as slow:
            connections = [slow.enter_context(dial(running)) for _ in range(SLOW)]
            statuses = []
            for letter in b"GET /healthz":
                for connection in connections:
                    with contextlib.suppress(ConnectionError):
                        connection.send(bytes([letter]))
                statuses.append(running.ask("GET", "/v1/device", bearer=token).status)
            grown = memory(running) - before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert statuses == [200] * len(b"GET /healthz")
    assert grown < SLOW * MOST_OF_ONE


def test_p17_whoever_never_waits_for_an_answer_is_not_waited_for(running: Server) -> None:
    """A hundred thousand requests in one go fill no memory."""
    before = memory(running)
    for request in (get(b"/openapi.json"), get(b"/login")):
        with dial(running) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(request * 100_000)

    assert memory(running) - before < SLACK
    assert running.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "alike",
    [str.maketrans("0123456789", "０１２３４５６７８９"), str.maketrans("ABCEHKMPTX", "АВСЕНКМРТХ")],
    ids=["full width", "Cyrillic"],
)
def test_p17_what_only_looks_like_a_number_is_none(running: Server, alike: dict[int, int]) -> None:
    """An account number in other letters opens nothing, names nothing, and breaks nothing."""
    number = running.account()
    assert running.ask("GET", "/v1/devices", bearer=number).status == 200
    typed = number.translate(alike)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    for text in (typed, typed + "é"):
        answers = [
            running.ask("POST", "/login", raw=f"account={text}".encode(), headers=form),
            running.ask("GET", f"/v1/device/keys/{text.encode().hex()}", bearer="x"),
            running.ask("POST", "/v1/devices", bearer=number, body={"public_key": text}),
        ]
        assert all(400 <= answer.status < 500 for answer in answers)
        assert all(text.encode() not in answer.body for answer in answers)


@pytest.fixture
async def small(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A control plane behind a real socket, with room for fifty who wait."""
    monkeypatch.setattr(serving, "MOST_WAITING", 50)
    monkeypatch.setattr(crowds, "GRACE", 0.0)
    sock = socket.create_server(("127.0.0.1", 0))
    async with listening(plane.inner.public, sock, None):
        yield sock.getsockname()[1]


async def test_whoever_holds_connections_open_closes_only_his_own(small: int, plane: Plane) -> None:
    """Others are answered while hundreds send half a request; who waits for an answer is not cut."""
    device = await plane.register(await plane.account())
    target = f"/v1/applied?epoch={device.epoch}&revision={device.revision}&wait=3"
    waiting = await _open(small, get(target.encode(), b"Authorization: Bearer " + device.token.encode()))
    await asyncio.sleep(0.05)
    slow = [await _open(small, get(b"/healthz")[:-2]) for _ in range(300)]
    for _ in range(10):
        reader, writer = await _open(small, get(b"/healthz", b"Connection: close"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    cut = [reader for reader, _ in slow[:250] if not await _read(reader)]

    assert len(cut) == 250
    assert b'{"applied":false}' in await waiting[0].readuntil(b"}")
    for _, writer in (*slow, waiting):
        writer.close()


async def _open(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def _read(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_more_requests_at_once_than_anybody_sends_end_the_connection(small: int) -> None:
    """Sixteen may wait behind the first; a browser sends none so."""
    last = get(b"/healthz", b"Connection: close")
    some = await _open(small, get(b"/healthz") * MOST_AT_ONCE + last)
    many = await _open(small, get(b"/healthz") * 200 + last)

    assert (await _read(some[0])).count(b"HTTP/1.1 200 ") == MOST_AT_ONCE + 1
    assert (await _read(many[0])).count(b"HTTP/1.1 200 ") < 200
    for _, writer in (some, many):
        writer.close()


async def test_an_answer_that_nobody_reads_is_not_kept(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the connection is cut, and what waited for it with it."""
    monkeypatch.setattr(protocol, "SLOWEST_READER", 0.2)
    ended = asyncio.Event()

    async def endless(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    sock = socket.create_server(("127.0.0.1", 0))
    async with listening(endless, sock, None):
        _, writer = await _open(sock.getsockname()[1], get(b"/"))
        async with asyncio.timeout(20):
            await ended.wait()
        writer.close()


class Fake:
    """A connection that only knows whether it was cut."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        """Note it."""
        self.is_cut = True


def test_the_one_that_has_waited_longest_goes() -> None:
    """Whoever is being served is never cut, and counts as new when it waits again."""
    crowd = Crowd(most=100, most_waiting=3)
    served, *others = (Fake() for _ in range(6))
    crowd.came(served, now=0)
    crowd.is_served(served)
    for one in others[:3]:
        crowd.came(one, now=0)
    crowd.is_served(others[0])
    crowd.waits(others[0], now=1)
    crowd.came(others[3], now=9)
    crowd.came(others[4], now=9)

    assert [one.is_cut for one in (served, *others)] == [False, False, True, True, False, False]
    assert len(crowd) == 4


def test_whoever_has_just_come_may_stay_for_a_moment() -> None:
    """However many come at once; afterwards they go, but for those that may wait."""
    crowd, crowd_at_once = Crowd(most=1000, most_waiting=3), [Fake() for _ in range(500)]
    for one in crowd_at_once:
        crowd.came(one, now=10)
    assert not any(one.is_cut for one in crowd_at_once)
    crowd.came(Fake(), now=10 + GRACE)

    assert [one.is_cut for one in crowd_at_once] == [True] * 498 + [False] * 2


def test_there_are_never_more_than_there_may_be() -> None:
    """Where everybody is being served, or has just come, somebody goes all the same."""
    crowd, late = Crowd(most=3, most_waiting=3), Fake()
    for _ in range(3):
        one = Fake()
        crowd.came(one, now=0)
        crowd.is_served(one)
    crowd.came(late, now=0)

    assert late.is_cut
    assert len(crowd) == 3
