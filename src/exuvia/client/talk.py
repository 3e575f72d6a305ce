"""
What the commands and the running client say to each other, over a socket in the state folder.

One line of JSON each way, and more than one back where something takes its time: the values of a
tuple. The folder is its owner's only, and so is whoever can ask.

A person waits for what is imported here: no more than a question takes.
"""

import contextlib
import json
import os
import socket
import struct
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from exuvia.errors import AlreadyRunning
from exuvia.rules.schedule import USUAL

if TYPE_CHECKING:
    from pathlib import Path

    from exuvia.rules.rotation import Phase

Asked = Literal["status", "down", "rotate", "interval"]
Condition = Literal["connecting", "connected", "refused", "closed", "down", "logged out"]
"""
`closed`: no client runs, but the kill switch of one that was killed still stands.
`refused`: the control plane does not let this device connect; `reason` says why.
"""

SOCKET = "control"
"""The name of the socket in the state folder."""
LONGEST_LINE = 64 * 1024
_ASKING = 5.0
_WORKING = 120.0
"""Seconds that a client may take from one word to the next while it does what it was asked for."""


class Question(NamedTuple):
    """What a command wants."""

    asked: Asked
    days: int = USUAL
    """The interval that is asked for."""


class Progress(NamedTuple):
    """How far what was asked for has come."""

    said: str
    done: bool = False
    failed: bool = False


class Status(NamedTuple):
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
    phase: "Phase | None" = None
    """Where the device's key is in its life."""
    next_change: int | None = None
    """Seconds until the key is changed."""
    draining: int | None = None
    """Seconds for which connections that began before the last change may go on."""


T = TypeVar("T", Progress, Status)


def ask(path: "Path | str", asked: Asked, *, patience: float = _ASKING) -> Status | None:
    """Ask the running client; None if there is none, AlreadyRunning if it does not answer in time."""
    with contextlib.closing(_lines(path, Question(asked), patience)) as lines:
        try:
            return next((_read(Status, line) for line in lines), None)
        except ValueError:
            return None  # it ended instead of answering


def follow(path: "Path | str", question: Question) -> Iterator[Progress]:
    """Ask the running client to do something, and yield how that goes; nothing if no client runs."""
    with contextlib.closing(_lines(path, question, _WORKING)) as lines:
        for line in lines:
            try:
                yield _read(Progress, line)
            except ValueError:
                break


def _read(kind: type[T], line: bytes) -> T:
    """Return what the line says; ValueError if it says nothing that this version knows."""
    try:
        return kind(*json.loads(line))
    except TypeError:
        raise ValueError("not what a client says") from None


def _lines(path: "Path | str", question: Question, patience: float) -> Generator[bytes, None, None]:
    """Yield the lines of the client's answer; AlreadyRunning if one of them does not come in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        try:
            with short_name(path) as short:
                sock.connect(short)
        except OSError:
            return
        pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        try:
            sock.sendall(json.dumps(question).encode() + b"\n")
            with sock.makefile("rb") as file:
                while line := file.readline(LONGEST_LINE):
                    yield line
        except TimeoutError:
            raise AlreadyRunning(
                f"the client (process {pid}) does not answer: end it, and try again"
            ) from None
        except OSError:
            return  # it ended instead of answering


@contextlib.contextmanager
def short_name(path: "Path | str") -> Iterator[str]:
    """Yield a name of the path that is short enough for a socket's address (108 bytes)."""
    folder, name = os.path.split(path)
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
