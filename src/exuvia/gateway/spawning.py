"""
The network process as the kernel process sees it: a child and two pipes, and never to be waited for.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from exuvia.gateway.records import Alive, Applied, FromKernel, FromNetwork, Welcome, from_network, split
from exuvia.rules.retrying import pause

PROGRAM = ("-P", "-m", "exuvia.gateway.network_process")
SILENT_FOR = 60.0
"""Seconds without a sign of life after which the network process counts as stuck, and is ended."""
_CHUNK = 64 * 1024
_WAITING_AT_MOST = 256
_PATIENCE = 2.0


class NetworkProcess:
    """
    The child, started again whenever it ends; times are seconds of CLOCK_BOOTTIME.

    Between two starts there is a pause that grows while it keeps ending at once.
    """

    def __init__(self, words: Sequence[str], token: int) -> None:
        self._words = words
        self._token = token
        self._child: subprocess.Popen[bytes] | None = None
        self._incoming = self._outgoing = -1
        self._buffer = bytearray()
        self._waiting: list[FromKernel] = []
        self._rest = b""
        self._heard = 0.0
        self._failures = 0
        self.start_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def reads_from(self) -> int:
        """The descriptor that becomes readable when it says something; -1 if it does not run."""
        return self._incoming

    @property
    def writes_to(self) -> int:
        """The descriptor that something waits to be written to; -1 if nothing does."""
        return self._outgoing if self._waiting or self._rest else -1

    @property
    def silent_at(self) -> float:
        """When it will have been silent for too long."""
        return self._heard + SILENT_FOR

    def start(self, *, now: float) -> None:
        """Start it with pipes that nobody has used before."""
        theirs_in, self._outgoing = os.pipe2(os.O_CLOEXEC)
        self._incoming, theirs_out = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._outgoing, False)
        os.set_blocking(self._incoming, False)
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        try:
            self._child = subprocess.Popen(
                (sys.executable, *PROGRAM, f"token={self._token}", *self._words),
                stdin=theirs_in,
                stdout=theirs_out,
                pass_fds=(self._token,),
                env=environment,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._heard = now

    def records(self, *, now: float) -> Iterator[FromNetwork]:
        """
        Yield what it has said since the last time.

        Raises EOFError if it has ended, and GarbledRecord if what came is no record.
        """
        try:
            data = os.read(self._incoming, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            raise EOFError
        self._heard = now
        self._buffer += data
        for raw in split(self._buffer):
            record = from_network(raw)
            if isinstance(record, Welcome):
                self._failures = 0
            if not isinstance(record, Alive):
                yield record

    def send(self, record: FromKernel) -> None:
        """Let it know something, as soon as it reads; of what was applied, only the latest counts."""
        if isinstance(record, Applied):
            self._waiting = [waiting for waiting in self._waiting if not isinstance(waiting, Applied)]
        if self._outgoing >= 0 and len(self._waiting) < _WAITING_AT_MOST:
            self._waiting.append(record)
            self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the pipe takes it."""
        with suppress(BlockingIOError, BrokenPipeError):
            while self._rest or self._waiting:
                if not self._rest:
                    self._rest = self._waiting.pop(0).encode()
                self._rest = self._rest[os.write(self._outgoing, self._rest) :]

    def stop(self) -> None:
        """End it, with its pipes and whatever was on its way through them."""
        for descriptor in (self._incoming, self._outgoing):
            if descriptor >= 0:
                os.close(descriptor)
        self._incoming = self._outgoing = -1
        self._buffer.clear()
        self._waiting.clear()
        self._rest = b""
        if self._child is not None:
            _end(self._child)
            self._child = None

    def restart(self, *, now: float, chance: float) -> None:
        """End it, and have it started again after a pause."""
        self.stop()
        self._failures += 1
        self.start_at = now + pause(self._failures, chance=chance)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a process that has nothing to tidy up."""
    # Without CAP_KILL the closed pipes have to do, and it is collected when it ends.
    with suppress(PermissionError, subprocess.TimeoutExpired):
        child.kill()
        child.wait(_PATIENCE)
