"""The folder of backups: which file is written next, and which have to go."""

from pathlib import Path
from typing import NamedTuple

from exuvia.errors import AlreadyExists, BackupRefused
from exuvia.rules import backups
from exuvia.rules.backups import Term
from exuvia.store import envelope

_PATTERNS = ("*.backup", "*.backup.new")
_HEADER = 64


class Tidied(NamedTuple):
    """What was done to a folder of backups."""

    removed: int
    ahead: int
    """How many say that they were made in the future."""


def place(to: Path, *, hour: int, keep_days: int) -> Path:
    """Return the file to write: what was named, or today's in a folder; never in place of something else."""
    path = to / backups.name(hour=hour, keep_days=keep_days) if to.is_dir() else to
    if path.exists() and not envelope.is_backup(_beginning(path)):
        raise AlreadyExists(f"{path}: this is no backup that exuvia made: name another file, or a folder")
    return path


def tidy(folder: Path, *, hour: int, keep_days: int, but: Path) -> Tidied:
    """Remove our own backups that would be too old before the next one, but not the one just made."""
    removed = ahead = 0
    for path in (path for pattern in _PATTERNS for path in folder.glob(pattern)):
        term = None if path == but else _term(path)
        if term is None:
            continue
        if backups.is_to_go(term, hour=hour, keep_days=keep_days):
            path.unlink(missing_ok=True)
            removed += 1
        ahead += backups.standing(term, hour=hour) == "ahead"
    return Tidied(removed, ahead)


def _term(path: Path) -> Term | None:
    """Return the term that a file says, or None if it is none of ours."""
    try:
        return envelope.term_of(_beginning(path))
    except (OSError, BackupRefused):
        return None


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER)
