"""`exuvia client`: connect this machine."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
import msgspec

from exuvia.cli.options import config_file, option
from exuvia.client import down as ending
from exuvia.client import login as logging_in
from exuvia.client.daemon import Daemon, Wishes
from exuvia.client.state import StateFolder
from exuvia.client.talk import Status
from exuvia.errors import InvalidConfiguration

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("client", context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of this device's keys (/var/lib/exuvia-client; below ~/.local/state if you are not root).",
)
@config_file("/etc/exuvia/client.toml")
@click.pass_context
def command(ctx: click.Context, state: Path | None) -> None:
    """Connect this machine through a gateway, and let nothing out beside the tunnel."""
    ctx.obj = StateFolder(state or _usual_folder())


@command.command()
@option("--control", required=True, metavar="URL", help="The control plane: https://HOST[:PORT].")
@option(
    "--account-file",
    type=click.File("r"),
    metavar="FILE",
    help="Read the account number from FILE, or with - from standard input, instead of asking for it.",
)
@option("--ca-file", type=_FILE, metavar="FILE", help="Trust these certificates instead of the system's.")
@click.pass_obj
def login(folder: StateFolder, control: str, account_file: IO[str] | None, ca_file: Path | None) -> None:
    """
    Register this machine as a device.

    Its key is made here, and only the public half leaves this machine. The account number is
    used once and not kept. A login that failed can simply be tried again.
    """
    certificates = None if ca_file is None else str(ca_file.absolute())
    asyncio.run(
        logging_in.log_in(
            folder,
            control,
            ca_file=certificates,
            account=lambda: _account_number(account_file),
            say=click.echo,
        )
    )


@command.command()
@option("--gateway", metavar="NAME", help="Connect to this gateway (any).")
@option("--interface", default="exuvia0", show_default=True, metavar="IFACE", help="Name of the interface.")
@option("--allow-lan", is_flag=True, help="Let private addresses of the local network through; DNS never.")
@option(
    "--dns",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Whether names are looked up by the gateway's resolver while the client is up.",
)
@option(
    "--keepalive",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Send an empty packet so often, so that one can be reached while idle; 0 never does, and lets "
    "the gateway forget an idle device.",
)
@option(
    "--kill-switch-on-revoke",
    type=click.Choice(["keep", "lift"]),
    default="keep",
    show_default=True,
    help="What becomes of the kill switch if the device was removed or its account is not active.",
)
@click.pass_obj
def up(
    folder: StateFolder,
    gateway: str | None,
    interface: str,
    allow_lan: bool,
    dns: str,
    keepalive: int,
    kill_switch_on_revoke: str,
) -> None:
    """
    Connect, and stay connected until `exuvia client down`, SIGTERM or Ctrl-C.

    Runs in the foreground. From before the tunnel is up until after it is gone, nothing leaves
    this machine outside it: not to the local network, unless --allow-lan is given, and not if
    this program is killed. Then `up` connects again, and `down` opens what is closed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}", interface):
        raise InvalidConfiguration("an interface's name has up to 15 letters, digits, - and _")
    lift = kill_switch_on_revoke == "lift"
    wishes = Wishes(gateway, interface, allow_lan, dns == "auto", keepalive, open_if_refused=lift)
    with ending.alone(folder):
        asyncio.run(Daemon(folder, wishes, say=click.echo).run())


@command.command()
@click.pass_obj
def down(folder: StateFolder) -> None:
    """
    Disconnect, and put everything back as it was.

    Works also if the client was killed: what it left behind is found and removed, the kill
    switch last.
    """
    click.echo("down" if ending.take_down(folder) else "it was not up")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def status(folder: StateFolder, as_json: bool) -> None:
    """Say how the client is. Prints no key and no address."""
    found = ending.status(folder)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        for line in _told(found):
            click.echo(line)


@command.command()
@click.option("--offline", is_flag=True, help="Forget the device here without telling the control plane.")
@click.pass_obj
def logout(folder: StateFolder, offline: bool) -> None:
    """
    Delete this device, and erase its keys here.

    The tunnel is taken down first. If the control plane can't be reached nothing is erased, so
    that you can try again.
    """
    if folder.folder.is_dir():
        _end_tunnel(folder)
    asyncio.run(logging_in.log_out(folder, offline=offline, say=click.echo))


def _usual_folder() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/exuvia-client")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "exuvia-client"


def _account_number(file: IO[str] | None) -> str:
    if file is not None:
        text = file.readline()
    elif sys.stdin.isatty():
        text = click.prompt("Account number (not shown)", hide_input=True, err=True)
    else:
        text = sys.stdin.readline()
    return "".join(text.split())


def _end_tunnel(folder: StateFolder) -> None:
    if ending.status(folder).state not in ("down", "logged out"):
        ending.take_down(folder)


def _told(status: Status) -> Iterator[str]:
    told = {
        "connecting": f"connecting to {status.gateway}" if status.gateway else "connecting",
        "connected": f"connected to {status.gateway} by {status.interface}",
        "refused": "not connected: the control plane refuses this device",
        "closed": "the client was killed, and its kill switch is closed: `up` connects, `down` opens it",
        "down": "not connected",
        "logged out": "not logged in: `exuvia client login --control URL`",
    }
    yield told[status.state]
    if status.reason is not None:
        yield status.reason
    if status.device is not None:
        yield f"this device is called {status.device}"
    if status.handshake_age is not None:
        yield f"latest handshake {status.handshake_age} s ago"
