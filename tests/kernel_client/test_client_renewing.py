"""Renewing the key of an interface that runs, as a machine without the client does it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.testing.control import ACCOUNT
from exuvia.testing.home import CONTROL, WEB, WEB6, World


class Plain:
    """A home with a wg-quick file, registered, and its interface up."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.conf = folder / "wgx.conf"
        self.folder = folder
        gateway, secret = world.gateways[0], world.home.run("wg", "genkey").strip()
        self.conf.touch(mode=0o600)
        self.conf.write_text(
            f"[Interface]\nPrivateKey = {secret}\n\n[Peer]\nPublicKey = {gateway.public_key}\n"
            f"AllowedIPs = {WEB}/32, {WEB6}/128\nEndpoint = {gateway.address}:51820\n"
        )
        (folder / "account").write_text(ACCOUNT)
        options = ("--control", f"https://{CONTROL}", "--ca-file", str(world._folder / "cert.pem"))
        done = self.renew(*options, "--account-file", str(folder / "account"))
        assert (done.returncode, done.stderr) == (0, "")
        self._bring_up()

    def renew(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run the command."""
        return self.world.client("renew", str(self.conf), *options)

    def field(self, name: str) -> str:
        """Return a setting of the file."""
        lines = self.conf.read_text().splitlines()
        return next(line.partition("=")[2].strip() for line in lines if line.startswith(name))

    def addresses(self) -> set[str]:
        """Return the addresses of the interface."""
        shown = self.world.home.run("ip", "-br", "address", "show", "dev", "wgx", "scope", "global")
        return set(shown.split()[2:])

    def _bring_up(self) -> None:
        home = self.world.home
        stripped = home.run("wg-quick", "strip", str(self.conf))
        home.ip("link add wgx type wireguard")
        home.run("wg", "setconf", "wgx", "/dev/stdin", text=stripped)
        for address in self.field("Address").split(", "):
            home.ip(f"address add {address} dev wgx")
        home.ip("link set wgx up", f"route add {WEB}/32 dev wgx", f"route add {WEB6}/128 dev wgx")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Plain]:
    """All of it."""
    world = World(tmp_path)
    try:
        with world.serving():
            world.list_gateways()
            yield Plain(world, tmp_path)
    finally:
        world.close()


def test_in_place(plain: Plain) -> None:
    """The interface goes on with the key and addresses that the file has now; the old key is gone."""
    assert plain.world.pings(WEB)
    key, addresses = plain.field("PrivateKey"), plain.addresses()
    done = plain.renew()
    assert (done.returncode, done.stdout, done.stderr) == (0, "the key is changed\n", "")
    assert plain.field("PrivateKey") != key
    assert plain.world.home.run("wg", "show", "wgx", "private-key").strip() == plain.field("PrivateKey")
    assert plain.addresses() == set(plain.field("Address").split(", "))
    assert not plain.addresses() & addresses
    assert "\toff" in plain.world.home.run("wg", "show", "wgx", "persistent-keepalive")
    assert len(plain.world.control.devices) == 1

    assert plain.world.pings(WEB)
    assert plain.world.pings(WEB6)


def test_back_to_the_old_key(plain: Plain) -> None:
    """Without a handshake interface and file keep the old key; the next renewal goes on."""
    assert plain.world.pings(WEB)
    key, addresses = plain.field("PrivateKey"), plain.addresses()
    gateway, admit = plain.world.gateways[0], plain.world.gateways[0].admit
    gateway.admit = lambda devices: None  # type: ignore[method-assign]
    done = plain.renew()
    assert (done.returncode, "does not work yet" in done.stderr) == (1, True)
    assert plain.field("PrivateKey") == key
    assert plain.world.home.run("wg", "show", "wgx", "private-key").strip() == key
    assert plain.addresses() == addresses
    assert plain.world.pings(WEB)
    gateway.admit = admit  # type: ignore[method-assign]
    plain.world._changed(plain.world.control.devices)
    assert plain.renew().returncode == 0

    assert plain.field("PrivateKey") != key
    assert plain.world.pings(WEB)
