"""A home with a client in it, an internet, and gateways, in network namespaces: for tests of the client."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exuvia.client.login import log_in
from exuvia.client.state import StateFolder
from exuvia.demo.certificate import write_certificate
from exuvia.messages import GatewayListing
from exuvia.system import clock, userspace
from exuvia.testing.control import ACCOUNT, FakeControlPlane, Registered
from exuvia.testing.namespaces import Namespace, Wiretap, unique, wire

CONTROL = "203.0.113.2"
CONTROL_PORT = 443
WEB = "198.18.0.1"
WEB6 = "2001:db8:18::1"
HOME = "192.0.2.2"
NEIGHBOUR = "192.0.2.1"
LAN = "192.168.7.1"
HOME6 = "2001:db8:2::2"
NEIGHBOUR6 = "2001:db8:2::1"
PORT = 51820
RESOLVER = "10.77.0.1"
FIRST_RESOLV_CONF = f"nameserver {NEIGHBOUR}\n"

_NAT = """
table ip exit {
  chain postrouting { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
}
"""


class Gateway:
    """A gateway: a namespace with a WireGuard interface whose peers are the registered devices."""

    def __init__(self, number: int, internet: Namespace, folder: Path, *, go: bool) -> None:
        self.name = f"gw{number}"
        self.address = f"198.51.{100 + number}.2"
        self.namespace = Namespace(self.name)
        self.interface = f"wg{unique()}"
        self._folder = folder
        self._process: userspace.Process | None = None
        wire(self.namespace, "eth0", internet, f"to-{self.name}")
        internet.ip(f"address add 198.51.{100 + number}.1/24 dev to-{self.name}")
        self.namespace.ip(
            f"address add {self.address}/24 dev eth0",
            f"route add default via 198.51.{100 + number}.1",
            f"address add {WEB}/32 dev lo",
            f"address add {WEB6}/128 dev lo",
        )
        self.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.namespace.run("nft", "-f", "-", text=_NAT)
        self._make_interface(go=go)
        self.new_key()

    def new_key(self) -> None:
        """Change the gateway's own key."""
        secret = self.namespace.run("wg", "genkey")
        self.public_key = self.namespace.run("wg", "pubkey", text=secret).strip()
        self._wg("set", self.interface, "listen-port", str(PORT), "private-key", "/dev/stdin", text=secret)

    def listing(self) -> GatewayListing:
        """Return what the control plane tells of it."""
        return GatewayListing(self.name, self.public_key, f"{self.address}:{PORT}", "SE", None, RESOLVER)

    def admit(self, devices: list[Registered]) -> None:
        """Make these devices the peers, and no others."""
        text = "\n".join([self._own(), *map(_peer, devices)])
        self._wg("syncconf", self.interface, "/dev/stdin", text=text)

    def add(self, device: Registered) -> None:
        """Make this device a peer, too; all else stays, the socket also that wireguard-go listens on."""
        self._wg("addconf", self.interface, "/dev/stdin", text=_peer(device))

    def endpoints(self) -> list[str]:
        """Return the endpoint of each peer that has one."""
        lines = self._wg("show", self.interface, "endpoints").splitlines()
        return [where for where in (line.split("\t")[1] for line in lines) if where != "(none)"]

    def close(self) -> None:
        """Take it away."""
        if self._process is not None:
            self._process.stop()
        self.namespace.close()

    def _make_interface(self, *, go: bool) -> None:
        if go:
            with self.namespace.inside():
                self._process = userspace.start(self.interface)
        else:
            self.namespace.ip(f"link add {self.interface} type wireguard")
        self.namespace.ip(
            f"address add {RESOLVER}/16 dev {self.interface}",
            f"address add fd77::1/64 dev {self.interface}",
            f"link set {self.interface} up",
        )

    def _own(self) -> str:
        return self._wg("showconf", self.interface).partition("[Peer]")[0]

    def _wg(self, *arguments: str, text: str = "") -> str:
        return self.namespace.run("wg", *arguments, text=text)


def _peer(device: Registered) -> str:
    return (
        f"[Peer]\nPublicKey={device.public_key}\nPresharedKey={device.preshared_key}\n"
        f"AllowedIPs={','.join(device.addresses)}\n"
    )


class World:
    """All of it; the client is a real process in the namespace `home`."""

    def __init__(self, folder: Path, *, go: bool = False) -> None:
        self._folder = folder
        self.state = folder / "client"
        self.interface = f"exu{unique()}" if go else "exuvia0"
        self.internet = Namespace("net")
        addresses = (f"{CONTROL}/32", f"{WEB}/32", f"{WEB6}/128")
        self.internet.ip(*(f"address add {address} dev lo" for address in addresses))
        self.internet.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.gateways = [Gateway(number, self.internet, folder, go=go) for number in (1, 2)]
        self.control = FakeControlPlane(changed=self._changed)
        self._clients: list[Client] = []
        self._move_in()

    def new_home(self) -> None:
        """Begin anew: another home, nobody logged in, a control plane that behaves."""
        self._move_out()
        self._move_in()

    def _move_in(self) -> None:
        self.control.devices.clear()
        self.control.refuse.clear()
        self._changed([])
        self.list_gateways()
        self.home = Namespace("home")
        self._own_resolv_conf()
        wire(self.home, "eth0", self.internet, "to-home")
        self.internet.ip(
            f"address add {NEIGHBOUR}/24 dev to-home",
            f"address add {LAN}/24 dev to-home",
            f"address add {NEIGHBOUR6}/64 dev to-home nodad",
        )
        self.home.ip(
            f"address add {HOME}/24 dev eth0",
            "address add 192.168.7.2/24 dev eth0",
            f"address add {HOME6}/64 dev eth0 nodad",
            f"route add default via {NEIGHBOUR}",
            f"route add ::/0 via {NEIGHBOUR6}",
        )
        self.wiretap = Wiretap(self.internet, "to-home")

    def _move_out(self) -> None:
        for client in self._clients:
            client.kill()
        self._clients.clear()
        self.wiretap.close()
        self.internet.ip("link delete to-home")
        self.home.close()
        shutil.rmtree(self._resolv_conf.parent, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)

    @contextlib.contextmanager
    def serving(self, *, days: int = 1) -> Iterator[None]:
        """Let the control plane answer, by TLS, while the block runs; its certificate lasts so long."""
        write_certificate(self._folder, CONTROL, clock.wall(), days=days)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        with self.internet.inside():
            sock = socket.create_server((CONTROL, CONTROL_PORT))
        with sock, self.control.serving(sock, context):
            yield

    def list_gateways(self) -> None:
        """Let the control plane know the gateways' keys as they are now."""
        self.control.gateways = [gateway.listing() for gateway in self.gateways]

    def client(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a client command at home to its end."""
        return subprocess.run(self._client(*arguments), input=text, capture_output=True, text=True)

    def log_in(self) -> None:
        """Log the client in."""
        folder, said = StateFolder(self.state), list[str]()
        login = log_in(
            *(folder, f"https://{CONTROL}"),
            ca_file=str(self._folder / "cert.pem"),
            account=lambda: ACCOUNT,
            say=said.append,
        )
        with self.home.inside():
            asyncio.run(login)

    def up(self, *arguments: str, confined: tuple[str, ...] = ()) -> "Client":
        """Start the client; `confined` is a command that runs another one with fewer powers."""
        command = self._client("up", "--interface", self.interface, *arguments, confined=confined)
        client = Client(command, self._folder / f"client-{unique()}.log")
        self._clients.append(client)
        return client

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        found: dict[str, Any] = json.loads(self.client("status", "--json").stdout)
        return found

    def resolv_conf(self) -> str:
        """Return the home's resolv.conf."""
        return self._resolv_conf.read_text()

    def write_resolv_conf(self, text: str) -> None:
        """Write the home's resolv.conf, as another program would."""
        self._resolv_conf.write_text(text)

    def forget_resolv_conf(self) -> None:
        """Let the home share the machine's resolv.conf."""
        shutil.rmtree(self._resolv_conf.parent)

    def pings(self, address: str = WEB) -> bool:
        """Say whether an address answers within a second."""
        command = self.home.command("ping", "-c", "1", "-W", "1", address)
        return subprocess.run(command, capture_output=True).returncode == 0

    def close(self) -> None:
        """Take everything away."""
        self._move_out()
        for gateway in self.gateways:
            gateway.close()
        self.internet.close()

    def _client(self, *arguments: str, confined: tuple[str, ...] = ()) -> list[str]:
        command = (sys.executable, "-m", "exuvia", "client", "--state", str(self.state), *arguments)
        return self.home.command(*confined, *command)

    def _changed(self, devices: list[Registered]) -> None:
        for gateway in self.gateways:
            gateway.admit(devices)

    def _own_resolv_conf(self) -> None:
        self._resolv_conf = Path("/etc/netns", self.home.name, "resolv.conf")
        self._resolv_conf.parent.mkdir(parents=True)
        self._resolv_conf.write_text(FIRST_RESOLV_CONF)


class Client:
    """A running `exuvia client up`."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    @property
    def printed(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def wait_for(self, text: str, *, times: int = 1, seconds: float = 30) -> None:
        """Wait until it has printed this so many times."""
        end = time.monotonic() + seconds
        while self.printed.count(text) < times:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"it did not say {text!r}:\n{self.printed}")
            time.sleep(0.05)

    def terminate(self) -> int:
        """Tell it to go down; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(10)
