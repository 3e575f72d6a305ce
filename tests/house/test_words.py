"""The words of docs/glossary.md, and what may not be written anywhere."""

import ast
import re
from collections.abc import Iterator

import pytest
from source import Module, modules, table, tracked_files


def refused_words() -> set[str]:
    """Read the third column of the glossary: what stands there in code style is no identifier."""
    return {
        word for row in table("docs/glossary.md", heading="word") for word in re.findall(r"`(\w+)`", row[2])
    }


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def words_of(name: str) -> str:
    """Return a name in lower case with an underscore around each of its words."""
    return "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_") + "_"


def refused_names(tree: ast.AST) -> list[str]:
    """Return the names in a file that use a word of the third column."""
    refused = refused_words()
    return sorted({n for n in defined_names(tree) if any(f"_{word}_" in words_of(n) for word in refused)})


@pytest.mark.parametrize("module", modules(), ids=str)
def test_names_use_the_words_of_the_glossary(module: Module) -> None:
    """No identifier uses a word that the glossary refuses."""
    assert refused_names(module.tree) == []


def test_a_refused_word_is_seen() -> None:
    """The check sees a refused word inside a longer name, in snake case and in camel case."""
    tree = ast.parse("class UserTable: pass\ndef get(last_seen): userspace = reset_peers = 1")

    assert refused_names(tree) == ["UserTable", "last_seen", "reset_peers"]


@pytest.mark.parametrize("module", modules(), ids=str)
def test_no_name_says_nothing(module: Module) -> None:
    """No module and no class is called a helper, a manager, a handler or utilities."""
    names = [module.path.stem, *(n.name for n in ast.walk(module.tree) if isinstance(n, ast.ClassDef))]
    empty = re.compile(r"_(utils?|utilities|helpers?|managers?|handlers?)_")

    assert [name for name in names if empty.search(words_of(name))] == []


def test_no_file_mentions_where_it_was_made() -> None:
    """No file names a folder of somebody's workplace, a package registry's host or a ticket."""
    # Written in pieces, for this file is looked at as well.
    private = re.compile(
        "/wor" r"k/|pypi\.o" r"rg|pythonhos" r"ted|npmjs\.o" r"rg|\bissue #?\d", re.IGNORECASE
    )
    found = [f"{path.name}: {hit[0]}" for path in tracked_files() for hit in private.finditer(_text(path))]

    assert found == []


def _text(path) -> str:  # type: ignore[no-untyped-def]
    return path.read_bytes().decode("utf-8", "replace")


def test_no_pattern_is_possessive() -> None:
    """Python before 3.11.5, Debian 12's among them, ends such a match too late (CPython's gh-106052)."""
    possessive = re.compile(r"""[)\]}.\w][*+?}]\+["')|(\[\\]""")
    lines = [
        f"{module.path}:{number}"
        for module in modules()
        for number, line in enumerate(module.path.read_text().splitlines(), 1)
        if re.search(r"\br?b?r?[\"']", line) and "re.escape" not in line and possessive.search(line)
    ]
    assert not lines
