"""What holds for every page: for people who don't see or don't use a mouse, and for lines that are slow."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tour
from browsing import Visitor, visiting
from playwright.sync_api import Browser, Route
from relay import Relay

import web_tool
from control_plane import Server

PHONE = {"width": 390, "height": 844}
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
def on_chromium(chromium: Browser, url: str, downloads: Path) -> Iterator[Visitor]:
    """Somebody with Chromium on a phone."""
    with visiting(chromium, url, downloads, viewport=PHONE) as visitor:
        yield visitor
        visitor.complaints += visitor.seen("violations")
    assert visitor.complaints == []


def test_axe_finds_nothing(on_chromium: Visitor, number: str, server: Server, axe: str) -> None:
    """axe-core finds nothing on any page, light or dark."""
    found = {}
    for name in tour.pages(on_chromium, server, number):
        # Evaluated by the debugger: the pages' policy stays as strict as it is.
        on_chromium.page.evaluate(axe)
        for scheme in ("light", "dark"):
            on_chromium.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found[f"{name}, {scheme}"] = on_chromium.page.evaluate(
                "async () => (await axe.run()).violations.map(v => `${v.id}: ${v.nodes.map(n => n.html)}`)"
            )

    assert {page: faults for page, faults in found.items() if faults} == {}
    assert len(found) >= 30


def test_nothing_moves_or_overflows(on_chromium: Visitor, number: str, server: Server) -> None:
    """No page shifts while it loads, and none is wider than a phone."""
    moved = {}
    for name in tour.pages(on_chromium, server, number):
        on_chromium.page.wait_for_load_state()
        wide = "document.documentElement.scrollWidth - document.body.clientWidth"
        moved[name] = (on_chromium.seen("shifts"), on_chromium.page.evaluate(wide))

    assert {name: found for name, found in moved.items() if found != (0, 0)} == {}


def test_a_script_that_comes_late_moves_nothing(on_chromium: Visitor, number: str) -> None:
    """What appears by script has had its place before, also if the script takes its time."""
    on_chromium.is_logged_in(number)
    on_chromium.page.route("**/portal-*.js", late)
    on_chromium.open("/account/second-factor")
    on_chromium.page.get_by_role("button", name="Add a passkey").wait_for()
    on_chromium.page.wait_for_timeout(100)

    assert on_chromium.seen("shifts") == 0


def late(route: Route) -> None:
    """Let something come only after the page was seen without it."""
    time.sleep(0.5)
    route.continue_()


def test_nothing_goes_wrong_in_firefox(
    firefox: Browser, url: str, downloads: Path, number: str, server: Server
) -> None:
    """Firefox complains of nothing on any page, and loads nothing from elsewhere."""
    with visiting(firefox, url, downloads) as visitor:
        violations = {name: visitor.seen("violations") for name in tour.pages(visitor, server, number)}

        assert visitor.complaints == []
    assert not any(violations.values())


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
