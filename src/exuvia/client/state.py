"""
What a client remembers when it is off: its device's token and keys, in one file.

A key is saved before it is registered, so that a lost answer leads to the same key again and
never to one that nobody has. Kept beside the keys is only when the next change is due: no account
number, no time of anything that was done, no key that was retired.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any

import msgspec

from exuvia.client.talk import SOCKET
from exuvia.errors import InvalidKey, NotLoggedIn, StateUnreadable
from exuvia.rules.rotation import Keys, Phase
from exuvia.rules.schedule import LONGEST, SHORTEST, USUAL, Moment
from exuvia.system import files
from exuvia.wg.keys import PresharedKey, PrivateKey

FORMAT = 1
"""Raised with every change that an earlier version could not read."""


class _Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value whose repr tells nothing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Grant(_Secret, frozen=True, forbid_unknown_fields=True):
    """What the control plane gave for a key, and since which revision gateways know it."""

    address4: IPv4Address
    address6: IPv6Address
    preshared_key: PresharedKey
    revision: int
    epoch: str


class ClientKey(_Secret, frozen=True, forbid_unknown_fields=True):
    """A private key; without a grant it may or may not have been registered."""

    private_key: PrivateKey
    grant: Grant | None = None


class Device(_Secret, frozen=True, forbid_unknown_fields=True):
    """Who this machine is to the control plane."""

    id: str
    name: str
    token: str


class ClientState(_Secret, frozen=True, forbid_unknown_fields=True):
    """
    The whole state; `format` comes first, so that a later version's file is known as one.

    Without a device, `registering` is a login whose answer is awaited.
    """

    format: int
    phase: Phase
    control: str
    ca_file: str | None = None
    device: Device | None = None
    current: ClientKey | None = None
    pending: ClientKey | None = None
    previous: ClientKey | None = None
    interval: Annotated[int, msgspec.Meta(ge=SHORTEST, le=LONGEST)] = USUAL
    """Days between changes of the key."""
    due: Moment | None = None
    """When the next change is due."""

    @property
    def keys(self) -> Keys[ClientKey]:
        """The keys, as the rules see them."""
        return Keys(self.current, self.pending, self.previous)


class _Nonsense(Exception):
    """The parts of a state don't fit each other."""


class _Format(msgspec.Struct):
    format: Annotated[int, msgspec.Meta(ge=1)]


class StateFolder:
    """The folder of a client: its state file, and what lies beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "state.json"
        self.known = folder / "gateways.json"
        self.socket = folder / SOCKET

    def create(self) -> None:
        """Make the folder, for its owner only."""
        files.private_folder(self.folder)

    def lock(self) -> files.Lock:
        """Keep other processes from changing the state; AlreadyRunning if one does just now."""
        return files.Lock(self.folder / "lock")

    def load(self) -> ClientState | None:
        """Return the state, or None if there is none; StateUnreadable if it makes no sense."""
        content = files.read(self.file)
        # Nothing but zeros: a logout was cut short while it erased the file.
        if content is None or (content and not content.strip(b"\0")):
            return None
        return _decode(content, self.file)

    def require(self) -> tuple[ClientState, Device, ClientKey, Grant]:
        """Return the state of a device that is logged in, with its working key; or NotLoggedIn."""
        state = self.load()
        if state is None or state.device is None or state.current is None or state.current.grant is None:
            raise self.not_logged_in()
        return state, state.device, state.current, state.current.grant

    def not_logged_in(self) -> NotLoggedIn:
        """Return the error that says so."""
        return NotLoggedIn(
            f"not logged in ({self.folder} has no device): run `exuvia client login --control URL`"
        )

    def save(self, state: ClientState) -> None:
        """Replace the state at once and for good, or leave it as it was and raise StateNotSaved."""
        files.write(self.file, msgspec.json.encode(state, enc_hook=_to_text), wipe=True)

    def erase(self) -> None:
        """Overwrite and remove whatever tells of the device."""
        for path in (self.file, self.known):
            files.erase(path)


def _decode(content: bytes, path: Path) -> ClientState:
    try:
        if msgspec.json.decode(content, type=_Format).format > FORMAT:
            raise StateUnreadable(f"{path} was written by a later version of exuvia: upgrade this one")
        state = msgspec.json.decode(content, type=ClientState, dec_hook=_from_text)
        _check(state)
        return state
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidKey, _Nonsense):
        raise StateUnreadable(
            f"{path} is damaged and was left as it is: put back a copy, or move it away and log in again"
        ) from None


def _check(state: ClientState) -> None:
    """Raise _Nonsense unless the keys are those that the phase needs, as whole as it needs them."""
    pending, replaced = state.pending is not None, state.previous is not None
    if pending != (state.phase in ("registering", "spreading", "switching")):
        raise _Nonsense
    if replaced and (pending or state.phase == "settled"):
        raise _Nonsense
    if (state.device is None) != (state.current is None or state.current.grant is None):
        raise _Nonsense
    if state.device is None and state.phase != "registering":
        raise _Nonsense
    if state.phase in ("spreading", "switching") and state.pending and state.pending.grant is None:
        raise _Nonsense


_TEXT: Mapping[type, Any] = {
    PrivateKey: PrivateKey.from_text,
    PresharedKey: PresharedKey.from_text,
    IPv4Address: IPv4Address,
    IPv6Address: IPv6Address,
}


def _from_text(kind: type, text: Any) -> Any:
    if not isinstance(text, str):
        raise ValueError("not a text")
    return _TEXT[kind](text)


def _to_text(value: Any) -> str:
    return value.text() if isinstance(value, PrivateKey | PresharedKey) else str(value)
