"""The state file: whole or as it was, whatever happens while it is written."""

import contextlib
import json
import os
import stat
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from exuvia.client.state import FORMAT, ClientKey, ClientState, Device, Grant, StateFolder
from exuvia.errors import AlreadyRunning, InvalidConfiguration, StateNotSaved, StateUnreadable
from exuvia.rules.schedule import Moment
from exuvia.system import files
from exuvia.wg.keys import PresharedKey, PrivateKey


def state(number: int = 1) -> ClientState:
    """A state with everything in it."""
    return ClientState(
        format=FORMAT,
        phase="spreading",
        control="https://control.example",
        device=Device("d", "quiet heron", "secret-token"),
        current=key(number),
        pending=key(number + 1),
        interval=3,
        due=Moment(1.8e9, 5.5, "boot"),
    )


def key(number: int) -> ClientKey:
    """A key that was granted."""
    grant = Grant(
        IPv4Address(number), IPv6Address(number), PresharedKey(bytes([number]) * 32), revision=3, epoch="e"
    )
    return ClientKey(PrivateKey(bytes([number]) * 32), grant)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """A state folder that exists."""
    made = StateFolder(tmp_path / "client")
    made.create()
    return made


def test_what_is_saved_is_loaded(folder: StateFolder) -> None:
    """A state with a current and a pending key comes back as it was saved."""
    folder.save(state())

    assert folder.load() == state()


def test_it_is_its_owners_only(folder: StateFolder) -> None:
    """The file has mode 0600 and its folder 0700, also if an interrupted write left another mode behind."""
    leftover = folder.folder / "state.json.new"
    leftover.touch(mode=0o644)
    folder.save(state())

    assert stat.S_IMODE(folder.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.folder.stat().st_mode) == 0o700


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    """Keys are not put where others can look."""
    tmp_path.chmod(0o755)

    with pytest.raises(InvalidConfiguration, match="chmod 700"):
        StateFolder(tmp_path).create()


def test_cut_short_anywhere_it_is_refused_and_kept(folder: StateFolder) -> None:
    """Of a file that was cut at any byte the client says so, and leaves it as it is."""
    folder.save(state())
    whole = folder.file.read_bytes()
    for length in range(len(whole)):
        folder.file.write_bytes(whole[:length])
        with pytest.raises(StateUnreadable, match="left as it is"):
            folder.load()
        assert folder.file.read_bytes() == whole[:length]


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "unheard of"},
        {"current": {"private_key": "short"}},
        {"surprise": 1},
        {"previous": {"private_key": PrivateKey(bytes(32)).text()}},
        {"pending": None},
        {"device": None},
        {"interval": 31},
        {"due": [1.0, 2.0]},
        {"phase": "settled"},
        {"format": "1"},
        {"format": 0},
    ],
)
def test_what_makes_no_sense_is_refused(folder: StateFolder, change: dict[str, Any]) -> None:
    """Values that no client writes are damage, not something to guess about."""
    folder.save(state())
    content = json.loads(folder.file.read_bytes()) | change
    folder.file.write_text(json.dumps(content))

    with pytest.raises(StateUnreadable):
        folder.load()


def test_a_later_versions_file_is_refused_and_kept(folder: StateFolder) -> None:
    """A file from a later version is not touched, whatever else is in it."""
    later = json.dumps({"phase": ["new"], "format": FORMAT + 1, "more": {}}).encode()
    folder.file.write_bytes(later)

    with pytest.raises(StateUnreadable, match="later version"):
        folder.load()
    assert folder.file.read_bytes() == later


class Crashed(BaseException):
    """The power went off."""


STEPS = ["open", "fchmod", "write", "fsync", "close", "rename"]


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int, *, before: bool) -> list[str]:
    """Let the power go off at the given step among the system calls of a write; return those made."""
    made: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            if len(made) == step and before:
                raise Crashed
            if name == "write" and len(made) == step:
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise Crashed
            result = real(*arguments, **named)
            if len(made) == step:
                raise Crashed
            return result

        monkeypatch.setattr(os, name, call)

    for name in STEPS:
        wrap(name)
    return made


@pytest.mark.parametrize("before", [True, False])
def test_a_crash_at_any_step_leaves_a_whole_file(folder: StateFolder, before: bool) -> None:
    """Whenever the power goes off, the file holds the old state or the new one."""
    outcomes = set()
    for step in range(1, 30):
        folder.save(state(1))
        with pytest.MonkeyPatch.context() as monkeypatch:
            made = crash_at(monkeypatch, step, before=before)
            with contextlib.suppress(Crashed):
                folder.save(state(7))
        loaded = folder.load()
        assert loaded in (state(1), state(7))
        outcomes.add(loaded == state(7))
        if len(made) < step:
            break
    else:
        pytest.fail("the write never got to its end")
    assert outcomes == {True, False}


def test_it_has_reached_the_disk(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is synced before it takes the old one's place, and the folder after."""
    made = crash_at(monkeypatch, 10**9, before=True)
    folder.save(state())

    rename = made.index("rename")
    assert "fsync" in made[made.index("write") : rename]
    assert "fsync" in made[rename:]


@pytest.mark.parametrize("failing", ["open", "write", "fsync", "rename"])
def test_a_failed_write_says_so_and_changes_nothing(
    folder: StateFolder, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full or read-only, the old state stands and nothing half-written is left."""
    folder.save(state(1))

    def full(*arguments: Any, **named: Any) -> Any:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(StateNotSaved, match="No space left"):
            folder.save(state(7))

    assert folder.load() == state(1)
    assert [path.name for path in folder.folder.iterdir()] == ["state.json"]


def test_only_one_process_changes_it(folder: StateFolder) -> None:
    """While one holds the lock another is refused, and not afterwards."""
    with folder.lock(), pytest.raises(AlreadyRunning, match="another process"):
        folder.lock()

    folder.lock().release()


def test_erasing_leaves_nothing(folder: StateFolder) -> None:
    """Erasing overwrites the state before it removes it, and what an interrupted write has left."""
    folder.save(state())
    half = folder.folder / "state.json.new"
    half.write_bytes(b"half a key")
    with folder.file.open("rb") as file, half.open("rb") as other:
        folder.erase()
        assert set(file.read()) == {0}
        assert set(other.read()) == {0}

    assert list(folder.folder.iterdir()) == []


def test_an_earlier_state_is_overwritten(folder: StateFolder) -> None:
    """A key that was given up is not left in the blocks of the file that it stood in."""
    folder.save(state(1))
    with folder.file.open("rb") as before:
        folder.save(state(7))
        assert set(before.read()) == {0}

    assert folder.load() == state(7)


def test_a_symbolic_link_is_not_followed(folder: StateFolder, tmp_path: Path) -> None:
    """A link in place of the file, or of its next version, is never written or read through."""
    target = tmp_path / "target"
    target.write_text("precious")
    (folder.folder / "state.json.new").symlink_to(target)
    folder.file.symlink_to(target)

    with pytest.raises(StateNotSaved):
        folder.save(state())
    with pytest.raises(StateNotSaved):
        folder.load()
    files.erase(folder.file)
    assert target.read_text() == "precious"


def test_a_state_never_shows_itself() -> None:
    """No repr of a state, a key or a token has a secret in it."""
    shown = repr([state(), state().current, state().device, key(1).grant])

    assert "secret-token" not in shown
    assert "0.0.0.1" not in shown
    assert key(1).private_key.text() not in shown
