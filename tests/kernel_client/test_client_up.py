"""The client on the real kernel: up, through the tunnel, and down again."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from exuvia.client.state import FORMAT, ClientKey, ClientState, StateFolder
from exuvia.errors import StateNotSaved
from exuvia.testing.home import CONTROL, FIRST_RESOLV_CONF, RESOLVER, WEB, WEB6, Client, World
from exuvia.wg.keys import PrivateKey


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
    town.new_home()
    town.log_in()
    return town


def network_of(world: World) -> set[str]:
    """Everything at home that a client may change."""
    commands = (
        *("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all"),
        *("ip -br link", "nft list ruleset", "sysctl net.ipv4.conf.all.arp_ignore"),
    )
    found = "".join(world.home.run(*command.split()) for command in commands)
    return set((found + world.resolv_conf()).splitlines())


def test_up_and_down(world: World) -> None:
    """Up: everything goes through the gateway, by IPv4 and IPv6. Down: all is as it was."""
    before = network_of(world)
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert world.pings(WEB)
    assert world.pings(WEB6)
    assert world.resolv_conf().endswith(f"nameserver {RESOLVER}\n")
    told = world.status()
    assert (told["state"], told["gateway"], told["interface"]) == ("connected", "gw1", "exuvia0")
    assert told["kill_switch"] is True
    ways = [line for line in world.home.run("nft", "list", "ruleset").splitlines() if CONTROL in line]
    assert all('oifname "exuvia0"' in line for line in ways)
    assert 0 <= told["handshake_age"] < 60

    assert client.terminate() == 0
    assert network_of(world) == before
    assert world.resolv_conf() == FIRST_RESOLV_CONF
    assert world.status()["state"] == "down"


def test_any_gateway(world: World) -> None:
    """Without --gateway one of the gateways is chosen."""
    client = world.up()
    client.wait_for("connected to gw")

    assert world.status()["gateway"] in ("gw1", "gw2")
    assert world.pings()


def test_an_unknown_gateway_changes_nothing(world: World) -> None:
    """A gateway that does not exist is refused with the names of those that do."""
    before = network_of(world)
    done = world.client("up", "--gateway", "gw3")

    assert done.returncode == 1
    assert "gw1, gw2" in done.stderr
    assert network_of(world) == before


def test_what_is_closed_stays_closed(world: World) -> None:
    """If `up` fails after an earlier client was killed, the kill switch is not opened by that."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.kill()
    done = world.client("up", "--gateway", "gw3")

    assert done.returncode == 1
    assert "`exuvia client down` opens it" in done.stdout
    assert world.status()["state"] == "closed"


def test_an_idle_device_may_be_forgotten(world: World) -> None:
    """Once connected the client sends no keepalive, unless it is asked for."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert "\toff\n" in world.home.run("wg", "show", "exuvia0", "persistent-keepalive")
    client.terminate()
    world.up("--gateway", "gw1", "--keepalive", "25").wait_for("connected to gw1")

    assert "\t25\n" in world.home.run("wg", "show", "exuvia0", "persistent-keepalive")


def test_only_one_client(world: World) -> None:
    """A second `up` is refused, with the same state or another, and the first stays as it is."""
    world.up("--gateway", "gw1").wait_for("connected to gw1")
    second = world.client("up", "--gateway", "gw2")
    assert second.returncode == 1
    assert "another process" in second.stderr
    shutil.copytree(world.state, other := world.state.with_name("other"), ignore=_sockets)
    third = world.home.command(sys.executable, "-m", "exuvia", "client", "--state", str(other), "up")
    done = subprocess.run(third, capture_output=True, text=True)
    assert done.returncode == 1
    assert "another exuvia-client is running in this network namespace" in done.stderr
    down = [*third[:-1], "down"]
    assert subprocess.run(down, capture_output=True).returncode == 1

    assert world.status()["state"] == "connected"
    assert world.pings()


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


def test_down_from_another_terminal(world: World) -> None:
    """`down` ends the running client and returns when everything is as before."""
    before = network_of(world)
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert world.client("down").stdout == "down\n"

    assert client.process.wait(10) == 0
    assert network_of(world) == before


def test_logout_while_it_is_up(world: World) -> None:
    """A logout takes the tunnel down first, then the device is gone everywhere."""
    before = network_of(world)
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    done = world.client("logout")

    assert (done.returncode, done.stderr) == (0, "")
    assert client.process.wait(10) == 0
    assert network_of(world) == before
    assert world.control.devices == []
    assert world.status()["state"] == "logged out"


def test_a_removed_device_is_told_so(world: World) -> None:
    """If the control plane does not know the device, `up` says so, changes nothing and keeps the key."""
    before = network_of(world)
    state = (world.state / "state.json").read_bytes()
    world.control.devices.clear()
    done = world.client("up")

    assert done.returncode == 1
    assert "does not know this device" in done.stderr
    assert network_of(world) == before
    assert (world.state / "state.json").read_bytes() == state


@pytest.mark.parametrize("lift", [True, False])
def test_a_removed_device_behind_a_closed_kill_switch(world: World, lift: bool) -> None:
    """What an earlier client has closed stays so if the device was removed, unless it may be lifted."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.kill()
    world.control.devices.clear()
    done = world.client("up", "--kill-switch-on-revoke", "lift" if lift else "keep")

    assert done.returncode == 1
    assert world.status()["state"] == ("down" if lift else "closed")


