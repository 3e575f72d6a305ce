"""
From the command `exuvia client rotate` to the new key in use, with 20 gateways that must know it first.

Everything is real: control plane with TLS, gateways, client, WireGuard; on tools/kernel all of it
shares one CPU. Measured is what a person waits for, from the start of the command's process until
new connections use the new key; beside it when the command has ended, the control plane told too,
and what the running client takes from being asked.

    tools/kernel --mem 6G -- .venv/bin/python -m bench.rotate

Without tools/kernel it runs on whatever kernel there is, by wireguard-go if that has no WireGuard.
"""

import argparse
import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.fleet import print_table
from exuvia.client.progress import CHANGED
from exuvia.client.talk import Question, follow
from exuvia.demo.certificate import write_certificate
from exuvia.demo.world import World, small_internet
from exuvia.system import clock
from exuvia.testing.namespaces import unique

CONTROL = "203.0.113.2"
GATEWAYS, TIMES = 20, 50
GOAL = 1.0
HELD_UP = 2.0
"""By how much longer than ever a process that does nothing takes where others have the processor."""
BATCH = 1
"""Seconds for which retired keys are gathered; by default it would be ten minutes."""
IN_USE = b"new connections use the new key"
"""What the client says then."""


class Place:
    """A control plane, its gateways, and a home with a client that is up."""

    def __init__(self, world: World, gateways: int) -> None:
        self._world = world
        self._folder = Path(world.folder)
        self._database = f"sqlite:///{world.folder}/control.db"
        world.host("control", "203.0.113")
        world.host("home", "100.64.3")
        write_certificate(self._folder, CONTROL, clock.wall())
        world.start_exuvia(
            *("control", "serve", "--listen", f"{CONTROL}:443", "--database", self._database),
            *("--tls-cert", self._file("cert.pem"), "--tls-key", self._file("key.pem")),
            *("--retire-every", str(BATCH)),
        ).wait_until_it_says("ready")
        account = self._operator("account", "create")
        for number in range(gateways):
            self._gateway(f"gw{number}", f"198.51.{number}")
        self.client(
            "login", "--control", f"https://{CONTROL}", "--ca-file", self._file("cert.pem"), text=account
        )
        client = world.start_exuvia(
            *("home", "client", "--state", self._file("state")),
            *("up", "--gateway", "gw0", "--drain", "0", "--interface", f"c{unique()}"),
        )
        client.wait_until_it_says("connected")

    @property
    def socket(self) -> Path:
        """Where the running client is asked."""
        return self._folder / "state/control"

    def client(self, *arguments: str, state: str = "state", text: str | None = None) -> str:
        """Run a client command."""
        return self._world.exuvia("home", "client", "--state", self._file(state), *arguments, text=text)

    def wait_until_settled(self) -> None:
        """Wait until the old key is retired, and has left the gateways: the next change is to be alone."""
        state = self._folder / "state/state.json"
        # An earlier state that is being overwritten is all zeros.
        while not (content := state.read_bytes().strip(b"\0")) or json.loads(content)["phase"] != "settled":
            time.sleep(0.05)
        time.sleep(2 * BATCH)

    def _gateway(self, name: str, network: str) -> None:
        address = self._world.host(name, network)
        token = self._operator("gateway", "enroll", name, "--endpoint", f"{address}:51820")
        self._world.write_secret(f"{name}.token", token)
        self._world.start_exuvia(
            *(name, "gateway", "run", "--control", f"https://{CONTROL}", "--ca-file", self._file("cert.pem")),
            *("--token-file", self._file(f"{name}.token"), "--listen-port", "51820", "--nat", "eth0"),
            # Every wireguard-go has its socket in the same folder.
            *("--interface", f"g{unique()}"),
        ).wait_until_it_says("ready")

    def _operator(self, *arguments: str) -> str:
        return self._world.exuvia("control", *arguments, "--database", self._database)

    def _file(self, name: str) -> str:
        return str(self._folder / name)


