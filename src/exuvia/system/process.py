"""
What a process may do and what may be seen of it: capabilities, identity, memory.

By prctl(2), capset(2) and mlockall(2); numbers are those of the kernel's include/uapi/linux.
"""

import contextlib
import ctypes
import os
import resource
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path

from exuvia.errors import NotPermitted

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_FIRST = -10
_CAPABILITY_VERSION = 0x20080522
_STATUS = Path("/proc/self/status")
_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """The capabilities that a gateway has to do with."""

    KILL = 5
    SETGID = 6
    SETUID = 7
    NET_ADMIN = 12


def hide() -> None:
    """Leave no core dump, and let no other process look into our memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> bool:
    """Keep our memory out of swap; False if this process may not."""
    try:
        # Without a raised limit, later allocations would fail once it is reached.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except (OSError, ValueError):
        return False
    return True


def go_first() -> None:
    """Be preferred to other processes, if this one may ask for it (setpriority(2))."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST)


def take_turns() -> None:
    """Be like other processes again, if whoever started us goes first."""
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def end_with_parent(signal_number: int) -> None:
    """Have this signal sent to us when the process that started us ends."""
    _call("prctl", _PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def in_child(action: Callable[[], str | None]) -> str | None:
    """
    Do something in a process of its own, which ends at once, and return what it returned.

    For what must leave no trace in our memory. Only to be called while there are no threads.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        answer = "it failed"
        try:
            answer = action() or ""
        finally:
            os.write(writes, answer.encode()[:4096])
            os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer or None


def keep_only(capabilities: Iterable[Capability]) -> None:
    """Give up all capabilities but these, for us and whatever we start."""
    kept = sum(1 << capability for capability in capabilities) & int(status()["CapPrm"], 16)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set_capabilities(effective=kept, permitted=kept, inheritable=kept)


def give_up_everything(*, uid: int, gid: int) -> None:
    """
    Become somebody who may do nothing, and can't become anybody else; NotPermitted if that fails.

    As root, become this user and group; anybody else stays who he is. All capabilities go. It
    is then read back from the kernel, because a process that only believes it gave them up is
    worse than none.
    """
    began_as_root = os.geteuid() == 0
    try:
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if began_as_root:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        _set_capabilities(effective=0, permitted=0, inheritable=0)
        hide()
    except OSError as error:
        raise NotPermitted(f"privileges can't be given up: {error.strerror}") from None
    left = privileges_left(status(), began_as_root=began_as_root)
    if left:
        raise NotPermitted(f"privileges could not be given up: {', '.join(left)}")


def become_owner_of(path: Path) -> None:
    """
    As root, become whoever owns a path, so that what is made beside it is theirs too.

    Anybody else stays who he is.
    """
    found = path.stat()
    if os.geteuid() == 0 and found.st_uid != 0:
        os.setgroups([])
        os.setresgid(found.st_gid, found.st_gid, found.st_gid)
        os.setresuid(found.st_uid, found.st_uid, found.st_uid)


def privileges_left(facts: dict[str, str], *, began_as_root: bool) -> list[str]:
    """Return what of /proc/self/status shows that a process may still do something."""
    left = [name for name in _SETS if int(facts[name], 16)]
    if facts["NoNewPrivs"] != "1":
        left.append("NoNewPrivs")
    if began_as_root:
        left += [name for name in ("Uid", "Gid") if "0" in facts[name].split()]
        left += ["Groups"] if facts["Groups"] else []
    return left


def status(path: Path = _STATUS) -> dict[str, str]:
    """Return what the kernel says of a process, by default of this one."""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def _set_capabilities(*, effective: int, permitted: int, inheritable: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (effective, permitted, inheritable)
    words = [value >> shift & 0xFFFF_FFFF for shift in (0, 32) for value in sets]
    _call("capset", header, (ctypes.c_uint32 * 6)(*words))


def _call(name: str, *arguments: object) -> None:
    function = getattr(_libc, name)
    plain = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    # prctl's and mlockall's first argument is an int.
    if plain and isinstance(arguments[0], int):
        plain[0] = ctypes.c_int(arguments[0])
    if function(*plain):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
