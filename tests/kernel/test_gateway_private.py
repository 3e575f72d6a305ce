"""What a running gateway may do, and what can be found of its clients: on the real kernel."""

import re
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from exuvia.system.process import Capability, status
from exuvia.testing.feed import peer, wait_until
from exuvia.testing.namespaces import Namespace, wire
from exuvia.testing.site import INTERFACE, PORT, Client, GatewayRun, Machine

WEB = "198.18.0.1"
WEB6 = "2001:db8:18::1"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A gateway's machine whose feed answers."""
    made = Machine(tmp_path)
    try:
        with made.serving():
            yield made
    finally:
        made.close()


@pytest.fixture
def internet(machine: Machine) -> Iterator[Namespace]:
    """A web server behind the gateway's way out, which knows no way back to tunnel addresses."""
    web = Namespace("web")
    wire(machine.namespace, "out0", web, "eth0")
    machine.namespace.ip(
        "address add 198.51.100.2/24 dev out0",
        "address add 2001:db8:100::2/64 dev out0 nodad",
        "route add default via 198.51.100.1",
        "route add ::/0 via 2001:db8:100::1",
    )
    web.ip(
        "address add 198.51.100.1/24 dev eth0",
        "address add 2001:db8:100::1/64 dev eth0 nodad",
        f"address add {WEB}/32 dev lo",
        f"address add {WEB6}/128 dev lo",
    )
    yield web
    web.close()


def running(machine: Machine, *options: str, peers: int = 3) -> GatewayRun:
    """Return a running gateway with some peers."""
    machine.feed.change(put=[peer(number) for number in range(1, peers + 1)])
    gateway = machine.run(*options)
    gateway.wait_ready()
    return gateway


def connected(machine: Machine, number: int) -> Client:
    """Return a client that has just reached its gateway."""
    client = machine.client(number)
    client.up(machine.public_key())
    wait_until(client.pings, 30)
    return client


def descriptors(pid: int) -> list[str]:
    """Return what the descriptors of a process are."""
    return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]


def socket_kinds(pid: int, namespace: Namespace) -> list[str]:
    """Return of what kind each socket of a process is, by the tables of its namespace."""
    numbers = {match[1] for text in descriptors(pid) if (match := re.fullmatch(r"socket:\[(\d+)\]", text))}
    kinds = []
    for table in ("netlink", "tcp", "tcp6", "udp", "udp6", "raw", "packet", "unix"):
        lines = namespace.run("cat", f"/proc/net/{table}").splitlines()[1:]
        kinds += [table for line in lines for number in numbers if number in line.split()]
    assert len(kinds) == len(numbers)
    return kinds


def capabilities(pid: int) -> list[int]:
    """Return the sets of capabilities of a process: inheritable, permitted, effective, ambient."""
    facts = status(Path(f"/proc/{pid}/status"))
    return [int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]


def memory(pid: int) -> Iterator[bytes]:
    """Yield all memory of a process that it can write to."""
    with Path(f"/proc/{pid}/mem").open("rb") as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(text, 16) for text in where.split("-"))
                mem.seek(start)
                yield mem.read(end - start)


def test_the_process_with_the_capability_does_not_talk_to_the_network(machine: Machine) -> None:
    """It has sockets to the kernel and pipes, no others, and no capability but those that it needs."""
    gateway = running(machine)
    allowed = sum(1 << capability for capability in Capability)

    assert set(socket_kinds(gateway.pid, machine.namespace)) == {"netlink"}
    assert capabilities(gateway.pid) == [allowed, allowed, allowed, 0]
    others = [text for text in descriptors(gateway.pid) if not text.startswith(("socket:", "pipe:"))]
    assert {Path(text).suffix for text in others} == {"", ".log", ".token"}
    assert status(Path(f"/proc/{gateway.pid}/status"))["NoNewPrivs"] == "1"


def test_the_process_that_talks_to_the_network_may_do_nothing(machine: Machine) -> None:
    """No capability, not root, no group of it, and no way to become anything else."""
    gateway = running(machine)
    assert gateway.network_pid is not None
    facts = status(Path(f"/proc/{gateway.network_pid}/status"))

    assert capabilities(gateway.network_pid) == [0, 0, 0, 0]
    assert (facts["NoNewPrivs"], facts["Groups"]) == ("1", "")
    assert "0" not in (*facts["Uid"].split(), *facts["Gid"].split())
    assert "netlink" not in socket_kinds(gateway.network_pid, machine.namespace)
    assert not any(text.endswith(".token") for text in descriptors(gateway.network_pid))


