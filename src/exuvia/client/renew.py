"""
Changing the key of a wg-quick configuration, for machines without the client.

The file is changed once the new key works. Where its interface runs, key and addresses are
exchanged in place: connections that began before end. What is under way is in CONF.renew until it is done.
"""

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from exuvia.client.control import ControlPlane
from exuvia.client.keeping import Keeper
from exuvia.client.login import Say
from exuvia.client.progress import CHANGED
from exuvia.client.rotating import BEFORE, Rotation
from exuvia.client.running import Running
from exuvia.client.state import FORMAT, ClientKey, ClientState, Device, Grant, StateFolder
from exuvia.client.ways import Asleep
from exuvia.errors import InvalidConfiguration, StateNotSaved
from exuvia.rules.rotation import Event
from exuvia.system import clock, entropy, files, sockets
from exuvia.wg import conf, rekeying
from exuvia.wg.keys import PresharedKey, PrivateKey

NO_KEY = PresharedKey(bytes(32))


class ConfFile(StateFolder):
    """A configuration file, and what is under way with it beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self.path = path
        self.file = path.with_name(path.name + ".renew")

    def load(self) -> ClientState | None:
        """Return what was under way, or else what the file itself says."""
        return super().load() or self._told()

    def text(self) -> str:
        """Return what the file says; InvalidConfiguration unless it can be changed."""
        content = files.read(self.path)
        if content is None:
            raise InvalidConfiguration(f"{self.path}: there is no such file")
        if self.path.stat().st_mode & 0o077:
            raise InvalidConfiguration(f"{self.path} is open to others: run `chmod 600 {self.path}`")
        text = content.decode(errors="replace")
        if rekeying.is_saved_by_wg_quick(text):
            raise InvalidConfiguration(f"{self.path}: wg-quick would undo any change, for it has SaveConfig")
        return text

    def key(self) -> PrivateKey:
        """Return the private key that stands in it."""
        found = conf.read(self.text()).private_key
        if found is None:
            raise InvalidConfiguration(f"{self.path} has no PrivateKey")
        return found

    def write(self, key: PrivateKey, grant: Grant, notes: dict[str, str] | None = None) -> None:
        """Replace the key, with its addresses and preshared key; and the comments, if any are given."""
        text = self.text() if notes is None else rekeying.noted(self.text(), notes)
        addresses = (f"{grant.address4}/32", f"{grant.address6}/128")
        changed = rekeying.rekeyed(text, key, addresses, grant.preshared_key)
        if changed != self.text():
            files.write(self.path, changed.encode())

    def _told(self) -> ClientState | None:
        text = self.text()
        notes, found = rekeying.notes(text), conf.read(text)
        if "control" not in notes or "token" not in notes:
            return None
        four = [one.ip for one in found.addresses if isinstance(one, IPv4Interface)]
        six = [one.ip for one in found.addresses if isinstance(one, IPv6Interface)]
        if found.private_key is None or len(four) != 1 or len(six) != 1 or not found.peers:
            raise InvalidConfiguration(
                f"{self.path} must have a PrivateKey, one IPv4 and one IPv6 address, and a [Peer]"
            )
        grant = Grant(four[0], six[0], found.peers[0].peer.preshared_key or NO_KEY, 0, "unknown")
        device = Device("", "", notes["token"])
        current = ClientKey(found.private_key, grant)
        return ClientState(FORMAT, "settled", notes["control"], notes.get("ca-file"), device, current)


async def register(file: ConfFile, url: str, *, ca_file: str | None, account: Callable[[], str]) -> None:
    """Register the key that stands in a file, and note there what the next changes need."""
    control = ControlPlane(url, ca_file=ca_file)
    try:
        key = file.key()
        device, grant = await control.register(account(), key)
    finally:
        await control.close()
    notes = {"control": url, "token": device.token} | ({"ca-file": ca_file} if ca_file else {})
    file.write(key, grant, notes)


async def renew(file: ConfFile, *, say: Say) -> None:
    """
    Change the key of a file, and of the interface of its name if that runs.

    Whatever goes wrong, file and interface have one and the same key that works, and the next
    try goes on where this one has stopped.
    """
    with sockets.claim(f"exuvia-renew-{file.path.name}"):
        if file.load() is None:
            raise InvalidConfiguration(
                f"{file.path} does not say where its key is registered: use --control and --account-file once"
            )
        keeper = Keeper(file, clock=clock, entropy=entropy)
        state = keeper.state
        control = ControlPlane(state.control, ca_file=state.ca_file, token=keeper.device.token)
        try:
            await _renew(file, keeper, control)
        finally:
            await control.close()
    files.erase(file.file)
    say(CHANGED)


async def _renew(file: ConfFile, keeper: Keeper, control: ControlPlane) -> None:
    way = Way(file, keeper, Running.found(file.path.stem, conf.read(file.text())))

    def moved(event: Event) -> None:
        if event == "works":
            control.renew()

    keeper.find(await control.device())
    file.write(*keeper.current)
    rotation = Rotation(keeper, control, moved)
    begun = keeper.phase in BEFORE
    await rotation.finish(way)
    if not begun:
        keeper.step("due")
        await rotation.finish(way)


class Way(Asleep):
    """In place: the running interface takes the new key, or goes back to the old one."""

    def __init__(self, file: ConfFile, keeper: Keeper, running: Running | None) -> None:
        self._file = file
        self._keeper = keeper
        self._running = running

    async def works(self, everywhere: asyncio.Event) -> bool:
        """Exchange the keys of the interface, and wait for a handshake; without one, undo it."""
        if self._running is None:
            return await super().works(everywhere)
        pending = self._keeper.pending
        if pending.grant is None:
            raise StateNotSaved("the new key was not granted yet")
        if await self._running.take(pending.private_key, pending.grant):
            return True
        self.leave()
        return False

    def take(self) -> None:
        """Write the file."""
        self._file.write(*self._keeper.current)

    def leave(self) -> None:
        """Give the old key back to the interface, if it has the new one."""
        if self._running is not None:
            self._running.go_back(*self._keeper.current)
