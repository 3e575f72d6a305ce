"""A control plane and two gateways on wireguard-go: what is taken away leaves their interfaces."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import COMMAND, Server, honest_key
from exuvia.messages import AccountCreated, AccountSummary, CreateAccount, DeviceRegistered
from exuvia.testing.feed import wait_until
from exuvia.testing.namespaces import Namespace, unique
from exuvia.testing.site import GatewayRun
from exuvia.wg.keys import PublicKey

Table = dict[str, set[str]]
"""Of an interface: the addresses of each public key."""


class Place:
    """A machine of its own, with the control plane and two gateways."""

    def __init__(self, folder: Path) -> None:
        self.namespace = Namespace("once")
        self.server = Server(folder)
        self.interfaces = [f"exu{unique()}" for _ in range(2)]
        self.gateways: list[GatewayRun] = []
        # Retired keys go once in an hour here: whatever leaves sooner leaves for another reason.
        words = ["serve", "--listen", "127.0.0.1:8080", "--database", self.server.database]
        words += ["--retire-every", "3600", "--unproven-keys", "allow"]
        self.serving = subprocess.Popen(
            self.namespace.command(*COMMAND, *words), stdout=subprocess.PIPE, text=True
        )
        assert self.serving.stdout is not None and "ready" in self.serving.stdout.readline()
        self.server.url = "http://127.0.0.1:8080"

    def start_gateways(self) -> None:
        """Enroll both, and wait until they follow."""
        for number, interface in enumerate(self.interfaces):
            token = self.server.folder / f"{interface}.token"
            token.write_text(self.server.gateway(f"gw{number}"))
            words = ["gateway", "run", "--control", self.server.url, "--token-file", str(token)]
            words += ["--interface", interface, "--listen-port", str(51820 + number)]
            log = self.server.folder / f"{interface}.log"
            self.gateways.append(GatewayRun(self.namespace.command(*COMMAND, *words), log))
        for gateway in self.gateways:
            gateway.wait_ready()

    def tables(self) -> list[Table]:
        """Return what the interfaces have."""
        found = []
        for interface in self.interfaces:
            lines = self.namespace.run("wg", "show", interface, "allowed-ips").splitlines()
            found.append({key: set(ips.split()) for key, _, ips in (line.partition("\t") for line in lines)})
        return found

    def wait(self, wanted: Table) -> None:
        """Wait until both interfaces have exactly this."""
        wait_until(lambda: all(table == wanted for table in self.tables()), 30)

    def register(self, number: str, key: str) -> DeviceRegistered:
        """Register a device."""
        with self.namespace.inside():
            return self.server.register(number, key)

    def close(self) -> None:
        """End everything."""
        for gateway in self.gateways:
            gateway.stop()
        self.serving.terminate()
        self.serving.communicate(timeout=20)
        # wireguard-go lasts until its interface is deleted, and so would the namespace.
        for interface in self.interfaces:
            self.namespace.ip(f"link delete {interface}")
        self.namespace.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A control plane with two gateways that follow."""
    place = Place(tmp_path)
    try:
        place.start_gateways()
        yield place
    finally:
        place.close()


def test_p8_what_is_suspended_leaves_every_interface(
    place: Place,
) -> None:
    """With no batch to wait for; another account's peer stays; who is resumed gets other addresses."""
    operator, staying = place.server.operator, honest_key()
    made = operator.ask("POST", "/v1/admin/accounts", CreateAccount(), gives=AccountCreated)
    keys = [honest_key() for _ in range(3)]
    devices = [place.register(made.account, key) for key in keys]
    other = {staying: set(place.register(place.server.account(), staying).addresses)}
    before = {key: set(device.addresses) for key, device in zip(keys, devices, strict=True)}
    place.wait({**before, **other})

    began = time.monotonic()
    operator.ask("POST", f"/v1/admin/accounts/{made.id}/suspend", gives=AccountSummary)
    place.wait(other)
    print(f"gone from both interfaces {time.monotonic() - began:.3f} s after the command began")

    path = f"/v1/device/keys/{PublicKey.from_text(keys[0]).path()}"
    with place.namespace.inside():
        refused = place.server.ask("PUT", path, bearer=devices[0].token)
        operator.ask("POST", f"/v1/admin/accounts/{made.id}/resume", gives=AccountSummary)
        granted = place.server.ask("PUT", path, bearer=devices[0].token)
    assert (refused.status, refused.json["detail"]) == (403, "the account is suspended")
    addresses = set(granted.json["addresses"])
    assert not addresses & before[keys[0]]
    place.wait({**other, keys[0]: addresses})
