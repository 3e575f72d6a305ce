"""wireguard-go, for kernels without WireGuard: one process for one interface."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from exuvia.errors import InterfaceUnavailable

SOCKETS = Path("/var/run/wireguard")
"""Where every userspace WireGuard listens, whatever its network namespace."""
_ENDS_WITH_US = """
import os, signal, sys
from exuvia.system import process
process.end_with_parent(signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):  # or we died before it could know
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""What setpriv(1) does too, which also calls capset(2): our unit forbids that."""
_PATIENCE = 10.0
_STEP = 0.01


class Process:
    """A running wireguard-go; its interface lives as long as it does."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def stop(self) -> None:
        """End it, and with it the interface."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start(interface: str, *, lasting: bool = False) -> Process:
    """
    Make an interface by wireguard-go and return its process.

    It ends when ours does, unless it is to be lasting: then it ends when its interface is
    deleted. InterfaceUnavailable if it is not installed, or does not come up.
    """
    # In the foreground: as a daemon it would keep our pipes open for ever. Its log names peers.
    bound = () if lasting else (sys.executable, "-I", "-c", _ENDS_WITH_US, str(os.getpid()))
    command = (*bound, "wireguard-go", "-f", interface)
    environment = {**os.environ, "LOG_LEVEL": "silent"}
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=lasting,
        )
    except FileNotFoundError as error:
        raise InterfaceUnavailable(f"the command {error.filename} is missing") from None
    started = Process(process)
    deadline = time.monotonic() + _PATIENCE
    while not _answers(SOCKETS / f"{interface}.sock"):
        if process.poll() is not None:
            raise InterfaceUnavailable(
                "this kernel has no WireGuard, and wireguard-go is not installed or can't make an interface"
            )
        if time.monotonic() > deadline:
            started.stop()
            raise InterfaceUnavailable("wireguard-go does not come up")
        time.sleep(_STEP)
    return started


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True
