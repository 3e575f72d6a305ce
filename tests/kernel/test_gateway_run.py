"""`exuvia gateway run` on the real kernel: it takes an interface and keeps it equal to the feed."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.rules.feed import Position
from exuvia.testing.feed import peer, wait_until
from exuvia.testing.site import INTERFACE, PORT, Machine, as_shown


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A gateway's machine whose feed answers."""
    made = Machine(tmp_path)
    try:
        with made.serving():
            yield made
    finally:
        made.close()


def test_it_makes_the_interface_and_follows(machine: Machine) -> None:
    """The interface is made with a key and the port, has the gateway's addresses and the feed's peers."""
    machine.feed.change(put=[peer(1), peer(2)])
    gateway = machine.run()
    gateway.wait_ready()

    assert machine.is_equal()
    assert machine.wg("show", INTERFACE, "listen-port").strip() == str(PORT)
    shown = machine.namespace.run("ip", "address", "show", "dev", INTERFACE)
    assert "10.0.0.1/8" in shown
    assert "fd00::1/64" in shown
    assert [hello.public_key for hello in machine.feed.hellos] == [machine.public_key()]
    assert not machine.feed.hellos[0].lasting
    assert "2 peers, revision 1" in gateway.printed


def test_p8_changes_are_applied_and_acknowledged_at_once(machine: Machine) -> None:
    """Whoever comes is there, and whoever goes is gone, within a second of the change."""
    gateway = machine.run()
    gateway.wait_ready()
    for number in range(1, 6):
        began = time.monotonic()
        machine.feed.change(put=[peer(number)], remove=[peer(number - 1)[:32]])
        machine.feed.wait_applied(seconds=1)

        assert machine.is_equal()
        assert time.monotonic() - began < 1


def test_a_restart_loses_nothing(machine: Machine) -> None:
    """On SIGTERM interface and peers stay, and are the same under the next daemon."""
    machine.feed.change(put=[peer(1), peer(2)])
    gateway = machine.run()
    gateway.wait_ready()
    key = machine.public_key()
    assert gateway.stop() == 0
    assert machine.is_equal()
    assert "stay as they are" in gateway.printed
    again = machine.run()
    again.wait_ready()

    assert machine.is_equal()
    assert machine.public_key() == key
    assert machine.feed.asked == [None, None]


def test_two_daemons_on_one_interface(machine: Machine) -> None:
    """The second one refuses and says why, and the first one does not notice."""
    first = machine.run()
    first.wait_ready()
    second = machine.run()

    assert second.process.wait(20) == 1
    assert "another exuvia daemon looks after this interface" in second.printed
    machine.feed.change(put=[peer(1)])
    machine.feed.wait_applied()


def test_p10_an_adopted_interface_keeps_its_key_and_port(machine: Machine) -> None:
    """On an interface that somebody else made, neither key nor port nor mark is touched."""
    key = machine.wg("genkey")
    machine.namespace.ip(f"link add {INTERFACE} type wireguard")
    machine.wg(
        "set", INTERFACE, "private-key", "/dev/stdin", "listen-port", "4242", "fwmark", "0x77", text=key
    )
    machine.feed.change(put=[peer(1)])
    gateway = machine.run("--listen-port", "5555")
    gateway.wait_ready()

    assert machine.wg("show", INTERFACE, "private-key") == key
    assert machine.wg("show", INTERFACE, "listen-port").strip() == "4242"
    assert machine.wg("show", INTERFACE, "fwmark").strip() == "0x77"
    assert machine.feed.hellos[0].lasting
    assert machine.is_equal()


def test_an_adopted_interface_without_a_key_is_refused(machine: Machine) -> None:
    """Nobody can connect to it, and setting its key is not ours to do."""
    machine.namespace.ip(f"link add {INTERFACE} type wireguard")
    gateway = machine.run()

    assert gateway.process.wait(20) == 1
    assert "has no private key" in gateway.printed


def test_an_interface_of_another_kind_is_refused(machine: Machine) -> None:
    """A bridge is no WireGuard interface."""
    machine.namespace.ip(f"link add {INTERFACE} type bridge")
    gateway = machine.run()

    assert gateway.process.wait(20) == 1
    assert "not a WireGuard interface" in gateway.printed


def test_p10_foreign_peers_are_left_alone(machine: Machine) -> None:
    """Peers with an allowed IP outside the pools, or with none, stay exactly as they are."""
    foreign = {
        peer(101): ["192.0.2.0/24"],
        peer(102): ["10.0.9.9/32", "0.0.0.0/0"],
        peer(103): [],
    }
    key = machine.wg("genkey")
    machine.namespace.ip(f"link add {INTERFACE} type wireguard")
    machine.wg("set", INTERFACE, "private-key", "/dev/stdin", text=key)
    for row, allowed in foreign.items():
        machine.wg(
            *("set", INTERFACE, "peer", row.public_key.text(), "persistent-keepalive", "25"),
            *("endpoint", "127.0.0.1:9", "allowed-ips", ",".join(allowed)),
        )
    machine.wg("set", INTERFACE, "peer", peer(104).public_key.text(), "allowed-ips", "10.0.7.7/32")
    before = {key: shown.configuration for key, shown in machine.show().items()}
    machine.feed.change(put=[peer(1)])
    machine.run("--accept-snapshot").wait_ready()
    after = {key: shown.configuration for key, shown in machine.show().items()}

    assert after.pop(peer(1)[:32]) == as_shown(peer(1))
    assert before.pop(peer(104)[:32])
    assert after == before


