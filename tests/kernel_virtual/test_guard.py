"""`exuvia guard` on an interface that somebody else configured, on a real kernel in virtual time."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from exuvia.testing.initiator import Initiator, tai64n
from exuvia.wg.keys import PresharedKey, PrivateKey

INTERFACE = "wg-hand"
PORT = 51871


def sh(*command: str, text: str | None = None) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


@dataclass
class Peer:
    """A peer of the hand-made interface: a client that shakes hands when told to."""

    private: PrivateKey
    preshared: PresharedKey
    initiator: Initiator
    wire: socket.socket

    @property
    def key(self) -> str:
        """Its public key as text."""
        return self.private.public_key().text()

    def first_message(self) -> None:
        """Send a first message and take no answer."""
        self.wire.send(self.initiator.initiation(1, tai64n(time.time())))

    def shake_hands(self) -> None:
        """Complete a handshake."""
        self.first_message()
        self.wire.send(self.initiator.finish(self.wire.recv(500)).data())


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Four peers on an interface made by wg(8) alone, each with several allowed IPs and a PSK."""
    gateway = PrivateKey(os.urandom(32))
    made = []
    text = f"[Interface]\nPrivateKey={gateway.text()}\nListenPort={PORT}\n"
    for number in range(4):
        private, preshared = PrivateKey(os.urandom(32)), PresharedKey(os.urandom(32))
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.connect(("127.0.0.1", PORT))
        wire.settimeout(5)
        made.append(Peer(private, preshared, Initiator(private, gateway.public_key(), preshared), wire))
        text += (
            f"[Peer]\nPublicKey={made[-1].key}\nPresharedKey={preshared.text()}\n"
            f"AllowedIPs=10.9.0.{number}/32, 192.168.{number}.0/24, fd09::{number}/128\n"
        )
    sh("ip", "link", "add", INTERFACE, "type", "wireguard")
    sh("wg", "setconf", INTERFACE, "/dev/stdin", text=text)
    sh("ip", "link", "set", INTERFACE, "up")
    # The kernel takes a first message within 20 ms of its own boot for a flood.
    time.sleep(1)
    yield made
    for peer in made:
        peer.wire.close()
    subprocess.run(["ip", "link", "delete", INTERFACE], capture_output=True)


def shown() -> dict[str, list[str]]:
    """Return `wg show … dump` by public key: psk, endpoint, allowed IPs, handshake, rx, tx, keepalive."""
    lines = sh("wg", "show", INTERFACE, "dump").splitlines()[1:]
    return {fields[0]: fields[1:] for fields in (line.split("\t") for line in lines)}


def is_forgotten(peer: Peer) -> bool:
    """Say whether nothing but configuration is left of a peer."""
    _psk, endpoint, _ips, handshake, rx, tx, _keepalive = shown()[peer.key]
    return (endpoint, handshake, rx, tx) == ("(none)", "0", "0", "0")


def configuration(peer: Peer) -> tuple[str, set[str], str]:
    """Return what a purge must keep."""
    psk, _endpoint, ips, _handshake, _rx, _tx, keepalive = shown()[peer.key]
    return psk, set(ips.split(",")), keepalive


@pytest.fixture
def guard() -> Iterator["subprocess.Popen[str]"]:
    """A running `exuvia guard`."""
    with start() as process:
        yield process
        process.kill()


def start(*options: str) -> "subprocess.Popen[str]":
    """Start `exuvia guard` and wait until it watches."""
    command = [sys.executable, "-m", "exuvia", "guard", INTERFACE, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if "--once" not in options:
        assert process.stdout is not None
        assert "watching" in process.stdout.readline()
    return process


def test_a_quiet_peer_is_forgotten_after_180_s_and_keeps_its_configuration(peers, guard):
    """Endpoint, handshake and counters go with the session; keys, PSK and all allowed IPs stay."""
    quiet, live = peers[:2]
    before = configuration(quiet)
    quiet.shake_hands()
    live.shake_hands()
    time.sleep(100)
    live.shake_hands()
    time.sleep(79)
    remembered = is_forgotten(quiet)
    time.sleep(3)

    assert not remembered
    assert is_forgotten(quiet)
    assert not is_forgotten(live)
    assert configuration(quiet) == before


def test_a_handshake_never_completed_is_forgotten_after_20_s(peers, guard):
    """A first message, honest or replayed, leaves an endpoint; it goes when it is quiet."""
    peers[0].first_message()
    time.sleep(18)
    remembered = is_forgotten(peers[0])
    time.sleep(4)

    assert not remembered
    assert is_forgotten(peers[0])


def test_a_forgotten_peer_comes_back_at_once(peers, guard):
    """The purge cuts nobody off: the next handshake works."""
    peers[0].shake_hands()
    time.sleep(183)
    assert is_forgotten(peers[0])

    peers[0].shake_hands()
    time.sleep(0.1)

    assert int(shown()[peers[0].key][3]) > 0


def test_peers_that_this_side_calls_are_left_alone_and_counted(peers):
    """A keepalive or a configured endpoint on this side means: not ours to purge."""
    kept_alive, called, quiet = peers[:3]
    sh("wg", "set", INTERFACE, "peer", kept_alive.key, "persistent-keepalive", "25")
    sh("wg", "set", INTERFACE, "peer", called.key, "endpoint", "127.0.0.1:9")
    kept_alive.shake_hands()
    quiet.shake_hands()
    process = start()
    time.sleep(250)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)

    assert process.returncode == 0
    assert is_forgotten(quiet)
    assert shown()[called.key][1] == "127.0.0.1:9"
    assert shown()[kept_alive.key][1] != "(none)"
    assert "4 peers" in said
    assert "1 left alone because this side sends it keepalives" in said
    assert "1 left alone because its endpoint is configured" in said
    assert "forgotten once" in said


