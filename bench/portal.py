"""
How long people wait for the website: its first page, a new device, a tunnel by a stock client.

    python -m bench.portal [--times 5]

On loopback, in Debian's Chromium and Firefox. The first page is fresh each time: nothing cached, a new
connection. Usable is when it can be read and typed into (DOMContentLoaded). The tunnel is measured from
pressing "Add the device" to the first answer from behind the gateway: the browser's key, its download,
wg-quick, wireguard-go and the handshake are in it. Needs root, for network namespaces.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from bench.fleet import print_table

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "browser")]
from browsing import Visitor, launch, visiting  # noqa: E402
from relay import Relay  # noqa: E402
from stock_client import StockHome  # noqa: E402

from control_plane import Server, server_in  # noqa: E402

USABLE = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"


def main() -> None:
    """Measure each and print it beside its budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--times", type=int, default=5, help="how often each is done (5)")
    times = parser.parse_args().times
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "downloads").mkdir()
        with server_in(folder) as server:
            home = StockHome(folder, server)
            try:
                for kind in ("chromium", "firefox"):
                    browser = launch(playwright, kind, folder / "downloads")
                    rows += Measured(browser, kind, folder / "downloads", server, home, times).rows()
                    browser.close()
            finally:
                home.close()
    print_table("How long people wait for the website", [("", "median", "worst", "budget"), *rows])


class Measured:
    """What is measured in one browser."""

    def __init__(
        self, browser: Browser, kind: str, downloads: Path, server: Server, home: StockHome, times: int
    ) -> None:
        self._browser, self._kind, self._downloads = browser, kind, downloads
        self._server, self._home, self._times = server, home, times
        self._relay = Relay(int(server.url.rpartition(":")[2])).start()
        self._url = f"http://localhost:{self._relay.port}"

    def rows(self) -> list[tuple[str, ...]]:
        """Measure, and return a row for each."""
        rows = [
            self._row("first page usable, ms", self._first_page, "300"),
            self._row("first page in all, KiB", self._weight, "30"),
            self._row("add device to configuration, ms", self._configuration, ""),
            self._row("add device to tunnel, ms", self._tunnel, "1000"),
        ]
        self._relay.close()
        return rows

    def _row(self, what: str, measure: Callable[[Visitor], float], budget: str) -> tuple[str, ...]:
        found = []
        for _ in range(self._times):
            with visiting(self._browser, self._url, self._downloads) as visitor:
                found.append(measure(visitor))
        return (f"{self._kind}: {what}", f"{statistics.median(found):.0f}", f"{max(found):.0f}", budget)

    def _first_page(self, visitor: Visitor) -> float:
        visitor.open("/login")
        return float(visitor.page.evaluate(USABLE))

    def _weight(self, visitor: Visitor) -> float:
        self._relay.forget()
        visitor.open("/login")
        visitor.page.wait_for_load_state("networkidle")
        return self._relay.received / 1024

    def _configuration(self, visitor: Visitor) -> float:
        self._ready(visitor)
        started = time.monotonic()
        visitor.press("Add the device")
        visitor.shown_text()
        return (time.monotonic() - started) * 1000

    def _tunnel(self, visitor: Visitor) -> float:
        self._ready(visitor)
        started = time.monotonic()
        visitor.press("Add the device")
        visitor.shown_text()
        self._home.quick_up(*visitor.download())
        self._home.wait_until()
        taken = (time.monotonic() - started) * 1000
        self._home.quick_down()
        return taken

    def _ready(self, visitor: Visitor) -> None:
        visitor.is_logged_in(self._server.account())
        visitor.open("/devices/new")


if __name__ == "__main__":
    main()
