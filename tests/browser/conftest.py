"""What tests in browsers share: one server, one browser of each kind, and a visitor for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Visitor, launch, offer, visiting
from playwright.sync_api import Browser, Playwright, sync_playwright
from relay import Relay

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
def firefox(playwright: Playwright, downloads: Path) -> Iterator[Browser]:
    """Firefox."""
    browser = launch(playwright, "firefox", downloads)
    yield browser
    browser.close()


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
    with visiting(browser, url, downloads) as visitor:
        yield visitor
        visitor.complaints += visitor.seen("violations")
    assert visitor.complaints == []


@pytest.fixture
def number(server: Server) -> str:
    """The number of a new account."""
    return server.account(devices=3)
