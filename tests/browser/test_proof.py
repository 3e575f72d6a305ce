"""The proof that the browser holds the key it registers, where nothing else is accepted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import NO_X25519, offer, visiting
from playwright.sync_api import Browser

from control_plane import Server, server_in


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane that accepts no key without a proof."""
    with server_in(tmp_path_factory.mktemp("strict"), takes_unproven_keys=False) as running:
        offer(running, "se1")
        yield running


@pytest.mark.parametrize("script", ["", NO_X25519], ids=["by the browser", "by the library"])
def test_p12_the_browser_proves_that_it_holds_the_key(
    browser: Browser, strict: Server, downloads: Path, script: str
) -> None:
    """P12: the page proves that it holds the private key, with the browser's X25519 or the library's."""
    number = strict.account()
    with visiting(browser, strict.url.replace("127.0.0.1", "localhost"), downloads) as visitor:
        visitor.page.add_init_script(script)
        visitor.is_logged_in(number)
        made = visitor.add_device()

    assert made.private_key is not None
    (device,) = strict.ask("GET", "/v1/devices", bearer=number).json
    assert device["public_keys"] == [made.private_key.public_key().text()]


def test_p12_a_proof_for_another_key_is_refused(browser: Browser, strict: Server, downloads: Path) -> None:
    """P12: a page whose server key is not the server's adds nothing, and says what to do."""
    number = strict.account()
    with visiting(browser, strict.url.replace("127.0.0.1", "localhost"), downloads) as visitor:
        visitor.is_logged_in(number)
        visitor.open("/devices/new")
        other = "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        visitor.page.locator("form[data-server-key]").evaluate(f"form => form.dataset.serverKey = '{other}'")
        visitor.press("Add the device")
        alert = visitor.page.locator('[role="alert"]:visible')
        alert.wait_for()

        assert "out of date" in alert.inner_text()
    assert strict.ask("GET", "/v1/devices", bearer=number).json == []
