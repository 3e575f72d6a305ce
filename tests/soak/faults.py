"""
An hour of faults on a real kernel, in virtual time: one gateway, clients that come and go, and accidents.

Every few seconds something is cut, killed, deleted, or says what makes no sense. Each minute it is
left alone for a moment: then the interface is equal to the peer table, and nobody who has been
silent for 180 s + G + S is visible on it.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from exuvia.testing.feed import peer
from exuvia.testing.site import INTERFACE, GatewayRun, Machine

SECONDS = 3_600.0
PEERS, CLIENTS = 40, 3
QUIET_FOR = 180 + 20 + 1.0


class Hour:
    """One gateway and its accidents."""

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        self.machine = machine
        self.feed = machine.feed
        self.chance = chance
        self.counts: dict[str, int] = {}
        self.clients = [machine.client(number) for number in range(1, CLIENTS + 1)]
        self.last_packet: dict[bytes, float] = {}
        self.gateway: GatewayRun = machine.run()
        self.started = time.monotonic()
        self.gateway.wait_ready()

    def accident(self) -> None:
        """Let something happen."""
        deeds: tuple[Callable[[], None], ...] = (
            self.change_table,
            self.change_table,
            self.cut_feed,
            self.kill_network_process,
            self.kill_gateway,
            self.delete_interface,
            self.remove_by_hand,
            self.rubbish,
            self.connect,
            self.connect,
        )
        deed = self.chance.choice(deeds)
        self.counts[deed.__name__] = self.counts.get(deed.__name__, 0) + 1
        deed()

    def change_table(self) -> None:
        numbers = self.chance.sample(range(CLIENTS + 1, PEERS), 4)
        present = [number for number in numbers if peer(number)[:32] in self.feed.table]
        self.feed.change(
            put=[peer(number) for number in numbers if number not in present],
            remove=[peer(number)[:32] for number in present],
        )

    def cut_feed(self) -> None:
        self.feed.cut()

    def kill_network_process(self) -> None:
        network = self.gateway.network_pid
        if network is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(network, signal.SIGKILL)

    def kill_gateway(self) -> None:
        self.gateway.kill()
        self.gateway = self.machine.run()
        self.started = time.monotonic()

    def delete_interface(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.machine.namespace.ip(f"link del {INTERFACE}")

    def remove_by_hand(self) -> None:
        from exuvia.wg.keys import PublicKey

        shown = self.machine.show()
        if shown:
            key = self.chance.choice(sorted(shown))
            self.machine.wg("set", INTERFACE, "peer", PublicKey(key).text(), "remove")

    def rubbish(self) -> None:
        self.feed.send(
            self.chance.choice((b"<html>502</html>\n", b"{}\n", b'{"type":"peers","peers":[""]}\n'))
        )

    def connect(self) -> None:
        client = self.chance.choice(self.clients)
        with contextlib.suppress(RuntimeError):
            client.up(self.machine.public_key())
            client.pings(seconds=2)
        with contextlib.suppress(RuntimeError):
            client.down()
        self.last_packet[client.key] = time.monotonic()

    def check(self) -> None:
        """Everything is as it should be, once nothing happens for a moment."""
        # Somebody who removes a peer by hand is noticed within a minute.
        self.machine.wait_equal(90)
        for key, shown in self.machine.show().items():
            # A gateway that was restarted counts from then on.
            silent_for = time.monotonic() - max(self.last_packet.get(key, 0.0), self.started)
            if not shown.forgotten and silent_for > QUIET_FOR:
                raise AssertionError(f"a client is visible {silent_for:.0f} s after its last packet")


def main() -> int:
    """Let the hour pass and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        try:
            with machine.serving():
                machine.feed.change(put=[peer(number) for number in range(1, PEERS // 2)])
                hour = Hour(machine, chance)
                let_pass(hour, asked.seconds)
        finally:
            machine.close()
    counted = ", ".join(f"{count} × {name.replace('_', ' ')}" for name, count in sorted(hour.counts.items()))
    accidents = sum(hour.counts.values())
    print(f"faults: {asked.seconds:.0f} virtual seconds, {accidents} accidents: {counted}; all mended")
    return 0


def let_pass(hour: Hour, seconds: float) -> None:
    """Let accidents happen for so long, with a check each minute."""
    began = time.monotonic()
    minutes = 0
    while (passed := time.monotonic() - began) < seconds:
        hour.accident()
        time.sleep(hour.chance.uniform(0, 8))
        if passed // 60 > minutes:
            minutes = int(passed // 60)
            hour.check()
            print(f"minute {minutes}: {sum(hour.counts.values())} accidents", flush=True)


if __name__ == "__main__":
    sys.exit(main())
