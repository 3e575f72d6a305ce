"""
The demonstration: what exuvia does, seen happening on real WireGuard.

Each step observes what it claims, with `wg show`, `ping` and a web server that tells who
asked; a step that can't observe it fails the whole demonstration.
"""

import re
import sys
import time
from functools import partial

from exuvia.demo import look
from exuvia.demo.certificate import write_certificate
from exuvia.demo.look import Gateway, Shown
from exuvia.demo.tell import Teller
from exuvia.demo.world import Running, StepFailed, World, small_internet
from exuvia.rules.purge import CAP, QUIET
from exuvia.system import clock
from exuvia.wg.timing import REJECT_AFTER_TIME

CONTROL_HOST = "203.0.113.2"
CONTROL = f"https://{CONTROL_HOST}:8443"
WEB = "192.0.2.2"
AMSTERDAM = Gateway("amsterdam", "198.51.100", "wg-ams")
STOCKHOLM = Gateway("stockholm", "100.64.2", "wg-sto")
GATEWAYS = (AMSTERDAM, STOCKHOLM)
PEOPLE = {"alice": "100.64.3", "bob": "100.64.4", "carol": "100.64.5"}
RETIRE_EVERY = 10
"""Seconds between batches of retired keys; usually they are 10 minutes, for more keys to hide among."""
SLACK = 3.0
"""Seconds that a busy machine may be late; the daemon itself looks at least once a second."""

WHO_ASKS = """
import socket
listener = socket.create_server(("192.0.2.2", 80))
while True:
    connection, (address, _) = listener.accept()
    connection.sendall(address.encode())
    connection.close()
"""
ASK = "import socket; print(socket.create_connection(('192.0.2.2', 80), timeout=10).recv(99).decode())"
NOTHING_COMES_BACK = """
table inet deaf {
  chain input {
    type filter hook input priority 0
    udp sport 51820 drop
  }
}
"""


def tell_story() -> None:
    """Run the demonstration; returns if every step was observed, raises StepFailed otherwise."""
    teller = Teller()
    with small_internet() as world:
        try:
            Story(world, teller).tell()
        except StepFailed:
            teller.programs(world.printed())
            raise
    teller.step("Every step was observed. The namespaces and all that was in them are gone.")


