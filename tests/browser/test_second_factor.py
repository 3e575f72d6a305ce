"""Second factors in real browsers: an app's codes in both, passkeys where they can be made of software."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Visitor, visiting
from playwright.sync_api import Browser
from second_factors import SecurityKey, code, scanned, set_up_app


@pytest.fixture
def on_chromium(chromium: Browser, url: str, downloads: Path) -> Iterator[Visitor]:
    """Somebody with Chromium."""
    with visiting(chromium, url, downloads) as visitor:
        yield visitor
        visitor.complaints += visitor.seen("violations")
    assert visitor.complaints == []


@pytest.fixture
def key(on_chromium: Visitor) -> SecurityKey:
    """The same person's security key."""
    return SecurityKey(on_chromium)


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


def test_a_passkey(on_chromium: Visitor, number: str, key: SecurityKey) -> None:
    """A passkey that was added is asked for at the next login, and opens it."""
    add_passkey(on_chromium, number)
    assert "passkey" in on_chromium.page.get_by_role("status").first.inner_text()
    on_chromium.go("Log out")
    on_chromium.log_in(number)
    assert on_chromium.heading == "Second factor"
    on_chromium.go("Use a passkey")

    assert (on_chromium.heading, on_chromium.path) == ("Devices", "/")


def test_a_passkey_is_added_once(on_chromium: Visitor, number: str, key: SecurityKey) -> None:
    """Adding the same security key again is explained."""
    add_passkey(on_chromium, number)
    on_chromium.press("Add a passkey")

    assert "set up already" in explanation(on_chromium)


def test_somebody_elses_passkey(on_chromium: Visitor, number: str, key: SecurityKey) -> None:
    """Another security key, or the right one in a stranger's hand, opens nothing; the page says so."""
    add_passkey(on_chromium, number)
    on_chromium.go("Log out")
    on_chromium.log_in(number)
    key.is_in_a_strangers_hand()
    on_chromium.press("Use a passkey")
    assert "Try again" in explanation(on_chromium)
    key.another()
    on_chromium.press("Use a passkey")
    assert "Try again" in explanation(on_chromium)
    on_chromium.open("/")

    assert on_chromium.heading == "Second factor"


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
