"""The kernel that tools/kernel boots: what the other tests in this folder stand on."""

import os
import subprocess
import time
from pathlib import Path


def run(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def test_this_kernel_has_wireguard() -> None:
    """An interface of type wireguard can be made, is shown by wg(8), and can be removed."""
    run("ip", "link", "add", "guest0", "type", "wireguard")
    try:
        assert run("wg", "show", "interfaces").split() == ["guest0"]
    finally:
        run("ip", "link", "del", "guest0")


def test_nothing_leads_out_of_it() -> None:
    """The guest has no network interface that could reach the host, and no route."""
    names = {line.split(":")[1].strip().partition("@")[0] for line in run("ip", "-o", "link").splitlines()}

    assert names <= {"lo", "dummy0"}
    assert run("ip", "route", "show", "default") == ""


def test_what_is_written_is_forgotten() -> None:
    """The host's files are below the guest's, read only: root of the guest is in memory."""
    root = next(line for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == "/")

    assert root.split()[2] == "overlay"
    assert "lowerdir=/," in root


def test_it_is_in_real_time() -> None:
    """Here a second is a second, and the runner says so."""
    assert os.environ["EXUVIA_KERNEL"] == "real"
    assert "time-travel" not in Path("/proc/cmdline").read_text()


def test_boottime_runs_with_the_monotonic_clock() -> None:
    """CLOCK_BOOTTIME, on which every rule runs, is there and never behind CLOCK_MONOTONIC."""
    assert time.clock_gettime(time.CLOCK_BOOTTIME) >= time.clock_gettime(time.CLOCK_MONOTONIC) - 1
