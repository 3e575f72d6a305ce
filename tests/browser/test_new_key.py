"""A key is made in the browser: its configuration as text, file and QR code, and what stays secret."""

import zxingcpp
from browsing import NO_X25519, Visitor
from relay import Relay

from control_plane import Server, spellings
from exuvia.wg.conf import Configuration

COUNT_FILES = """
const { createObjectURL, revokeObjectURL } = URL;
window.__files = new Set();
URL.createObjectURL = (file) => {
  const url = createObjectURL.call(URL, file);
  __files.add(url);
  return url;
};
URL.revokeObjectURL = (url) => {
  __files.delete(url);
  revokeObjectURL.call(URL, url);
};
"""
"""Notes which files the page keeps in memory."""

EXACT = """[Interface]
PrivateKey = {private_key}
Address = {addresses}

[Peer]
PublicKey = {gateway_key}
PresharedKey = {preshared_key}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = gateway.example:51820
"""


def registered(server: Server, number: str) -> list[dict[str, list[str]]]:
    """Return the devices of an account, as programs see them."""
    devices: list[dict[str, list[str]]] = server.ask("GET", "/v1/devices", bearer=number).json
    return devices


def private_key(configuration: Configuration) -> bytes:
    """Return the private key of a configuration."""
    assert configuration.private_key is not None
    return configuration.private_key.expose()


def test_the_key_is_the_browsers_own(visitor: Visitor, number: str, server: Server) -> None:
    """The configuration's private key is the one whose public half the control plane knows."""
    visitor.is_logged_in(number)
    made = visitor.add_device()

    assert made.private_key is not None
    (device,) = registered(server, number)
    assert device["public_keys"] == [made.private_key.public_key().text()]


def test_text_file_and_code_are_the_same(visitor: Visitor, number: str) -> None:
    """Text, file and QR code hold the same configuration, which names nothing but what a tunnel needs."""
    visitor.is_logged_in(number)
    made = visitor.add_device()
    text = visitor.shown_text()
    name, file = visitor.download()

    assert made.private_key is not None and made.peers[0].peer.preshared_key is not None
    assert text == EXACT.format(
        private_key=made.private_key.text(),
        addresses=", ".join(map(str, made.addresses)),
        gateway_key=made.peers[0].peer.public_key.text(),
        preshared_key=made.peers[0].peer.preshared_key.text(),
    )
    assert file.decode() == text
    assert decoded(visitor) == text
    assert name == "exuvia-nl-amste.conf"


def decoded(visitor: Visitor) -> str:
    """Return what the QR code on the page says."""
    (code,) = zxingcpp.read_barcodes(visitor.picture("svg.qr"), formats=zxingcpp.BarcodeFormat.QRCode)
    return str(code.text)


def test_another_gateway_rewrites_the_configuration(visitor: Visitor, number: str, relay: Relay) -> None:
    """Choosing another gateway changes text, file and code, and asks the server nothing."""
    visitor.is_logged_in(number)
    first = visitor.add_device()
    relay.forget()
    visitor.page.get_by_label("Gateway").select_option("se1")
    second = visitor.configuration()

    assert (second.private_key, second.addresses) == (first.private_key, first.addresses)
    assert second.peers[0].peer.public_key != first.peers[0].peer.public_key
    assert decoded(visitor) == visitor.shown_text() == visitor.download()[1].decode()
    assert relay.sent == b""


def test_the_private_key_is_never_sent(visitor: Visitor, number: str, relay: Relay) -> None:
    """In no request of any kind, in any spelling, stands the private key that a page has made."""
    visitor.is_logged_in(number)
    keys = [private_key(visitor.add_device()) for _ in range(2)]
    visitor.page.get_by_label("Gateway").select_option("us1")
    visitor.download()
    for path in ("/", "/gateways", "/account"):
        visitor.open(path)

    assert b"public_key=" in relay.sent
    assert [key for key in keys if any(spelling in relay.sent for spelling in spellings(key))] == []


def test_nothing_is_left_in_the_browser(visitor: Visitor, number: str) -> None:
    """Who leaves the page leaves no key in any storage, cookie, address or history, nor in the page."""
    visitor.is_logged_in(number)
    key = visitor.add_device().private_key
    assert key is not None
    visitor.go("Account")
    assert storage(visitor) == [0, 0, [], [], 0, ""]
    visitor.page.go_back()
    visitor.page.get_by_role("button", name="Add the device").wait_for()

    assert key.text() not in visitor.page.content()
    assert visitor.page.locator("pre.configuration").count() == 0
    assert storage(visitor) == [0, 0, [], [], 0, ""]


def test_leaving_wipes_the_page(visitor: Visitor, number: str) -> None:
    """A page that is left is emptied of its key and its file, also if the browser keeps the page as it is."""
    visitor.page.add_init_script(COUNT_FILES)
    visitor.is_logged_in(number)
    key = visitor.add_device().private_key
    visitor.page.get_by_label("Gateway").select_option("us1")
    assert key is not None
    assert visitor.page.evaluate("__files.size") == 1
    visitor.page.evaluate("() => { dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })) }")

    assert key.text() not in visitor.page.content()
    assert visitor.page.locator("svg.qr").count() == 0
    assert visitor.page.evaluate("__files.size") == 0


def storage(visitor: Visitor) -> object:
    """Return how much of each kind of storage is used, and what scripts see of cookies and history."""
    return visitor.page.evaluate(
        """async () => [
          localStorage.length, sessionStorage.length, await indexedDB.databases(), await caches.keys(),
          (await navigator.serviceWorker.getRegistrations()).length, document.cookie + (history.state ?? ""),
        ]"""
    )


def test_a_browser_without_x25519(visitor: Visitor, number: str, server: Server) -> None:
    """A browser without X25519 of its own loads a library, and registers a key that works."""
    visitor.page.add_init_script(NO_X25519)
    loaded: list[str] = []
    visitor.page.on("request", lambda request: loaded.append(request.url))
    visitor.is_logged_in(number)
    made = visitor.add_device()

    assert made.private_key is not None
    assert registered(server, number)[0]["public_keys"] == [made.private_key.public_key().text()]
    assert any("/static/curve-" in name for name in loaded)


def test_a_newer_browser_loads_no_library(visitor: Visitor, number: str) -> None:
    """Where the browser has X25519, nothing is loaded for it."""
    loaded: list[str] = []
    visitor.page.on("request", lambda request: loaded.append(request.url))
    visitor.is_logged_in(number)
    visitor.add_device()

    assert not any("/static/curve-" in name for name in loaded)


def test_a_key_is_replaced(visitor: Visitor, number: str, server: Server) -> None:
    """Replacing gives the same device another key, and shows its configuration."""
    visitor.is_logged_in(number)
    before = visitor.add_device()
    (device,) = registered(server, number)
    visitor.open(f"/devices/{device['id']}/replace")
    visitor.press("Replace the key")
    after = visitor.configuration()

    assert before.private_key != after.private_key and after.private_key is not None
    assert before.addresses != after.addresses
    (now,) = registered(server, number)
    assert now["id"] == device["id"]
    assert after.private_key.public_key().text() in now["public_keys"]


def test_the_code_is_read_on_dark_ground(in_the_dark: Visitor, number: str) -> None:
    """The QR code is black on white on dark pages too."""
    in_the_dark.is_logged_in(number)
    in_the_dark.add_device()

    assert decoded(in_the_dark) == in_the_dark.shown_text()
