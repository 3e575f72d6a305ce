"""docs/promises.md: each promise has tests that would fail if it were broken."""

import re

import pytest
from source import ROOT

LATER = "*Not given yet.*"


def promises() -> dict[str, str]:
    """Read the document: for each promise, what stands below its name."""
    parts = re.split(r"^## (P\d+)$", (ROOT / "docs/promises.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_promise_is_there() -> None:
    """The document has P1 to P18, once each and in order, and all are given."""
    assert list(promises()) == [f"P{number}" for number in range(1, 19)]
    assert [name for name, text in promises().items() if LATER in text] == []


@pytest.mark.parametrize("promise", [name for name, text in promises().items() if LATER not in text])
def test_a_promise_has_tests(promise: str) -> None:
    """Every promise that is given names a test; tools/pages lists only tests that exist."""
    assert re.findall(r"^- `(tests/[\w/]+\.py::\w+)`$", promises()[promise], flags=re.MULTILINE)