def test_a_suspended_account_is_told_so(world: World) -> None:
    """If the account is suspended, `up` says so with the control plane's reason."""
    world.control.refuse = {("GET", "/v1/gateways"): (403, "The account is suspended")}
    done = world.client("up")

    assert done.returncode == 1
    assert "the account is not active: The account is suspended" in done.stderr


def test_without_a_control_plane(world: World) -> None:
    """With the control plane away the client goes by what it knew before."""
    world.control.refuse = {("GET", "/v1/gateways"): (503, "not now")}
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert "going by what was known before" in client.printed
    client.kill()
    client = world.up("--gateway", "gw2")
    client.wait_for("connected to gw2")

    assert world.pings()


def test_nothing_known_changes_nothing(world: World) -> None:
    """Without a control plane and without a list of gateways `up` fails and changes nothing."""
    (world.state / "gateways.json").unlink()
    before = network_of(world)
    world.control.refuse = {("GET", "/v1/gateways"): (503, "not now")}
    done = world.client("up")

    assert (done.returncode, "not now" in done.stderr) == (1, True)
    assert network_of(world) == before


def test_the_way_to_the_control_plane_through_the_kill_switch(world: World) -> None:
    """With the kill switch closed by an earlier client, the control plane is asked all the same."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.kill()
    world.gateways[1].new_key()
    world.list_gateways()
    asked = len(world.control.asked)
    world.up("--gateway", "gw2").wait_for("connected to gw2")

    assert ("GET", "/v1/gateways") in world.control.asked[asked:]


def test_a_foreign_interface_is_left_alone(world: World) -> None:
    """An interface of that name which is not the client's is refused and stays as it is."""
    world.home.ip("link add exuvia0 type dummy")
    before = network_of(world)
    done = world.client("up", "--interface", "exuvia0")

    assert done.returncode == 1
    assert "there is an interface exuvia0 already" in done.stderr
    assert network_of(world) == before


def test_a_tunnel_that_can_not_be_made(world: World) -> None:
    """If the first attempt fails on this machine itself, the kill switch does not stay closed for it."""
    world.home.ip("link property add dev eth0 altname exuvia0")
    before = network_of(world)
    done = world.client("up", "--gateway", "gw1", "--interface", "exuvia0")

    assert done.returncode == 1
    assert network_of(world) == before


def test_the_interface_goes_away(world: World) -> None:
    """If somebody deletes the interface, the client makes it anew and is connected again."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    world.home.ip("link delete exuvia0")
    client.wait_for("connected to gw1", times=2)

    assert "went away" in client.printed
    assert world.pings()


def test_somebody_else_writes_resolv_conf(world: World) -> None:
    """If another program rewrites resolv.conf, ours comes back, and at the end what the other wrote."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    world.write_resolv_conf("nameserver 192.0.2.99\n")
    end = time.monotonic() + 10
    while RESOLVER not in world.resolv_conf():
        assert time.monotonic() < end
        time.sleep(0.1)
    client.terminate()

    assert world.resolv_conf() == "nameserver 192.0.2.99\n"


def test_resolv_conf_after_a_crash(world: World) -> None:
    """What resolv.conf held comes back after kill -9, by `down` and by the next client's end."""
    for end in (lambda: world.client("down"), lambda: world.up("--gateway", "gw1")):
        client = world.up("--gateway", "gw1")
        client.wait_for("connected to gw1")
        client.kill()
        following = end()
        if isinstance(following, Client):
            following.wait_for("connected to gw1")
            assert RESOLVER in world.resolv_conf()
            following.terminate()
        assert world.resolv_conf() == FIRST_RESOLV_CONF


