"""A change of keys with everything real: control plane, gateway, client, and WireGuard between."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exuvia.demo.certificate import write_certificate
from exuvia.demo.world import Running, World, small_internet
from exuvia.system import clock

CONTROL = "203.0.113.2"
GATEWAY = "198.51.100"
WEB = "192.0.2.2"


class Place:
    """The machines, and how they are asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._database = f"sqlite:///{world.folder}/control.db"
        for name, network in (
            ("control", "203.0.113"),
            ("web", "192.0.2"),
            ("gw1", GATEWAY),
            ("home", "100.64.3"),
        ):
            world.host(name, network)
        write_certificate(world.folder, CONTROL, clock.wall())
        self.serve()
        self.account = self.operator("account", "create")
        token = self.operator("gateway", "enroll", "gw1", "--endpoint", f"{GATEWAY}.2:51820")
        world.write_secret("gw1.token", token)
        gateway = world.start_exuvia(
            *("gw1", "gateway", "run", "--control", f"https://{CONTROL}", "--ca-file", self.file("cert.pem")),
            *("--token-file", self.file("gw1.token"), "--interface", "wg0", "--listen-port", "51820"),
            *("--nat", "eth0"),
        )
        gateway.wait_until_it_says("ready")
        self.client("login", "--control", f"https://{CONTROL}", "--ca-file", self.file("cert.pem"))

    def serve(self) -> Running:
        """Start the control plane, with batches of retired keys every few seconds."""
        serve = self.world.start_exuvia(
            *("control", "serve", "--listen", f"{CONTROL}:443", "--database", self._database),
            *("--tls-cert", self.file("cert.pem"), "--tls-key", self.file("key.pem"), "--retire-every", "3"),
        )
        serve.wait_until_it_says("ready")
        return serve

    def up(self, *options: str) -> Running:
        """Start the client."""
        client = self.world.start_exuvia("home", "client", "--state", self.file("state"), "up", *options)
        client.wait_until_it_says("connected")
        return client

    def client(self, *arguments: str) -> str:
        """Run a client command."""
        return self.world.exuvia(
            "home", "client", "--state", self.file("state"), *arguments, text=self._number()
        )

    def status(self) -> Any:
        """Return how the client is."""
        return json.loads(self.client("status", "--json"))

    def operator(self, *arguments: str) -> str:
        """Run an operator command."""
        return self.world.exuvia("control", *arguments, "--database", self._database)

    def peers(self) -> set[str]:
        """Return the keys on the gateway's interface."""
        return set(self.world.run("gw1", "wg", "show", "wg0", "peers").split())

    def file(self, name: str) -> str:
        """Return where a file is."""
        return str(self.world.folder / name)

    def _number(self) -> str:
        return getattr(self, "account", "")


@pytest.fixture
def place() -> Iterator[Place]:
    """All of it, new."""
    with small_internet() as world:
        try:
            yield Place(world)
        finally:
            print(world.printed())


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_three_changes_lose_no_packet(place: Place) -> None:
    """While the key is changed three times every ping is answered, and each old key is gone in the end."""
    place.up("--drain", "2")
    (first,) = place.peers()
    ping = place.world.start("home", "ping", "-i", "0.05", "-W", "5", WEB)
    for _ in range(3):
        before = place.peers()
        assert place.client("rotate") == "the key is changed\n"
        assert len(place.peers()) == 2
        until(lambda: place.status()["phase"] == "settled")
        until(lambda before=before: len(place.peers()) == 1 and not place.peers() & before)
    ping.interrupt()
    words = ping.printed.split("ping statistics ---")[1].split()

    assert words[0] == words[3]
    assert int(words[0]) > 40
    assert first not in place.peers()


def test_a_device_deleted_elsewhere(place: Place) -> None:
    """A device that is deleted in another place is told so within seconds while it is connected."""
    client = place.up()
    ping = place.world.start("home", "ping", "-i", "0.2", WEB)
    place.world.run("web", sys.executable, "-c", DELETE, place.file("cert.pem"), place.account.strip())
    client.wait_until_it_says("does not know this device", timeout=20)
    ping.interrupt()

    assert place.status()["state"] == "refused"


def test_an_account_suspended_and_resumed(place: Place) -> None:
    """A suspended account is told within seconds why; resumed, its client takes a new key by itself."""
    client = place.up()
    (before,) = place.peers()
    ping = place.world.start("home", "ping", "-i", "0.2", WEB)
    number = json.loads(place.operator("account", "list", "--json"))
    account = (number if isinstance(number, list) else number["accounts"])[0]["id"]
    place.operator("account", "suspend", account)
    client.wait_until_it_says("the account is not active", timeout=20)
    place.operator("account", "resume", account)
    until(lambda: client.printed.count("connected to gw1") == 2, seconds=120)
    until(lambda: place.status()["phase"] == "settled")
    ping.interrupt()

    assert before not in place.peers()
    assert place.world.succeeds("home", "ping", "-c", "1", WEB)


def test_a_client_killed_in_the_middle(place: Place) -> None:
    """Killed while it changes its key, at many moments, the next `up` ends connected with one key."""
    for pause in (0.15, 0.25, 0.35, 0.45, 0.6):
        client = place.up("--drain", "0")
        rotating = subprocess.Popen(
            place.world._inside(
                "home", (sys.executable, "-m", "exuvia", "client", "--state", place.file("state"), "rotate")
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(pause)
        client._process.kill()
        client._process.wait()
        rotating.wait()
    client = place.up("--drain", "0")
    until(lambda: place.status()["phase"] == "settled")
    until(lambda: len(place.peers()) == 1)

    assert place.world.succeeds("home", "ping", "-c", "1", WEB)


DELETE = """
import http.client, json, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
head = {"Authorization": "Bearer " + sys.argv[2]}
connection = http.client.HTTPSConnection("203.0.113.2", 443, context=context)
connection.request("GET", "/v1/devices", headers=head)
(device,) = json.loads(connection.getresponse().read())
connection.request("DELETE", "/v1/devices/" + device["id"], headers=head)
assert connection.getresponse().status == 204
"""
