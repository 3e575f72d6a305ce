"""
From the answer to a registration until its key works on every gateway.

Devices register at a steady rate, and each then asks, as a client does, whether every live gateway
has applied its key (GET /v1/applied): what is measured includes that answer. With real
gateways on the kernel's WireGuard, all on one CPU that they share with the control plane and with
the devices; or natively, with gateways that only follow the feed and acknowledge.

On the kernel: tools/kernel --mem 6G -- .venv/bin/python -m bench.latency
Natively: .venv/bin/python -m bench.latency --simulated
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from bench.fleet import print_table, run, strangers
from exuvia.messages import (
    Applied,
    Change,
    DeviceRegistered,
    FeedMessage,
    GatewayApplied,
    GatewayHello,
    RegisterDevice,
)
from exuvia.system.http import Connection
from exuvia.wg.keys import PublicKey

EXUVIA = (sys.executable, "-m", "exuvia")
DEVICES = 1000
"""As many as an account can have."""
GOAL50, GOAL99 = 30.0, 150.0
CONNECTIONS = 16


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--gateways", type=int, default=20)
    parser.add_argument("--peers", type=int, default=1000, help="that are there before")
    parser.add_argument("--rate", type=float, default=50.0, help="registrations per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--simulated", action="store_true", help="gateways without an interface")
    parser.add_argument("--follow", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.follow is not None:
        asyncio.run(follow_all(asked.follow[0], asked.follow[1:]))
        return
    with tempfile.TemporaryDirectory() as folder, site(Path(folder), asked) as (url, account):
        times = asyncio.run(measure(url, account, asked))
    kind = (
        "simulated gateways, native"
        if asked.simulated
        else "gateways on the kernel, real time, one CPU for all"
    )
    rows = [("", "p50", "p99", "slowest", "goal")]
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    cells = (f"{value * 1e3:.1f} ms" for value in (p50, p99, times[-1]))
    rows.append(
        (f"{len(times)} registrations at {asked.rate:.0f}/s", *cells, f"≤ {GOAL50:.0f} and {GOAL99:.0f} ms")
    )
    print_table(f"answered → applied everywhere: {asked.gateways} {kind}, {asked.peers} peers each", rows)
    sys.exit(p50 * 1e3 > GOAL50 or p99 * 1e3 > GOAL99)


@contextlib.contextmanager
def site(folder: Path, asked: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Run a control plane with gateways; yield its URL and an account that may register."""
    database = ("--database", f"sqlite:///{folder}/control.db")
    serve = subprocess.Popen(
        (*EXUVIA, "serve", "--listen", "127.0.0.1:0", "--unproven-keys", "allow", *database),
        stdout=subprocess.PIPE,
        text=True,
    )
    started = [serve]
    try:
        assert serve.stdout is not None
        url = serve.stdout.readline().split()[-1]
        tokens = [
            run(
                *EXUVIA,
                "gateway",
                "enroll",
                f"gw{number}",
                *database,
                "--endpoint",
                f"192.0.2.{number}:51820",
            ).strip()
            for number in range(asked.gateways)
        ]
        started += simulated(url, tokens) if asked.simulated else list(gateways(url, tokens, folder))
        account = ["account", "create", *database, "--devices", str(DEVICES)]
        before = [run(*EXUVIA, *account).strip() for _ in range(-(-asked.peers // DEVICES))]
        asyncio.run(fill(url, before, asked.peers))
        yield url, run(*EXUVIA, *account).strip()
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(20)


def gateways(url: str, tokens: list[str], folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """Start real ones, each with an interface of its own."""
    for number, token in enumerate(tokens):
        file = folder / f"token{number}"
        file.write_text(token)
        process = subprocess.Popen(
            (
                *EXUVIA,
                "gateway",
                "run",
                "--control",
                url,
                "--token-file",
                str(file),
                "--interface",
                f"wg{number}",
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        yield process
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()


def simulated(url: str, tokens: list[str]) -> "list[subprocess.Popen[str]]":
    """Start followers of the feed, all in one process."""
    command = (sys.executable, "-m", "bench.latency", "--follow", url, *tokens)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return [process]


async def follow_all(url: str, tokens: list[str]) -> None:
    """Be gateways that have no interface."""
    tasks = [asyncio.create_task(follow(url, token)) for token in tokens]
    await asyncio.sleep(1)
    print("following", flush=True)
    await asyncio.gather(*tasks)


async def follow(url: str, token: str) -> None:
    """Follow the feed, and acknowledge what comes."""
    feed, requests = Connection(url), Connection(url)
    hello = GatewayHello(strangers(1)[0].public_key.text(), lasting=False)
    await requests.request("PUT", "/v1/gateway", bearer=token, body=hello)
    decode = msgspec.json.Decoder(FeedMessage).decode
    with contextlib.suppress(Exception):
        async for line in feed.lines("/v1/feed", bearer=token, idle_timeout=45):
            message = decode(line)
            if isinstance(message, Change):
                applied = GatewayApplied(message.epoch, message.revision)
                await requests.request("PUT", "/v1/gateway/applied", bearer=token, body=applied)


async def fill(url: str, accounts: list[str], peers: int) -> None:
    """Register the peers that are there before."""
    keys = asyncio.Queue[tuple[str, PublicKey]]()
    for number, peer in enumerate(strangers(peers)):
        keys.put_nowait((accounts[number // DEVICES], peer.public_key))

    async def work() -> DeviceRegistered:
        connection = Connection(url)
        while not keys.empty():
            account, key = keys.get_nowait()
            registered = await register(connection, account, key)
        await connection.close()
        return registered

    last = max(await asyncio.gather(*(work() for _ in range(4))), key=lambda done: done.revision)
    connection = Connection(url)
    while not await is_applied(connection, last):
        pass
    await connection.close()


async def measure(url: str, account: str, asked: argparse.Namespace) -> list[float]:
    """Register at the rate; return, in order, how long each took to be applied everywhere."""
    keys = [peer.public_key for peer in strangers(min(DEVICES, int(asked.rate * asked.seconds)))]
    idle = asyncio.LifoQueue[Connection]()
    for _ in range(CONNECTIONS):
        idle.put_nowait(Connection(url))
    times: list[float] = []

    async def one(key: PublicKey) -> None:
        async with connection_of(idle) as connection:
            registered = await register(connection, account, key)
            answered = time.perf_counter()
            while not await is_applied(connection, registered):
                pass
            times.append(time.perf_counter() - answered)

    began, tasks = time.perf_counter(), []
    for number, key in enumerate(keys):
        await asyncio.sleep(max(0.0, began + number / asked.rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(key)))
    await asyncio.gather(*tasks)
    while not idle.empty():
        await idle.get_nowait().close()
    return sorted(times)


@contextlib.asynccontextmanager
async def connection_of(idle: "asyncio.LifoQueue[Connection]") -> AsyncIterator[Connection]:
    """Borrow a connection."""
    connection = await idle.get()
    try:
        yield connection
    finally:
        idle.put_nowait(connection)


async def register(connection: Connection, account: str, key: PublicKey) -> DeviceRegistered:
    """Register a device, which must be possible."""
    response = await connection.request(
        "POST", "/v1/devices", bearer=account, body=RegisterDevice(key.text())
    )
    if response.status != 201:
        raise SystemExit(f"a registration was refused with status {response.status}")
    return response.decode(DeviceRegistered)


async def is_applied(connection: Connection, registered: DeviceRegistered) -> bool:
    """Ask whether every live gateway has applied it, waiting for a while."""
    path = f"/v1/applied?epoch={registered.epoch}&revision={registered.revision}&wait=5"
    response = await connection.request("GET", path, bearer=registered.token)
    return response.decode(Applied).applied


if __name__ == "__main__":
    main()
