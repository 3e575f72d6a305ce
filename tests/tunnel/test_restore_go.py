"""The control plane is lost and restored, with everything real: server, gateways, a client, wireguard-go."""

import re
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from exuvia.demo.certificate import write_certificate
from exuvia.demo.world import Running, World, small_internet
from exuvia.system import clock
from exuvia.testing.namespaces import unique

CONTROL, WEB = "203.0.113.2", "192.0.2.2"
GATEWAYS = {"gw1": "198.51.100", "gw2": "100.64.7"}


class Place:
    """The machines, and who does what on them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._port = 51820
        # All machines share one folder in which wireguard-go has its sockets.
        self.interfaces = {name: f"x{unique()}" for name in (*GATEWAYS, "home")}
        (world.folder / "control").mkdir()
        for name, network in {
            "control": "203.0.113",
            "web": "192.0.2",
            "home": "100.64.3",
            **GATEWAYS,
        }.items():
            world.host(name, network)
        write_certificate(world.folder, CONTROL, clock.wall())

    @property
    def database(self) -> str:
        """The database, as an option says it."""
        return f"sqlite:///{self.world.folder}/control/exuvia.db"

    def file(self, name: str) -> str:
        """Return where a file is."""
        return str(self.world.folder / name)

    def operator(self, *arguments: str, text: str | None = None) -> str:
        """Run an operator command."""
        return self.world.exuvia("control", *arguments, "--database", self.database, text=text)

    def serve(self) -> Running:
        """Start the control plane."""
        return self._ready(
            *("control", "serve", "--listen", f"{CONTROL}:443", "--database", self.database),
            *("--tls-cert", self.file("cert.pem"), "--tls-key", self.file("key.pem")),
        )

    def gateway(self, name: str) -> Running:
        """Enroll a gateway and start it."""
        endpoint = f"{GATEWAYS[name]}.2:51820"
        self.world.write_secret(
            f"{name}.token", self.operator("gateway", "enroll", name, "--endpoint", endpoint)
        )
        return self._ready(
            *(name, "gateway", "run", "--control", f"https://{CONTROL}", "--ca-file", self.file("cert.pem")),
            *("--token-file", self.file(f"{name}.token"), "--interface", self.interfaces[name]),
            *("--listen-port", "51820", "--nat", "eth0"),
        )

    def client(self, *arguments: str, text: str | None = None) -> str:
        """Run a client command."""
        return self.world.exuvia("home", "client", "--state", self.file("state"), *arguments, text=text)

    def up(self) -> Running:
        """Start the client."""
        words = (
            "--state",
            self.file("state"),
            "up",
            "--gateway",
            "gw1",
            "--interface",
            self.interfaces["home"],
        )
        running = self.world.start_exuvia("home", "client", *words)
        running.wait_until_it_says("connected to gw1")
        return running

    def peers(self, gateway: str) -> set[str]:
        """Return the keys on a gateway's interface."""
        return set(self.world.run(gateway, "wg", "show", self.interfaces[gateway], "peers").split())

    def _ready(self, *words: str) -> Running:
        running = self.world.start_exuvia(*words)
        running.wait_until_it_says("ready")
        return running


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


def test_p18_the_control_plane_is_lost_and_restored(place: Place) -> None:
    """
    A person notices nothing: no packet is lost, and the next change of keys works as ever.

    The gateway keeps whom it knows, follows the new epoch, and serves the device's new key. A gateway that
    was enrolled after the backup is refused, says so, and goes on serving.
    """
    place.world.write_secret(
        "recipient", place.world.exuvia("control", "backup-key", place.file("backup.key"))
    )
    serve = place.serve()
    number = place.operator("account", "create")
    first = place.gateway("gw1")
    place.client("login", "--control", f"https://{CONTROL}", "--ca-file", place.file("cert.pem"), text=number)
    place.up()
    (before,) = place.peers("gw1")
    place.operator("backup", "--to", place.file("backup"), "--recipient-file", place.file("recipient"))
    late = place.gateway("gw2")
    ping = place.world.start("home", "ping", "-i", "0.1", "-W", "5", WEB)

    serve.stop()
    shutil.rmtree(place.world.folder / "control")
    (place.world.folder / "control").mkdir()
    place.operator("restore", place.file("backup"), "--key-file", place.file("backup.key"))
    place.serve()

    first.wait_until_it_says("lacks 1 of the peers")
    late.wait_until_it_says("does not accept this gateway's token")
    assert place.peers("gw1") == place.peers("gw2") == {before}
    assert place.client("rotate") == "the key is changed\n"
    assert len(place.peers("gw1")) == 2
    assert place.peers("gw1") > {before}
    assert place.peers("gw2") == {before}
    listed = place.operator("gateway", "list")
    assert ("gw1" in listed, "gw2" in listed) == (True, False)
    ping.interrupt()
    answers = [int(number) for number in re.findall(r"icmp_seq=(\d+)", ping.printed)]
    sent = int(ping.printed.split("ping statistics ---")[1].split()[0])
    # The last answer may have been under way.
    assert answers == list(range(1, len(answers) + 1))
    assert len(answers) in (sent - 1, sent)
