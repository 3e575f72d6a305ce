"""
Registrations per second, durable, at 64 connections: exuvia against FastAPI + SQLAlchemy.

    python bench/registrations.py [--seconds 10] [--keys 1000000]

Prints rate, p50 and p99 with no key and with a million keys present, and the ratios. wrk
sends the requests, from the same machine: what it takes is taken from the servers.
"""

import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from exuvia.store.credentials import Hasher, new_account_number
from exuvia.system import entropy

HERE = Path(__file__).parent
CONNECTIONS = 64
DEVICES = 5
WARM_UP = 3
"""Seconds of the same load that are not counted: afterwards every page that matters is in memory."""


@dataclass(frozen=True)
class Result:
    """What one run came to; times in milliseconds."""

    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.rate:8.0f}/s   p50 {self.p50:7.1f} ms   p99 {self.p99:7.1f} ms"


def main() -> None:
    """Run all, and print the table."""
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        empty = exuvia(Path(folder) / "empty.db", 0, options)
        print(f"exuvia, empty                  {empty}", flush=True)
        full = exuvia(Path(folder) / "full.db", options.keys, options)
        print(f"exuvia, {options.keys:9,} keys        {full}", flush=True)
        print(f"    full / empty               {full.rate / empty.rate:.2f}", flush=True)
        if not options.only_ours:
            theirs = fastapi(Path(folder) / "theirs.db", options)
            print(f"FastAPI + SQLAlchemy, empty    {theirs}")
            print(f"    exuvia / theirs            {empty.rate / theirs.rate:.1f}")


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the databases lie; a disk, to measure durability")
    parser.add_argument("--only-ours", action="store_true")
    return parser.parse_args()


def exuvia(database: Path, keys: int, options: argparse.Namespace) -> Result:
    """Measure exuvia with so many keys present."""
    command = [
        sys.executable,
        "-m",
        "exuvia",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database",
        f"sqlite:///{database}",
        "--unproven-keys",
        "allow",
    ]
    with serving(command):
        pass  # makes the database
    numbers = database.with_suffix(".numbers")
    fill(database, numbers, keys, accounts=(options.seconds + WARM_UP) * 20_000 // DEVICES)
    with serving(command) as url:
        return load(url, numbers, options.seconds)


def fastapi(database: Path, options: argparse.Namespace) -> Result:
    """Measure what many would build."""
    numbers = database.with_suffix(".numbers")
    environment = {**os.environ, "BENCH_DATABASE": str(database), "BENCH_NUMBERS": str(numbers)}
    numbers.write_text(
        "".join(f"{new_account_number(entropy.bits)}\n" for _ in range((options.seconds + WARM_UP) * 800))
    )
    with serving([sys.executable, str(HERE / "fastapi_peer.py")], environment) as url:
        return load(url, numbers, options.seconds)


@contextlib.contextmanager
def serving(command: list[str], environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run a server that prints its URL as the last word of its first line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def load(url: str, numbers: Path, seconds: int) -> Result:
    """Register devices as fast as the server can, for so many seconds, after a short warm-up."""
    urlopen(f"{url}/healthz").close()
    everybody = numbers.read_text().splitlines(keepends=True)
    first = len(everybody) * WARM_UP // (WARM_UP + seconds)
    for part, duration in ((everybody[:first], WARM_UP), (everybody[first:], seconds)):
        numbers.write_text("".join(part))
        found = run_wrk(url, numbers, duration)
    return found


def run_wrk(url: str, numbers: Path, seconds: int) -> Result:
    """Send requests for so many seconds, and return what came of it."""
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    script = ["-s", str(HERE / "registrations.lua"), url, "--", str(numbers), str(DEVICES)]
    found = subprocess.run([*wrk, *script], capture_output=True, text=True, check=True)
    line = next(line for line in found.stdout.splitlines() if line.startswith("RESULT"))
    requests, duration, p50, p99, failed = map(float, line.split()[1:])
    if failed:
        raise SystemExit(f"{failed:.0f} of {requests:.0f} requests failed:\n{found.stdout}")
    return Result(requests / duration, p50, p99)


def fill(database: Path, numbers: Path, keys: int, accounts: int) -> None:
    """Put keys into a database, and free accounts; their numbers go into a file."""
    hasher = Hasher(database.with_name(database.name + ".key").read_bytes())
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA cache_size = -1000000")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    owners = sorted(os.urandom(16) for _ in range((keys + DEVICES - 1) // DEVICES))
    connection.executemany(
        "INSERT INTO account VALUES (?, ?, 'active', NULL, 5)", ((id, os.urandom(32)) for id in owners)
    )
    devices = sorted((owners[n // DEVICES], os.urandom(16)) for n in range(keys))
    connection.executemany(
        "INSERT INTO device VALUES (?, ?, ?, ?)",
        ((owner, id, f"quiet otter {n % DEVICES}", os.urandom(32)) for n, (owner, id) in enumerate(devices)),
    )
    connection.executemany(
        "INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, 'current', NULL)", sorted(made_up_keys(devices))
    )
    with numbers.open("w") as file:
        for _ in range(accounts):
            number = new_account_number(entropy.bits)
            file.write(number + "\n")
            connection.execute(
                "INSERT INTO account VALUES (?, ?, 'active', NULL, 5)",
                (os.urandom(16), hasher.account(number)),
            )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    # Half a gibibyte that still has to reach the disk would be written while we measure.
    os.sync()


def made_up_keys(devices: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, ...]]:
    """Yield a key for each device; addresses of the pool differ because they are taken at a stride."""
    for n, device in enumerate(devices):
        address4 = (0x0A000000 + 2 + n * 16 % (1 << 24) + n * 16 // (1 << 24)).to_bytes(4, "big")
        yield os.urandom(31) + b"\1", *device, address4, b"\xfd" + os.urandom(15), os.urandom(32)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"({time.monotonic() - started:.0f} s)")