def test_an_endpoint_in_the_configuration_file_is_configured(peers, tmp_path: Path):
    """The file says whose endpoint is configured, even if the peer has spoken already."""
    peers[0].shake_hands()
    file = tmp_path / "any.conf"
    file.write_text(
        f"[Interface]\nAddress = 10.9.0.1/24\n\n"
        f"[Peer]\nPublicKey = {peers[0].key}\nEndpoint = vpn.example:51820\n"
    )
    process = start("--config", str(file))
    time.sleep(250)
    process.terminate()

    assert "1 left alone" in process.communicate(timeout=10)[0]
    assert not is_forgotten(peers[0])


def test_once_watches_as_long_as_the_rule_needs_and_says_what_it_did(peers):
    """--once ends when everybody was either forgotten or has shaken hands again."""
    for peer in peers[:3]:
        peer.shake_hands()
    time.sleep(1)
    process = start("--once")
    time.sleep(120)
    peers[0].shake_hands()
    said, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert [is_forgotten(peer) for peer in peers[:3]] == [False, True, True]
    assert said == f"{INTERFACE}: 4 peers; a quiet peer was forgotten 2 times\n"


def test_once_has_nothing_to_wait_for_on_a_clean_interface(peers):
    """Nobody to forget: it says so and ends at once."""
    began = time.monotonic()
    said = start("--once").communicate(timeout=60)[0]

    assert said == f"{INTERFACE}: 4 peers; a quiet peer was forgotten 0 times\n"
    assert time.monotonic() - began < 10


def test_an_interface_that_goes_away_is_waited_for(peers, guard):
    """Down and up again, as wg-quick does it: the guard goes on with the new one."""
    configured = sh("wg", "showconf", INTERFACE)
    sh("ip", "link", "delete", INTERFACE)
    time.sleep(3)
    sh("ip", "link", "add", INTERFACE, "type", "wireguard")
    sh("wg", "setconf", INTERFACE, "/dev/stdin", text=configured)
    sh("ip", "link", "set", INTERFACE, "up")
    time.sleep(3)
    peers[0].first_message()
    time.sleep(25)

    assert is_forgotten(peers[0])
    assert guard.poll() is None


def test_a_second_daemon_on_the_interface_refuses(peers, guard):
    """Two writers would undo each other's work."""
    second = subprocess.run(
        [sys.executable, "-m", "exuvia", "guard", INTERFACE], capture_output=True, text=True, timeout=60
    )

    assert second.returncode == 1
    assert "another exuvia daemon" in second.stderr


def test_it_writes_nothing_of_anybody(peers, guard):
    """P4: what the guard says holds numbers, and no key, address or time of a peer."""
    peers[0].shake_hands()
    time.sleep(200)
    guard.terminate()
    said = guard.communicate(timeout=10)[0]

    for peer in peers:
        assert peer.key not in said
    assert "127.0.0.1" not in said
    assert "10.9.0" not in said


def test_p6_the_wall_clock_decides_nothing(peers, guard):
    """Ten years forward and back: nobody is forgotten early, and nobody late."""
    for years in (10, -20, 10):
        peers[0].shake_hands()
        time.sleep(1)
        step_wall_clock(years=years)
        time.sleep(177)
        remembered = is_forgotten(peers[0])
        time.sleep(4)

        assert not remembered
        assert is_forgotten(peers[0])


def step_wall_clock(*, years: int) -> None:
    """Set the time of day by so many years, in this kernel that is ours alone."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + years * 365.25 * 86400)


def test_p5_a_guard_that_is_killed_leaves_everybody_configured(peers):
    """At whatever moment of a purge it dies, no peer is missing or without its allowed IPs."""
    before = {peer.key: configuration(peer) for peer in peers}
    for delay in range(20):
        for peer in peers:
            peer.first_message()
        process = start()
        # They fall due together, QUIET seconds after it began.
        time.sleep(19.9 + delay * 0.05)
        process.kill()
        process.communicate()

        assert {peer.key: configuration(peer) for peer in peers} == before


def test_an_allowed_ip_that_is_added_by_hand_survives_a_purge(peers, guard):
    """P10: what somebody configures while the guard runs is what it reinstates."""
    peers[0].first_message()
    time.sleep(15)
    ips = "10.9.0.0/32,192.168.0.0/24,fd09::/128,10.77.0.0/16"
    sh("wg", "set", INTERFACE, "peer", peers[0].key, "allowed-ips", ips)
    time.sleep(7)

    assert is_forgotten(peers[0])
    assert "10.77.0.0/16" in configuration(peers[0])[1]


def test_a_peer_that_is_removed_by_hand_stays_removed(peers, guard):
    """P9: the guard never brings back whom somebody has taken off the interface."""
    peers[0].first_message()
    time.sleep(15)
    sh("wg", "set", INTERFACE, "peer", peers[0].key, "remove")
    time.sleep(10)

    assert peers[0].key not in shown()
    assert len(shown()) == 3


@pytest.mark.parametrize(
    ("interface", "sentence"),
    [("no-such", "there is no network interface"), ("lo", "not a WireGuard interface")],
)
def test_an_interface_that_is_none_is_refused(interface: str, sentence: str):
    """The error names the interface and what is wrong with it."""
    done = subprocess.run(
        [sys.executable, "-m", "exuvia", "guard", interface], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
