"""Everything else that people do on the website, in real browsers."""

import json

from browsing import Visitor
from test_new_key import registered

from control_plane import Server


def test_in_and_out(visitor: Visitor, number: str) -> None:
    """Whoever logs in sees the devices; after logging out the back button shows nothing of them."""
    visitor.log_in(number)
    assert (visitor.heading, visitor.path) == ("Devices", "/")
    visitor.go("Log out")
    assert visitor.heading == "Log in"
    visitor.page.go_back()
    visitor.page.wait_for_load_state()

    assert visitor.heading == "Log in"


def test_a_device_is_deleted(visitor: Visitor, number: str, server: Server) -> None:
    """A device is deleted after a question, and the next page says so by name."""
    visitor.is_logged_in(number)
    one, other = server.register(number), server.register(number)
    visitor.open(f"/devices/{one.id}")
    visitor.go("Delete this device")
    assert [device["id"] for device in registered(server, number)].count(one.id) == 1  # type: ignore[comparison-overlap]
    visitor.go(f"Delete {one.name}")

    assert one.name in visitor.page.get_by_role("status").first.inner_text()
    assert [device["id"] for device in registered(server, number)] == [other.id]


def test_all_devices_are_deleted(visitor: Visitor, number: str, server: Server) -> None:
    """All devices go with one question."""
    visitor.is_logged_in(number)
    for _ in range(3):
        server.register(number)
    visitor.open("/")
    visitor.go("Delete all devices")
    visitor.go("Delete all devices")

    assert visitor.page.get_by_text("There are none yet.").is_visible()
    assert registered(server, number) == []


def test_all_that_is_known_is_exported(visitor: Visitor, number: str, server: Server) -> None:
    """The export is a file with all that is known, which is what the page shows."""
    visitor.is_logged_in(number)
    made = server.register(number)
    visitor.open("/account/export")
    shown = visitor.page.locator("main").inner_text()
    _, file = visitor.download()

    known = json.loads(file)
    assert [device["name"] for device in known["device"]] == [made.name]
    assert made.name in shown
    assert known["key"][0]["public_key"] in shown


def test_the_account_is_cancelled(visitor: Visitor, number: str, server: Server) -> None:
    """The account goes only with its number typed once more; then the number opens nothing."""
    visitor.is_logged_in(number)
    server.register(number)
    visitor.open("/account/cancel")
    visitor.page.get_by_label("To go on, type the account number").fill("another number")
    visitor.go("Cancel the account for ever")
    assert len(registered(server, number)) == 1
    visitor.page.get_by_label("To go on, type the account number").fill(number)
    visitor.go("Cancel the account for ever")
    assert "cancelled" in visitor.page.locator("main").inner_text()
    visitor.log_in(number)

    assert visitor.page.get_by_role("alert").is_visible()


def test_gateways_are_listed(visitor: Visitor, number: str) -> None:
    """Every gateway that a configuration can name is listed."""
    visitor.is_logged_in(number)
    visitor.open("/gateways")

    assert visitor.page.locator(".devices h2").all_inner_texts() == ["nl-amsterdam-2", "se1", "us1"]
