"""What a running gateway forgets, and when: in virtual time, on the real kernel, with real clients."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.rules.purge import CAP, QUIET
from exuvia.testing.feed import peer, secret
from exuvia.testing.initiator import Initiator, tai64n
from exuvia.testing.site import INTERFACE, PORT, TUNNEL, Client, GatewayRun, Machine, as_shown
from exuvia.wg.keys import PublicKey
from exuvia.wg.timing import REJECT_AFTER_TIME

EVERY = 0.1
LATE = 1.0 + EVERY
"""S: seconds that a purge may come after the instant at which the peer falls due; and how we look."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A gateway's machine whose feed answers."""
    made = Machine(tmp_path)
    try:
        with made.serving():
            yield made
    finally:
        made.close()


def running(machine: Machine, *options: str, peers: int = 4) -> GatewayRun:
    """Return a running gateway with some peers."""
    machine.feed.change(put=[peer(number) for number in range(1, peers + 1)])
    gateway = machine.run(*options)
    gateway.wait_ready()
    return gateway


def connected(machine: Machine, number: int) -> Client:
    """Return a client that has just reached its gateway."""
    client = machine.client(number)
    time.sleep(2)  # until the wire has a carrier
    client.up(machine.public_key())
    assert client.pings()
    return client


def forgotten_after(machine: Machine, client: Client, *, since: float, at_most: float) -> float:
    """Return how many seconds after `since` nothing of the client was left; `at_most` and a bit if never."""
    while time.monotonic() - since <= at_most + 2:
        if machine.show()[client.key].forgotten:
            return time.monotonic() - since
        time.sleep(EVERY)
    return at_most + 2


def lost(ping: "subprocess.Popen[str]") -> int:
    """Return how many packets of a ping that has ended were lost."""
    printed, _ = ping.communicate()
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", printed)
    assert counts is not None
    assert int(counts[1]) > 1
    return int(counts[1]) - int(counts[2])


def ping(command: list[str]) -> "subprocess.Popen[str]":
    """Start a ping."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_p1_a_client_that_goes_silent_is_forgotten(machine: Machine) -> None:
    """180 seconds after its handshake, and no more than a second later, its endpoint is gone."""
    running(machine)
    for number in (1, 2):
        client = connected(machine, number)
        met = time.monotonic()
        shown = machine.show()[client.key]
        assert (shown.endpoint.partition(":")[0], shown.handshake > 0) == (client.address, True)
        client.namespace.ip("link set eth0 down")
        time.sleep(REJECT_AFTER_TIME - 1 - 0.37 * number)
        assert not machine.show()[client.key].forgotten

        assert forgotten_after(machine, client, since=met, at_most=200) <= REJECT_AFTER_TIME + LATE


def test_p2_a_purge_leaves_the_configuration_as_it_is(machine: Machine) -> None:
    """Preshared key, allowed IPs and keepalive are the peer table's, and the client can come back."""
    running(machine)
    client = connected(machine, 1)
    client.namespace.ip("link set eth0 down")
    time.sleep(REJECT_AFTER_TIME + LATE)
    assert machine.show()[client.key].forgotten
    assert machine.show()[client.key].configuration == as_shown(client.row)
    assert machine.is_equal()
    client.namespace.ip("link set eth0 up")
    time.sleep(2)

    assert client.pings(seconds=20)


def test_p1_a_half_open_handshake_is_forgotten(machine: Machine) -> None:
    """A first message that nothing follows leaves an endpoint and no handshake: for 20 seconds."""
    running(machine)
    client = machine.client(1)
    time.sleep(2)
    initiator = Initiator(
        secret(1),
        PublicKey.from_text(machine.public_key()),
        client.row.preshared_key,
    )
    send(client, initiator.initiation(1, tai64n(time.time())))
    met = time.monotonic()
    shown = machine.show()[client.key]
    assert (shown.endpoint.partition(":")[0], shown.handshake) == (client.address, 0)
    time.sleep(QUIET - 1)
    assert not machine.show()[client.key].forgotten

    assert forgotten_after(machine, client, since=met, at_most=30) <= QUIET + LATE
    assert machine.is_equal()


