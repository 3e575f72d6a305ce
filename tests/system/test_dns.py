"""Name resolution: taken over, kept, and put back, whatever happened in between."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exuvia.errors import Unavailable
from exuvia.system import files
from exuvia.system.dns import Resolver

BEFORE = "# the router's\nnameserver 192.0.2.1\nsearch home\n"


class Machine:
    """A folder that stands for a machine's /etc, and commands that note how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "resolv.conf"
        self.file.write_text(BEFORE)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.mounts = folder / "mountinfo"
        self.mounts.write_text("")
        self.namespace = Path("/proc/self/ns/net")

    def resolver(self) -> Resolver:
        """Return what looks after this machine's names."""
        return Resolver(self.file, self.namespace, self.mounts)

    def install(self, name: str, *, refuses: str = "nothing") -> None:
        """Install a command that notes its arguments and input, and fails if given one of them."""
        script = self.bin / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {self.folder}/calls\n'
            f'case " $* " in *" {refuses} "*) exit 1;; esac\n'
            f'case "$1" in -a) cat >> {self.folder}/calls;; esac\n'
        )
        script.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What was called."""
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with a plain resolv.conf, and no commands but the usual ones."""
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin-without-resolvconf:/bin-without")
    return made


def test_the_file_is_taken_over_and_put_back(machine: Machine) -> None:
    """With neither systemd-resolved nor resolvconf, resolv.conf itself names our server."""
    assert machine.resolver().use(["10.0.0.1", "fd00::1"], interface="exuvia0") == "file"
    lines = machine.file.read_text().splitlines()
    assert lines[1:] == ["nameserver 10.0.0.1", "nameserver fd00::1"]
    machine.resolver().restore()

    assert machine.file.read_text() == BEFORE
    assert not machine.resolver().saved.exists()


def test_the_file_stays_the_same_file(machine: Machine) -> None:
    """The file is written in place: a mount or a link in its place stays one."""
    target = machine.folder / "elsewhere"
    machine.file.rename(target)
    machine.file.symlink_to(target)
    inode = target.stat().st_ino
    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
    assert target.stat().st_ino == inode
    machine.resolver().restore()

    assert machine.file.is_symlink()
    assert target.read_text() == BEFORE


def test_a_machine_without_a_file(machine: Machine) -> None:
    """Where there was no resolv.conf there is none afterwards."""
    machine.file.unlink()
    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
    assert "10.0.0.1" in machine.file.read_text()
    machine.resolver().restore()

    assert not machine.file.exists()


def test_taking_over_twice_keeps_the_first(machine: Machine) -> None:
    """A client that comes after a killed one does not take ours for what was there before."""
    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
    machine.resolver().use(["10.0.0.2"], interface="exuvia0")
    assert "10.0.0.2" in machine.file.read_text()
    machine.resolver().restore()

    assert machine.file.read_text() == BEFORE


def test_what_others_wrote_meanwhile_stays(machine: Machine) -> None:
    """If a DHCP client rewrote the file meanwhile, that is what is left, and what is kept when we insist."""
    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
    machine.file.write_text("nameserver 192.0.2.2\n")
    machine.resolver().restore()
    assert machine.file.read_text() == "nameserver 192.0.2.2\n"

    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
    machine.file.write_text("nameserver 192.0.2.3\n")
    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
    machine.resolver().restore()
    assert machine.file.read_text() == "nameserver 192.0.2.3\n"


class Crashed(BaseException):
    """The power went off."""


@pytest.mark.parametrize("doing", ["use", "restore"])
def test_a_crash_at_any_step_can_be_put_right(machine: Machine, doing: str) -> None:
    """Whenever the client dies while it takes over or puts back, the next one puts back what was there."""
    for step in range(1, 40):
        machine.file.write_text(BEFORE)
        if doing == "restore":
            machine.resolver().use(["10.0.0.1"], interface="exuvia0")
        with pytest.MonkeyPatch.context() as patch:
            made = crash_at(patch, step)
            try:
                if doing == "use":
                    machine.resolver().use(["10.0.0.1"], interface="exuvia0")
                else:
                    machine.resolver().restore()
            except Crashed:
                pass
        machine.resolver().restore()
        assert machine.file.read_text() == BEFORE
        assert not machine.resolver().saved.exists()
        if len(made) < step:
            return
    pytest.fail("it never got to its end")


