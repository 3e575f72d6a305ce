"""The connection to the control plane, against a real server on loopback."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from exuvia.errors import ControlPlaneUnreachable, InvalidConfiguration
from exuvia.messages import Applied
from exuvia.system.http import LONGEST_LINE, Connection, StreamRefused

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve `talk` on a free port of loopback."""
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return a request's head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.split(b":")[1]))
    return head


def answer(body: bytes, status: str = "200 OK", extra: bytes = b"") -> bytes:
    """Return an HTTP answer with this body."""
    length = str(len(body)).encode()
    return (
        b"HTTP/1.1 " + status.encode() + b"\r\nContent-Length: " + length + b"\r\n" + extra + b"\r\n" + body
    )


async def test_a_request_carries_its_token_and_body_and_keeps_the_connection():
    """Two requests use one connection; token and JSON body arrive; the answer decodes."""
    seen: list[bytes] = []
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            seen.append(await read_request(reader))
            writer.write(answer(b'{"applied": true}'))
            await writer.drain()

    async with server(talk) as port:
        connection = Connection(f"http://127.0.0.1:{port}/prefix/")
        first = await connection.request("PUT", "/v1/x", bearer="secret", body={"a": 1})
        second = await connection.request("GET", "/v1/y")
        await connection.close()

    assert (first.decode(Applied), second.status, connections) == (Applied(applied=True), 200, 1)
    assert seen[0].startswith(b"PUT /prefix/v1/x ")
    assert b"Bearer secret" in seen[0]
    assert seen[0].endswith(b'{"a":1}')
    assert b"Authorization" not in seen[1]


async def test_a_connection_closed_while_idle_is_opened_again():
    """A server that drops kept-alive connections costs no request."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"{}"))
        await writer.drain()

    async with server(talk) as port:
        connection = Connection(f"http://127.0.0.1:{port}")
        statuses = []
        for _ in range(3):
            statuses.append((await connection.request("GET", "/")).status)
            await asyncio.sleep(0.05)
        await connection.close()

    assert statuses == [200, 200, 200]


async def test_a_stream_yields_whole_lines_however_they_arrive():
    """Lines split over chunks and many in one chunk come out whole; the end is an error."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"on", b"e\ntwo\nthr", b"ee\n"):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    lines = []
    async with server(talk) as port:
        with pytest.raises(ControlPlaneUnreachable):
            async for line in Connection(f"http://127.0.0.1:{port}").lines("/feed", idle_timeout=5):
                lines.append(line)

    assert lines == [b"one", b"two", b"three"]


async def test_a_silent_stream_and_a_refused_one_are_told_apart():
    """Silence is unreachable; a status other than 200 carries the refusal."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await writer.drain()
        await reader.read()

    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b'{"type":"t","title":"gone","status":409}', "409 Conflict"))
        await writer.drain()

    async with server(silent) as port:
        with pytest.raises(ControlPlaneUnreachable):
            async for _ in Connection(f"http://127.0.0.1:{port}").lines("/feed", idle_timeout=0.1):
                pass
    async with server(refusing) as port:
        with pytest.raises(StreamRefused) as refused:
            async for _ in Connection(f"http://127.0.0.1:{port}").lines("/feed", idle_timeout=5):
                pass

    problem = refused.value.response.problem()
    assert problem is not None
    assert problem.status == 409


async def test_an_endless_line_is_cut():
    """A server that never ends a line can't fill the memory."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * LONGEST_LINE)
            await writer.drain()

    async with server(talk) as port:
        with pytest.raises(ControlPlaneUnreachable, match="too long"):
            async for _ in Connection(f"http://127.0.0.1:{port}").lines("/feed", idle_timeout=5):
                pass


@pytest.mark.parametrize(
    "reply", [b"", b"\xff\xfe rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_rubbish_is_not_a_control_plane(reply: bytes):
    """Whatever answers that is not HTTP is 'unreachable', never a traceback."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply)
        await writer.drain()

    async with server(talk) as port:
        with pytest.raises(ControlPlaneUnreachable):
            await Connection(f"http://127.0.0.1:{port}", timeout=5).request("GET", "/")


async def test_html_is_not_a_message():
    """A captive portal's page does not decode, and no page text reaches the error."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"<html>log in, please</html>"))
        await writer.drain()

    async with server(talk) as port:
        connection = Connection(f"http://127.0.0.1:{port}")
        response = await connection.request("GET", "/")
        await connection.close()

    with pytest.raises(ControlPlaneUnreachable) as failure:
        response.decode(Applied)
    assert "html" not in str(failure.value)
    assert response.problem() is None


async def test_nobody_listening_and_nobody_answering():
    """A closed port and a server that never answers are both unreachable."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ControlPlaneUnreachable):
            await Connection(f"http://127.0.0.1:{port}").request("GET", "/")

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(mute) as port:
        with pytest.raises(ControlPlaneUnreachable, match="in time"):
            await Connection(f"http://127.0.0.1:{port}", timeout=0.2).request("GET", "/")


async def test_tls_is_verified_against_the_given_authority(tmp_path: Path):
    """The right authority is trusted, another one is not, and the message says what to check."""
    ours, foreign = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("localhost").configure_cert(context)
    for name, authority in (("ours.pem", ours), ("foreign.pem", foreign)):
        authority.cert_pem.write_to_path(str(tmp_path / name))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"{}"))
        await writer.drain()

    async with server(talk, context) as port:
        good = Connection(f"https://localhost:{port}", ca_file=tmp_path / "ours.pem")
        assert (await good.request("GET", "/")).status == 200
        await good.close()
        with pytest.raises(ControlPlaneUnreachable, match="certificate"):
            await Connection(f"https://localhost:{port}", ca_file=tmp_path / "foreign.pem").request(
                "GET", "/"
            )


@pytest.mark.parametrize(
    "url",
    [
        "http://control.example",
        "http://192.0.2.1:8080",
        "ftp://x",
        "https://",
        "control",
        "https://a:b@c",
        "http://[::2]",
    ],
)
def test_urls_that_would_show_tokens_or_mean_nothing_are_refused(url: str):
    """Plain http goes to loopback only, and a URL must be one."""
    with pytest.raises(InvalidConfiguration):
        Connection(url)