def test_p1_replayed_handshakes_do_not_keep_an_endpoint(machine: Machine) -> None:
    """Who replays recorded first messages, one every 15 s, keeps an endpoint there for C = 180 s at most."""
    running(machine)
    client = machine.client(1)
    time.sleep(2)
    gateway = PublicKey.from_text(machine.public_key())
    now = time.time()
    recorded = [
        Initiator(secret(1), gateway, client.row.preshared_key).initiation(1, tai64n(now + second))
        for second in range(30)
    ]
    since, longest = None, 0.0
    for message in recorded:
        send(client, message)
        for _ in range(30):
            time.sleep(0.5)
            if machine.show()[client.key].forgotten:
                since = None
            else:
                since = time.monotonic() if since is None else since
                longest = max(longest, time.monotonic() - since)

    assert CAP - 15 <= longest <= CAP + LATE


def send(client: Client, message: bytes) -> None:
    """Send a datagram from the client's machine to the gateway."""
    import socket

    with client.namespace.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.sendto(message, (client.outside, PORT))
    time.sleep(0.1)


def test_p3_a_purge_costs_a_live_session_nothing(machine: Machine) -> None:
    """Who sends every second, every 100, 179 or 190 s, or only receives, loses nothing in half an hour."""
    running(machine, peers=5)
    intervals = {1: 1, 2: 100, 3: 179, 4: 190}
    clients = [connected(machine, number) for number in (1, 2, 3, 4, 5)]
    pings = [
        ping(
            client.namespace.command(
                "ping", "-q", "-W", "20", "-i", str(every), "-c", str(1900 // every), TUNNEL
            )
        )
        for client, every in zip(clients, intervals.values(), strict=False)
    ]
    passive = str(clients[4].row.address4)
    pings.append(ping(machine.namespace.command("ping", "-q", "-W", "20", "-i", "1", "-c", "1900", passive)))

    assert [lost(each) for each in pings] == [0, 0, 0, 0, 0]
    assert machine.is_equal()


def test_p6_the_wall_clock_decides_nothing(machine: Machine) -> None:
    """Ten years forward: who is live loses nothing, who went silent is forgotten when he would have been."""
    running(machine)
    silent, live = connected(machine, 1), connected(machine, 2)
    met = time.monotonic()
    silent.namespace.ip("link set eth0 down")
    pings = ping(live.namespace.command("ping", "-q", "-W", "20", "-i", "1", "-c", "400", TUNNEL))
    time.sleep(30)
    step_wall_clock(years=10)
    time.sleep(REJECT_AFTER_TIME - 40)
    assert not machine.show()[silent.key].forgotten

    assert forgotten_after(machine, silent, since=met, at_most=220) <= REJECT_AFTER_TIME + LATE
    assert lost(pings) == 0


def test_p6_the_wall_clock_goes_back(machine: Machine) -> None:
    """Ten years back: nobody is forgotten early and nobody late, though handshakes lie in the future."""
    step_wall_clock(years=10)
    running(machine)
    silent, live = connected(machine, 1), connected(machine, 2)
    met = time.monotonic()
    silent.namespace.ip("link set eth0 down")
    step_wall_clock(years=-20)
    # Its clock went back as well, so WireGuard itself lets it make no new handshake after 120 s.
    pings = ping(live.namespace.command("ping", "-q", "-W", "20", "-i", "1", "-c", "100", TUNNEL))
    assert lost(pings) == 0
    assert not machine.show()[silent.key].forgotten

    assert forgotten_after(machine, silent, since=met, at_most=220) <= REJECT_AFTER_TIME + LATE


def step_wall_clock(*, years: int) -> None:
    """Set the time of day by so many years, in this kernel that is ours alone."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + years * 365.25 * 86400)


def test_p1_it_goes_on_without_the_control_plane(tmp_path: Path) -> None:
    """A gateway that is cut off, and even one that is started anew while it is, goes on forgetting."""
    machine = Machine(tmp_path)
    try:
        with machine.serving():
            gateway = running(machine)
        client = connected(machine, 1)
        met = time.monotonic()
        client.namespace.ip("link set eth0 down")
        assert forgotten_after(machine, client, since=met, at_most=200) <= REJECT_AFTER_TIME + LATE
        client.namespace.ip("link set eth0 up")
        time.sleep(2)
        assert client.pings(seconds=20)
        gateway.kill()
        machine.run()
        restarted = time.monotonic()
        time.sleep(1)
        client.namespace.ip("link set eth0 down")

        bound = REJECT_AFTER_TIME + QUIET + LATE
        assert forgotten_after(machine, client, since=restarted, at_most=220) <= bound
        assert machine.is_equal()
    finally:
        machine.close()


def test_p8_a_gateway_that_is_cut_off_drops_everybody_after_its_lease(tmp_path: Path) -> None:
    """Until its lease ends everybody is served; then nobody, whatever the daemon and its restarts."""
    machine = Machine(tmp_path)
    try:
        with machine.serving():
            gateway = running(machine, "--lease", "1h")
        cut_off = time.monotonic()
        time.sleep(1800)
        gateway.kill()
        machine.run("--lease", "1h")
        time.sleep(1700)
        assert machine.is_equal()
        time.sleep(max(0, cut_off + 3600 + LATE - time.monotonic()))

        assert machine.show() == {}
        with machine.serving():
            machine.wait_equal(seconds=60)
    finally:
        machine.close()


def test_p18_a_gateway_that_was_away_for_days_converges(machine: Machine) -> None:
    """Whatever it missed while it slept, it has exactly the peer table again, without anybody's help."""
    gateway = running(machine, "--lease", "30d")
    processes = (gateway.pid, gateway.network_pid or 0)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    for day in range(3):
        time.sleep(86400)
        machine.feed.change(put=[peer(10 + day)], remove=[peer(1 + day)[:32]])
    machine.feed.cut()
    for process in processes:
        os.kill(process, signal.SIGCONT)
    machine.feed.wait_applied(seconds=60)

    assert machine.is_equal()


def test_a_keepalive_that_somebody_sets_is_cleared(machine: Machine) -> None:
    """It would keep the peer from ever going stale: within a minute it is off again."""
    running(machine)
    machine.wg("set", INTERFACE, "peer", peer(1).public_key.text(), "persistent-keepalive", "5")
    time.sleep(61)

    assert machine.is_equal()


def test_a_silent_control_plane_is_given_up(machine: Machine) -> None:
    """After three heartbeats of silence the stream is opened anew."""
    gateway = running(machine)
    machine.feed.heartbeat_every = 1e6
    machine.feed.cut()
    time.sleep(5)
    asked = len(machine.feed.asked)
    time.sleep(46)

    assert len(machine.feed.asked) > asked
    assert "did not answer in time" in gateway.printed


def test_a_network_process_that_is_stuck_is_replaced(machine: Machine) -> None:
    """One that gives no sign of life for a minute is ended and started anew; purging goes on meanwhile."""
    gateway = running(machine)
    client = connected(machine, 1)
    met = time.monotonic()
    client.namespace.ip("link set eth0 down")
    stuck = gateway.network_pid
    assert stuck is not None
    os.kill(stuck, signal.SIGSTOP)
    assert forgotten_after(machine, client, since=met, at_most=200) <= REJECT_AFTER_TIME + LATE

    assert gateway.network_pid not in (None, stuck)
    assert "stuck" in gateway.printed
    machine.feed.change(put=[peer(9)])
    machine.feed.wait_applied()
