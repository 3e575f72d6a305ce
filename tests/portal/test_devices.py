"""The website without scripts: devices, their keys, and their end."""

import re

import pytest

from control_plane import Server, honest_key
from portal_visitor import Visitor

NAME = re.compile(r"<h1>(\w+ \w+)</h1>")


@pytest.fixture
def visitor(server: Server) -> Visitor:
    """Somebody who is logged in, with room for two devices, where one gateway's key lasts."""
    hello = {"public_key": honest_key(), "lasting": True}
    assert server.ask("PUT", "/v1/gateway", bearer=server.gateway(), body=hello).status == 200
    visitor = Visitor(server)
    visitor.number = server.account(devices=2)  # type: ignore[attr-defined]
    assert visitor.log_in(visitor.number).path == "/"  # type: ignore[attr-defined]
    return visitor


def keys_of(server: Server, number: str) -> list[str]:
    """Return the public keys of an account as the API has them."""
    devices = server.ask("GET", "/v1/devices", bearer=number).json
    return sorted(key for device in devices for key in device["public_keys"])


def test_a_device_is_added_and_shown(server: Server, visitor: Visitor) -> None:
    """Its page has its random name, its key, its addresses, and a configuration but for the private key."""
    key = honest_key()
    shown = visitor.get(visitor.add(key))
    name = NAME.search(shown.text)

    assert name and key in shown.text.replace("&#43;", "+")
    assert re.search(r"Address = 10\.\d+\.\d+\.\d+/32, fd", shown.text)
    assert "Endpoint = gateway.example:51820" in shown.text
    assert name[1] in visitor.get("/").text
    assert keys_of(server, visitor.number) == [key]  # type: ignore[attr-defined]
