"""What tests in browsers share: one server, one browser of each kind, and a visitor for each test."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import PHONE, Visitor, is_chromium, launch, offer, untroubled
from playwright.sync_api import Browser, Playwright, sync_playwright
from relay import Relay
from second_factors import Marionette

from control_plane import Server, server_in


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane with three gateways, where keys may be pasted."""
    with server_in(tmp_path_factory.mktemp("serve"), "--unproven-keys", "allow") as running:
        for name in ("se1", "nl-amsterdam-2", "us1"):
            offer(running, name)
        yield running


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """What drives browsers."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where browsers put files."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def chromium(playwright: Playwright, downloads: Path) -> Iterator[Browser]:
    """Chromium."""
    browser = launch(playwright, "chromium", downloads)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def marionette_port() -> int:
    """The port on which Firefox is asked for security keys."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def firefox(playwright: Playwright, downloads: Path, marionette_port: int) -> Iterator[Browser]:
    """Firefox."""
    browser = launch(playwright, "firefox", downloads, marionette=marionette_port)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def marionette(firefox: Browser, marionette_port: int) -> Iterator[Marionette]:
    """Who is asked for them."""
    marionette = Marionette(marionette_port)
    yield marionette
    marionette.close()


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Browser:
    """Each of the two browsers."""
    found: Browser = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def relay(server: Server) -> Iterator[Relay]:
    """Where browsers reach the server."""
    relay = Relay(int(server.url.rpartition(":")[2])).start()
    yield relay
    relay.close()


@pytest.fixture
def url(relay: Relay) -> str:
    """The website's address: of a host that browsers trust without TLS."""
    relay.forget()
    return f"http://localhost:{relay.port}"


@pytest.fixture
def visitor(browser: Browser, url: str, downloads: Path) -> Iterator[Visitor]:
    """Somebody with a fresh profile, in whose browser nothing may go wrong."""
    with untroubled(browser, url, downloads) as visitor:
        yield visitor


@pytest.fixture
def in_the_dark(browser: Browser, playwright: Playwright, url: str, downloads: Path) -> Iterator[Visitor]:
    """Somebody with a phone that shows pages dark, if they can be shown so."""
    if is_chromium(browser):
        with untroubled(browser, url, downloads, viewport=PHONE, color_scheme="dark") as visitor:
            yield visitor
        return
    dark = launch(playwright, "firefox", downloads, dark=True)
    with contextlib.closing(dark), untroubled(dark, url, downloads, viewport=PHONE) as visitor:
        yield visitor


@pytest.fixture
def number(server: Server) -> str:
    """The number of a new account."""
    return server.account(devices=3)
