"""
A home's network as the client changes it, driven call by call from a test.

A program of its own, so that it can be killed at any moment, and because a process is in one
network namespace: `python -m exuvia.testing.rotator INTERFACE`, a call a line.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from exuvia.client import network
from exuvia.client.gateways import Endpoint, Gateway
from exuvia.client.network import Network
from exuvia.client.state import Grant
from exuvia.errors import ExuviaError
from exuvia.testing.control import Registered
from exuvia.testing.home import CONTROL, CONTROL_PORT, World
from exuvia.testing.home import Gateway as TestedGateway
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey

CONTROL_ENDPOINT = Endpoint(ip_address(CONTROL), CONTROL_PORT)


class Refused(Exception):
    """The call raised an error of ours."""


class Rotator:
    """A client's network in a home, and the keys that the gateways know."""

    def __init__(self, world: World, *, names: bool = False) -> None:
        self._world = world
        self._number = 1
        self.devices: list[Registered] = []
        self._calls = 0
        self.start(names=names)

    def start(self, *, names: bool = False) -> None:
        """Begin, as a client that was just started."""
        command = (sys.executable, "-m", "exuvia.testing.rotator", self._world.interface, str(int(names)))
        self.process = subprocess.Popen(
            self._world.home.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of Network and return its result."""
        self.begin(name, *arguments, **named)
        return self.finish()

    def begin(self, name: str, *arguments: Any, **named: Any) -> None:
        """Begin a call, without waiting for its end."""
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps([name, arguments, named]) + "\n")
            self.process.stdin.flush()

    def finish(self) -> Any:
        """Wait for the end of the call."""
        error, result = json.loads(self.process.stdout.readline() if self.process.stdout else "")
        if error:
            raise Refused(error)
        return result

    def register(self, *, on: Sequence[TestedGateway] | None = None) -> tuple[str, dict[str, str]]:
        """Make a key that these gateways know, or all of them; return it and its grant."""
        self._number += 1
        key, preshared = PrivateKey(os.urandom(32)), PresharedKey(os.urandom(32)).text()
        four, six = f"10.77.0.{self._number}", f"fd77::{self._number:x}"
        device = Registered(key.public_key().text(), "", [f"{four}/32", f"{six}/128"], preshared)
        self.devices.append(device)
        for gateway in self._world.gateways if on is None else on:
            gateway.add(device)
        return key.text(), {"address4": four, "address6": six, "preshared_key": preshared}

    def up(self, number: int = 0) -> dict[str, str]:
        """Connect to a gateway with a new key; return its grant."""
        key, grant = self.register()
        gateway = self.gateway(number)
        self.call("shut", gateway, True)
        self.call("harden")
        self.call("dial", gateway, key, grant, keepalive=5)
        self.wait(lambda: self.call("look")[0])
        self.call("shut", gateway, False)
        self.call("keep_alive", 0)
        return grant

    def prepare(self, number: int = 0) -> dict[str, str]:
        """Bring a second tunnel up with a new key, to its handshake; return its grant."""
        key, grant = self.register()
        self.call("prepare", self.gateway(number), key, grant)
        self.call("kick")
        self.wait(lambda: self.call("look_beside")[0])
        return grant

    def rotate(self, number: int = 0) -> dict[str, str]:
        """Let new flows take a tunnel with a new key; return its grant."""
        grant = self.prepare(number)
        self.call("switch")
        return grant

    def gateway(self, number: int) -> dict[str, Any]:
        """Return a gateway as the program is told of it."""
        listing = self._world.gateways[number].listing()
        return {"name": listing.name, "public_key": listing.public_key, "endpoint": listing.endpoint}

    def wait(self, condition: Any, *, seconds: float = 30) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError("it does not come true")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it, if it has not ended; what it changed stays."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


def main() -> None:
    """Do what the lines say."""
    driven = Network(sys.argv[1], names=sys.argv[2] == "1")
    for line in sys.stdin:
        name, arguments, named = json.loads(line)
        error, result = "", None
        try:
            result = _do(driven, name, arguments, named)
        except ExuviaError as failure:
            error = str(failure)
        print(json.dumps([error, result]), flush=True)


def _do(driven: Network, name: str, arguments: list[Any], named: dict[str, Any]) -> Any:
    match name, arguments:
        case "shut", [gateway, control]:
            return driven.shut(gateway and _gateway(gateway), [CONTROL_ENDPOINT] if control else [])
        case (("dial" | "prepare"), [gateway, key, grant]):
            return getattr(driven, name)(_gateway(gateway), PrivateKey.from_text(key), _grant(grant), **named)
        case (("look" | "look_beside"), []):
            return list(getattr(driven, name)()[1:])
        case "hold", [seconds]:
            return driven.hold(None if seconds is None else datetime.fromtimestamp(seconds, UTC))
        case "interface", []:
            return driven.interface
        case "clear_up", []:
            return network.clear(stay_shut=True)
        case _:
            return getattr(driven, name)(*arguments, **named)


def _gateway(told: dict[str, str]) -> Gateway:
    host, _, port = told["endpoint"].rpartition(":")
    dns = ip_address(told["dns"]) if "dns" in told else None
    key = PublicKey.from_text(told["public_key"])
    return Gateway(told["name"], key, Endpoint(ip_address(host), int(port)), dns)


def _grant(told: dict[str, str]) -> Grant:
    preshared = PresharedKey.from_text(told["preshared_key"])
    return Grant(IPv4Address(told["address4"]), IPv6Address(told["address6"]), preshared, 1, "e1")


if __name__ == "__main__":
    main()
