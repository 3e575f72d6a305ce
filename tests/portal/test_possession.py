"""Where keys have to be proven, the website takes none without a proof, and says so."""

import re
from collections.abc import Iterator

import pytest

from control_plane import Server, honest_key, server_in
from exuvia.rules import possession
from exuvia.wg.keys import PrivateKey, PublicKey
from portal_visitor import Shown, Visitor


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane that takes no key without a proof."""
    with server_in(tmp_path_factory.mktemp("strict"), takes_unproven_keys=False) as running:
        yield running


@pytest.fixture
def visitor(strict: Server) -> Visitor:
    """Somebody who is logged in there."""
    visitor = Visitor(strict)
    assert visitor.log_in(strict.account()).path == "/"
    return visitor


def proven(page: Shown, key: PrivateKey) -> dict[str, str]:
    """Return what the script of a page fills in for a key."""
    found = re.search(r'data-server-key="([^"]+)"', page.text)
    assert found
    server_key = PublicKey.from_text(found[1].replace("&#43;", "+"))
    proof = possession.text(key.shared_with(server_key), server_key, key.public_key())
    return {"public_key": key.public_key().text(), "proof": proof}


def test_p12_a_key_with_its_proof_is_taken(visitor: Visitor) -> None:
    """P12: for a new device, and in place of the key of one."""
    page = visitor.get("/devices/new")
    shown = visitor.submit(page, "/devices/new", **proven(page, PrivateKey(b"a" * 32)))
    assert shown.path.startswith("/devices/")
    page = visitor.get(f"{shown.path}/replace")
    again = visitor.submit(page, f"{shown.path}/replace", **proven(page, PrivateKey(b"b" * 32)))
    assert (again.status, again.path) == (200, shown.path)


def test_p12_a_key_without_its_proof_is_refused_like_any(visitor: Visitor) -> None:
    """P12: none, another key's, one that is no proof: what is said is what is said of a bad key."""
    page = visitor.get("/devices/new")
    device = visitor.submit(page, "/devices/new", **proven(page, PrivateKey(b"c" * 32))).path
    other = proven(page, PrivateKey(b"d" * 32))["proof"]
    for path in ("/devices/new", f"{device}/replace"):
        page = visitor.get(path)
        bad = visitor.submit(page, path, public_key="x", proof=other)
        for proof in ("", other, "x", "é", "A" * 88):
            shown = visitor.submit(page, path, public_key=honest_key(), proof=proof)
            assert (shown.status, shown.text) == (422, bad.text)


def test_pasting_a_key_is_not_offered(visitor: Visitor) -> None:
    """Neither by a link nor to a browser without scripts, which is told what to do instead."""
    for path in ("/devices/new", "/devices/new?own"):
        page = visitor.get(path)
        assert 'id="public_key"' not in page.text and "?own" not in page.text
        assert 'data-exuvia="new-key"' in page.text and "exuvia client login" in page.text
