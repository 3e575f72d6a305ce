"""The command's own words, and what an installation without extras can say."""

import re
import subprocess
import sys
import tomllib

import pytest
from source import ROOT

NAMES_OF_MODULES = {"prometheus-client": "prometheus_client"}


def extras() -> list[str]:
    """The modules that come with an extra only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [line for lines in project["optional-dependencies"].values() for line in lines]
    names = [re.split(r"[\[<>=~! ]", line, maxsplit=1)[0] for line in required]
    return [NAMES_OF_MODULES.get(name, name.replace("-", "_")) for name in names]


def test_the_pages_say_what_the_code_says() -> None:
    """docs/commands.md has every command, docs/promises.md every test of a promise; else `make pages`."""
    done = subprocess.run(
        [sys.executable, "tools/pages", "--check"], cwd=ROOT, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "command", [[], ["gateway"], ["gateway", "run"], ["client"], ["client", "up"], ["guard"]]
)
def test_a_gateway_or_client_needs_no_extra(command: list[str]) -> None:
    """`--help` of what runs without a web server works where no extra is installed."""
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({extras()!r}))\n"
        f"sys.argv = ['exuvia', *{command!r}, '--help']\n"
        "from exuvia.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: exuvia" in done.stdout
