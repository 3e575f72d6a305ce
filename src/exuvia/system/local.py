"""Sockets in the file system, for whoever may open the file."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def bound(path: Path) -> socket.socket:
    """Return a socket that only this user can connect to, bound to this path."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with _short(path) as name:
            sock.bind(name)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def connected(path: Path) -> socket.socket:
    """Return a socket connected to the one bound to this path; OSError if nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Name the path by its folder's descriptor: socket addresses hold 107 bytes, paths do not care."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
