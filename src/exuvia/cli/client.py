"""
`exuvia client`: connect this machine.

Each command loads what it needs: to ask a running client for something takes no more than a socket.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from exuvia.cli import asking
from exuvia.cli.options import config_file, option
from exuvia.client.talk import SOCKET, Question, Status, ask, follow
from exuvia.errors import InvalidConfiguration, Unavailable
from exuvia.rules.schedule import LONGEST, SHORTEST

if TYPE_CHECKING:
    from exuvia.client.state import StateFolder

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("client", context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of this device's keys (/var/lib/exuvia-client; below ~/.local/state if you are not root).",
)
@config_file(asking.CONFIG)
@click.pass_context
def command(ctx: click.Context, state: Path | None) -> None:
    """Connect this machine through a gateway, and let nothing out beside the tunnel."""
    ctx.obj = state or Path(asking.usual_folder())


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
def login(folder: Path, control: str, account_file: IO[str] | None, ca_file: Path | None) -> None:
    """
    Register this machine as a device.

    Its key is made here, and only the public half leaves this machine. The account number is
    used once and not kept. A login that failed can simply be tried again.
    """
    import asyncio

    from exuvia.client import login as logging_in

    certificates = None if ca_file is None else str(ca_file.absolute())
    asyncio.run(
        logging_in.log_in(
            _state(folder),
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
@option(
    "--on-connect", is_flag=True, help="Change the key before connecting, beside the usual changes of it."
)
@option(
    "--drain",
    type=click.IntRange(0, 600),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="After a change of keys let connections that began before it go on for so long; 0 ends them.",
)
@click.pass_obj
def up(
    folder: Path,
    gateway: str | None,
    interface: str,
    allow_lan: bool,
    dns: str,
    keepalive: int,
    kill_switch_on_revoke: str,
    on_connect: bool,
    drain: int,
) -> None:
    """
    Connect, and stay connected until `exuvia client down`, SIGTERM or Ctrl-C.

    Runs in the foreground. From before the tunnel is up until after it is gone, nothing leaves
    this machine outside it: not to the local network, unless --allow-lan is given, and not if
    this program is killed. Then `up` connects again, and `down` opens what is closed.

    The device's key and tunnel addresses are changed every few days (see `interval`) without
    interrupting anything: a second tunnel is up before the first one goes.
    """
    import asyncio

    from exuvia.client.daemon import Daemon
    from exuvia.client.down import alone
    from exuvia.client.session import Wishes

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,13}", interface):
        raise InvalidConfiguration("the interface's name may have up to 14 letters, digits, - and _")
    wishes = Wishes(
        gateway,
        interface,
        allow_lan,
        dns == "auto",
        keepalive,
        open_if_refused=kill_switch_on_revoke == "lift",
        on_connect=on_connect,
        drain=drain,
    )
    state = _state(folder)
    with alone(state):
        asyncio.run(Daemon(state, wishes, say=click.echo).run())


@command.command()
@click.pass_obj
def down(folder: Path) -> None:
    """
    Disconnect, and put everything back as it was.

    Works also if the client was killed: what it left behind is found and removed, the kill
    switch last.
    """
    from exuvia.client import down as ending

    click.echo("down" if ending.take_down(_state(folder)) else "it was not up")


@command.command()
@click.pass_obj
def rotate(folder: Path) -> None:
    """
    Change this device's key and tunnel addresses now.

    While the client is up nothing is interrupted: what is new uses the new key, and connections
    that began before go on for a while. While it is down the next `up` uses the new key.
    """
    if asking.rotate(str(folder)):
        return
    import asyncio

    from exuvia.client import offline

    with asking.Patience() as patience:
        asyncio.run(offline.rotate(_state(folder), tell=patience.tell))


@command.command()
@click.argument("days", type=click.IntRange(SHORTEST, LONGEST))
@click.pass_obj
def interval(folder: Path, days: int) -> None:
    """Change this device's key every so many DAYS, 1 to 30, from now on."""
    told = list(follow(folder / SOCKET, Question("interval", days)))
    if told and told[-1].failed:
        raise Unavailable(told[-1].said)
    if told:
        click.echo(told[-1].said)
        return
    import asyncio

    from exuvia.client import offline

    click.echo(asyncio.run(offline.set_interval(_state(folder), days)))


