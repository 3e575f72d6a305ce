"""The sockets of this network namespace that have a certain address, by iproute2's `ss`."""

import subprocess
from collections.abc import Iterable

from exuvia.errors import InterfaceUnavailable

_PATIENCE = 30


def are_there(addresses: Iterable[object]) -> bool:
    """Say whether a socket has one of these addresses of ours, and may still send from it."""
    return bool(_ss("state", "all", "exclude", "time-wait", _from(addresses)).strip())


def end(addresses: Iterable[object]) -> None:
    """
    Close every socket that has one of these addresses: both of its ends learn it at once.

    A kernel built without INET_DIAG_DESTROY does nothing: are_there() tells.
    """
    _ss("-K", "state", "all", _from(addresses))


def _from(addresses: Iterable[object]) -> str:
    # In brackets, or ss takes what follows the last colon for a port.
    written = (f"[{address}]" if ":" in str(address) else str(address) for address in addresses)
    return f"( {' or '.join(f'src {address}' for address in written)} )"


def _ss(*arguments: str) -> str:
    command = ("ss", "-H", "-n", "-t", "-u", "-w", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except FileNotFoundError:
        raise InterfaceUnavailable("the command ss is missing: install iproute2") from None
    except subprocess.TimeoutExpired:
        raise InterfaceUnavailable("the command ss does not end") from None
    if done.returncode:
        raise InterfaceUnavailable(f"ss: {(done.stderr.splitlines() or ['failed'])[0]}")
    return done.stdout