class Story:
    """The steps in order, and what they hand on to each other."""

    def __init__(self, world: World, teller: Teller) -> None:
        self._world = world
        self._teller = teller
        self._account = ""
        self._keys: dict[str, str] = {}
        self._up: dict[str, Running] = {}

    def tell(self) -> None:
        """Tell it from beginning to end."""
        self._build()
        self._control_plane()
        self._gateways()
        self._register()
        self._surf()
        self._half_open()
        self._purge()
        self._come_back()
        self._rotate()
        self._log_out()

    def _build(self) -> None:
        self._teller.step("A small internet: a control plane, two gateways, three people, a web server")
        self._world.host("control", "203.0.113")
        self._world.host("web", "192.0.2")
        for gateway in GATEWAYS:
            self._world.host(gateway.name, gateway.network)
        for name, network in PEOPLE.items():
            self._world.host(name, network)
        write_certificate(self._world.folder, CONTROL_HOST, clock.wall())
        self._world.start("web", sys.executable, "-c", WHO_ASKS, "tells who asks")
        self._teller.seen("network namespaces, each with a wire to a router")

    def _control_plane(self) -> None:
        self._teller.step("The control plane: one command, one file")
        serve = self._world.start_exuvia(
            *("control", "serve", "--listen", f"{CONTROL_HOST}:8443", "--database", self._database),
            *("--tls-cert", self._file("cert.pem"), "--tls-key", self._file("key.pem")),
            *("--retire-every", str(RETIRE_EVERY)),
        )
        serve.wait_until_it_says("ready")
        created = self._world.exuvia("control", "account", "create", "--database", self._database)
        self._account = created.strip()
        self._teller.seen("`exuvia account create` printed an account number; only its keyed hash is kept")

    def _gateways(self) -> None:
        self._teller.step("Two gateways enroll, and each runs a key management daemon")
        for gateway in GATEWAYS:
            token = self._world.exuvia(
                *("control", "gateway", "enroll", gateway.name, "--database", self._database),
                *("--endpoint", f"{gateway.address}:51820"),
            )
            self._world.write_secret(f"{gateway.name}.token", token)
            daemon = self._world.start_exuvia(
                *(gateway.name, "gateway", "run", "--control", CONTROL, "--ca-file", self._file("cert.pem")),
                *("--token-file", self._file(f"{gateway.name}.token"), "--interface", gateway.interface),
                *("--listen-port", "51820", "--nat", "eth0"),
            )
            daemon.wait_until_it_says("ready")
            self._teller.seen(
                f"{gateway.name}: {gateway.interface} is up; its private key was never on a disk"
            )

    def _register(self) -> None:
        self._teller.step("Three people log in: each makes a key and is given a random tunnel address")
        for name in PEOPLE:
            before = set(look.peers(self._world, AMSTERDAM))
            began = time.monotonic()
            self._client(name, "login", "--control", CONTROL, "--ca-file", self._file("cert.pem"))
            self._wait_on_all(f"{name}'s key", partial(_has_one_more_than, before))
            took = (time.monotonic() - began) * 1000
            (self._keys[name],) = set(look.peers(self._world, AMSTERDAM)) - before
            self._teller.seen(f"{name}: live on both gateways {took:.0f} ms after pressing return")

    def _surf(self) -> None:
        self._teller.step("Alice and Bob connect to amsterdam and surf through it")
        for name in ("alice", "bob"):
            self._connect(name).wait_until_it_says("connected")
            self._teller.wait(f"{name}'s ping", partial(self._pings, name), at_most=20)
            if self._world.run(name, sys.executable, "-c", ASK).strip() != AMSTERDAM.address:
                raise StepFailed(f"the web server saw {name} come from elsewhere than the gateway")
            self._teller.seen(f"{name} pings; the web server sees the gateway's address and never {name}'s")

    def _half_open(self) -> None:
        self._teller.step("A handshake that is never finished leaves an address behind, too")
        self._world.run("carol", "nft", "-f", "-", text=NOTHING_COMES_BACK)
        trying = self._connect("carol")
        self._teller.wait("carol's first message", lambda: not self._seen("carol").forgotten, at_most=30)
        trying.stop()
        left = self._seen("carol")
        if left.handshake or left.endpoint is None:
            raise StepFailed("carol's handshake was not left half-open")
        self._teller.say(f"`wg show {AMSTERDAM.interface}` has her public address, and no handshake at all:")
        self._teller.show(self._paragraph("carol"), mark="endpoint")
        took = self._teller.wait(
            f"forgotten once she was quiet for {QUIET:.0f} s",
            lambda: self._seen("carol").forgotten,
            at_most=QUIET + SLACK,
        )
        self._teller.seen(f"{took:.1f} s later it knows nothing of her any more but her key")

    def _purge(self) -> None:
        self._teller.step("Alice closes her laptop. WireGuard alone would keep her address for ever")
        pinging = self._world.start("bob", "ping", "-i", "1", "-W", "5", WEB)
        self._world.wire("alice", up=False)
        configured = self._seen("alice").configuration
        self._teller.say(f"`wg show {AMSTERDAM.interface}` now:")
        self._teller.show(self._paragraph("alice"), mark="endpoint")
        took = self._teller.wait(
            f"forgotten {REJECT_AFTER_TIME} s after her latest handshake",
            lambda: self._seen("alice").forgotten,
            at_most=REJECT_AFTER_TIME + QUIET + SLACK,
        )
        self._teller.say(f"`wg show {AMSTERDAM.interface}` after {took:.0f} s:")
        self._teller.show(self._paragraph("alice"))
        if self._seen("alice").configuration != configured:
            raise StepFailed("the purge changed alice's preshared key or allowed IPs")
        self._teller.seen(
            "endpoint, latest handshake and counters are gone; preshared key and addresses stay"
        )
        self._teller.seen(f"Bob, who stayed, had {_answered(pinging)} pings answered meanwhile")

    def _come_back(self) -> None:
        self._teller.step("Alice opens her laptop again")
        self._world.wire("alice", up=True)
        took = self._teller.wait("her ping", lambda: self._pings("alice"), at_most=CAP)
        self._teller.seen(f"connected {took:.1f} s later, with nothing to set up")

    def _rotate(self) -> None:
        self._teller.step("Alice changes her key and her tunnel address, while she surfs")
        pinging = self._world.start("alice", "ping", "-i", "0.05", "-W", "5", WEB)
        self._teller.wait("her ping", lambda: "bytes from" in pinging.printed, at_most=10)
        before, old = set(look.peers(self._world, AMSTERDAM)), self._keys["alice"]
        began = time.monotonic()
        self._client("alice", "rotate")
        took = (time.monotonic() - began) * 1000
        (self._keys["alice"],) = set(look.peers(self._world, AMSTERDAM)) - before
        self._teller.seen(f"a new key and a new address are in use {took:.0f} ms after pressing return")
        if not self._seen("alice").handshake or not self._pings("alice"):
            raise StepFailed("alice does not use her new key")
        self._teller.say("Her old key goes once nothing uses it any more, with others that were retired:")
        self._wait_on_all("the old key is gone", lambda known: old not in known, at_most=60)
        self._teller.seen(f"gone from both gateways; {_answered(pinging)} pings were answered meanwhile")

    def _log_out(self) -> None:
        self._teller.step("Alice logs out: key and tunnel address are deleted everywhere")
        self._client("alice", "down")
        began = time.monotonic()
        self._client("alice", "logout")
        self._wait_on_all("alice's peer is removed", lambda known: self._keys["alice"] not in known)
        took = (time.monotonic() - began) * 1000
        self._teller.seen(f"gone from both gateways {took:.0f} ms after pressing return")
        if not self._pings("bob"):
            raise StepFailed("bob no longer gets through")
        self._teller.seen("Bob surfs on")

    # What the steps are made of.

    @property
    def _database(self) -> str:
        return f"sqlite:///{self._file('exuvia.db')}"

    def _file(self, name: str) -> str:
        return str(self._world.folder / name)

    def _client(self, name: str, *arguments: str) -> None:
        self._world.exuvia(name, "client", "--state", self._file(name), *arguments, text=self._account)

    def _connect(self, name: str) -> Running:
        self._up[name] = self._world.start_exuvia(
            *(name, "client", "--state", self._file(name), "up"),
            *("--gateway", AMSTERDAM.name, "--interface", f"wg-{name}"),
        )
        return self._up[name]

    def _pings(self, name: str) -> bool:
        if name in self._up:
            self._up[name].require_alive(f"{name}'s client")
        return self._world.succeeds(name, "ping", "-c", "1", "-W", "1", WEB)

    def _seen(self, name: str) -> Shown:
        return look.peers(self._world, AMSTERDAM)[self._keys[name]]

    def _paragraph(self, name: str) -> str:
        return look.paragraph(self._world, AMSTERDAM, self._keys[name])

    def _wait_on_all(self, what: str, so: look.OfKeys, at_most: float = 5) -> None:
        for gateway in GATEWAYS:
            self._teller.wait(
                f"{what} on {gateway.name}", partial(self._shows, gateway, so), at_most=at_most, every=0.01
            )

    def _shows(self, gateway: Gateway, so: look.OfKeys) -> bool:
        return so(set(look.peers(self._world, gateway)))


def _has_one_more_than(before: set[str], known: set[str]) -> bool:
    return len(known - before) == 1


def _answered(pinging: Running) -> str:
    """End a ping and return how many were answered; StepFailed unless it was all but the last."""
    pinging.require_alive("the ping")
    pinging.interrupt()
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", pinging.printed)
    if counts is None or int(counts[1]) - int(counts[2]) > 1:
        raise StepFailed(f"packets were lost meanwhile:\n{pinging.printed[-300:]}")
    return f"{counts[2]} of {counts[1]}"