def main() -> int:
    """Measure, print one table, and return 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--gateways", type=int, default=GATEWAYS)
    parser.add_argument("--times", type=int, default=TIMES)
    asked = parser.parse_args()
    with small_internet() as world:
        place = Place(world, asked.gateways)
        samples = [_sample(place) for _ in range(asked.times)]
    least = min(sample.nothing for sample in samples)
    calm = [sample for sample in samples if sample.nothing <= HELD_UP * least]
    rows = [("", "p50", "p99", "slowest", "goal for p99")]
    rows += _rows(samples, "≤ 1 s" if calm == samples else "")
    if len(calm) < len(samples):
        rows.append((f"{len(calm)} of the {len(samples)}, the machine not held up:", "", "", "", ""))
        rows += _rows(calm, "≤ 1 s") if len(calm) > 1 else []
    title = (
        f"A change of keys, {asked.gateways} gateways that must know of it first, {asked.times} times each"
    )
    print_table(title, rows)
    if len(calm) < len(samples) / 2:
        print("\nThis can't be told here: processes that do nothing were held up as often as not.")
        return 0
    return int(_quantiles([sample.in_use for sample in calm])[98] > GOAL)


class Sample(NamedTuple):
    """What was measured at about the same time, in seconds."""

    in_use: float
    """From the start of the command until the new key is in use."""
    ended: float
    asked: float
    """From the question to the running client until the new key is in use."""
    nothing: float
    """What a process that does nothing took, before, between or after: the longest."""


def _sample(place: Place) -> Sample:
    nothing = [_by_nothing()]
    in_use, ended = _by_command(place)
    place.wait_until_settled()
    nothing.append(_by_nothing())
    asked = _by_socket(place)
    place.wait_until_settled()
    nothing.append(_by_nothing())
    return Sample(in_use, ended, asked, max(nothing))


def _rows(samples: list[Sample], goal: str) -> list[tuple[str, ...]]:
    return [
        _row(
            "`client rotate`, from its start → new connections use the new key",
            [s.in_use for s in samples],
            goal,
        ),
        _row("`client rotate`, from its start to its end", [s.ended for s in samples], ""),
        _row("asked of the running client → new connections use the new key", [s.asked for s in samples], ""),
        _row("`python -c pass`, from its start to its end", [s.nothing for s in samples], ""),
    ]


def _by_command(place: Place) -> tuple[float, float]:
    """Return seconds from the start of the command's process: until the key is in use, until it has ended."""
    with overheard(place) as heard:
        began = time.monotonic()
        said = place.client("rotate", state="overheard")
        ended = time.monotonic()
    if CHANGED not in said:
        raise RuntimeError(said)
    return heard[0] - began, ended - began


def _by_nothing() -> float:
    """Return what a process takes on this machine at the moment that does nothing at all."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - began


@contextlib.contextmanager
def overheard(place: Place) -> Iterator[list[float]]:
    """
    Stand between a command and the running client, in a state folder that has nothing but a socket.

    Yields a list, to which is added when the client says that new connections use the new key.
    """
    folder = place.socket.parent.parent / "overheard"
    folder.mkdir(mode=0o700)
    times: list[float] = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(folder / "control"))
        listener.listen()
        thread = threading.Thread(target=_relay, args=(listener, client, place.socket, times))
        thread.start()
        yield times
        thread.join()
    shutil.rmtree(folder)


def _relay(listener: socket.socket, client: socket.socket, path: Path, times: list[float]) -> None:
    command, _ = listener.accept()
    with command, command.makefile("rb") as questions, client.makefile("rb") as answers:
        client.connect(str(path))
        client.sendall(questions.readline())
        for answer in answers:
            if IN_USE in answer:
                times.append(time.monotonic())
            command.sendall(answer)


def _by_socket(place: Place) -> float:
    began, took = time.monotonic(), 0.0
    for progress in follow(place.socket, Question("rotate")):
        if not took and IN_USE.decode() in progress.said:
            took = time.monotonic() - began
        if progress.failed:
            raise RuntimeError(progress.said)
    return took


def _row(name: str, values: list[float], goal: str) -> tuple[str, ...]:
    cuts = _quantiles(values)
    return name, *(f"{1000 * value:.0f} ms" for value in (cuts[49], cuts[98], max(values))), goal


def _quantiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=100, method="inclusive")


if __name__ == "__main__":
    sys.exit(main())
