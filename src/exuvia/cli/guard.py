"""exuvia guard."""

import sys
from pathlib import Path

import click

from exuvia.cli.options import config_file, option
from exuvia.errors import InvalidConfiguration
from exuvia.gateway.guard import watch_once, watch_over
from exuvia.system import process
from exuvia.system.interface import open_interface
from exuvia.wg.conf import keys_with_endpoint


@click.command("guard")
@click.argument("interface", metavar="IFACE")
@option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration of the interface; peers to which it gives an endpoint are left alone "
    "(default /etc/wireguard/IFACE.conf, if it exists).",
)
@option("--once", is_flag=True, help="Watch as long as the rule needs (3 minutes), purge, and exit.")
@config_file("/etc/exuvia/guard.toml")
def command(interface: str, config: Path | None, once: bool) -> None:
    """
    Make an existing WireGuard interface forget quiet peers.

    WireGuard keeps the public IP address of every peer for ever. The guard watches IFACE,
    whoever configured it, and takes a peer's address, handshake time and byte counters away
    once its session is over: 180 seconds after its latest handshake, or 20 seconds after a
    handshake that was never completed. The peer's configuration stays exactly as it is, and
    the peer can come back at any time.

    Left alone are peers that this side sends keepalives to, and peers whose endpoint was
    configured. Needs root, or CAP_NET_ADMIN.
    """
    process.go_first()  # a peer that comes back between being read and being purged loses its new session
    if not once:
        watch_over(lambda: open_interface(interface), lambda: _configured(interface, config), tell=click.echo)
        return
    tally = watch_once(open_interface(interface), _configured(interface, config), progress=_Progress())
    click.echo(tally.sentence(interface))


def _configured(interface: str, config: Path | None) -> set[bytes]:
    """Return the keys of peers to which the configuration file gives an endpoint."""
    file = config or Path("/etc/wireguard") / f"{interface}.conf"
    try:
        return keys_with_endpoint(file.read_text())
    except FileNotFoundError:
        if config is None:
            return set()
        raise InvalidConfiguration(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError):
        raise InvalidConfiguration(f"{file}: can't be read") from None


class _Progress:
    """Tells on a terminal how many peers are waited for."""

    def __init__(self) -> None:
        self._told = -1

    def __call__(self, waiting: int) -> None:
        if waiting != self._told and sys.stderr.isatty():
            click.echo(f"waiting for {waiting} peers to be quiet or to shake hands again …", err=True)
        self._told = waiting