def test_a_shared_resolv_conf_is_left_alone(world: World) -> None:
    """In a network namespace that shares the machine's resolv.conf, the client leaves that alone."""
    shared = Path("/etc/resolv.conf").read_bytes()
    world.forget_resolv_conf()
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")

    assert "left as it is" in client.printed
    assert Path("/etc/resolv.conf").read_bytes() == shared


def test_names_left_alone_if_asked(world: World) -> None:
    """With --dns off resolv.conf is not touched."""
    world.up("--gateway", "gw1", "--dns", "off").wait_for("connected to gw1")

    assert world.resolv_conf() == FIRST_RESOLV_CONF


@pytest.mark.parametrize("where", ["all", "default"])
def test_without_ipv6(world: World, where: str) -> None:
    """Where IPv6 is switched off, or for new interfaces only, the tunnel carries IPv4 alone."""
    world.home.run("sysctl", "-qw", f"net.ipv6.conf.{where}.disable_ipv6=1")
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert world.pings()

    assert client.terminate() == 0


@pytest.mark.parametrize(("wire", "tunnel"), [(1400, 1320), (1300, 1280)])
def test_the_mtu_fits_the_way(world: World, wire: int, tunnel: int) -> None:
    """The tunnel's MTU leaves room for WireGuard's own bytes on the way to the gateway."""
    world.internet.ip(f"link set to-home mtu {wire}")
    world.home.ip(f"link set eth0 mtu {wire}")
    world.up("--gateway", "gw1").wait_for("connected to gw1")

    (link,) = json.loads(world.home.run("ip", "-j", "link", "show", "dev", "exuvia0"))
    assert link["mtu"] == tunnel


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_every_way_to_say_stop(world: World, number: int) -> None:
    """Ctrl-C and a closed terminal take everything down in order."""
    before = network_of(world)
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.process.send_signal(number)

    assert client.process.wait(10) == 0
    assert network_of(world) == before


def test_stopped_before_it_is_connected(world: World) -> None:
    """A client that is told to stop while no gateway answers leaves everything as it was."""
    before = network_of(world)
    world.gateways[0].new_key()
    client = world.up("--gateway", "gw1")
    end = time.monotonic() + 20
    while world.status()["kill_switch"] is not True:
        assert time.monotonic() < end
    assert world.status()["state"] == "connecting"

    assert client.terminate() == 0
    assert network_of(world) == before


def test_status_tells_no_secret(world: World) -> None:
    """What status prints has no key, address, token or endpoint in it."""
    world.up("--gateway", "gw1").wait_for("connected to gw1")
    told = world.client("status", "--json").stdout + world.client("status").stdout
    state = json.loads((world.state / "state.json").read_bytes())
    secrets = [state["current"]["private_key"], state["device"]["token"], world.gateways[0].address]
    secrets += state["current"]["grant"]["address4"], state["current"]["grant"]["address6"]

    assert [secret for secret in secrets if secret in told] == []


def test_a_full_disk(tmp_path: Path) -> None:
    """On a full disk a state is not saved, the old one stands, and that is what is said."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", disk], check=True)
    try:
        folder = StateFolder(disk)
        key = ClientKey(PrivateKey(bytes(32)))
        first = ClientState(FORMAT, "registering", "https://one.example", pending=key)
        folder.save(first)
        with (disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
            while True:
                other.write(bytes(512))
        with pytest.raises(StateNotSaved, match="No space left"):
            folder.save(ClientState(FORMAT, "registering", "https://two.example" + "x" * 70000))
        assert folder.load() == first
        (disk / "other").unlink()
        folder.save(msgspec.structs.replace(first, control="https://three.example"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_with_one_capability(world: World) -> None:
    """Root with CAP_NET_ADMIN and nothing else is enough, as the systemd unit has it."""
    before = network_of(world)
    confined = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--no-new-privs")
    client = world.up("--gateway", "gw1", confined=confined)
    client.wait_for("connected to gw1")
    assert world.pings()
    assert RESOLVER in world.resolv_conf()

    assert client.terminate() == 0
    assert network_of(world) == before


def test_without_any_power(world: World) -> None:
    """Without CAP_NET_ADMIN `up` says what it needs, and changes nothing."""
    before = network_of(world)
    client = world.up(confined=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))

    assert client.process.wait(20) == 1
    assert "CAP_NET_ADMIN" in client.printed
    assert network_of(world) == before
