"""A portal whose gateway is real, and a home where nothing of exuvia is: only WireGuard's own wg-quick."""

import subprocess
import sys
import time
from pathlib import Path

from relay import Relay

from control_plane import Server
from exuvia.testing.namespaces import Namespace, unique, wire

GATEWAY, HOME = "192.0.2.1", "192.0.2.2"
WEB, WEB6 = "198.18.0.1", "2001:db8:18::1"
RESOLVER = "198.18.0.53"
PORT = 51820

RESOLVCONF = """#!/bin/sh
# What wg-quick tells of DNS, instead of changing this machine's.
case $1 in -a) cat;; esac >{file}
"""


class StockHome:
    """The control plane here; a gateway, the internet behind it and a home each in a namespace."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._folder = folder
        self._up: Path | None = None
        self.name = f"g{unique()}"[-8:]
        self.gateway, self.internet, self.home = Namespace("gate"), Namespace("net"), Namespace("home")
        self._interface = f"wg{unique()}"
        self._wire()
        with self.gateway.inside():
            self._relay = Relay(int(server.url.rpartition(":")[2]))
            self._relay.listen()
        self._relay.start()
        self._daemon = self._start_gateway(server)
        self._wait_for_gateway(server)

    def quick_up(self, name: str, content: bytes) -> None:
        """Give a configuration file to wg-quick at home, and nothing else."""
        self._up = self._folder / name
        self._up.touch(mode=0o600)
        self._up.write_bytes(content)
        self.home.run(*self._quick("up"))

    def quick_down(self) -> None:
        """Take it down again."""
        if self._up is not None:
            self.home.run(*self._quick("down"))
            self._up = None

    def pings(self, address: str = WEB) -> bool:
        """Say whether an address answers within a second."""
        command = self.home.command("ping", "-c", "1", "-W", "1", address)
        return subprocess.run(command, capture_output=True).returncode == 0

    def told_of_dns(self) -> str:
        """Return what wg-quick told the home's resolvconf."""
        return (self._folder / "dns").read_text()

    def wait_until(self, address: str = WEB, *, seconds: float = 10) -> None:
        """Wait until an address answers."""
        end = time.monotonic() + seconds
        while not self.pings(address):
            if time.monotonic() > end:
                raise TimeoutError(f"no answer from {address}; the gateway said:\n{self._said()}")

    def wait_until_gone(self, address: str = WEB, *, seconds: float = 10) -> None:
        """Wait until an address answers no more."""
        end = time.monotonic() + seconds
        while self.pings(address):
            if time.monotonic() > end:
                raise TimeoutError(f"{address} still answers")

    def close(self) -> None:
        """Take everything away."""
        self.quick_down()
        self._daemon.terminate()
        self._daemon.wait(20)
        subprocess.run(self.gateway.command("ip", "link", "delete", self._interface), capture_output=True)
        self._relay.close()
        for namespace in (self.gateway, self.internet, self.home):
            namespace.close()

    def _wire(self) -> None:
        wire(self.gateway, "home0", self.home, "eth0")
        wire(self.gateway, "out0", self.internet, "eth0")
        self.gateway.ip(
            f"address add {GATEWAY}/24 dev home0",
            "address add 198.51.100.1/24 dev out0",
            "address add 2001:db8:1::1/64 dev out0 nodad",
            "route add default via 198.51.100.2",
            "route add ::/0 via 2001:db8:1::2",
        )
        # A home that reaches its gateway, and without a tunnel nothing behind it.
        self.home.ip(f"address add {HOME}/24 dev eth0")
        self.internet.ip(
            "address add 198.51.100.2/24 dev eth0",
            "address add 2001:db8:1::2/64 dev eth0 nodad",
            f"address add {WEB}/32 dev lo",
            f"address add {WEB6}/128 dev lo",
        )

    def _start_gateway(self, server: Server) -> "subprocess.Popen[bytes]":
        token, key = self._folder / "token", self._folder / "gateway.key"
        enroll = ("gateway", "enroll", self.name, "--database", server.database)
        enroll += ("--endpoint", f"{GATEWAY}:{PORT}", "--dns", RESOLVER)
        _secret(token, _output(*_exuvia(*enroll)))
        _secret(key, _output("wg", "genkey"))
        run = ("gateway", "run", "--control", f"http://127.0.0.1:{self._relay.port}")
        run += ("--token-file", str(token), "--private-key-file", str(key), "--interface", self._interface)
        run += ("--listen-port", str(PORT), "--nat", "out0")
        with (self._folder / "gateway.log").open("wb") as log:
            return subprocess.Popen(self.gateway.command(*_exuvia(*run)), stdout=log, stderr=log)

    def _wait_for_gateway(self, server: Server) -> None:
        number, end = server.account(), time.monotonic() + 20
        while not server.ask("GET", "/v1/gateways", bearer=number).json:
            if time.monotonic() > end:
                raise TimeoutError(f"the gateway did not come:\n{self._said()}")
            time.sleep(0.05)

    def _quick(self, what: str) -> list[str]:
        programs = self._folder / "programs"
        programs.mkdir(exist_ok=True)
        resolvconf = programs / "resolvconf"
        resolvconf.write_text(RESOLVCONF.format(file=self._folder / "dns"))
        resolvconf.chmod(0o755)
        path = f"PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["env", "-i", path, "wg-quick", what, str(self._up)]

    def _said(self) -> str:
        return (self._folder / "gateway.log").read_text()


def _exuvia(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "exuvia", *arguments]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
