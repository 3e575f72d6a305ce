"""What a newcomer does wrong, and what the pages say: nothing is done twice, or lost without a word."""

from collections.abc import Iterator

import pytest
from browsing import Visitor
from relay import Relay
from test_new_key import registered

from control_plane import Server

ALERT = '[role="alert"]:visible'


@pytest.fixture
def working(relay: Relay) -> Iterator[Relay]:
    """The network, which works again afterwards."""
    yield relay
    relay.mend()


def test_a_wrong_number_is_explained(visitor: Visitor) -> None:
    """A wrong account number is explained and not repeated; its field says that it is at fault."""
    visitor.log_in("0000-1111-2222-3333-4444-5555-6666")

    assert visitor.page.locator(ALERT).inner_text()
    assert "0000-1111" not in visitor.page.content()
    field = visitor.page.get_by_label("Account number")
    assert (field.get_attribute("aria-invalid"), field.input_value()) == ("true", "")


def test_nothing_typed_is_not_sent(visitor: Visitor, relay: Relay) -> None:
    """Without a number the browser sends nothing, and stays where it is."""
    visitor.open("/login")
    visitor.press("Log in")

    assert visitor.path == "/login"
    assert b"POST" not in relay.sent


def test_a_number_may_be_typed_as_people_type(visitor: Visitor, number: str) -> None:
    """Small letters, spaces and no dashes make no difference."""
    visitor.log_in(f"  {number.lower().replace('-', ' ')} ")

    assert (visitor.heading, visitor.path) == ("Devices", "/")


def test_a_double_click_adds_one_device(visitor: Visitor, number: str, server: Server) -> None:
    """Pressing the button twice, or as often as one likes, adds one device."""
    visitor.is_logged_in(number)
    visitor.open("/devices/new")
    visitor.page.evaluate(
        "() => { for (let i = 0; i < 5; i++) document.querySelector('main form button').click() }"
    )
    made = visitor.configuration()

    assert made.private_key is not None
    (device,) = registered(server, number)
    assert device["public_keys"] == [made.private_key.public_key().text()]


def test_a_reload_adds_nothing(visitor: Visitor, number: str, server: Server) -> None:
    """Reloading the page after a device was added shows an empty form, and adds no other."""
    visitor.is_logged_in(number)
    visitor.add_device()
    visitor.page.reload()

    assert visitor.page.get_by_role("button", name="Add the device").is_visible()
    assert visitor.page.locator("pre.configuration").count() == 0
    assert len(registered(server, number)) == 1


def test_without_a_network_nothing_is_done_twice(
    visitor: Visitor, number: str, server: Server, working: Relay
) -> None:
    """With the network down the page says so; pressing the button again later adds one device."""
    visitor.is_logged_in(number)
    visitor.open("/devices/new")
    working.cut()
    visitor.press("Add the device")
    alert = visitor.page.locator(ALERT)
    alert.wait_for()
    assert "can't be reached" in alert.inner_text()
    working.mend()
    visitor.press("Add the device")
    visitor.configuration()

    assert not alert.is_visible()
    assert len(registered(server, number)) == 1


def test_a_lost_answer_is_asked_for_again(
    visitor: Visitor, number: str, server: Server, working: Relay
) -> None:
    """If the answer is lost after the device was added, trying again shows that device's configuration."""
    visitor.is_logged_in(number)
    visitor.open("/devices/new")
    working.is_deaf = True
    visitor.press("Add the device")
    visitor.page.locator(ALERT).wait_for()
    (device,) = registered(server, number)
    working.is_deaf = False
    visitor.press("Add the device")
    made = visitor.configuration()

    assert made.private_key is not None
    assert registered(server, number) == [device]
    assert device["public_keys"] == [made.private_key.public_key().text()]


def test_logged_out_in_another_tab(visitor: Visitor, number: str, server: Server) -> None:
    """Who was logged out in another tab is told to log in when adding a device, and none is added."""
    visitor.is_logged_in(number)
    visitor.open("/devices/new")
    with visitor.another_tab() as other:
        other.open("/")
        other.go("Log out")
    visitor.press("Add the device")
    alert = visitor.page.locator(ALERT)
    alert.wait_for()

    assert "Log in again" in alert.inner_text()
    assert registered(server, number) == []


def test_the_last_place_was_taken_in_another_tab(visitor: Visitor, number: str, server: Server) -> None:
    """Who reaches the limit in another tab is told what to do, there and here."""
    visitor.is_logged_in(number)
    for _ in range(2):
        server.register(number)
    visitor.open("/devices/new")
    server.register(number)
    visitor.press("Add the device")
    alert = visitor.page.locator(ALERT)
    alert.wait_for()
    assert "Delete one" in alert.inner_text()
    visitor.open("/devices/new")

    assert visitor.heading == "No room for another device"
    assert len(registered(server, number)) == 3


def test_deleted_elsewhere(visitor: Visitor, number: str, server: Server) -> None:
    """Replacing the key of a device that was just deleted elsewhere is refused with an explanation."""
    visitor.is_logged_in(number)
    id = server.register(number).id
    visitor.open(f"/devices/{id}/replace")
    assert server.ask("DELETE", f"/v1/devices/{id}", bearer=number).status == 204
    visitor.press("Replace the key")
    visitor.page.locator(ALERT).wait_for()
    assert "deleted" in visitor.page.locator(ALERT).inner_text()
    visitor.open(f"/devices/{id}")

    assert visitor.page.get_by_role("link", name="To the start page").is_visible()
    assert registered(server, number) == []
