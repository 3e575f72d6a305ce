"""Kernel settings below /proc/sys, those of this process's network namespace."""

from pathlib import Path

from exuvia.errors import InterfaceUnavailable

_ROOT = Path("/proc/sys")


def read(name: str) -> int | None:
    """Return a setting such as "net/ipv4/ip_forward", or None if this kernel has no such number."""
    try:
        return int((_ROOT / name).read_text())
    except (OSError, ValueError):
        return None


def write(name: str, value: int) -> None:
    """Change a setting; InterfaceUnavailable if that can't be."""
    try:
        (_ROOT / name).write_text(f"{value}\n")
    except OSError as error:
        raise InterfaceUnavailable(f"/proc/sys/{name}: {error.strerror}") from None
