"""Links, addresses and routes, by iproute2's `ip`."""

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from exuvia.errors import InterfaceUnavailable, NotPermitted

_PATIENCE = 30


def run(lines: Iterable[str], *, family: int | None = None) -> None:
    """
    Do what these lines of `ip -batch` say; the first that fails ends it.

    `family` is 4 or 6 where the lines don't tell. Raises NotPermitted or InterfaceUnavailable.
    """
    text = "".join(f"{line}\n" for line in lines)
    if text:
        _ip(*([] if family is None else [f"-{family}"]), "-batch", "-", text=text)


def show(*arguments: str) -> list[dict[str, Any]]:
    """Return what `ip -json` prints for these arguments."""
    found: list[dict[str, Any]] = json.loads(_ip("-json", *arguments) or "[]")
    return found


def _ip(*arguments: str, text: str = "") -> str:
    try:
        done = subprocess.run(
            ("ip", *arguments), input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise InterfaceUnavailable("the command ip is missing: install iproute2") from None
    except subprocess.TimeoutExpired:
        raise InterfaceUnavailable("the command ip does not end") from None
    if done.returncode:
        raise _meaning(done.stderr)
    return done.stdout


def _meaning(complaint: str) -> InterfaceUnavailable | NotPermitted:
    if "Operation not permitted" in complaint:
        return NotPermitted("changing network interfaces needs root, or the capability CAP_NET_ADMIN")
    lines = [line for line in complaint.splitlines() if not line.startswith("Command failed")]
    return InterfaceUnavailable(f"ip: {lines[0].removeprefix('RTNETLINK answers: ') if lines else 'failed'}")
