"""A gateway's machine with its feed, and clients on wires, in network namespaces: for tests of gateways."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exuvia.testing.feed import TOKEN, FakeFeed, peer, secret, wait_until
from exuvia.testing.namespaces import Namespace, wire
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

INTERFACE = "wg0"
PORT = 51820
CONTROL_PORT = 8080
TUNNEL = "10.0.0.1"
"""The gateway's own address in the tunnel."""


@dataclass(frozen=True)
class Shown:
    """What `wg show` tells of a peer."""

    preshared_key: str
    endpoint: str
    allowed_ips: frozenset[str]
    handshake: int
    received: int
    sent: int
    keepalive: str

    @property
    def configuration(self) -> tuple[str, frozenset[str], str]:
        """What a purge has to leave as it is."""
        return self.preshared_key, self.allowed_ips, self.keepalive

    @property
    def forgotten(self) -> bool:
        """Whether there is nothing but the configuration."""
        return (self.endpoint, self.handshake, self.received, self.sent) == ("(none)", 0, 0, 0)


def as_shown(row: TunnelPeer) -> tuple[str, frozenset[str], str]:
    """Return the configuration of a peer of the table as `wg show` has to tell it."""
    addresses = frozenset({f"{row.address4}/32", f"{row.address6}/128"})
    return row.preshared_key.text(), addresses, "off"


class Machine:
    """A gateway's machine: a namespace, and the feed on its loopback."""

    def __init__(self, folder: Path, *, name: str = "gw") -> None:
        self.folder = folder
        self.namespace = Namespace(name)
        self.feed = FakeFeed()
        self._gateways: list[GatewayRun] = []
        self._clients: list[Client] = []
        self.token_file = folder / f"{self.namespace.name}.token"
        self.token_file.write_text(f"{TOKEN}\n")
        self.token_file.chmod(0o600)

    @contextlib.contextmanager
    def serving(self) -> Iterator[FakeFeed]:
        """Let the feed answer while the block runs."""
        with self.namespace.inside():
            sock = socket.create_server(("127.0.0.1", CONTROL_PORT))
        with sock, self.feed.serving(sock):
            yield self.feed

    def run(
        self, *options: str, url: str = f"http://127.0.0.1:{CONTROL_PORT}", **popen: object
    ) -> "GatewayRun":
        """Start `exuvia gateway run`."""
        command = self.namespace.command(
            *(sys.executable, "-m", "exuvia", "gateway", "run", "--control", url),
            *("--token-file", str(self.token_file), "--interface", INTERFACE, "--listen-port", str(PORT)),
            *options,
        )
        log = self.folder / f"{self.namespace.name}.{len(self._gateways)}.log"
        gateway = GatewayRun(command, log)
        self._gateways.append(gateway)
        return gateway

    def client(self, number: int) -> "Client":
        """Return a client on a wire of its own; its key is that of peer(number)."""
        client = Client(self.namespace, number)
        self._clients.append(client)
        return client

    def wg(self, *arguments: str, text: str = "") -> str:
        """Run wg on the machine."""
        return self.namespace.run("wg", *arguments, text=text)

    def public_key(self) -> str:
        """Return the gateway's public key."""
        return self.wg("show", INTERFACE, "public-key").strip()

    def show(self) -> dict[bytes, Shown]:
        """Return what `wg show` tells of each peer; nothing if there is no interface."""
        found = {}
        with contextlib.suppress(RuntimeError):
            for line in self.wg("show", INTERFACE, "dump").splitlines()[1:]:
                key, psk, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
                ips = frozenset(allowed.split(",")) - {"(none)"}
                found[bytes(PublicKey.from_text(key))] = Shown(
                    psk, endpoint, ips, int(handshake), int(received), int(sent), keepalive
                )
        return found

    def is_equal(self) -> bool:
        """Say whether the interface has exactly the peers of the feed's table."""
        wanted = {key: as_shown(row) for key, row in self.feed.table.items()}
        return {key: shown.configuration for key, shown in self.show().items()} == wanted

    def wait_equal(self, seconds: float = 30) -> None:
        """Wait until the interface has exactly the peers of the feed's table."""
        wait_until(self.is_equal, seconds)

    def alias(self) -> str:
        """Return the alias of the interface."""
        text = self.namespace.run("ip", "link", "show", INTERFACE)
        return next((line.strip()[6:] for line in text.splitlines() if line.strip().startswith("alias ")), "")

    def close(self) -> None:
        """End everything and take it away."""
        for gateway in self._gateways:
            gateway.kill()
        for client in self._clients:
            client.close()
        self.namespace.close()


