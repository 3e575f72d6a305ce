"""The package, built once for all tests that look at it, however many processes they run in."""

import fcntl
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from source import ROOT


@dataclass(frozen=True)
class Package:
    """A built package, and what it holds laid out in a folder."""

    file: Path
    tree: Path

    @cached_property
    def control(self) -> dict[str, str]:
        """What dpkg is told, but for the description's text."""
        lines = (self.tree / "DEBIAN/control").read_text().splitlines()
        return dict(line.split(": ", 1) for line in lines if not line.startswith(" "))

    def listing(self) -> list[list[str]]:
        """What `dpkg-deb --contents` prints, in words: mode, owner, size, day, hour, name."""
        return [
            line.split(maxsplit=5) for line in output("dpkg-deb", "--contents", str(self.file)).splitlines()
        ]


def built(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Build the package, unless another process of this run has."""
    shared = shared_folder(tmp_path_factory)
    folder = shared / "package"
    with (shared / "package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "tree").exists():
            output(sys.executable, str(ROOT / "tools/deb"), "--quick", "--into", str(folder))
            output("dpkg-deb", "--raw-extract", str(next(folder.glob("*.deb"))), str(folder / "unfinished"))
            (folder / "unfinished").rename(folder / "tree")
    return Package(next(folder.glob("*.deb")), folder / "tree")


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this run have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if folder.name.startswith("popen-") else folder


def output(*command: str) -> str:
    """Return what a command prints; the test fails with what it complained of if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
