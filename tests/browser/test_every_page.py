"""What holds for every page: for people who don't see or don't use a mouse, and for lines that are slow."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tour
from browsing import PHONE, Visitor, untroubled, visiting
from playwright.sync_api import Browser, Route
from relay import Relay

import web_tool
from control_plane import Server

FIRST_PAGE = 30 * 1024

FOCUS = """() => {
  const it = document.activeElement;
  const style = getComputedStyle(it);
  const name = it.labels?.[0]?.textContent ?? it.textContent;
  return [name.trim(), it == document.body || style.outlineStyle != "none"];
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script that finds what shuts people out."""
    modules: Path = web_tool.load().modules()
    return (modules / "axe-core/axe.min.js").read_text()


@pytest.fixture
def on_phone(browser: Browser, url: str, downloads: Path) -> Iterator[Visitor]:
    """Somebody with a phone."""
    with untroubled(browser, url, downloads, viewport=PHONE) as visitor:
        yield visitor


def test_every_page_on_a_phone(on_phone: Visitor, number: str, server: Server, axe: str) -> None:
    """
    In both browsers, on any page: axe-core finds nothing, nothing is wider than the phone, nothing that
    the policy forbids is tried, and nothing shifts while it loads, as far as the browser tells.
    """
    wide = "document.documentElement.scrollWidth - document.body.clientWidth"
    found = {}
    for name in tour.pages(on_phone, server, number):
        on_phone.page.wait_for_load_state()
        moved = (on_phone.seen("shifts"), on_phone.page.evaluate(wide), on_phone.seen("violations"))
        found[name] = (*moved, faults(on_phone, axe))

    assert {name: wrong for name, wrong in found.items() if wrong != (0, 0, [], [])} == {}
    assert len(found) > 20


def test_every_page_in_the_dark(in_the_dark: Visitor, number: str, server: Server, axe: str) -> None:
    """axe-core finds nothing on dark pages either: what is written on them can be read."""
    found = {}
    for name in tour.pages(in_the_dark, server, number):
        assert in_the_dark.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        found[name] = faults(in_the_dark, axe)

    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert len(found) > 20


def faults(visitor: Visitor, axe: str) -> list[str]:
    """Return what axe-core finds on a page."""
    # Evaluated by the debugger: the pages' policy stays as strict as it is.
    visitor.page.evaluate(axe)
    found: list[str] = visitor.page.evaluate(
        "async () => (await axe.run()).violations.map(v => `${v.id}: ${v.nodes.map(n => n.html)}`)"
    )
    return found


def test_a_script_that_comes_late_moves_nothing(
    chromium: Browser, url: str, downloads: Path, number: str
) -> None:
    """What appears by script has had its place before, also if the script takes its time."""
    with visiting(chromium, url, downloads, viewport=PHONE) as visitor:
        visitor.is_logged_in(number)
        visitor.page.route("**/portal-*.js", late)
        visitor.open("/account/second-factor")
        visitor.page.get_by_role("button", name="Add a passkey").wait_for()
        visitor.page.wait_for_timeout(100)

        assert visitor.seen("shifts") == 0


def late(route: Route) -> None:
    """Let something come only after the page was seen without it."""
    time.sleep(0.5)
    route.continue_()


def test_no_text_becomes_a_page(visitor: Visitor) -> None:
    """The browser itself refuses every script that would make elements of text."""
    visitor.open("/login")
    makes = "() => { try { document.body.innerHTML = '<b>made</b>' } catch (error) { return error.name } }"

    assert visitor.page.evaluate(makes) == "TypeError"
    visitor.forgive()


def test_the_first_page_is_small(browser: Browser, url: str, downloads: Path, relay: Relay) -> None:
    """Whoever comes for the first time gets at most 30 KiB in all, headers included."""
    with visiting(browser, url, downloads) as visitor:
        relay.forget()
        visitor.open("/")
        visitor.page.wait_for_load_state("networkidle")

        assert visitor.page.locator("h1").inner_text() == "Log in"
        assert 0 < relay.received <= FIRST_PAGE


def test_a_device_is_added_by_keyboard(visitor: Visitor, number: str) -> None:
    """From the login to the file, keys are enough, and one sees where one is at each step."""
    visitor.open("/login")
    tab_to(visitor, "Account number")
    visitor.page.keyboard.type(number)
    follow(visitor, "Enter")
    tab_to(visitor, "Add a device")
    follow(visitor, "Enter")
    tab_to(visitor, "Add the device")
    visitor.page.keyboard.press("Enter")
    visitor.configuration()
    assert visitor.page.evaluate("document.activeElement.dataset.exuvia") == "result"
    tab_to(visitor, visitor.page.locator("a[download]").inner_text())


def tab_to(visitor: Visitor, name: str) -> None:
    """Press the tabulator until this is where one is; each step on the way must show."""
    for _ in range(25):
        visitor.page.keyboard.press("Tab")
        focused, is_seen = visitor.page.evaluate(FOCUS)
        assert is_seen, f"nothing shows that {focused} has the focus"
        if focused == name:
            return
    raise AssertionError(f"no way to {name}")


def follow(visitor: Visitor, key: str) -> None:
    """Press a key that leads to another page."""
    with visitor.page.expect_navigation(wait_until="domcontentloaded"):
        visitor.page.keyboard.press(key)
