"""From the portal to a tunnel: a stock WireGuard client is given the file that the browser saved."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Visitor, launch, visiting
from playwright.sync_api import sync_playwright
from stock_client import RESOLVER, WEB, WEB6, StockHome

from control_plane import Server, server_in


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A control plane."""
    with server_in(tmp_path) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, server: Server) -> Iterator[StockHome]:
    """A home with wg-quick, and a gateway."""
    folder = tmp_path / "home"
    folder.mkdir()
    made = StockHome(folder, server)
    yield made
    made.close()


@pytest.fixture
def visitor(server: Server, tmp_path: Path) -> Iterator[Visitor]:
    """Somebody with a browser."""
    url, downloads = server.url.replace("127.0.0.1", "localhost"), tmp_path / "downloads"
    downloads.mkdir()
    with sync_playwright() as playwright:
        browser = launch(playwright, "chromium", downloads)
        with visiting(browser, url, downloads) as visitor:
            yield visitor
        browser.close()


def test_the_file_alone_makes_a_tunnel(visitor: Visitor, server: Server, home: StockHome) -> None:
    """wg-quick, given only the file that the browser saved, reaches the internet through the gateway."""
    visitor.log_in(server.account())
    visitor.add_device()
    assert not home.pings()
    home.quick_up(*visitor.download())
    home.wait_until(WEB)

    assert home.pings(WEB6)
    assert f"nameserver {RESOLVER}" in home.told_of_dns()
    home.quick_down()
    assert not home.pings()


def test_a_deleted_device_has_no_tunnel(visitor: Visitor, server: Server, home: StockHome) -> None:
    """Deleting the device on the website ends its tunnel."""
    visitor.log_in(server.account())
    visitor.add_device()
    home.quick_up(*visitor.download())
    home.wait_until(WEB)
    visitor.open("/devices/delete-all")
    visitor.go("Delete all devices")

    home.wait_until_gone()
