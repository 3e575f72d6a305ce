"""docs/operate.md: what it tells people to type exists."""

import re
import shlex

import click
import pytest
from source import ROOT

from exuvia.cli.commands import root

GUIDE = (ROOT / "docs/operate.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line.startswith("exuvia ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_can_be_typed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command exists, with these options and as many arguments."""
    monkeypatch.setenv("EXUVIA_DATABASE", "sqlite:////var/lib/exuvia/exuvia.db")
    words = shlex.split(line, comments=True)
    command: click.Command = root
    name = words.pop(0)
    while isinstance(command, click.Group):
        name = words.pop(0)
        below = command.get_command(click.Context(command), name)
        assert below is not None, name
        command = below

    command.make_context(name, words)


def test_the_guide_was_read() -> None:
    """The test above looks at many commands: it would notice if the page were written otherwise."""
    assert len(COMMANDS) > 15


def test_units_and_files_of_the_guide_exist() -> None:
    """A service or a file of settings that is named there is one of the package."""
    units = {re.sub(r"@.*", "@", name) for name in re.findall(r"\bexuvia-(?:\w+)@?(?=wg\d|\b)", GUIDE)}
    there = {path.name.partition(".")[0] for path in (ROOT / "packaging/systemd").iterdir()}
    others = {"exuvia-gateway", "exuvia-1"}  # a user, and a backup

    assert units - others <= there
    files = set(re.findall(r"/etc/exuvia/(\w+)\.toml", GUIDE))
    assert files == {"serve", "gateway", "backup"}
