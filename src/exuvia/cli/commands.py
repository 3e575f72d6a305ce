"""
All commands.

Each lives in a module of its own and is loaded when it is used, so that `--help`
is quick and a gateway needs no web server installed.
"""

import importlib
from collections.abc import Callable

import click

from exuvia import log

COMMANDS = {
    "demo": "See everything work on this machine, step by step.",
    "serve": "Run the control plane.",
    "account": "Create and look after accounts.",
    "backup": "Write an encrypted backup of the control plane.",
    "backup-key": "Make the key that opens backups.",
    "restore": "Make the control plane's database of a backup.",
    "gateway": "Enroll and run gateways.",
    "client": "Connect this machine.",
    "guard": "Make an existing WireGuard interface forget quiet peers.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"exuvia.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="exuvia", message="exuvia %(version)s")
def root() -> None:
    """Key management for WireGuard networks that know as little as possible about their users."""


def run(complain: Callable[[str], None]) -> None:
    """Run the command that was given to this process, which ends with it."""
    log.hide_values(complain)
    root(prog_name="exuvia")
