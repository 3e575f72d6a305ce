"""
How long after the 180 s of its session a gateway still remembers a client, and what that costs.

10,000 peers, of which 1,000 are real clients that shake hands and stop at random moments. An
observer that is not the gateway looks at the interface every 100 ms. In virtual time (the
figure is exact, CPU costs nothing):

    tools/kernel --virtual --mem 4G -- .venv/bin/python -m bench.residual

and in real time, for the share of a core that the two processes take (five minutes):

    tools/kernel --mem 4G -- .venv/bin/python -m bench.residual --cpu
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.fleet import Fleet, print_table, run, strangers
from exuvia.gateway.alias import Alias
from exuvia.rules.ownership import Pools
from exuvia.system import clock
from exuvia.system.interface import open_interface
from exuvia.wg.dump import LARGEST_MESSAGE, Scan
from exuvia.wg.netlink import Requests, family_of, family_request
from exuvia.wg.timing import REJECT_AFTER_TIME

INTERFACE = "wg-residual"
PORT = 51991
PEERS, CLIENTS = 10_000, 1_000
OBSERVE_EVERY = 0.1
TICK = 60.0
"""Seconds between two scans of the daemon that we compare with (mullvad/wg-manager, main.go)."""
POOLS = Pools.around("10.0.0.1/8", "fd00:65:7875:7669::1/64")


class Observer:
    """Looks at an interface without taking the daemon's place."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
        self._socket.bind((0, 0))
        self._socket.send(family_request(0))
        family = family_of(self._socket.recv(65536))
        assert family is not None
        self._requests = Requests(family, socket.if_nametoindex(interface))
        self._buffer = bytearray(LARGEST_MESSAGE)

    def remembered(self) -> set[bytes]:
        """Return the keys of the peers of which anything is left but configuration."""
        self._socket.send(self._requests.dump(1))
        scan, found = Scan(1), set()
        while not scan.dump.done:
            found.update(s.public_key for s in scan.feed(self._buffer, self._socket.recv_into(self._buffer)))
        return found


def main() -> None:
    """Measure one of the two, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="measure CPU time, in real time")
    with_cpu = parser.parse_args().cpu
    fleet = _interface()
    gateway = _gateway()
    try:
        (_cpu if with_cpu else _residual)(fleet, gateway)
    finally:
        gateway.terminate()
        gateway.wait()


def _residual(fleet: Fleet, gateway: "subprocess.Popen[bytes]") -> None:
    observer = Observer(INTERFACE)
    moments = sorted((random.uniform(0, REJECT_AFTER_TIME), number) for number in range(CLIENTS))
    began = clock.boottime()
    ended: dict[bytes, float] = {}
    forgotten: dict[bytes, float] = {}
    while len(forgotten) < CLIENTS:
        now = clock.boottime()
        while moments and began + moments[0][0] <= now:
            _, number = moments.pop(0)
            client = fleet.clients[number]
            client.prepare(number, time.time())
            assert fleet.shake_hands([number]) == [number]
            ended[bytes(client.peer.public_key)] = clock.boottime() + REJECT_AFTER_TIME
        remembered = observer.remembered()
        for key in ended.keys() - forgotten.keys() - remembered:
            forgotten[key] = clock.boottime()
        time.sleep(OBSERVE_EVERY)
    excess = sorted(forgotten[key] - ended[key] for key in ended)
    # A scan every 60 s finds a session over at any moment of its interval, all alike.
    tick = [random.uniform(0, TICK) for _ in range(CLIENTS)]
    rows = [("", "p50", "p99", "most", "goal for p99"), _row("ours", excess, "≤ 1 s")]
    rows.append(_row(f"a {TICK:.0f} s tick (calculated)", tick, ""))
    print_table(f"Seconds remembered beyond {REJECT_AFTER_TIME} s: {CLIENTS} clients of {PEERS} peers", rows)


def _row(name: str, values: list[float], goal: str) -> tuple[str, ...]:
    cuts = statistics.quantiles(values, n=100)
    return name, f"{cuts[49]:.2f}", f"{cuts[98]:.2f}", f"{max(values):.2f}", goal


def _cpu(fleet: Fleet, gateway: "subprocess.Popen[bytes]", seconds: float = 240) -> None:
    fleet.prepare(time.time())
    order = list(range(CLIENTS))
    random.shuffle(order)
    before, began = _cpu_seconds(gateway.pid), clock.boottime()
    for number in order:
        fleet.shake_hands([number])
        time.sleep(seconds / 2 / CLIENTS)
    time.sleep(max(0.0, began + seconds - clock.boottime()))
    after, ended = _cpu_seconds(gateway.pid), clock.boottime()
    used = [100 * (late - early) / (ended - began) for late, early in zip(after, before, strict=True)]
    rows = [("process", "share of a core", "goal"), ("both", f"{sum(used):.2f} %", "≤ 2 %")]
    rows += [("kernel process", f"{used[0]:.2f} %", ""), ("network process", f"{used[1]:.2f} %", "")]
    print_table(f"CPU time with {PEERS} peers, of which {CLIENTS} come and go, over {seconds:.0f} s", rows)


def _cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the CPU time of a process, and of all children that it has or had."""
    own = _stat(Path(f"/proc/{pid}/stat"))
    living = [_stat(file) for file in Path("/proc").glob("[0-9]*/stat")]
    of_children = sum(_ticks(fields, 11) for fields in living if int(fields[1]) == pid)
    hertz = os.sysconf("SC_CLK_TCK")
    return _ticks(own, 11) / hertz, (_ticks(own, 13) + of_children) / hertz


def _stat(file: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name (proc(5)), or of nobody if it has ended."""
    try:
        return file.read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ["0"] * 50


def _ticks(fields: list[str], first: int) -> int:
    """Return user and system time; those of ended children follow the process's own."""
    return int(fields[first]) + int(fields[first + 1])


def _interface() -> Fleet:
    """Make the interface as a gateway would have left it, and return the clients."""
    run("ip", "link", "add", INTERFACE, "type", "wireguard")
    private = run("wg", "genkey")
    run("wg", "set", INTERFACE, "private-key", "/dev/stdin", "listen-port", str(PORT), text=private)
    run("ip", "link", "set", INTERFACE, "up", "alias", Alias(None, clock.boottime(), POOLS).text())
    interface = open_interface(INTERFACE)
    own_key = interface.facts().public_key
    assert own_key is not None
    fleet = Fleet(CLIENTS, own_key, PORT, first_number=2)
    table = [client.peer for client in fleet.clients]
    table += strangers(PEERS - CLIENTS, first_number=2 + CLIENTS)
    random.shuffle(table)
    assert not interface.apply(put=table)
    interface.close()
    return fleet


def _gateway() -> "subprocess.Popen[bytes]":
    """Start a gateway whose control plane can't be reached: it serves what it finds."""
    token = Path("/run/residual.token")
    token.write_text("no-token")
    command = [sys.executable, "-m", "exuvia", "gateway", "run", "--control", "http://127.0.0.1:9"]
    process = subprocess.Popen([*command, "--token-file", str(token), "--interface", INTERFACE])
    time.sleep(5)
    assert process.poll() is None, "the gateway did not start"
    return process


if __name__ == "__main__":
    main()
