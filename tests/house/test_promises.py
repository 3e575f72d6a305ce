"""docs/promises.md: each promise names the tests that would fail if it were broken."""

import re

import pytest
from source import ROOT, modules, table

LATER = {"P12"}
"""Promises that docs/promises.md says are not kept yet."""


def promises() -> dict[str, list[str]]:
    """Read the document: for each promise, the tests that it names."""
    rows = table("docs/promises.md", heading="promise")
    return {row[0].strip("*"): re.findall(r"`(tests/[\w/]+\.py::\w+)`", row[2]) for row in rows}


def existing_tests() -> set[str]:
    """Every test function of the project, as pytest names it."""
    return {
        f"{module.path.relative_to(ROOT)}::{function.name}"
        for module in modules("tests")
        for function in module.functions()
        if function.name.startswith("test_")
    }


def test_every_promise_is_there() -> None:
    """The document has P1 to P18, once each and in order."""
    assert list(promises()) == [f"P{number}" for number in range(1, 19)]


@pytest.mark.parametrize("promise", sorted(set(promises()) - LATER, key=lambda name: int(name[1:])))
def test_a_promise_has_tests(promise: str) -> None:
    """Every promise that is given names at least one test, and each test that it names exists."""
    named = promises()[promise]

    assert named
    assert set(named) - existing_tests() == set()
