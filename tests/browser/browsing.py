"""Somebody with a browser: a fresh profile of a real one, and all that goes wrong in it."""

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, Request

from control_plane import Server, honest_key
from exuvia.wg.conf import Configuration, read

PHONE = {"width": 390, "height": 844}

WATCH = """
window.__seen = { violations: [], shifts: 0 };
addEventListener("securitypolicyviolation", (event) =>
  __seen.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
try {
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) __seen.shifts += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
} catch {}
"""
"""Runs in each page before anything else: counts violations of its policy, and layout shift if told."""

NO_X25519 = """
if (isSecureContext) {
  SubtleCrypto.prototype.generateKey = () => Promise.reject(new DOMException("", "NotSupportedError"));
}
"""
"""A browser of before 2025."""

_REFUSED_LOAD = re.compile(r"Failed to load resource|the server responded with a status of")


def launch(
    playwright: Playwright,
    kind: str,
    downloads: Path,
    *,
    scripts: bool = True,
    dark: bool = False,
    marionette: int | None = None,
) -> Browser:
    """
    Start Debian's Chromium or Firefox.

    The latter can be told here only to run no scripts, or to be dark; and it listens on a port for what
    second_factors.py asks of it.
    """
    if kind == "chromium":
        # Browsers that run as root, as tests of namespaces have to, can't have their own sandbox.
        program, arguments = "/usr/bin/chromium", ["--no-sandbox", "--hide-scrollbars"]
        return playwright.chromium.launch(executable_path=program, args=arguments, downloads_path=downloads)
    return playwright.firefox.launch(
        executable_path="/usr/bin/firefox-esr",
        channel="moz-firefox",
        downloads_path=downloads,
        args=[] if marionette is None else ["--marionette"],
        firefox_user_prefs={
            "javascript.enabled": scripts,
            "layout.css.prefers-color-scheme.content-override": 0 if dark else 1,
            "marionette.port": marionette or 0,
            "security.webauth.webauthn_enable_softtoken": True,
            "security.webauth.webauthn_enable_usbtoken": False,
        },
    )


def is_chromium(browser: Browser) -> bool:
    """Say which of the two it is."""
    return browser.browser_type.name == "chromium"


def offer(server: Server, name: str) -> None:
    """Let there be a gateway that a configuration can name."""
    hello = {"public_key": honest_key(), "lasting": True}
    assert server.ask("PUT", "/v1/gateway", bearer=server.gateway(name), body=hello).status == 200


