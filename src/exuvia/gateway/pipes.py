"""The pipes to the kernel process, as the network process uses them."""

import asyncio
import os
from collections.abc import Callable

from exuvia.gateway.records import FromKernel, FromNetwork, from_kernel, split

_CHUNK = 64 * 1024


class Pipes:
    """Records in and out; whoever says something waits while the kernel process is busy."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._buffer = bytearray()
        self._closed = asyncio.Event()
        self._one_writer = asyncio.Lock()
        os.set_blocking(incoming, False)
        os.set_blocking(outgoing, False)

    def listen(self, take_in: Callable[[FromKernel], None]) -> None:
        """Have every record that comes taken in."""
        asyncio.get_running_loop().add_reader(self._incoming, self._read, take_in)

    async def until_closed(self) -> None:
        """Wait until the kernel process has closed its end, or ended; then raise EOFError."""
        await self._closed.wait()
        raise EOFError

    async def say(self, *records: FromNetwork) -> None:
        """Pass records on."""
        await self.write(b"".join([record.encode() for record in records]))

    async def write(self, records: bytes) -> None:
        """Pass on what is encoded already."""
        data = memoryview(records)
        async with self._one_writer:
            while data:
                try:
                    data = data[os.write(self._outgoing, data) :]
                except BlockingIOError:
                    await self._writable()
                except BrokenPipeError:
                    self._closed.set()
                    return

    def _read(self, take_in: Callable[[FromKernel], None]) -> None:
        try:
            data = os.read(self._incoming, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._incoming)
            self._closed.set()
        self._buffer += data
        for raw in split(self._buffer):
            take_in(from_kernel(raw))

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._outgoing, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._outgoing)