def test_what_somebody_else_changes_is_put_right(machine: Machine) -> None:
    """A keepalive, other allowed IPs, another preshared key: all are the table's again."""
    machine.feed.change(put=[peer(1), peer(2), peer(3)])
    gateway = machine.run()
    gateway.wait_ready()
    keys = [peer(number).public_key.text() for number in (1, 2, 3)]
    machine.wg("set", INTERFACE, "peer", keys[0], "persistent-keepalive", "25")
    machine.wg("set", INTERFACE, "peer", keys[1], "allowed-ips", "10.0.5.5/32")
    machine.wg("set", INTERFACE, "peer", keys[2], "remove")
    machine.feed.change(put=[peer(4)])
    gateway.stop()
    machine.run().wait_ready()

    assert machine.is_equal()


def test_the_interface_is_deleted(machine: Machine) -> None:
    """One that the gateway made is made anew, with another key, of which the control plane is told."""
    machine.feed.change(put=[peer(1), peer(2)])
    gateway = machine.run()
    gateway.wait_ready()
    key = machine.public_key()
    machine.namespace.ip(f"link del {INTERFACE}")
    gateway.wait_for(f"{INTERFACE} is back")
    wait_until(lambda: len(machine.feed.hellos) == 2)
    machine.wait_equal()

    assert machine.public_key() not in ("", key)
    assert machine.feed.hellos[1].public_key == machine.public_key()
    machine.feed.change(put=[peer(3)])
    machine.feed.wait_applied()
    assert machine.is_equal()
    shown = machine.namespace.run("ip", "address", "show", "dev", INTERFACE)
    assert "10.0.0.1/8" in shown


def test_an_adopted_interface_is_deleted_and_made_anew(machine: Machine) -> None:
    """It is waited for, because it is not ours to make; whatever comes back under its name is adopted."""

    def make() -> None:
        machine.namespace.ip(f"link add {INTERFACE} type wireguard")
        machine.wg(
            "set", INTERFACE, "private-key", "/dev/stdin", "listen-port", "4242", text=machine.wg("genkey")
        )

    make()
    machine.feed.change(put=[peer(1)])
    gateway = machine.run()
    gateway.wait_ready()
    machine.namespace.ip(f"link del {INTERFACE}")
    gateway.wait_for("waiting until it is back")
    machine.feed.change(put=[peer(2)])
    time.sleep(2)
    assert machine.show() == {}
    make()
    gateway.wait_for(f"{INTERFACE} is back")
    machine.feed.wait_applied()

    assert machine.is_equal()
    assert machine.feed.hellos[-1].public_key == machine.public_key()


def test_the_private_key_may_come_from_a_file(machine: Machine, tmp_path: Path) -> None:
    """Then it lasts: an interface that is made anew has it again, and the control plane is told so."""
    file = tmp_path / "key"
    file.write_text(machine.wg("genkey"))
    file.chmod(0o600)
    public = machine.wg("pubkey", text=file.read_text()).strip()
    gateway = machine.run("--private-key-file", str(file))
    gateway.wait_ready()
    assert machine.public_key() == public
    machine.namespace.ip(f"link del {INTERFACE}")
    gateway.wait_for(f"{INTERFACE} is back")

    assert machine.public_key() == public
    assert machine.feed.hellos[0].lasting


def test_status_tells_counts_only(machine: Machine) -> None:
    """`gateway status` works beside the daemon and without it, and names nobody."""
    machine.feed.change(put=[peer(1), peer(2)])
    gateway = machine.run()
    gateway.wait_ready()
    command = machine.namespace.command(
        sys.executable, "-m", "exuvia", "gateway", "status", "--interface", INTERFACE
    )
    beside = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    gateway.stop()
    without = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout

    assert beside.startswith(f"{INTERFACE}: 2 peers, 2 of them forgotten")
    assert "revision 1" in beside
    assert '"peers": 2' in without
    assert '"revision": 1' in without
    for row in machine.feed.table.values():
        for secret in (row.public_key.text(), str(row.address4), str(row.address6)):
            assert secret not in beside + without


def test_the_position_is_written_on_the_interface(machine: Machine) -> None:
    """Epoch and revision are in the alias: in a moment when peers come, at once when one goes."""
    gateway = machine.run()
    gateway.wait_ready()
    assert machine.alias().startswith("exuvia1 first 0 ")
    machine.feed.change(put=[peer(1)])
    machine.feed.wait_applied()
    wait_until(lambda: machine.alias().startswith("exuvia1 first 1 "))
    machine.feed.change(remove=[peer(1)[:32]])
    machine.feed.wait_applied()

    assert machine.alias().startswith("exuvia1 first 2 ")


def test_a_foreign_alias_stays(machine: Machine) -> None:
    """An alias that somebody else wrote is left alone, and the daemon works without."""
    machine.namespace.ip(f"link add {INTERFACE} type wireguard", f"link set {INTERFACE} alias exit-17")
    machine.wg("set", INTERFACE, "private-key", "/dev/stdin", text=machine.wg("genkey"))
    machine.feed.change(put=[peer(1)])
    gateway = machine.run()
    gateway.wait_ready()

    assert machine.alias() == "exit-17"
    assert "has an alias of its own" in gateway.printed
    assert machine.feed.applied[-1] == Position("first", 1)