@command.command()
@click.argument("conf", type=click.Path(dir_okay=False, path_type=Path))
@option("--control", metavar="URL", help="Register the key of CONF there first: https://HOST[:PORT].")
@option(
    "--account-file",
    type=click.File("r"),
    metavar="FILE",
    help="For that, read the account number from FILE, or with - from standard input.",
)
@option("--ca-file", type=_FILE, metavar="FILE", help="Trust these certificates instead of the system's.")
def renew(conf: Path, control: str | None, account_file: IO[str] | None, ca_file: Path | None) -> None:
    """
    Change the key in CONF, a configuration file of wg-quick.

    For machines without the client: systemd runs this once a week (exuvia-renew@.timer). The file is
    changed when the new key works; if the interface of its name runs, that is changed in place,
    which ends connections that are open. If no handshake comes of it, all stays as it was.
    """
    import asyncio

    from exuvia.client import renew as renewing

    file = renewing.ConfFile(conf.absolute())
    if control is not None and file.load() is None:
        certificates = None if ca_file is None else str(ca_file.absolute())
        account = partial(_account_number, account_file)
        asyncio.run(renewing.register(file, control, ca_file=certificates, account=account))
    asyncio.run(renewing.renew(file, say=click.echo))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def status(folder: Path, as_json: bool) -> None:
    """Say how the client is. Prints no key and no address."""
    found = _status(folder)
    if as_json:
        click.echo(json.dumps(found._asdict()))
    else:
        for line in _told(found):
            click.echo(line)


@command.command()
@click.option("--offline", is_flag=True, help="Forget the device here without telling the control plane.")
@click.pass_obj
def logout(folder: Path, offline: bool) -> None:
    """
    Delete this device, and erase its keys here.

    The tunnel is taken down first. If the control plane can't be reached nothing is erased, so
    that you can try again.
    """
    import asyncio

    from exuvia.client import login as logging_in

    if folder.is_dir():
        _end_tunnel(folder)
    asyncio.run(logging_in.log_out(_state(folder), offline=offline, say=click.echo))


def _state(folder: Path) -> "StateFolder":
    from exuvia.client.state import StateFolder

    return StateFolder(folder)


def _status(folder: Path) -> Status:
    """Return how the client is, whether it runs or not."""
    running = ask(folder / SOCKET, "status")
    if running is not None:
        return running
    from exuvia.client import down as ending

    return ending.status(_state(folder))


def _account_number(file: IO[str] | None) -> str:
    if file is not None:
        text = file.readline()
    elif sys.stdin.isatty():
        text = click.prompt("Account number (not shown)", hide_input=True, err=True)
    else:
        text = sys.stdin.readline()
    return "".join(text.split())


def _end_tunnel(folder: Path) -> None:
    from exuvia.client import down as ending

    if _status(folder).state not in ("down", "logged out"):
        ending.take_down(_state(folder))


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
    if status.draining is not None:
        yield f"connections that began before the last change of keys may go on for {status.draining} s"
    elif status.phase not in (None, "settled"):
        yield f"a change of keys is under way: {status.phase}"
    if status.next_change is not None:
        yield f"the key is changed {_in_time(status.next_change)}"


def _in_time(seconds: int) -> str:
    days, hours, minutes = seconds // 86_400, seconds // 3_600, seconds // 60
    for number, unit in ((days, "day"), (hours, "hour"), (minutes, "minute")):
        if number:
            return f"in {number} {unit}{'s' * (number > 1)}"
    return "now"
