"""Telling systemd how a service is: ready, alive, and in one line how it does."""

import os
import socket


def notify(**facts: object) -> None:
    """
    Tell systemd, if it started us, what is given as READY=1, WATCHDOG=1, STATUS=….

    The socket is there for this one datagram only.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    text = "\n".join(f"{name}={value}" for name, value in facts.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.sendto(text.encode(), path.replace("@", "\0", 1))
        except OSError:
            # systemd is busy or gone: it will be told again.
            return


def watchdog_seconds() -> float | None:
    """Return how often systemd wants to hear WATCHDOG=1; None if it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    limit = os.environ.get("WATCHDOG_USEC", "")
    return int(limit) / 1_000_000 / 2 if limit.isdigit() and int(limit) else None
