"""
Five thousand connections that send their requests letter by letter, while others want to be answered.

Says how long these waited, and how much memory the server used. Exit status 0 only if nobody waited
for longer than a second and memory stayed within bounds.
"""

import asyncio
import contextlib
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from control_plane import Server, server_in

SLOW = 5_000
SECONDS = 60.0
LONGEST, MEMORY = 1.0, 256 * 1024
"""Seconds, and KiB."""
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Padding: "


async def flood(port: int) -> None:
    """Keep so many connections open, for ever; whatever is closed is opened again."""

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(HEAD)
                    while not reader.at_eof():
                        writer.write(b"a")
                        await writer.drain()
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(reader.read(1), 1.0)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(SLOW)))


def flooding(port: int) -> None:
    """Do it, in a process of its own: whoever is measured must not wait for the flood's own work."""
    asyncio.run(flood(port))


async def waited(port: int, request: bytes) -> float:
    """Return how long a request over a connection of its own takes, which must be answered well."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:40]
    return time.monotonic() - begun


def memory(server: Server, what: str) -> int:
    """Return memory of the server, in KiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0])


async def measured(port: int, token: str) -> list[float]:
    """Return how long each honest request took."""
    end = b"Connection: close\r\n\r\n"
    honest = (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + end,
        b"GET /v1/device HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token.encode() + b"\r\n" + end,
    )
    times: list[float] = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        times += [await waited(port, request) for request in honest]
        await asyncio.sleep(0.05)
    return times


def main() -> int:
    """Run it and return the exit status."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, server_in(Path(folder)) as server:
        port, token = int(server.url.rpartition(":")[2]), server.register(server.account()).token
        before = memory(server, "VmRSS")
        slow = multiprocessing.Process(target=flooding, args=(port,))
        slow.start()
        try:
            times = sorted(asyncio.run(measured(port, token)))
        finally:
            slow.terminate()
            slow.join()
        most = memory(server, "VmHWM")
    print(f"{SLOW} slow connections at a time for {SECONDS:.0f} s")
    print(f"{len(times)} honest requests: median {times[len(times) // 2]:.3f} s, longest {times[-1]:.3f} s")
    print(f"memory of the server: {before // 1024} MiB before, {most // 1024} MiB at most")
    return 0 if times[-1] <= LONGEST and most <= MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
