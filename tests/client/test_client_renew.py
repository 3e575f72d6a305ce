"""Renewing a wg-quick file whose interface does not run: whole, or as it was."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from exuvia.client.renew import ConfFile, register, renew
from exuvia.errors import (
    AlreadyRunning,
    ControlPlaneUnreachable,
    InvalidConfiguration,
    StateNotSaved,
    Unavailable,
)
from exuvia.system import files, sockets
from exuvia.testing.control import ACCOUNT, KEYS, FakeControlPlane
from exuvia.wg import conf
from exuvia.wg.keys import PrivateKey


class Place:
    """A control plane, and a file."""

    def __init__(self, folder: Path, control: FakeControlPlane, port: int) -> None:
        self.control = control
        self.url = f"http://127.0.0.1:{port}"
        self.path = folder / f"exu{os.getpid()}.conf"
        self.said: list[str] = []
        gateway = PrivateKey(os.urandom(32)).public_key().text()
        self.path.touch(mode=0o600)
        self.path.write_text(
            f"[Interface]\nPrivateKey = {PrivateKey(os.urandom(32)).text()}\nDNS = 10.0.0.1\n\n"
            f"[Peer]\nPublicKey = {gateway}\nAllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:51820\n"
        )

    @property
    def file(self) -> ConfFile:
        """The file."""
        return ConfFile(self.path)

    @property
    def key(self) -> str:
        """The public key of what stands in it."""
        return self.file.key().public_key().text()

    async def register(self) -> None:
        """Register its key."""
        await register(self.file, self.url, ca_file=None, account=lambda: ACCOUNT)

    async def renew(self) -> None:
        """Change its key."""
        await renew(self.file, say=self.said.append)

    def check(self) -> None:
        """The file holds the one key that the control plane knows, with what belongs to it."""
        (device,) = self.control.devices
        found = conf.read(self.path.read_text())
        assert self.key == device.public_key
        assert [str(address) for address in found.addresses] == device.addresses
        assert found.peers[0].peer.preshared_key is not None
        assert found.peers[0].peer.preshared_key.text() == device.preshared_key
        assert [path.name for path in self.path.parent.iterdir()] == [self.path.name]
        assert stat.S_IMODE(self.path.stat().st_mode) == 0o600


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A control plane on a free port of loopback."""
    control = FakeControlPlane()
    with socket.create_server(("127.0.0.1", 0)) as sock, control.serving(sock):
        (tmp_path / "wireguard").mkdir()
        yield Place(tmp_path / "wireguard", control, sock.getsockname()[1])


async def test_a_file_is_registered_and_renewed(place: Place) -> None:
    """Its own key is registered first; each renewal then replaces it, and nothing is left beside the file."""
    first = place.key
    await place.register()
    assert place.key == first
    place.check()
    for _ in range(2):
        before = place.key
        await place.renew()
        assert place.key != before
        place.check()

    assert place.said == ["the key is changed"] * 2


async def test_lost_answers(place: Place) -> None:
    """Whichever answer is lost, the next renewal ends with one key, in the file and at the control plane."""
    await place.register()
    for method in ("PUT", "POST", "DELETE"):
        before = place.key
        lost: set[tuple[str, str]] = set()
        place.control.lose = _Method(method, lost)  # type: ignore[assignment]
        with pytest.raises(ControlPlaneUnreachable):
            await place.renew()
        assert lost
        place.control.lose = set()
        await place.renew()
        assert place.key != before
        place.check()


class _Method:
    """All requests of a method to the keys."""

    def __init__(self, method: str, lost: set[tuple[str, str]]) -> None:
        self._method, self._lost = method, lost

    def __contains__(self, asked: tuple[str, str]) -> bool:
        matches = asked[0] == self._method and asked[1].startswith(KEYS)
        if matches:
            self._lost.add(asked)
        return matches


async def test_a_full_disk_at_every_write(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write fails, the file has a key that the control plane knows, and the next renewal works."""
    await place.register()
    failing, failed = 1, True
    while failed:
        with monkeypatch.context() as patch:
            patch.setattr(files, "write", failing_at(failing))
            try:
                await place.renew()
                failed = False
            except Unavailable:
                failing += 1
        assert place.key in [device.public_key for device in place.control.devices]
        await place.renew()
        place.check()

    assert failing > 6


def failing_at(number: int) -> Callable[..., None]:
    """Return a write that fails at the n-th time."""
    real, writes = files.write, count(1)

    def write(path: Path, content: bytes, **how: bool) -> None:
        if next(writes) == number:
            raise StateNotSaved(f"{path}: No space left on device")
        real(path, content, **how)

    return write


async def test_gateways_that_do_not_know_it_yet(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a gateway does not know the new key the file keeps the old one; the next renewal takes it."""
    monkeypatch.setattr("exuvia.client.ways.SPREADING", 0.3)
    await place.register()
    before = place.key
    place.control.applied = False
    with pytest.raises(Unavailable, match="not every gateway"):
        await place.renew()
    assert place.key == before
    place.control.applied = True
    await place.renew()

    assert place.key != before
    place.check()


async def test_what_can_not_be_renewed_is_left_alone(place: Place) -> None:
    """A file that is open to others, not registered, or written by wg-quick itself is refused unchanged."""
    before = place.path.read_text()
    with pytest.raises(InvalidConfiguration, match="--control"):
        await place.renew()
    place.path.chmod(0o644)
    with pytest.raises(InvalidConfiguration, match="chmod 600"):
        await place.register()
    place.path.chmod(0o600)
    place.path.write_text(before.replace("DNS", "SaveConfig = true\nDNS"))
    with pytest.raises(InvalidConfiguration, match="SaveConfig"):
        await place.register()

    assert place.control.asked == []


async def test_only_one_at_a_time(place: Place) -> None:
    """While one renewal runs another is refused."""
    await place.register()
    with sockets.claim(f"exuvia-renew-{place.path.name}"), pytest.raises(AlreadyRunning):
        await place.renew()
