"""
The gateway's kernel process: it holds CAP_NET_ADMIN and decides, and it never talks to the network.

A plain loop around poll(): what the network process says, and what is due. It owns the peer
table, and goes on purging whatever becomes of the control plane or of the network process.
"""

import math
import os
import select
import signal
import sys
from contextlib import suppress

from exuvia import log
from exuvia.errors import ExuviaError, InvalidConfiguration
from exuvia.gateway import hygiene
from exuvia.gateway.gateway import Gateway
from exuvia.gateway.saying import say
from exuvia.gateway.settings import Settings
from exuvia.gateway.spawning import NetworkProcess
from exuvia.system import clock, process
from exuvia.system.notify import notify, watchdog_seconds
from exuvia.system.process import Capability

LONGEST_WAIT = 3600.0
"""Seconds after which it is looked what is due, whatever is expected."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Run a gateway with the settings that stand on the command line, until a signal."""
    log.hide_values(say)
    try:
        run(Settings.from_words(sys.argv[1:]))
    except ExuviaError as error:
        print(f"exuvia: {error}", file=sys.stderr)
        sys.exit(1)


def run(settings: Settings) -> None:
    """Run a gateway until a signal."""
    alarm = _wake_on_signals()
    for warning in hygiene.keep_to_itself():
        say(f"warning: {warning}")
    token = _token(settings.token_file)
    # A peer that comes back between being read and being purged loses its new session.
    process.go_first()
    process.keep_only(Capability)
    with NetworkProcess(settings.words(), token) as network:
        gateway = Gateway(settings, network)
        gateway.begin()
        notify(READY=1, STATUS=gateway.status())
        Loop(gateway, network, alarm).run()
        gateway.close()
    notify(STOPPING=1)
    say(gateway.farewell())


class Loop:
    """Waits for whatever comes first: a record, a signal, or something that is due."""

    def __init__(self, gateway: Gateway, network: NetworkProcess, alarm: int) -> None:
        self._gateway = gateway
        self._network = network
        self._alarm = alarm
        self._watchdog = watchdog_seconds()
        self._watchdog_at = 0.0

    def run(self) -> None:
        """Go round until a signal comes."""
        while True:
            now = clock.boottime()
            self._gateway.do_what_is_due(now=now)
            self._feed_watchdog(now)
            if self._alarm in self._wait():
                return
            self._gateway.hear(now=clock.boottime())

    def _wait(self) -> set[int]:
        """Wait until something can be read or is due; return what can be read."""
        poll = select.poll()
        poll.register(self._alarm, select.POLLIN)
        if self._network.reads_from >= 0:
            poll.register(self._network.reads_from, select.POLLIN)
        if self._network.writes_to >= 0:
            poll.register(self._network.writes_to, select.POLLOUT)
        until = self._gateway.next_due()
        if self._watchdog is not None:
            until = min(until, self._watchdog_at)
        # Rounded up: a wait of nothing would go round and round until the time has come.
        wait = max(0.0, min(until - clock.boottime(), LONGEST_WAIT))
        return {descriptor for descriptor, _ in poll.poll(math.ceil(wait * 1000))}

    def _feed_watchdog(self, now: float) -> None:
        if self._watchdog is not None and now >= self._watchdog_at:
            notify(WATCHDOG=1, STATUS=self._gateway.status())
            self._watchdog_at = now + self._watchdog


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable when we are to stop."""
    alarm, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in STOPS:
        signal.signal(number, lambda *_: _press(writes))
    return alarm


def _press(descriptor: int) -> None:
    with suppress(BlockingIOError):
        os.write(descriptor, b"!")


def _token(path: str) -> int:
    """Open the file of the gateway's token; only the network process reads it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidConfiguration(f"{path}: {error.strerror}") from None


if __name__ == "__main__":
    main()