@pytest.mark.parametrize("which", ["kernel", "network"])
def test_neither_process_shows_its_memory_or_its_token(machine: Machine, which: str) -> None:
    """No core dump, nothing for others of the same user to look into, no secret in the command line."""
    gateway = running(machine)
    pid = gateway.pid if which == "kernel" else gateway.network_pid
    limits = Path(f"/proc/{pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    command = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()

    assert line.split()[4:6] == ["0", "0"]
    # What belongs to root although the process does not is what a process hides.
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
    assert machine.token_file.read_bytes().strip() not in command


def test_p4_no_endpoint_and_no_private_key_stays_in_memory(machine: Machine) -> None:
    """After many looks at connected clients, neither of the two processes has a copy of where they are."""
    gateway = running(machine)
    clients = [connected(machine, number) for number in (1, 2)]
    shown = [machine.show()[client.key].endpoint for client in clients]
    traces = [b64decode(machine.wg("show", INTERFACE, "private-key"))]
    for endpoint in shown:
        address, port = endpoint.rsplit(":", 1)
        # As sockaddr_in has it.
        traces.append(int(port).to_bytes(2, "big") + ip_address(address).packed)
    time.sleep(3)
    machine.feed.change(put=[peer(9)])
    machine.feed.wait_applied()
    for pid in (gateway.pid, gateway.network_pid):
        assert pid is not None
        image = b"".join(memory(pid))
        # The search does find what is there.
        assert peer(1)[:32] in image
        assert [trace for trace in traces if trace in image] == []


def test_p4_p15_nothing_of_a_client_is_written_anywhere(machine: Machine, internet: Namespace) -> None:
    """Not by the daemon, not into the kernel's log, and not into connection tracking."""
    gateway = running(machine, "--nat", "out0")
    client = connected(machine, 1)
    assert client.pings(WEB)
    client.down()
    machine.feed.change(remove=[client.key])
    machine.feed.wait_applied()
    gateway.stop()
    kernel_log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    tracked = machine.namespace.run("conntrack", "-L")
    secrets = [client.address, str(client.row.address4), str(client.row.address6)]
    secrets += [client.row.public_key.text(), client.row.preshared_key.text(), "a-gateways-token"]

    for secret in secrets:
        assert secret not in gateway.printed
        assert secret not in kernel_log
        assert secret not in tracked


def test_clients_leave_through_the_gateway(machine: Machine, internet: Namespace) -> None:
    """By both protocols, under the gateway's address: who answers knows no way to a tunnel address."""
    running(machine, "--nat", "out0")
    client = connected(machine, 1)

    assert client.pings(WEB)
    assert client.pings(WEB6)


def test_clients_are_kept_apart(machine: Machine, internet: Namespace) -> None:
    """They reach the way out, but neither each other nor a network beside it, and nobody reaches them."""
    running(machine, "--nat", "out0")
    one, other = connected(machine, 1), connected(machine, 2)
    internet.ip("route add 10.0.0.0/8 via 198.51.100.2")
    beside = machine.client(3)
    beside.namespace.ip(f"route add 10.0.0.0/8 via {beside.outside}")

    assert not one.pings(str(other.row.address4), seconds=1)
    assert not one.pings(beside.address, seconds=1)
    command = internet.command("ping", "-c", "1", "-W", "1", str(one.row.address4))
    assert subprocess.run(command, capture_output=True).returncode != 0
    assert one.pings(WEB)


def test_p1_the_tunnel_itself_is_not_tracked(machine: Machine, internet: Namespace) -> None:
    """An entry would show where a client is for two minutes after the purge."""
    running(machine, "--nat", "out0")
    client = connected(machine, 1)
    assert client.pings(WEB)
    tracked = machine.namespace.run("conntrack", "-L")

    assert client.address not in tracked
    assert f"dport={PORT}" not in tracked
    assert str(client.row.address4) in tracked


def test_a_tunnel_within_the_tunnel_is_translated(machine: Machine, internet: Namespace) -> None:
    """What a client sends to somebody else's WireGuard port gets out like all else."""
    running(machine, "--nat", "out0")
    client = connected(machine, 1)
    echo = (
        f"import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('{WEB}', {PORT}))\n"
        "data, who = s.recvfrom(99)\ns.sendto(who[0].encode(), who)\n"
    )
    ask = (
        f"import socket, time\ntime.sleep(1)\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"s.settimeout(10)\ns.sendto(b'?', ('{WEB}', {PORT}))\nprint(s.recv(99).decode())\n"
    )
    with subprocess.Popen(internet.command("python3", "-c", echo)):
        assert client.namespace.run("python3", "-c", ask).strip() == "198.51.100.2"


def test_p7_the_flows_of_a_revoked_address_are_forgotten(machine: Machine, internet: Namespace) -> None:
    """Whoever is given the address later gets none of the packets that were meant for someone else."""
    running(machine, "--nat", "out0")
    one, other = connected(machine, 1), connected(machine, 2)
    assert one.pings(WEB)
    assert other.pings(WEB)
    machine.feed.change(remove=[one.key])
    machine.feed.wait_applied()
    tracked = machine.namespace.run("conntrack", "-L")

    assert str(one.row.address4) not in tracked
    assert str(other.row.address4) in tracked


def test_the_rules_stay_with_the_interface(machine: Machine, internet: Namespace) -> None:
    """They are there once, survive a restart, and go when the gateway is run without --nat."""
    gateway = running(machine, "--nat", "out0")
    gateway.stop()
    first = machine.namespace.run("nft", "list", "ruleset")
    assert "masquerade" in first
    again = machine.run("--nat", "out0")
    again.wait_ready()
    assert machine.namespace.run("nft", "list", "ruleset") == first
    again.stop()
    machine.run().wait_ready()

    assert machine.namespace.run("nft", "list", "ruleset") == ""


def test_another_port_is_exempt_after_a_restart(machine: Machine, internet: Namespace) -> None:
    """The rules are about the port that the interface has."""
    gateway = running(machine, "--nat", "out0")
    gateway.stop()
    machine.run("--nat", "out0", "--listen-port", "4242").wait_ready()

    assert "dport 4242" in machine.namespace.run("nft", "list", "ruleset")
    assert machine.wg("show", INTERFACE, "listen-port").strip() == "4242"
