"""
Two days of a connected client that changes its key every day, in virtual time: nothing is lost.

In the hours in which nothing is due the client's process is stopped, for it looks at its tunnel
every second, which would take minutes of real time. `make soak` does the same for a month.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.testing.chatter import leaks
from exuvia.testing.home import WEB, WEB6, World
from exuvia.testing.traffic import Program

DAY = 86_400
DAYS = int(os.environ.get("EXUVIA_DAYS", "2"))
AWAKE = "EXUVIA_AWAKE" in os.environ


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A home with a client that is logged in."""
    made = World(tmp_path)
    try:
        with made.serving(days=60):
            made.log_in()
            yield made
    finally:
        made.close()


@pytest.fixture
def programs(world: World) -> Iterator[list[Program]]:
    """The other end, and what is said at home every ten seconds, in IPv4 and IPv6."""
    made = [Program(world.gateways[0].namespace, "serve")]
    yield made
    for program in made:
        program.kill()


def test_days(world: World, programs: list[Program]) -> None:
    """Key and address change once a day, and of what was said every ten seconds no packet is lost."""
    assert world.client("interval", "1").returncode == 0
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    world.wiretap.packets()
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    programs += [Program(world.home, "echo", address, n, 0.1) for n, address in enumerate((WEB, WEB6))]
    outside, changes = [], 0
    while time.clock_gettime(time.CLOCK_BOOTTIME) < began + DAYS * DAY:
        if not AWAKE:
            client.process.send_signal(signal.SIGSTOP)
        time.sleep(due(world) - time.clock_gettime(time.CLOCK_BOOTTIME) - 3)
        client.process.send_signal(signal.SIGCONT)
        rapid = Program(world.home, "echo", WEB, 7 + changes, 1000)
        time.sleep(8)
        told = rapid.end()
        assert (told["received"], told["duplicated"]) == (told["sent"], 0)
        changes += 1
        wait_until_settled(world)
        outside += leaks(world.wiretap.packets(), world)
    server, *echoes = programs
    told_of, heard = [echo.end() for echo in echoes], server.end()

    assert outside == []
    assert changes >= DAYS * 0.8
    for number, told in enumerate(told_of):
        assert (told["received"], told["duplicated"]) == (told["sent"], 0)
        assert len(heard[str(number)]["addresses"]) == 1 + changes
    assert len(world.control.devices) == 1
    assert client.terminate() == 0


def due(world: World) -> float:
    """Return when the next change is due, in seconds of CLOCK_BOOTTIME."""
    return float(json.loads((world.state / "state.json").read_bytes())["due"][1])


def wait_until_settled(world: World) -> None:
    """Wait until the old key is retired."""
    end = time.monotonic() + 1200
    while json.loads((world.state / "state.json").read_bytes())["phase"] != "settled":
        assert time.monotonic() < end, world.status()
        time.sleep(5)
