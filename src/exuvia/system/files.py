"""Files that are private, and whole or as they were before: after a crash, or on a full disk."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from exuvia.errors import AlreadyRunning, InvalidConfiguration, StateNotSaved

_PRIVATE = 0o600
_SUFFIX = ".new"


def private_folder(folder: Path) -> None:
    """Make the folder if it is missing; refuse one that anybody else may look into."""
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise InvalidConfiguration(
                f"{folder} is open to others: run `chmod 700 {folder}`, or choose another folder"
            )
    except OSError as error:
        raise StateNotSaved(f"{folder}: {error.strerror}") from None


def read(path: Path) -> bytes | None:
    """Return what the file holds, or None if there is none; a symbolic link is not followed."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateNotSaved(f"{path}: {error.strerror}") from None


def write(path: Path, content: bytes, *, wipe: bool = False) -> None:
    """
    Replace a file, so that at every instant it is whole: either as before, or as now.

    It can be read by its owner only, and has reached the disk when this returns. StateNotSaved
    if it can't be; then it is as before, but for a failure after the very last step. With
    `wipe` what it held before is overwritten, as far as the file system does that in place.
    """
    new = path.with_name(path.name + _SUFFIX)
    before = _opened_before(path) if wipe else None
    try:
        _write_through(new, content)
        new.rename(path)
        _sync_folder(path.parent)
        if before is not None:
            _zero(before)
    except OSError as error:
        _remove_if_there(new)
        raise StateNotSaved(f"{path}: {error.strerror}") from None
    finally:
        if before is not None:
            os.close(before)


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """
    Write a file that takes its place when the block ends, whole and on the disk, or never.

    StateNotSaved if it can't be written; then nothing of it is left. AlreadyRunning if another
    process is writing the same one.
    """
    new = path.with_name(path.name + _SUFFIX)
    with Lock(new):
        try:
            with open(os.open(new, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
                os.fchmod(file.fileno(), _PRIVATE)
                file.truncate()
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            _remove_if_there(new)
            raise StateNotSaved(f"{path}: {error.strerror}") from None
        except BaseException:
            _remove_if_there(new)
            raise


def erase(path: Path) -> None:
    """Overwrite a file and remove it, and what an interrupted write() may have left beside it."""
    try:
        for file in (path.with_name(path.name + _SUFFIX), path):
            if file.is_file() and not file.is_symlink():
                _overwrite(file)
            file.unlink(missing_ok=True)
        if path.parent.is_dir():
            _sync_folder(path.parent)
    except OSError as error:
        raise StateNotSaved(f"{path}: {error.strerror}") from None


class Lock:
    """A lock that ends with its process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock; AlreadyRunning if another process holds it."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
        except OSError as error:
            raise StateNotSaved(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise AlreadyRunning(f"another process is using {path.parent}") from None

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _write_through(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, _PRIVATE)
    try:
        os.fchmod(file, _PRIVATE)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)


def _opened_before(path: Path) -> int | None:
    """Open what a file holds now, to overwrite it when another has taken its place."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None  # there is none; or whatever is wrong shows when the new one is written


def _overwrite(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _zero(file)
    finally:
        os.close(file)


def _zero(file: int) -> None:
    os.pwrite(file, bytes(os.fstat(file).st_size), 0)
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _remove_if_there(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the error that brought us here says more