@dataclass
class Visitor:
    """A person with a fresh browser profile."""

    page: Page
    url: str
    downloads: Path
    """Where this browser puts files."""
    complaints: list[str] = field(default_factory=list)
    """What the browser complained of: errors in the console or in a script, foreign requests, the policy."""

    def watch(self, page: Page) -> None:
        """Note what goes wrong in a page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("request", self._request)

    def open(self, path: str) -> None:
        """Open a page."""
        self.page.goto(self.url + path)

    def log_in(self, number: str) -> None:
        """Log in with an account number, by the page for it."""
        self.open("/login")
        self.page.get_by_label("Account number").fill(number)
        self.go("Log in")

    def is_logged_in(self, number: str) -> None:
        """Be logged in, as if that had been before."""
        form = {"account": number}
        answer = self.page.request.post(
            self.url + "/login", form=form, headers={"Origin": self.url}, max_redirects=0
        )
        assert answer.headers["location"] == "/"

    def press(self, name: str) -> None:
        """Press the button of this name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def go(self, name: str) -> None:
        """Press the button or follow the link of this name, and wait for the page that follows."""
        with self.page.expect_navigation(wait_until="domcontentloaded"):
            self._named(name).click()

    def add_device(self) -> Configuration:
        """Add a device, and return the configuration that is shown."""
        self.open("/devices/new")
        self.press("Add the device")
        return self.configuration()

    def configuration(self) -> Configuration:
        """Return the configuration that the page shows."""
        return read(self.shown_text(), endpoints=True)

    def picture(self, selector: str) -> Image.Image:
        """Return how a part of the page looks."""
        # In Firefox the driver tries to add a style, which the policy forbids: that is not the page's doing.
        complaints, violations = self.complaints.copy(), len(self.seen("violations"))
        picture = self.page.locator(selector).screenshot(caret="initial")
        self.seen(f"violations.length = {violations}")
        self.complaints[:] = complaints
        return Image.open(io.BytesIO(picture))

    def shown_text(self) -> str:
        """Return the text of the configuration that the page shows."""
        text = self.page.locator("pre.configuration")
        text.wait_for(state="attached")
        return text.text_content() or ""

    def download(self) -> tuple[str, bytes]:
        """Take the file that the page offers; return its name and what is in it."""
        before = self._files()
        names: list[str] = []
        self.page.once("download", lambda download: names.append(download.suggested_filename))
        self.page.locator("a[download]").click()
        end = time.monotonic() + 10
        while not (new := self._files() - before):
            if time.monotonic() > end:
                raise TimeoutError("nothing was downloaded")
            self.page.wait_for_timeout(20)
        (path,) = new
        # Chromium gives its driver's files names of their own; of Firefox the driver hears nothing.
        name, content = names[0] if names else path.name, path.read_bytes()
        path.unlink()
        return name, content

    def seen(self, what: str) -> Any:
        """Return what the watching script saw."""
        return self.page.evaluate(f"window.__seen.{what}")

    def forgive(self) -> None:
        """Forget what went wrong until now: it was meant to."""
        self.seen("violations.length = 0")
        self.complaints.clear()

    @property
    def heading(self) -> str:
        """The page's main heading."""
        return self.page.locator("h1").inner_text()

    @property
    def path(self) -> str:
        """Where the browser is."""
        return self.page.url.removeprefix(self.url)

    @property
    def text(self) -> str:
        """What the page says."""
        return self.page.locator("main").inner_text()

    def type(self, label: str, text: str) -> None:
        """Type into the field of this label; a list chooses what begins so."""
        self.page.get_by_label(label).evaluate("field => field.focus()")
        self.page.keyboard.type(text)

    def enter(self, name: str) -> None:
        """Press the button or follow the link of this name by the Enter key, and wait for the next page."""
        self._named(name).evaluate("button => button.focus()")
        with self.page.expect_navigation(wait_until="domcontentloaded"):
            self.page.keyboard.press("Enter")

    @contextmanager
    def another_tab(self) -> Iterator["Visitor"]:
        """Let the same person have another tab open while the block runs."""
        page = self.page.context.new_page()
        other = Visitor(page, self.url, self.downloads, self.complaints)
        other.watch(page)
        yield other
        page.close()

    def _named(self, name: str) -> Locator:
        return self.page.locator(f"button:text-is({name!r}), a:text-is({name!r})").first

    def _files(self) -> set[Path]:
        # What is still being written has a name of its own, and goes when it is whole.
        unfinished = (".part", ".crdownload")
        files = [path for path in self.downloads.iterdir() if path.suffix not in unfinished]
        return {path for path in files if path.stat().st_size}

    def _console(self, message: ConsoleMessage) -> None:
        # That the server refused something is no fault of the page.
        if message.type in ("error", "warning") and not _REFUSED_LOAD.search(message.text):
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        own = (self.url + "/", f"blob:{self.url}/", "data:")
        if not request.url.startswith(own):
            self.complaints.append(f"foreign request: {request.url}")


@contextmanager
def visiting(browser: Browser, url: str, downloads: Path, **options: Any) -> Iterator[Visitor]:
    """Let somebody visit while the block runs."""
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    try:
        context.add_init_script(WATCH)
        visitor = Visitor(context.new_page(), url, downloads)
        visitor.watch(visitor.page)
        yield visitor
    finally:
        context.close()


@contextmanager
def untroubled(browser: Browser, url: str, downloads: Path, **options: Any) -> Iterator[Visitor]:
    """Let somebody visit in whose browser nothing may go wrong."""
    with visiting(browser, url, downloads, **options) as visitor:
        yield visitor
        visitor.complaints += visitor.seen("violations")
    assert visitor.complaints == []
