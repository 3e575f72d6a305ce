"""The website in browsers that run no scripts: everything but making a key, and passkeys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Visitor, launch, visiting
from playwright.sync_api import Playwright
from test_new_key import registered

from control_plane import Server, honest_key


@pytest.fixture(params=["chromium", "firefox"])
def plain(
    request: pytest.FixtureRequest, playwright: Playwright, url: str, downloads: Path
) -> Iterator[Visitor]:
    """Somebody whose browser runs no scripts, and who has a keyboard: drivers click by scripts."""
    own = None if request.param == "chromium" else launch(playwright, "firefox", downloads, scripts=False)
    options = {} if own else {"java_script_enabled": False}
    with visiting(own or request.getfixturevalue("chromium"), url, downloads, **options) as visitor:
        yield visitor
    if own:
        own.close()
    assert visitor.complaints == []


def test_a_day_without_scripts(plain: Visitor, number: str, server: Server) -> None:
    """Without scripts one adds, replaces and deletes a device, by keys that one made oneself."""
    plain.open("/login")
    plain.type("Account number", number)
    plain.enter("Log in")
    plain.enter("Add a device")
    assert "can't make a key" in plain.text
    plain.type("Public key", "my key")
    plain.enter("Add the device")
    assert "That did not work" in plain.text
    assert registered(server, number) == []

    first, second = honest_key(), honest_key()
    plain.type("Public key", first)
    plain.type("Gateway", "us")
    plain.enter("Add the device")
    assert f"PublicKey = {gateway_key(server, number, 'us1')}" in plain.text
    assert registered(server, number)[0]["public_keys"] == [first]

    plain.enter("Replace the key")
    plain.type("Public key", second)
    plain.enter("Replace the key")
    assert second in registered(server, number)[0]["public_keys"]

    plain.enter("Delete this device")
    plain.enter(plain.heading.removesuffix("?"))
    assert "There are none yet." in plain.text
    assert registered(server, number) == []
    plain.enter("Log out")
    assert plain.heading == "Log in"


def gateway_key(server: Server, number: str, name: str) -> str:
    """Return the public key of a gateway."""
    listed = server.ask("GET", "/v1/gateways", bearer=number).json
    return str(next(gateway["public_key"] for gateway in listed if gateway["name"] == name))
