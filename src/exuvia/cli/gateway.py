"""`exuvia gateway`: enroll, run and look at gateways."""

import os
import re
import sys

import click

from exuvia.cli.gateway_enroll import enroll
from exuvia.cli.gateway_fleet import list_, retire, rotate_token
from exuvia.cli.options import config_file, option
from exuvia.gateway.settings import Settings
from exuvia.gateway.status import read_status

_FILE = click.Path(dir_okay=False)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """A time such as 90, 90s, 15m, 24h or 2d; in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds that a text names."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
        if match is None:
            self.fail("write a time as 90s, 15m, 24h or 2d", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


@click.group()
def command() -> None:
    """
    Run WireGuard gateways that forget their clients.

    A gateway is enrolled once at the control plane, which prints its token, and then run on its
    own machine.
    """


@command.command()
@option("--control", required=True, metavar="URL", help="The control plane, as https://control.example.")
@option("--token-file", required=True, type=_FILE, metavar="FILE", help="What `gateway enroll` printed.")
@option("--interface", required=True, metavar="IFACE", help="Made if it is missing, adopted if it is there.")
@option(
    "--listen-port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="WireGuard's UDP port, on an interface that is made here (any that is free).",
)
@option(
    "--nat",
    metavar="OUT_IFACE",
    help="Be an exit: let clients out through this interface, under its addresses, and keep them apart.",
)
@option(
    "--private-key-file",
    type=_FILE,
    metavar="FILE",
    help="WireGuard's private key for an interface that is made here; without it, one is made in memory.",
)
@option("--ca-file", type=_FILE, metavar="FILE", help="Trust these certificates instead of the system's.")
@option(
    "--lease",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long peers are served that the control plane does not confirm.",
)
@option(
    "--accept-snapshot",
    is_flag=True,
    help="Take the control plane's next peer table as it is, even if most peers are missing in it.",
)
@option(
    "--forget-flows",
    is_flag=True,
    help="When a peer is forgotten, forget its connections through the tunnel as well, which cuts them.",
)
@config_file("/etc/exuvia/gateway.toml")
def run(
    control: str,
    token_file: str,
    interface: str,
    listen_port: int | None,
    nat: str | None,
    private_key_file: str | None,
    ca_file: str | None,
    lease: float,
    accept_snapshot: bool,
    forget_flows: bool,
) -> None:
    """
    Keep a WireGuard interface equal to the control plane's peer table.

    A peer whose session is over is forgotten: its address, its handshake time and its
    counters are gone 180 seconds after its latest handshake, whatever becomes of the control
    plane. Nothing is written to a disk.

    Needs root, or CAP_NET_ADMIN. On SIGTERM the interface and its peers stay as they are, so
    that a restart loses nothing.
    """
    settings = Settings(
        control=control,
        token_file=token_file,
        interface=interface,
        listen_port=listen_port,
        nat=nat,
        private_key_file=private_key_file,
        ca_file=ca_file,
        accept_snapshot=accept_snapshot,
        lease=lease,
        forget_flows=forget_flows,
    )
    settings.check()
    # In a fresh interpreter, which has neither this command line nor its libraries in its memory.
    program = (sys.executable, "-P", "-m", "exuvia.gateway.kernel_process", *settings.words())
    os.execv(sys.executable, program)  # noqa: S606  what is started is this very program


@command.command()
@option("--interface", required=True, metavar="IFACE", help="The gateway's interface.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(interface: str, as_json: bool) -> None:
    """
    Show how a gateway on this machine does: counts, and nothing of any peer.

    Reads the interface itself, so it works while the gateway does not run. Needs root, or
    CAP_NET_ADMIN.
    """
    found = read_status(interface)
    click.echo(found.json() if as_json else found.text())


for _command in (enroll, list_, retire, rotate_token):
    command.add_command(_command)
