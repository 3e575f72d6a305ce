"""Small enough to read aloud, and what is public says what it is."""

import ast
import statistics

import pytest
from source import Function, Module, modules

LONGEST_FUNCTION = 50
LONGEST_MODULE = 400
MEDIAN_FUNCTION = 12


@pytest.mark.parametrize("module", modules() + modules("tools"), ids=str)
def test_a_module_fits_three_screens(module: Module) -> None:
    """No module has more than 400 lines."""
    assert len(module.text.splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("module", modules() + modules("tools"), ids=str)
def test_a_function_fits_one_screen(module: Module) -> None:
    """No function has more than 50 lines."""
    long = [node.name for node in module.functions() if _lines(node) > LONGEST_FUNCTION]

    assert long == []


def test_most_functions_are_a_few_lines() -> None:
    """Half of all functions have 12 lines or fewer."""
    lengths = [_lines(node) for module in modules() for node in module.functions()]

    assert statistics.median(lengths) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("module", modules(), ids=str)
def test_what_is_public_says_what_it_is(module: Module) -> None:
    """Every public function, class and method has a docstring."""
    assert list(_silent(module.tree)) == []


def _silent(parent: ast.Module | ast.ClassDef) -> list[str]:
    silent = []
    for node in parent.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node) and not _overloaded(node):
                silent.append(node.name)
            if isinstance(node, ast.ClassDef):
                silent += [f"{node.name}.{name}" for name in _silent(node)]
    return silent


def _overloaded(node: Function | ast.ClassDef) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)


@pytest.mark.parametrize("module", [m for m in modules("tests") if m.path.name.startswith("test_")], ids=str)
def test_a_test_says_what_it_shows(module: Module) -> None:
    """Every test has a docstring: the sentence that would be wrong if it failed."""
    silent = [f.name for f in module.functions() if f.name.startswith("test_") and not ast.get_docstring(f)]

    assert silent == []


def _lines(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1
