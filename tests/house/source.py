"""The project's own files, as the tests of the house read them."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Dotted name, as in an import: exuvia.wg.keys."""
        parts = self.path.relative_to(SRC).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")

    @property
    def unit(self) -> str:
        """The row of docs/architecture.md that it belongs to: wg, rules, errors …"""
        below = self.name.split(".")[1:]
        return below[0] if below and below != ["__main__"] else "cli"

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def imports(self) -> Iterator[str]:
        """Every module or name that is imported, wherever that stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield from (f"{base}.{alias.name}" for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        drop = node.level - (self.path.name == "__init__.py")
        parts = package[: len(package) - drop] + ([node.module] if node.module else [])
        return ".".join(parts)


@functools.cache
def modules(folder: str = "src") -> tuple[Module, ...]:
    """Every Python file of a folder."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        found.append(Module(path, text, ast.parse(text)))
    return tuple(found)


def table(document: str, *, heading: str) -> list[list[str]]:
    """Return the cells of a Markdown document's table whose header row begins with this word."""
    lines = (ROOT / document).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {heading} "))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def tracked_files() -> list[Path]:
    """Every file that git knows, or would if it was added now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]
