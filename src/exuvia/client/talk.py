"""
What the commands and the running client say to each other, over a socket in the state folder.

One line of JSON each way. The folder is its owner's only, and so is whoever can ask.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from exuvia.errors import AlreadyRunning

Asked = Literal["status", "down"]
Condition = Literal["connecting", "connected", "refused", "closed", "down", "logged out"]
"""
`closed`: no client runs, but the kill switch of one that was killed still stands.
`refused`: the control plane does not let this device connect; `reason` says why.
"""

_LONGEST_LINE = 64 * 1024
_ASKING = 5.0


class Question(msgspec.Struct, frozen=True):
    """What a command wants."""

    asked: Asked


class Status(msgspec.Struct, frozen=True):
    """How the client is: all that `exuvia client status --json` prints."""

    state: Condition
    device: str | None = None
    """The device's two-word name."""
    gateway: str | None = None
    interface: str | None = None
    handshake_age: int | None = None
    """Seconds since the latest handshake."""
    kill_switch: bool | None = None
    """Whether it stands; None if this process may not know."""
    reason: str | None = None


class Listener:
    """Answers questions for as long as it is open."""

    def __init__(self, path: Path, answer: Callable[[Asked], Awaitable[Status]]) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        with _short(self._path) as path:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=_LONGEST_LINE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if waiting := [task for task in self._answering if task is not None]:
            await asyncio.wait(waiting, timeout=1)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._answering.add(task)
        try:
            question = msgspec.json.decode(await reader.readline(), type=Question)
            writer.write(msgspec.json.encode(await self._answer(question.asked)) + b"\n")
            await writer.drain()
        except (msgspec.DecodeError, ConnectionError, ValueError):
            return  # whoever asked is gone, or not one of our commands
        finally:
            writer.close()
            self._answering.discard(task)


def ask(path: Path, asked: Asked, *, patience: float = _ASKING) -> Status | None:
    """Ask the running client; None if there is none, AlreadyRunning if it does not answer in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        try:
            with _short(path) as short:
                sock.connect(short)
        except OSError:
            return None
        pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        try:
            sock.sendall(msgspec.json.encode(Question(asked)) + b"\n")
            return msgspec.json.decode(_line(sock), type=Status)
        except TimeoutError:
            raise AlreadyRunning(
                f"the client (process {pid}) does not answer: end it, and try again"
            ) from None
        except (OSError, msgspec.DecodeError):
            return None  # it ended instead of answering


def _line(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as file:
        return file.readline(_LONGEST_LINE)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of the path that is short enough for a socket's address (108 bytes)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
