"""The command's own words: docs/commands.md, and what an installation without extras can say."""

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


def test_the_list_of_commands_is_up_to_date() -> None:
    """docs/commands.md says of every command and option what `--help` says; tools/commands writes it."""
    written = subprocess.run(
        [sys.executable, "tools/commands"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert (ROOT / "docs/commands.md").read_text() == written


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
