"""The running client changes its key on the real kernel: when asked, when due, whatever happens."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exuvia.testing.home import CONTROL, World


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home, an internet and two gateways."""
    made = World(tmp_path_factory.mktemp("town"))
    try:
        with made.serving():
            yield made
    finally:
        made.close()


@pytest.fixture
def world(town: World) -> World:
    """A new home with a client that is logged in."""
    town.control.applied = True
    town.control.lose.clear()
    town.new_home()
    town.log_in()
    return town


def saved(world: World) -> Any:
    """Return what the state file holds."""
    return json.loads((world.state / "state.json").read_bytes())


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def registered(world: World) -> list[str]:
    """Return the keys that the control plane knows."""
    return [device.public_key for device in world.control.devices]


def test_a_control_plane_in_the_local_network(world: World) -> None:
    """It is reached through the tunnel although the main table knows a shorter way, which is closed."""
    world.home.ip(f"route add {CONTROL} dev eth0")
    world.up("--gateway", "gw1", "--drain", "0").wait_for("connected to gw1")
    (before,) = registered(world)
    done = world.client("rotate")

    assert (done.returncode, done.stdout) == (0, "the key is changed\n")
    assert registered(world) != [before]


def test_rotate_while_it_is_up(world: World) -> None:
    """The key is another one, on another interface and address, and the old one is gone everywhere."""
    world.up("--gateway", "gw1", "--drain", "0").wait_for("connected to gw1")
    (before,) = registered(world)
    address = saved(world)["current"]["grant"]["address4"]
    done = world.client("rotate")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the key is changed\n", "")
    until(lambda: world.status()["phase"] == "settled")

    (after,) = registered(world)
    assert after != before
    assert saved(world)["current"]["grant"]["address4"] != address
    assert saved(world)["previous"] is None
    told = world.status()
    assert (told["state"], told["interface"], told["draining"]) == ("connected", "exuvia0b", None)
    assert world.pings()
    assert "exuvia0:" not in world.home.run("ip", "link")
    assert world.client("rotate").returncode == 0
    until(lambda: world.status()["phase"] == "settled")
    assert world.status()["interface"] == "exuvia0"
    assert world.pings()


def test_connections_go_on_while_they_drain(world: World) -> None:
    """A connection from before goes on over the old tunnel; another `rotate` ends that first, and says so."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    command = world.home.command(
        "ping", "-i", "0.1", "-I", saved(world)["current"]["grant"]["address4"], "198.18.0.1"
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as old:
        assert world.client("rotate").returncode == 0
        told = world.status()
        assert (told["phase"], 500 < told["draining"] <= 600) == ("draining", True)
        assert len(registered(world)) == 2
        time.sleep(1)
        assert old.poll() is None
        again = world.client("rotate")
        assert (again.returncode, again.stderr) == (0, "")
        assert "is changed" in again.stdout
        old.terminate()
        assert old.stdout is not None
        answers = old.stdout.read().count("bytes from")

    assert answers > 8
    assert world.pings()


def test_due_while_it_is_up(world: World) -> None:
    """When the change is due it is made, without anybody asking and without losing the connection."""
    state = saved(world)
    state["due"] = [0.0, time.clock_gettime(time.CLOCK_BOOTTIME) + 4, state["due"][2]]
    (world.state / "state.json").write_text(json.dumps(state))
    client = world.up("--gateway", "gw1", "--drain", "0")
    client.wait_for("connected to gw1")
    (before,) = registered(world)
    until(lambda: registered(world) not in ([before],) and world.status()["phase"] == "settled")

    assert before not in registered(world)
    assert client.printed.count("connected") == 1
    assert world.status()["next_change"] > 5 * 86400
    assert world.pings()


@pytest.mark.parametrize("why", ["asked for", "due", "begun before"])
def test_a_new_key_from_the_first_packet_on(world: World, why: str) -> None:
    """With --on-connect, or if a change was due or begun while it was off, it connects with the new key."""
    (before,) = registered(world)
    if why != "asked for":
        state = saved(world)
        state["due"] = [0.0, 0.0, ""]
        if why == "begun before":
            key = world.home.run("wg", "genkey").strip()
            state |= {"phase": "registering", "pending": {"private_key": key}}
        (world.state / "state.json").write_text(json.dumps(state))
    world.up("--gateway", "gw1", *(["--on-connect"] if why == "asked for" else [])).wait_for(
        "connected to gw1"
    )
    until(lambda: world.status()["phase"] == "settled")

    assert len(registered(world)) == 1
    assert before not in registered(world)
    assert world.home.run("wg", "show", "exuvia0", "public-key").strip() == registered(world)[0]
    assert world.pings()


def test_rotate_while_it_is_down(world: World) -> None:
    """Without a running client the key is changed at once, and the next `up` uses it."""
    (before,) = registered(world)
    done = world.client("rotate")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the key is changed\n", "")
    (after,) = registered(world)
    assert after != before
    world.up("--gateway", "gw1").wait_for("connected to gw1")

    assert registered(world) == [after]
    assert world.pings()


def test_an_interval(world: World) -> None:
    """How often the key is changed can be set while the client is up, and while it is down."""
    done = world.client("interval", "30")
    assert done.stdout == "the key is changed every 30 days, a fifth more or less\n"
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    done = world.client("interval", "1")
    assert done.stdout == "the key is changed every day, a fifth more or less\n"

    assert world.status()["next_change"] < 1.2 * 86400
    assert saved(world)["interval"] == 1
    assert world.client("interval", "31").returncode == 2


def test_a_gateway_that_applies_late(world: World) -> None:
    """`rotate` says what it waits for, and the old key is used until the new one works."""
    world.up("--gateway", "gw1").wait_for("connected to gw1")
    world.control.applied = False
    command = world._client("rotate")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rotating:
        assert rotating.stdout is not None
        assert rotating.stdout.readline() == "waiting until every gateway knows the new key\n"
        assert world.pings()
        world.control.applied = True
        assert rotating.stdout.read().splitlines()[-1] == "the key is changed"

    assert world.pings()


def test_a_removed_device_is_told_within_seconds(world: World) -> None:
    """A connected client that is removed says so as soon as its traffic goes unanswered."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    world.control.devices.clear()
    world._changed([])
    with subprocess.Popen(
        world.home.command("ping", "-q", "-i", "0.2", "198.18.0.1"), stdout=subprocess.DEVNULL
    ) as ping:
        client.wait_for("does not know this device", seconds=15)
        ping.terminate()

    assert world.status()["state"] == "refused"
    assert "does not know this device" in world.client("rotate").stderr


def test_a_control_plane_that_forgot_the_key(world: World) -> None:
    """If a restored control plane knows the device but not its key, the client registers another."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    (device,) = world.control.devices
    other = world.home.run("wg", "pubkey", text=world.home.run("wg", "genkey")).strip()
    device.public_key = other
    world._changed(world.control.devices)
    with subprocess.Popen(
        world.home.command("ping", "-q", "-i", "0.2", "198.18.0.1"), stdout=subprocess.DEVNULL
    ) as ping:
        client.wait_for("connected to gw1", times=2, seconds=60)
        ping.terminate()

    until(lambda: world.status()["phase"] == "settled")
    assert {device.public_key: device.standing for device in world.control.devices}[other] == "old"
    assert world.pings()
