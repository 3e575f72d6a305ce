"""tools/web, which is Python without .py in its name."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def load() -> ModuleType:
    """Return the tool as a module."""
    spec = spec_from_loader("tool_web", SourceFileLoader("tool_web", str(ROOT / "tools/web")))
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
