"""Second factors in real browsers: an app's codes, and passkeys in security keys made of software."""

from collections.abc import Iterator

import pytest
from browsing import Visitor, is_chromium
from playwright.sync_api import Browser
from second_factors import KeyInChromium, KeyInFirefox, SecurityKey, code, scanned, set_up_app


@pytest.fixture
def key(visitor: Visitor, browser: Browser, request: pytest.FixtureRequest) -> Iterator[SecurityKey]:
    """The visitor's security key."""
    key: SecurityKey = (
        KeyInChromium(visitor)
        if is_chromium(browser)
        else KeyInFirefox(request.getfixturevalue("marionette"))
    )
    yield key
    key.unplug()


def test_codes_of_an_app(visitor: Visitor, number: str) -> None:
    """An app that scanned the picture makes the codes that are asked for from then on; others are refused."""
    visitor.is_logged_in(number)
    visitor.open("/account/second-factor/code")
    picture = scanned(visitor, ".drawn svg")
    secret = set_up_app(visitor)
    assert f"secret={secret.replace(' ', '')}&" in picture
    visitor.go("Log out")
    visitor.log_in(number)
    visitor.page.get_by_label("Code of your authenticator app").fill("000000")
    visitor.go("Go on")
    assert visitor.page.get_by_role("alert").first.is_visible()
    visitor.open("/devices/new")
    assert visitor.heading == "Second factor"
    visitor.page.get_by_label("Code of your authenticator app").fill(code(secret, later=1))
    visitor.go("Go on")

    assert (visitor.heading, visitor.path) == ("Devices", "/")


def test_a_passkey(visitor: Visitor, number: str, key: SecurityKey) -> None:
    """A passkey that was added is asked for at the next login, and opens it."""
    add_passkey(visitor, number)
    assert "passkey" in visitor.page.get_by_role("status").first.inner_text()
    visitor.go("Log out")
    visitor.log_in(number)
    assert visitor.heading == "Second factor"
    visitor.go("Use a passkey")

    assert (visitor.heading, visitor.path) == ("Devices", "/")


def test_a_passkey_is_added_once(visitor: Visitor, number: str, key: SecurityKey) -> None:
    """Adding the same security key again is explained."""
    add_passkey(visitor, number)
    visitor.press("Add a passkey")

    assert "set up already" in explanation(visitor)


def test_somebody_elses_passkey(visitor: Visitor, number: str, key: SecurityKey) -> None:
    """Another security key, or the right one in a stranger's hand, opens nothing; the page says so."""
    add_passkey(visitor, number)
    visitor.go("Log out")
    visitor.log_in(number)
    key.is_in_a_strangers_hand()
    visitor.press("Use a passkey")
    assert "Try again" in explanation(visitor)
    key.another()
    visitor.press("Use a passkey")
    assert "Try again" in explanation(visitor)
    visitor.open("/")

    assert visitor.heading == "Second factor"


def add_passkey(visitor: Visitor, number: str) -> None:
    """Log in and add a passkey."""
    visitor.is_logged_in(number)
    visitor.open("/account/second-factor")
    visitor.go("Add a passkey")
    visitor.page.get_by_role("heading", name="passkey").wait_for()


def explanation(visitor: Visitor) -> str:
    """Return what the page says went wrong, once it does."""
    alert = visitor.page.locator('[data-exuvia="passkey-error"]:visible')
    alert.wait_for()
    return alert.inner_text()
