"""A client that is killed, or loses its connection, at any moment: it keeps its key and stays one device."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exuvia.client.login import log_in, log_out
from exuvia.client.state import StateFolder
from exuvia.errors import AlreadyLoggedIn, NotLoggedIn
from exuvia.messages import GatewayListing
from exuvia.testing.control import ACCOUNT, FakeControlPlane
from exuvia.wg.keys import PrivateKey

FILE_OPERATIONS = ("open", "write", "fsync", "close", "pwrite", "rename", "unlink", "fchmod")


class Killed(BaseException):
    """The process ends here: nothing of it runs on, and nothing is tidied up on the disk."""


class Edges:
    """Counts what a client asks of the file system, and ends it at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self._kill_at = kill_at

    def __call__(self) -> None:
        if self._kill_at is not None and self.count >= self._kill_at:
            raise Killed
        self.count += 1


@contextlib.contextmanager
def edges(kill_at: int | None) -> Iterator[Edges]:
    """Let every operation on a file be an edge."""
    with pytest.MonkeyPatch.context() as patch:
        asked = Edges(kill_at)

        def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
            def operation(*arguments: Any, **named: Any) -> Any:
                asked()
                return real(*arguments, **named)

            return operation

        patch.setattr(Path, "rename", guarded(Path.rename))
        patch.setattr(Path, "unlink", guarded(Path.unlink))
        from exuvia.system import files

        patch.setattr(files, "os", _Files({name: guarded(getattr(os, name)) for name in FILE_OPERATIONS}))
        yield asked


class _Files:
    """The module os, with some of its functions guarded."""

    def __init__(self, guarded: dict[str, Callable[..., Any]]) -> None:
        self._guarded = guarded

    def __getattr__(self, name: str) -> Any:
        # What closes a file also runs when a process ends: the kernel does it then.
        return self._guarded[name] if name in self._guarded and name != "close" else getattr(os, name)


class Home:
    """A state folder, a control plane, and the client between them."""

    def __init__(self, folder: Path, control: FakeControlPlane, port: int) -> None:
        self.control = control
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._number = 0

    def fresh(self) -> StateFolder:
        """Return the folder of a client that has never been logged in; nobody is registered."""
        self.control.devices.clear()
        self._number += 1
        return StateFolder(self._folder / f"client {self._number}")

    async def log_in(self, folder: StateFolder) -> None:
        """Log in, whether that was begun before or not."""
        with contextlib.suppress(AlreadyLoggedIn):
            await log_in(folder, self.url, ca_file=None, account=lambda: ACCOUNT, say=lambda text: None)

    async def log_out(self, folder: StateFolder) -> None:
        """Log out, whether that was begun before or not."""
        with contextlib.suppress(NotLoggedIn):
            await log_out(folder, offline=False, say=lambda text: None)

    def check_logged_in(self, folder: StateFolder) -> None:
        """One device, and the client has its key and token."""
        (registered,) = self.control.devices
        _, device, key, _ = folder.require()
        assert key.private_key.public_key().text() == registered.public_key
        assert device.token == registered.token


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A control plane on loopback, and room for clients."""
    control = FakeControlPlane()
    key = PrivateKey(os.urandom(32)).public_key().text()
    control.gateways = [GatewayListing("se1", key, "192.0.2.1:51820", "SE", None, "10.0.0.1")]
    with socket.create_server(("127.0.0.1", 0)) as sock, control.serving(sock):
        yield Home(tmp_path, control, sock.getsockname()[1])


async def cut_off(work: Any, after: int) -> bool:
    """Cancel a coroutine after it has waited so many times; say whether it was still running then."""
    task = asyncio.ensure_future(work)
    waits = 0

    def note(handle: Any) -> None:
        nonlocal waits
        waits += 1

    while not task.done() and waits < after:
        before = waits
        await asyncio.sleep(0)
        waits = before + 1
        if waits % 50 == 0:
            # It waits for the other side of a connection.
            await asyncio.sleep(0.001)
    running = not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return running


@pytest.mark.parametrize("left", ["nothing", "a login"])
async def test_a_login_killed_at_any_file_operation(home: Home, left: str) -> None:
    """Killed at whichever operation on a file, the state can be read; the next login is the same device."""
    kill_at, killed = 0, True
    while killed:
        folder = home.fresh()
        with edges(kill_at):
            try:
                await home.log_in(folder)
                killed = False
            except Killed:
                kill_at += 1
        folder.load()
        await home.log_in(folder)
        home.check_logged_in(folder)

    assert kill_at > 15


async def test_a_login_cut_off_at_any_await(home: Home) -> None:
    """At whichever await it ends, the state can be read, and the next login is the same device."""
    after, running = 0, True
    while running:
        folder = home.fresh()
        running = await cut_off(home.log_in(folder), after)
        after += 1
        if folder.folder.is_dir():
            folder.load()
        await home.log_in(folder)
        home.check_logged_in(folder)

    assert after > 10


async def test_a_logout_killed_at_any_file_operation(home: Home) -> None:
    """Killed at whichever operation on a file, a second logout ends it: no device, and no file of it."""
    kill_at, killed = 0, True
    while killed:
        folder = home.fresh()
        await home.log_in(folder)
        with edges(kill_at):
            try:
                await home.log_out(folder)
                killed = False
            except Killed:
                kill_at += 1
        await home.log_out(folder)
        assert home.control.devices == []
        assert {path.name for path in folder.folder.iterdir()} <= {"lock"}

    assert kill_at > 5


async def test_a_logout_cut_off_at_any_await(home: Home) -> None:
    """At whichever await it ends, the device is whole or gone, and a second logout ends it."""
    after, running = 0, True
    while running:
        folder = home.fresh()
        await home.log_in(folder)
        running = await cut_off(home.log_out(folder), after)
        after += 1
        if running and home.control.devices:
            home.check_logged_in(folder)
        await home.log_out(folder)
        assert home.control.devices == []

    assert after > 3
