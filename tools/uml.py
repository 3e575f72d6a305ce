"""
How the kernel of tools/kernel comes to be: Debian's linux-source, built as User-Mode Linux.

It holds WireGuard and what its tests need (systemd among that, which runs the package's services),
all built in, and nothing else. WireGuard's code in it is the ordinary drivers/net/wireguard.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import debian

FAILED = 125
SOURCE = "linux-source-6.12"
BUILD_TOOLS = {
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
    "/usr/include/stdio.h": "libc6-dev",
    "ip": "iproute2",
}

OPTIONS = """
64BIT BINFMT_ELF BINFMT_SCRIPT EXPERT MULTIUSER PRINTK BUG KALLSYMS
HOSTFS OVERLAY_FS TMPFS SHMEM DEVTMPFS PROC_FS PROC_SYSCTL SYSFS
TTY UNIX98_PTYS NULL_CHAN HIGH_RES_TIMERS NO_HZ_IDLE POSIX_TIMERS
UML_TIME_TRAVEL_SUPPORT FUTEX EPOLL SIGNALFD TIMERFD EVENTFD AIO
ADVISE_SYSCALLS MEMBARRIER FILE_LOCKING INOTIFY_USER SYSVIPC POSIX_MQUEUE
MEMFD_CREATE SECCOMP NAMESPACES UTS_NS IPC_NS USER_NS PID_NS NET_NS
NET UNIX UNIX_DIAG PACKET INET INET_DIAG INET_UDP_DIAG IP_ADVANCED_ROUTER
IP_MULTIPLE_TABLES IPV6 IPV6_MULTIPLE_TABLES NETDEVICES NET_CORE
WIREGUARD VETH DUMMY TUN BRIDGE NLMON NET_SCHED NET_SCH_NETEM
NETFILTER NETFILTER_ADVANCED NF_CONNTRACK NF_TABLES NF_TABLES_INET
NF_TABLES_NETDEV NF_TABLES_IPV4 NF_TABLES_IPV6 NF_NAT NFT_CT NFT_NAT NFT_MASQ
NFT_FIB_INET NFT_FIB_IPV4 NFT_FIB_IPV6 NFT_LIMIT NFT_LOG NFT_REJECT NFT_QUEUE
NETFILTER_NETLINK_QUEUE NF_CT_NETLINK NF_CONNTRACK_PROCFS NF_CONNTRACK_EVENTS
NF_CONNTRACK_MARK DYNAMIC_DEBUG
CGROUPS CGROUP_PIDS CGROUP_SCHED MEMCG CGROUP_BPF BPF_SYSCALL SECCOMP_FILTER
FHANDLE TMPFS_XATTR TMPFS_POSIX_ACL AUTOFS_FS
"""

# The registers of a host with AMX take 11,008 bytes, and ptrace refuses a smaller buffer than
# it fills; the kernel's own 2,696 bytes end at AVX-512. It takes what the host has, up to this.
PATCHED_FILE = "arch/x86/um/user-offsets.c"
PATCH = ("DEFINE_LONGS(HOST_FP_SIZE, 2696)", "DEFINE_LONGS(HOST_FP_SIZE, 11264)")
# That buffer lies in thread_info and in signal frames, hence the larger stacks.
VALUES = {"KERNEL_STACK_ORDER": "4"}

COMPILED_FILES = 1250
"""About how many lines make prints for this configuration; only the progress line needs it."""


class KernelFailed(Exception):
    """The kernel could not be built, or did not run a command to its end."""


def cached_kernel(boots: Callable[[Path], str | None]) -> Path:
    """Return the kernel's executable, built first if the cache has none that fits these settings."""
    cache = Path(os.environ.get("EXUVIA_CACHE") or Path.home() / ".cache/exuvia")
    settings = repr((SOURCE, OPTIONS, VALUES, PATCH)).encode()
    kernel = cache / f"linux-{hashlib.sha256(settings).hexdigest()[:12]}"
    if kernel.exists():
        return kernel
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kernel.exists():
            _build(kernel, boots)
    return kernel


def _build(kernel: Path, boots: Callable[[Path], str | None]) -> None:
    """Leave the kernel in its place, once it has shown that it runs here."""
    started = time.monotonic()
    _need_build_tools()
    log_path = kernel.with_name("build.log")
    with tempfile.TemporaryDirectory(prefix="build.", dir=kernel.parent) as name, log_path.open("w") as log:
        folder = Path(name)
        try:
            _unpack(folder, log)
            _configure(folder, log)
            _compile(folder, log)
        except subprocess.CalledProcessError as error:
            log.flush()
            end = "\n".join(log_path.read_text().splitlines()[-20:])
            raise KernelFailed(f"{error}; {log_path} ends with:\n{end}") from None
        built = folder / "linux"
        if problem := boots(built):
            raise KernelFailed(f"the kernel was built but does not run here: {problem}")
        built.replace(kernel)
    say(f"built {kernel} in {time.monotonic() - started:.0f} s")


def _need_build_tools() -> None:
    try:
        debian.need(BUILD_TOOLS, why="to build the kernel that the tests run on")
        debian.need_package_lists(SOURCE)
    except debian.Missing as missing:
        raise KernelFailed(str(missing)) from None


def _unpack(folder: Path, log: IO[str]) -> None:
    archive = Path(f"/usr/src/{SOURCE}.tar.xz")
    if not archive.exists():
        say(f"downloading {SOURCE} (150 MB), once")
        _call(["apt-get", "download", SOURCE], folder, log)
        package = next(folder.glob("*.deb"))
        _call(["dpkg", "-x", package.name, "package"], folder, log)
        package.unlink()
        archive = folder / "package" / archive.relative_to("/")
    say("unpacking")
    _call(["tar", "xf", str(archive), "--strip-components=1"], folder, log)
    shutil.rmtree(folder / "package", ignore_errors=True)


def _configure(folder: Path, log: IO[str]) -> None:
    source = folder / PATCHED_FILE
    source.write_text(source.read_text().replace(*PATCH))
    wanted = [f"CONFIG_{name}=y" for name in OPTIONS.split()] + [f"CONFIG_{k}={v}" for k, v in VALUES.items()]
    (folder / "wanted").write_text("\n".join(wanted) + "\n")
    _call(["make", "ARCH=um", "KCONFIG_ALLCONFIG=wanted", "allnoconfig"], folder, log)
    missing = set(wanted) - set((folder / ".config").read_text().splitlines())
    if missing:
        raise KernelFailed(f"this source has no {', '.join(sorted(missing))}")


def _compile(folder: Path, log: IO[str]) -> None:
    say("compiling (about 4 minutes on 2 cores)")
    command = ["make", f"-j{os.cpu_count()}", "ARCH=um", "linux"]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
    ) as make:
        assert make.stdout is not None
        try:
            _follow(make.stdout, log)
        except BaseException:
            make.terminate()
            raise
    if make.returncode:
        raise subprocess.CalledProcessError(make.returncode, command)
    _call(["strip", "linux"], folder, log)


def _follow(output: IO[str], log: IO[str]) -> None:
    """Copy make's lines to the log, and tell people every so often how far it is."""
    tell_at = time.monotonic() + 20
    for number, line in enumerate(output, start=1):
        log.write(line)
        if time.monotonic() >= tell_at:
            tell_at += 20
            say(f"compiled about {min(99, 100 * number // COMPILED_FILES)} %")


def _call(command: list[str], folder: Path, log: IO[str]) -> None:
    log.flush()
    subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)


def say(text: str) -> None:
    """Tell the person who waits, without touching the command's own output."""
    print(f"tools/kernel: {text}", file=sys.stderr, flush=True)
