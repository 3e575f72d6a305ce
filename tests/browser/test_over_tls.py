"""The website over TLS, as it is on the internet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from browsing import visiting
from playwright.sync_api import Browser

from control_plane import Server, server_in


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane that speaks TLS."""
    folder = tmp_path_factory.mktemp("tls")
    made = trustme.CA().issue_cert("localhost")
    made.private_key_pem.write_to_path(folder / "key.pem")
    for part in made.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    options = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    with server_in(folder, *options) as running:
        yield running


def test_the_only_cookie_is_bound_to_this_host(browser: Browser, secure: Server, downloads: Path) -> None:
    """Over TLS the browser takes the one cookie, which no script, no other website and no other host gets."""
    url = secure.url.replace("127.0.0.1", "localhost")
    with visiting(browser, url, downloads, ignore_https_errors=True) as visitor:
        visitor.log_in(secure.account())
        assert (visitor.heading, visitor.path) == ("Devices", "/")
        (cookie,) = visitor.page.context.cookies()
        seen = visitor.page.evaluate("document.cookie")

    kept = {name: cookie.get(name) for name in ("name", "path", "secure", "httpOnly", "sameSite")}
    assert kept == {
        "name": "__Host-exuvia",
        "path": "/",
        "secure": True,
        "httpOnly": True,
        "sameSite": "Strict",
    }
    assert (cookie.get("expires"), seen) == (-1, "")
