"""The initiator of exuvia.testing against the kernel, so that tests built on it mean something."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from exuvia.testing.initiator import RESPONSE_LENGTH, Initiator, tai64n
from exuvia.wg.keys import PresharedKey, PrivateKey


def sh(*command: str, text: str | None = None) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def gateway() -> Iterator[tuple[PrivateKey, PrivateKey, PresharedKey]]:
    """A kernel interface wg-init with one peer; yields its key, the peer's key and their PSK."""
    ours, theirs, psk = PrivateKey(os.urandom(32)), PrivateKey(os.urandom(32)), PresharedKey(os.urandom(32))
    sh("ip", "link", "add", "wg-init", "type", "wireguard")
    sh(
        *("wg", "setconf", "wg-init", "/dev/stdin"),
        text=f"[Interface]\nPrivateKey={ours.text()}\nListenPort=51999\n"
        f"[Peer]\nPublicKey={theirs.public_key().text()}\nPresharedKey={psk.text()}\n",
    )
    sh("ip", "link", "set", "wg-init", "up")
    yield ours, theirs, psk
    sh("ip", "link", "delete", "wg-init")


def handshake_time() -> int:
    """Return the latest handshake of the only peer."""
    return int(sh("wg", "show", "wg-init", "latest-handshakes").split()[1])


def test_a_handshake_completes_with_its_first_data_message(gateway):
    """The kernel answers, takes the session for confirmed at the first data message, not before."""
    ours, theirs, psk = gateway
    client = Initiator(theirs, ours.public_key(), psk)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(5)
        wire.connect(("127.0.0.1", 51999))
        wire.send(client.initiation(1, tai64n(time.time())))
        session = client.finish(wire.recv(500))

        before = handshake_time()
        wire.send(session.data())
        time.sleep(0.2)

    assert before == 0
    assert handshake_time() > 0


def test_a_replayed_initiation_gets_no_answer_until_the_peer_is_made_anew(gateway):
    """The fact that the purge's cap rests on: removing and adding a peer resets replay protection."""
    ours, theirs, psk = gateway
    client = Initiator(theirs, ours.public_key(), psk)
    recorded = client.initiation(1, tai64n(time.time()))
    public = theirs.public_key().text()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(0.5)
        wire.connect(("127.0.0.1", 51999))
        wire.send(recorded)
        assert len(wire.recv(500)) == RESPONSE_LENGTH
        wire.send(recorded)
        with pytest.raises(TimeoutError):
            wire.recv(500)

        sh("wg", "set", "wg-init", "peer", public, "remove")
        sh("wg", "set", "wg-init", "peer", public, "preshared-key", "/dev/stdin", text=psk.text())
        wire.send(recorded)

        assert len(wire.recv(500)) == RESPONSE_LENGTH
    assert handshake_time() == 0
