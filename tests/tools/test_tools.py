"""The project's own tools: what they count and what they say is missing."""

import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], Any]

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that loads a tool as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def load(name: str) -> ModuleType:
        path = TOOLS / name
        spec = spec_from_loader(f"tool_{path.stem}", SourceFileLoader(f"tool_{path.stem}", str(path)))
        assert spec and spec.loader
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def report(folder: Path, **counts: int) -> Path:
    """Write what pytest would report."""
    path = folder / "report.xml"
    numbers = " ".join(f'{name}="{count}"' for name, count in counts.items())
    path.write_text(f"<testsuites><testsuite {numbers}/></testsuites>")
    return path


def test_every_outcome_is_counted(tool: Load, tmp_path: Path) -> None:
    """Failures and errors are failed tests; passed is what is left of all."""
    result = tool("test").counted("host", report(tmp_path, tests=9, failures=2, errors=1, skipped=1), 1)

    assert (result.passed, result.failed, result.skipped) == (5, 3, 1)


def test_a_run_that_broke_off_has_failed(tool: Load, tmp_path: Path) -> None:
    """A part that ends badly fails even if it reports nothing, or nothing bad."""
    test = tool("test")

    assert test.counted("kernel", tmp_path / "none.xml", 125).failed == 1
    assert test.counted("kernel", report(tmp_path, tests=3, failures=0, errors=0, skipped=0), 124).failed == 1


def test_a_folder_without_tests_has_not_failed(tool: Load, tmp_path: Path) -> None:
    """pytest says 5 where there is nothing to run."""
    assert tool("test").counted("tunnel", tmp_path / "none.xml", 5).failed == 0


def test_the_last_line_sums_up(tool: Load, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends with one line of all parts, and with status 1 if anything failed or nothing ran."""
    test = tool("test")

    good = test.summary([test.Result("host", passed=3), test.Result("kernel", passed=4, skipped=1)])
    assert (good, capsys.readouterr().out.splitlines()[-1]) == (0, "7 passed, 0 failed, 1 skipped")
    bad = test.summary([test.Result("host", passed=3, failed=1)])
    assert (bad, capsys.readouterr().out.splitlines()[-1]) == (1, "3 passed, 1 failed")
    assert test.summary([test.Result("host")]) == 1


def test_what_is_missing_is_named_with_its_package(tool: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root is told which packages to install, and nothing is tried."""
    debian = tool("debian.py")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)

    debian.need({"sh": "dash", "/etc/passwd": "base-passwd", "python:json": "python3"}, why="for a test")
    with pytest.raises(debian.Missing, match=r"for a test; as root, run: apt-get install .* absent-package$"):
        debian.need({"absent-program": "absent-package", "sh": "dash"}, why="for a test")


def test_a_kernel_that_does_not_run_is_not_kept(
    tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built goes into the cache only after it has run a command."""
    uml = tool("uml.py")
    monkeypatch.setenv("EXUVIA_CACHE", str(tmp_path))
    monkeypatch.setattr(uml, "_need_build_tools", lambda: None)
    monkeypatch.setattr(uml, "_unpack", lambda folder, log: (folder / "linux").write_text("not a kernel"))
    monkeypatch.setattr(uml, "_configure", lambda folder, log: None)
    monkeypatch.setattr(uml, "_compile", lambda folder, log: None)

    with pytest.raises(uml.KernelFailed, match="it panicked"):
        uml.cached_kernel(lambda kernel: "it panicked")
    assert list(tmp_path.glob("linux-*")) == []
    assert uml.cached_kernel(lambda kernel: None).read_text() == "not a kernel"


@pytest.mark.parametrize(
    "arguments", [[], ["--mem", "2", "true"], ["--build", "true"], ["--rw", "/nowhere", "true"]]
)
def test_the_kernel_runner_refuses_wrong_usage(arguments: list[str]) -> None:
    """Wrong usage is said before anything is built or booted."""
    done = subprocess.run([TOOLS / "kernel", *arguments], capture_output=True, text=True)

    assert done.returncode == 2
    assert "tools/kernel: error:" in done.stderr


def test_every_long_script_is_in_a_batch(tool: Load) -> None:
    """Each module of bench/ and tests/soak/ that can be called is, and each that is called exists."""
    batch = tool("batch")
    called = {module.split()[0] for scripts in batch.SCRIPTS.values() for _, module in scripts.values()}
    callable_modules = {
        ".".join(path.relative_to(batch.ROOT).with_suffix("").parts)
        for folder in ("bench", "tests/soak")
        for path in (batch.ROOT / folder).glob("*.py")
        if "\ndef main(" in path.read_text()
    }

    assert called == callable_modules
