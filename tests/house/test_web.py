"""What pages do in the browser: committed as it is built, so that nobody needs node to install it."""

from pathlib import Path
from types import ModuleType

import pytest

import web_tool


@pytest.fixture
def web() -> ModuleType:
    """The tool that builds web/."""
    return web_tool.load()


def test_the_committed_bundle_is_what_is_built(web: ModuleType, tmp_path: Path) -> None:
    """Building web/ gives, byte for byte, the files that are committed, and no others."""
    web.build(tmp_path)

    assert contents(sorted(tmp_path.iterdir())) == contents(web.built()), "run tools/web build"


def test_the_licences_of_what_others_wrote_come_with_it(web: ModuleType) -> None:
    """Each package that is bundled is named in licences.txt with its copyright notice."""
    text = (web.STATIC / "licences.txt").read_text()

    assert all(name in text for name in ("@noble/curves", "@noble/hashes", "uqr"))
    assert text.count("Copyright (c)") >= 3


def contents(paths: list[Path]) -> dict[str, bytes]:
    """Return what is in these files, by name."""
    return {path.name: path.read_bytes() for path in paths}