class GatewayRun:
    """A running `exuvia gateway run`: its pid is the kernel process's."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The kernel process."""
        return self.process.pid

    @property
    def network_pid(self) -> int | None:
        """The network process, if there is one."""
        return child_of(self.pid)

    @property
    def printed(self) -> str:
        """All that it has printed."""
        return self._log.read_text(errors="replace")

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until it has applied the peer table."""
        self.wait_for("is ready", seconds)

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Wait until it has printed something; an error with all it printed if it does not."""
        try:
            wait_until(lambda: text in self.printed or self.process.poll() is not None, seconds)
        except TimeoutError:
            raise TimeoutError(f"did not print {text!r} but:\n{self.printed}") from None
        if text not in self.printed:
            raise RuntimeError(f"ended without printing {text!r} but:\n{self.printed}")

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.terminate()
        return self.process.wait(20)

    def kill(self) -> None:
        """Kill it where it stands, and wait until its network process has ended as well."""
        network = self.network_pid if self.process.poll() is None else None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(20)
        if network is not None:
            wait_until(lambda: not Path(f"/proc/{network}").exists())


class Client:
    """A client: a namespace with a WireGuard interface, on a wire to the gateway."""

    def __init__(self, gateway: Namespace, number: int) -> None:
        self.number = number
        self.row = peer(number)
        self.key = bytes(self.row.public_key)
        self.namespace = Namespace(f"client{number}")
        self.address, self.outside = f"192.0.{number}.2", f"192.0.{number}.1"
        self.link = f"to-{number}"
        wire(self.namespace, "eth0", gateway, self.link)
        gateway.ip(f"address add {self.outside}/24 dev {self.link}")
        self.namespace.ip(f"address add {self.address}/24 dev eth0")

    def up(self, gateway_key: str, *, keepalive: int = 0) -> None:
        """Bring the tunnel up; nothing is sent yet, unless by keepalives."""
        self.namespace.ip(
            "link add wg0 type wireguard",
            f"address add {self.row.address4}/32 dev wg0",
            f"address add {self.row.address6}/128 dev wg0 nodad",
        )
        configuration = (
            f"[Interface]\nPrivateKey = {secret(self.number).text()}\n"
            f"[Peer]\nPublicKey = {gateway_key}\nPresharedKey = {self.row.preshared_key.text()}\n"
            f"AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {self.outside}:{PORT}\n"
            f"PersistentKeepalive = {keepalive or 'off'}\n"
        )
        self.namespace.run("wg", "setconf", "wg0", "/dev/stdin", text=configuration)
        self.namespace.ip("link set wg0 up", "route add 0.0.0.0/0 dev wg0", "route add ::/0 dev wg0")

    def pings(self, address: str = TUNNEL, *, seconds: float = 5) -> bool:
        """Say whether an address answers through the tunnel."""
        command = self.namespace.command("ping", "-c", "1", "-W", str(seconds), address)
        return subprocess.run(command, capture_output=True).returncode == 0

    def down(self) -> None:
        """Close the tunnel and forget all about it."""
        self.namespace.ip("link del wg0")

    def close(self) -> None:
        """Take it away."""
        self.namespace.close()


def child_of(pid: int) -> int | None:
    """Return a process that this one has started, if there is one."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == pid:
                    return int(folder.name)
    return None
