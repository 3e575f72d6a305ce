"""
Fresh sessions wiped by a purge while everybody reconnects at full speed.

2,000 quiet peers of 10,000 fall due at the same moment, while their clients shake hands anew
as fast as they can. A session that was completed, and whose peer is clean at the end, was
wiped: its client is cut off for about 15 s. The peer to compare with removes all quiet peers
first and then adds them all again, from one reading, as two commands to the interface.

Runs on the kernel, in real time: tools/kernel --mem 4G -- .venv/bin/python -m bench.wiped
"""

import argparse
import multiprocessing
import os
import random
import subprocess
import time
from collections.abc import Callable

from bench.fleet import Fleet, print_table, run, strangers
from exuvia.rules.purge import Watch
from exuvia.system import process
from exuvia.system.interface import WireGuardInterface, open_interface
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import Sighting, TunnelPeer

INTERFACE = "wg-wiped"
PORT = 51990
PEERS, QUIET_PEERS = 10_000, 2_000
LATER = 200.0
"""Seconds that the clock is put forward, so that all quiet peers are due at once."""
SMALL_WHEN_DUE = 64

Purge = Callable[[WireGuardInterface, Watch, dict[bytes, TunnelPeer]], None]


def main() -> None:
    """Run both ways of purging as often as asked, and print what each wiped."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ways = {"ours: each part of the dump purged before the next is read": ours, "two-phase": two_phase}
    rows: list[tuple[str, ...]] = [
        ("way", "completed meanwhile", f"wiped of {QUIET_PEERS}", "missing", "seconds")
    ]
    for name, purge in ways.items():
        for _ in range(rounds):
            rows.append((name, *map(str, one_round(purge))))
    print_table(
        f"Fresh sessions wiped, {QUIET_PEERS} quiet peers of {PEERS} purged under reconnect load", rows
    )


def one_round(purge: Purge) -> tuple[int, int, int, str]:
    """Set up, purge under load, and count: completed handshakes, wiped, missing, seconds."""
    run("ip", "link", "add", INTERFACE, "type", "wireguard")
    try:
        interface = open_interface(INTERFACE)
        gateway_key = _start(interface)
        fleet = Fleet(QUIET_PEERS, gateway_key, PORT, first_number=2)
        table = _table(interface, fleet)
        watch = Watch()
        fleet.prepare(time.time())
        fleet.shake_hands(list(range(QUIET_PEERS)))
        _look(interface, watch, now=0.0)
        fleet.prepare(time.time() + 1)
        reconnecting = _Reconnecting(fleet)
        time.sleep(0.2)
        process.go_first()  # as the gateway does
        began = time.perf_counter()
        purge(interface, watch, table)
        took = time.perf_counter() - began
        process.take_turns()
        completed = reconnecting.result()
        return *_count(interface, table, fleet, completed), f"{took:.2f}"
    finally:
        interface.close()
        run("ip", "link", "delete", INTERFACE)


def ours(interface: WireGuardInterface, watch: Watch, table: dict[bytes, TunnelPeer]) -> None:
    """Purge as the gateway does: the quiet peers of each part of the dump, before the next part is read."""

    def see(sightings: list[Sighting]) -> None:
        due = watch.see(sightings, now=LATER)
        interface.purge(table[key] for key in due)

    watch.begin()
    interface.look(see, small=watch.expected(now=LATER) >= SMALL_WHEN_DUE)


def two_phase(interface: WireGuardInterface, watch: Watch, table: dict[bytes, TunnelPeer]) -> None:
    """Purge from one reading of the interface: all are removed, then all are added."""
    due: list[bytes] = []
    watch.begin()
    interface.look(lambda sightings: due.extend(watch.see(sightings, now=LATER)))
    interface.apply(remove=due)
    interface.apply(put=[table[key] for key in due])


def _start(interface: WireGuardInterface) -> PublicKey:
    private = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout
    run("wg", "set", INTERFACE, "private-key", "/dev/stdin", "listen-port", str(PORT), text=private)
    run("ip", "link", "set", INTERFACE, "up")
    key = interface.facts().public_key
    assert key is not None
    return key


def _table(interface: WireGuardInterface, fleet: Fleet) -> dict[bytes, TunnelPeer]:
    peers = [client.peer for client in fleet.clients] + strangers(
        PEERS - QUIET_PEERS, first_number=2 + QUIET_PEERS
    )
    random.shuffle(peers)
    failed = interface.apply(put=peers)
    assert not failed
    return {bytes(peer.public_key): peer for peer in peers}


def _look(interface: WireGuardInterface, watch: Watch, *, now: float) -> None:
    watch.begin()
    interface.look(lambda sightings: watch.see(sightings, now=now) and None)


class _Reconnecting:
    """A process in which all clients shake hands anew, in random order."""

    def __init__(self, fleet: Fleet) -> None:
        self._reader, writer = multiprocessing.Pipe(duplex=False)
        self._process = os.fork()
        if self._process == 0:
            numbers = list(range(len(fleet.clients)))
            random.shuffle(numbers)
            writer.send(fleet.shake_hands(numbers))
            os._exit(0)
        writer.close()

    def result(self) -> list[int]:
        """Return the numbers of the clients that completed a handshake."""
        completed: list[int] = self._reader.recv()
        os.waitpid(self._process, 0)
        return completed


def _count(
    interface: WireGuardInterface, table: dict[bytes, TunnelPeer], fleet: Fleet, completed: list[int]
) -> tuple[int, int, int]:
    """Return how many sessions were completed, how many of them wiped, how many peers are missing."""
    with_session: set[bytes] = set()
    interface.look(lambda sightings: with_session.update(s.public_key for s in sightings if s.handshake))
    wiped = sum(bytes(fleet.clients[number].peer.public_key) not in with_session for number in completed)
    comparison = interface.compare(table)
    return len(completed), wiped, len(comparison.missing) + len(comparison.different)


if __name__ == "__main__":
    main()
