"""
What a gateway's two processes take of memory, beside pyroute2 reading the same peers.

A running `exuvia gateway run` that has applied a table by the feed, with some peers connected;
measured after the first snapshot, after a second one, and after a restart that found everything
right. Counted is what each process has in RAM, also what it shares with others.

Runs on the kernel: tools/kernel --mem 6G -- .venv/bin/python -m bench.memory
"""

import argparse
import sys
import tempfile
import time
from ipaddress import IPv6Network
from pathlib import Path

from bench.fleet import BASE6, print_table, strangers
from exuvia.messages import GatewayWelcome
from exuvia.testing.feed import FakeFeed
from exuvia.testing.site import INTERFACE, GatewayRun, Machine

BASE = 60 * 1024
A_PEER = 400 / 1024
"""The goal, in KiB."""

ENOUGH = 5_000
"""Peers that pyroute2 reads on this kernel; its memory is reckoned from them."""

PYROUTE2 = f"""
from pathlib import Path
from pyroute2 import WireGuard
with WireGuard() as wireguard:
    messages = list(wireguard.info("{INTERFACE}"))
    keys = [p.get("WGPEER_A_PUBLIC_KEY") for m in messages for p in m.get("WGDEVICE_A_PEERS") or ()]
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line for line in lines if line[:6] == "VmRSS:").split()[1])
"""

Row = tuple[str, ...]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--peers", type=int, default=100_000)
    peers = parser.parse_args().peers
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        machine.feed.heartbeat_every = 1.0
        pool6 = IPv6Network((BASE6, 64))
        machine.feed.welcome = GatewayWelcome("10.0.0.0/8", str(pool6), "10.0.0.1/8", f"{pool6[1]}/64")
        try:
            with machine.serving() as feed:
                rows = list(measure(machine, feed, peers))
        finally:
            machine.close()
    goal = BASE + A_PEER * peers
    print_table(
        f"memory of a gateway's two processes, {peers} peers; the goal is {goal / 1024:.0f} MiB",
        [("when", "kernel process", "network process", "both", "a peer", "most ever"), *rows],
    )
    sys.exit(any(float(row[3].split()[0]) * 1024 > goal for row in rows if row[3]))


def measure(machine: Machine, feed: FakeFeed, peers: int) -> list[Row]:
    """Return the rows of the table."""
    rows = []
    few = strangers(ENOUGH)
    feed.change(put=few)
    gateway = machine.run()
    gateway.wait_ready(60)
    base = sum(resident(pid)[0] for pid in pids(gateway))
    rows.append(row(f"{ENOUGH} peers", gateway, 0, ENOUGH))
    theirs = int(machine.namespace.run(sys.executable, "-c", PYROUTE2)) - 32 * 1024
    feed.change(put=strangers(peers - ENOUGH, first_number=2 + ENOUGH))
    feed.wait_applied(600)
    rows.append(row("after changes", gateway, base, peers))
    feed.cut()
    feed.revision += 1
    feed.wait_applied(600)
    rows.append(row("after a snapshot", gateway, base, peers))
    gateway.stop()
    gateway = machine.run()
    gateway.wait_ready(600)
    rows.append(row("after a restart", gateway, base, peers))
    time.sleep(30)
    rows.append(row("30 s later", gateway, base, peers))
    reckoned = 32 * 1024 + theirs * peers / ENOUGH
    rows.append((f"pyroute2 (reckoned from {ENOUGH})", f"{reckoned / 1024:.0f} MiB", "", "", "", ""))
    return rows


def pids(gateway: GatewayRun) -> list[int]:
    """Return both processes."""
    assert gateway.network_pid is not None
    return [gateway.pid, gateway.network_pid]


def resident(pid: int) -> tuple[int, int]:
    """Return what a process has in RAM, and the most it ever had, in KiB."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0])


def row(when: str, gateway: GatewayRun, base: int, peers: int) -> Row:
    """Measure now."""
    (kernel, kernel_most), (network, network_most) = map(resident, pids(gateway))
    each = f"{(kernel + network - base) * 1024 / peers:.0f} B" if base else ""
    both, most = (kernel + network) / 1024, (kernel_most + network_most) / 1024
    sizes = [f"{size / 1024:.1f} MiB" for size in (kernel, network)]
    return (when, *sizes, f"{both:.1f} MiB", each, f"{most:.0f} MiB")


if __name__ == "__main__":
    main()