class HalfWriting:
    """A file that writes in two steps."""

    def __init__(self, file: Any, note: Callable[[str], None]) -> None:
        self._file, self._note = file, note
        self.flush, self.fileno, self.read = file.flush, file.fileno, file.read

    def write(self, content: bytes) -> None:
        """Write the first half, and then the other."""
        self._file.write(content[: len(content) // 2])
        self._note("half written")
        self._file.write(content[len(content) // 2 :])


def crash_at(patch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Let the power go off after so many changes of files."""
    made: list[str] = []

    def note(name: str) -> None:
        made.append(name)
        if len(made) == step:
            raise Crashed

    real_open, real_write = Path.open, files.write

    @contextlib.contextmanager
    def opening(path: Path, mode: str = "r", **named: Any) -> Iterator[Any]:
        with real_open(path, mode, buffering=0 if "w" in mode else -1) as file:
            if "w" in mode:
                note("truncated")
            yield HalfWriting(file, note) if "w" in mode else file

    def saving(path: Path, content: bytes) -> None:
        note("about to save")
        real_write(path, content)
        note("saved")

    for name in ("fsync", "unlink", "rename"):
        real = getattr(os, name)

        def call(*arguments: Any, _real: Any = real, _name: str = name, **named: Any) -> Any:
            result = _real(*arguments, **named)
            note(_name)
            return result

        patch.setattr(os, name, call)
    patch.setattr(Path, "open", opening)
    patch.setattr(files, "write", saving)
    return made


def test_systemd_resolved(machine: Machine) -> None:
    """Where resolv.conf belongs to systemd-resolved, that is told to ask our server for every name."""
    machine.install("resolvectl")
    real = machine.folder / "systemd/resolve/stub-resolv.conf"
    real.parent.mkdir(parents=True)
    real.write_text("nameserver 127.0.0.53\n")
    machine.file.unlink()
    machine.file.symlink_to(real)
    assert machine.resolver().use(["10.0.0.1"], interface="exuvia0") == "resolved"
    machine.resolver().leave(interface="exuvia0")
    machine.resolver().restore()

    assert machine.calls == [
        "resolvectl dns exuvia0 10.0.0.1",
        "resolvectl domain exuvia0 ~.",
        "resolvectl default-route exuvia0 true",
        "resolvectl revert exuvia0",
    ]
    assert real.read_text() == "nameserver 127.0.0.53\n"


@pytest.mark.parametrize("refuses", ["nothing", "-x"])
def test_resolvconf(machine: Machine, refuses: str) -> None:
    """openresolv is given the only record; Debian's resolvconf, which knows no such option, a plain one."""
    machine.install("resolvconf", refuses=refuses)
    machine.install("cat")
    (machine.bin / "cat").unlink()
    (machine.bin / "cat").symlink_to("/bin/cat")
    assert machine.resolver().use(["10.0.0.1"], interface="exuvia0") == "resolvconf"
    machine.resolver().restore()

    first = "resolvconf -a tun.exuvia -m 0 -x"
    plain = "resolvconf -a tun.exuvia"
    used = [first, "nameserver 10.0.0.1"] if refuses == "nothing" else [first, plain, "nameserver 10.0.0.1"]
    assert machine.calls == [*used, "resolvconf -f -d tun.exuvia"]
    assert machine.file.read_text() == BEFORE


def test_a_command_that_fails_is_told(machine: Machine) -> None:
    """If systemd-resolved refuses, that is an error that says what it was about."""
    machine.install("resolvectl", refuses="dns")
    real = machine.folder / "systemd/resolve/resolv.conf"
    real.parent.mkdir(parents=True)
    real.write_text("")
    machine.file.unlink()
    machine.file.symlink_to(real)

    with pytest.raises(Unavailable, match="name resolution could not be changed"):
        machine.resolver().use(["10.0.0.1"], interface="exuvia0")


def test_another_network_namespace(machine: Machine) -> None:
    """In a network namespace of its own the file is changed only if it is that namespace's own, too."""
    machine.namespace = Path("/proc/self/ns/mnt")
    assert machine.resolver().use(["10.0.0.1"], interface="exuvia0") == "none"
    assert machine.file.read_text() == BEFORE

    machine.mounts.write_text(f"36 35 98:0 /etc/netns/x/resolv.conf {machine.file} rw - ext3 /dev/root rw\n")
    assert machine.resolver().use(["10.0.0.1"], interface="exuvia0") == "file"


def test_a_file_that_can_not_be_written(machine: Machine) -> None:
    """If resolv.conf can't be changed, that is an error that names the file."""
    machine.file.unlink()
    machine.file.mkdir()

    with pytest.raises(Unavailable, match=r"resolv\.conf"):
        machine.resolver().use(["10.0.0.1"], interface="exuvia0")
