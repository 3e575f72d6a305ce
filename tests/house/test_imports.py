"""The arrows of docs/architecture.md: who may import whom."""

import ast
import re

import pytest
from source import Module, modules, table

EVERYWHERE = {"errors"}
AT_THE_EDGES = {"settings", "log"}
PURE = {"wg", "rules"}
BANNED = re.compile(
    "asyncio|socket|ssl|os|time|random|secrets|subprocess|logging|sqlite3|http|uuid|threading|"
    "multiprocessing|select|pathlib|urllib|httptools|click"
)


def allowed_units() -> dict[str, set[str]]:
    """Read the table: for each unit, what it may import beside itself."""
    rows = {}
    for where, _, may in table("docs/architecture.md", heading="folder"):
        for unit in re.findall(r"`(\w+)/?`", where):
            rows[unit] = may
    return {unit: _meant(may, set(rows)) for unit, may in rows.items()}


def _meant(may: str, units: set[str]) -> set[str]:
    named = set(re.findall(r"`(\w+)`", may))
    if may.startswith("all"):
        return units - named
    return named


def wrong_arrows(module: Module, allowed: dict[str, set[str]]) -> list[str]:
    """Return the imports of a module that no arrow allows."""
    may = allowed[module.unit] | EVERYWHERE | {module.unit}
    if module.unit not in PURE:
        may |= AT_THE_EDGES
    taken = {name.split(".")[1] for name in module.imports() if name.startswith("exuvia.")}
    return sorted(taken - may)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_imports_only_along_the_arrows(module: Module) -> None:
    """Every import between the units of the project stands in the table of docs/architecture.md."""
    assert wrong_arrows(module, allowed_units()) == []


def test_a_wrong_arrow_is_seen() -> None:
    """The check sees a wrong arrow also inside a function, and also if it is written relatively."""
    keys = next(module for module in modules() if module.name == "exuvia.wg.keys")
    hidden = "def public():\n    from exuvia.store import anything\n    from ..api import thing\n"
    module = Module(keys.path, hidden, ast.parse(hidden))

    assert wrong_arrows(module, allowed_units()) == ["api", "store"]


@pytest.mark.parametrize("module", [m for m in modules() if m.unit in PURE], ids=str)
def test_values_and_rules_reach_for_nothing(module: Module) -> None:
    """`wg` and `rules` import nothing that has a clock, chance, a file or a socket in it."""
    taken = {name.split(".")[0] for name in module.imports()}

    assert [name for name in taken if BANNED.fullmatch(name)] == []


@pytest.mark.parametrize("module", [m for m in modules() if m.unit in PURE], ids=str)
def test_values_and_rules_ask_for_nothing(module: Module) -> None:
    """`wg` and `rules` never call for the time, a file or the screen."""
    calls = [ast.unparse(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    banned = re.compile(r"(date|datetime|datetime\.datetime)\.(now|utcnow|today)|open|print|input|__import__")

    assert [call for call in calls if banned.fullmatch(call)] == []


def test_gateway_and_client_never_see_the_store() -> None:
    """What runs on a gateway or at home can't import what the control plane remembers."""
    allowed = allowed_units()

    assert not (allowed["gateway"] | allowed["client"]) & {"store", "api", "portal"}


def test_imports_go_round_in_no_circle() -> None:
    """No module imports, by whatever way, a module that imports it."""
    names = {module.name for module in modules()}
    arrows = {module.name: _targets(module, names) for module in modules()}
    while leaves := {name for name, targets in arrows.items() if not targets}:
        arrows = {name: targets - leaves for name, targets in arrows.items() if name not in leaves}

    assert arrows == {}


def _targets(module: Module, names: set[str]) -> set[str]:
    """Return the modules that are imported when this one is, by a statement at its top level."""
    top = Module(module.path, "", ast.Module([node for node in module.tree.body if _is_import(node)], []))
    targets = {name if name in names else name.rpartition(".")[0] for name in top.imports()}
    return (targets & names) - {module.name}


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)
