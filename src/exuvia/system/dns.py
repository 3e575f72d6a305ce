"""
Name resolution of this machine: by systemd-resolved, by resolvconf, or by /etc/resolv.conf itself.

The file is changed in place, because it may be a mount or a link; what it held is saved first,
and put back also after a crash. A network namespace that shares its resolv.conf with the rest
of the machine is left alone: changing it would change it for everybody.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from exuvia.errors import Unavailable
from exuvia.system import files

Way = Literal["resolved", "resolvconf", "file", "none"]

_MARKER = b"# Written by exuvia client while it is up; what was here before comes back with `down`.\n"
_NONE = b"# There was no resolv.conf.\n"
_RECORD = "tun.exuvia"
_PATIENCE = 15


@dataclass(frozen=True, slots=True)
class Resolver:
    """Where this machine's name resolution is configured."""

    file: Path = Path("/etc/resolv.conf")
    machine: Path = Path("/proc/1/ns/net")
    """What tells of the machine's own network namespace."""
    mounts: Path = Path("/proc/self/mountinfo")

    @property
    def saved(self) -> Path:
        """Where the file's earlier content is while ours is in its place."""
        return self.file.with_name(self.file.name + ".before-exuvia")

    def way(self) -> Way:
        """Return how names are configured here; "none" if it must not be changed from here."""
        if self._is_elsewhere():
            return "none" if self._is_shared() else "file"
        if "/systemd/resolve/" in str(self.file.resolve()) and shutil.which("resolvectl"):
            return "resolved"
        return "resolvconf" if shutil.which("resolvconf") else "file"

    def use(self, servers: Iterable[str], *, interface: str) -> Way:
        """Ask only these servers, through this interface, from now on; return how that was done."""
        way, servers = self.way(), list(servers)
        if way == "resolved":
            _command("resolvectl", "dns", interface, *servers)
            _command("resolvectl", "domain", interface, "~.")
            _command("resolvectl", "default-route", interface, "true")
        elif way == "resolvconf":
            text = "".join(f"nameserver {server}\n" for server in servers)
            # openresolv can make it the only record; Debian's resolvconf knows no such options.
            if not _succeeds("resolvconf", "-a", _RECORD, "-m", "0", "-x", text=text):
                _command("resolvconf", "-a", _RECORD, text=text)
        elif way == "file":
            self._replace(_MARKER + "".join(f"nameserver {server}\n" for server in servers).encode())
        return way

    def leave(self, *, interface: str) -> None:
        """Ask nobody through this interface any more, where each interface has servers of its own."""
        if self.way() == "resolved":
            _succeeds("resolvectl", "revert", interface)

    def restore(self) -> None:
        """Put back what was there before use(), whichever process used it; nothing if none did."""
        if self.way() == "resolvconf":
            _succeeds("resolvconf", "-f", "-d", _RECORD) or _succeeds("resolvconf", "-d", _RECORD)
        before = files.read(self.saved)
        if before is None:
            return
        now = self._content()
        # Or the beginning of what was there: putting it back was cut short.
        if now is None or _is_ours(now) or before.startswith(now):
            self._put_back(before)
        files.erase(self.saved)

    def _replace(self, content: bytes) -> None:
        now = self._content()
        if now == content and self.saved.exists():
            return
        if not _is_ours(now) or not self.saved.exists():
            files.write(self.saved, _NONE if now is None else now)
        self._write(content)

    def _put_back(self, before: bytes) -> None:
        if before != _NONE:
            self._write(before)
            return
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{self.file}: {error.strerror}") from None

    def _content(self) -> bytes | None:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{self.file}: {error.strerror}") from None

    def _write(self, content: bytes) -> None:
        try:
            with self.file.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Unavailable(f"{self.file}: {error.strerror}") from None

    def _is_elsewhere(self) -> bool:
        """Say whether this process is in another network namespace than the machine's own."""
        try:
            here, there = Path("/proc/self/ns/net").stat(), self.machine.stat()
        except OSError:
            return False
        return here.st_ino != there.st_ino

    def _is_shared(self) -> bool:
        """Say whether the file is not one of this namespace's own, mounted over the machine's."""
        try:
            mounts = self.mounts.read_text().splitlines()
        except OSError:
            return True
        return str(self.file) not in (line.split(" ")[4] for line in mounts)


def _is_ours(content: bytes | None) -> bool:
    """Say whether this is our content; or its beginning, because writing it was cut short."""
    return content is not None and (content.startswith(_MARKER) or _MARKER.startswith(content))


def _command(*arguments: str, text: str = "") -> None:
    if not _succeeds(*arguments, text=text):
        raise Unavailable(f"`{' '.join(arguments[:2])}` failed: name resolution could not be changed")


def _succeeds(*arguments: str, text: str = "") -> bool:
    try:
        done = subprocess.run(
            arguments, input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
