"""Commands that change the state while the client is down: one process at a time, and whole or not at all."""

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exuvia.client import offline
from exuvia.client.login import log_in
from exuvia.client.state import StateFolder
from exuvia.client.talk import Progress
from exuvia.errors import AlreadyRunning, ControlPlaneUnreachable, InterfaceUnavailable, Unavailable
from exuvia.testing.control import ACCOUNT, FakeControlPlane


class Place:
    """A control plane, a state folder, and what was told."""

    def __init__(self, folder: Path, control: FakeControlPlane, port: int) -> None:
        self.folder = StateFolder(folder / "client")
        self.control = control
        self.url = f"http://127.0.0.1:{port}"
        self.told: list[Progress] = []

    async def rotate(self) -> None:
        """Change the key."""
        self.told.clear()
        await offline.rotate(self.folder, tell=self.told.append)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A control plane on a free port of loopback, and a client that is logged in; no kill switch."""
    monkeypatch.setattr("exuvia.client.network.is_shut", lambda: False)
    control = FakeControlPlane()
    with socket.create_server(("127.0.0.1", 0)) as sock, control.serving(sock):
        made = Place(tmp_path, control, sock.getsockname()[1])
        await log_in(made.folder, made.url, ca_file=None, account=lambda: ACCOUNT, say=lambda text: None)
        yield made


async def test_the_key_is_changed(place: Place) -> None:
    """The new key is the only one, here and there."""
    before = place.control.devices[0].public_key
    await place.rotate()
    (device,) = place.control.devices

    assert device.public_key != before
    assert place.folder.require()[2].private_key.public_key().text() == device.public_key
    assert place.told[-1] == Progress("the key is changed", done=True)
    state = json.loads(place.folder.file.read_bytes())
    assert (state["phase"], state["pending"], state["previous"]) == ("settled", None, None)


async def test_one_process_at_a_time(place: Place) -> None:
    """While another process has the state, also a running client, nothing is changed."""
    before = place.folder.file.read_bytes()
    with place.folder.lock():
        with pytest.raises(AlreadyRunning):
            await place.rotate()
        with pytest.raises(AlreadyRunning):
            await offline.set_interval(place.folder, 3)

    assert place.folder.file.read_bytes() == before


async def test_gateways_that_do_not_know_it_yet(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that not every gateway knows is not relied on; the same again goes on with that key."""
    monkeypatch.setattr("exuvia.client.ways.SPREADING", 0.2)
    before = place.control.devices[0].public_key
    place.control.applied = False
    with pytest.raises(Unavailable, match="not every gateway"):
        await place.rotate()
    assert place.folder.require()[2].private_key.public_key().text() == before
    (pending,) = {device.public_key for device in place.control.devices} - {before}
    place.control.applied = True
    await place.rotate()

    assert [device.public_key for device in place.control.devices] == [pending]


async def test_behind_a_closed_kill_switch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kill switch of a killed client is in the way, that is what is said."""
    monkeypatch.setattr("exuvia.client.network.is_shut", lambda: True)
    with pytest.raises(InterfaceUnavailable, match="exuvia client down"):
        await place.rotate()


async def test_an_interval_without_a_control_plane(place: Place) -> None:
    """The interval can be set while the control plane is away; a change of keys can't be made then."""
    place.control.answer = b"nonsense"
    assert "every 3 days" in await offline.set_interval(place.folder, 3)
    with pytest.raises(ControlPlaneUnreachable):
        await place.rotate()

    assert json.loads(place.folder.file.read_bytes())["interval"] == 3
