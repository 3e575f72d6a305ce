"""What is missing on this machine, and its installation from Debian where that may be done."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class Missing(Exception):
    """Something is not installed and can't be installed from here; the text says what to do."""


def need(programs: Mapping[str, str], *, why: str) -> None:
    """
    See that these programs or files are there, and install the packages of those that are not.

    `programs` maps what is looked for to the Debian package that has it. Only root installs;
    others are told what is needed.
    """
    packages = sorted({package for what, package in programs.items() if not is_there(what)})
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"needed {why}; as root, run: {' '.join(command)}")
    print(f"installing {' '.join(packages)} ({why})", file=sys.stderr, flush=True)
    # Lists as old as a machine's image know browsers that are a year behind.
    _apt(["apt-get", "update"])
    _apt(command)
    still = sorted(what for what in programs if not is_there(what))
    if still:
        raise Missing(f"installed, but still not found: {', '.join(still)}")


def need_package_lists(package: str) -> None:
    """See that apt knows this package; a machine made from an image often has no lists."""
    if _known(package):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"apt does not know {package}; as root, run: apt-get update")
    print("updating apt's package lists", file=sys.stderr, flush=True)
    _apt(["apt-get", "update"])
    if not _known(package):
        raise Missing(f"apt does not know {package}; Debian 12 has it, with its updates and security updates")


def is_there(what: str) -> bool:
    """Say whether a program is on root's PATH, a file exists or a module of Python can be imported."""
    if what.startswith("/"):
        return Path(what).exists()
    if what.startswith("python:"):
        return (
            subprocess.run([sys.executable, "-c", f"import {what[7:]}"], stderr=subprocess.DEVNULL).returncode
            == 0
        )
    return shutil.which(what, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _known(package: str) -> bool:
    asked = subprocess.run(["apt-cache", "show", "--no-all-versions", package], capture_output=True)
    return asked.returncode == 0


def _apt(command: list[str]) -> None:
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"`{' '.join(command)}` failed:\n{done.stderr.strip() or done.stdout.strip()}")
