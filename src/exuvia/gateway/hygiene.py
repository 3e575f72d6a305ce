"""
The other places where a gateway could remember its clients: set where we can, said where we can't.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from exuvia.system import process, sysctl

_ROOT = Path("/")


def keep_to_itself(root: Path = _ROOT) -> list[str]:
    """Leave no copy of this process anywhere, silence the kernel's log, and return what is left to say."""
    process.hide()
    locked = process.lock_memory()
    silence_kernel_log(root)
    return list(_warnings(root, locked=locked))


def silence_kernel_log(root: Path = _ROOT) -> None:
    """Turn off messages of the WireGuard module that show where clients are."""
    with suppress(OSError):
        (root / "proc/dynamic_debug/control").write_text("module wireguard -p\n")


def _warnings(root: Path, *, locked: bool) -> Iterator[str]:
    if not locked and _has_swap(root):
        yield "this machine has swap, and our memory can't be kept out of it: turn it off, or run as root"
    if _still_logs(root):
        yield "dynamic debug is on for WireGuard: the kernel logs where clients are"
    if _text(root / "sys/kernel/kexec_crash_loaded") == "1":
        yield "kdump is on: a crash would write all of the kernel's memory to the disk"


def tracking_warnings(*, nat: bool) -> Iterator[str]:
    """Say what connection tracking still remembers; with --nat it is set up not to."""
    if sysctl.read("net/netfilter/nf_conntrack_count") is None or nat:
        return
    yield (
        "this machine tracks connections: without --nat, add a `notrack` rule for the WireGuard port, or it "
        "remembers for two minutes where each client was"
    )


def _has_swap(root: Path) -> bool:
    return len(_text(root / "proc/swaps").splitlines()) > 1


def _still_logs(root: Path) -> bool:
    control = _text(root / "proc/dynamic_debug/control")
    lines = (line.split(" =", 1) for line in control.splitlines() if "[wireguard]" in line)
    return any("p" in line[1].split(" ", 1)[0] for line in lines if len(line) == 2)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
