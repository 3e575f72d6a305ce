"""`exuvia serve`: run the control plane."""

import asyncio
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exuvia import log
from exuvia.cli.operator import database_option, database_path
from exuvia.cli.options import config_file, option
from exuvia.errors import InvalidConfiguration
from exuvia.rules.allocation import pool4_from_text, pool6_from_text
from exuvia.rules.possession import UNPROVEN, Unproven
from exuvia.rules.webhooks import secrets_from_text
from exuvia.system import clock
from exuvia.system.notify import notify

if TYPE_CHECKING:
    from exuvia.api.routes import Application
    from exuvia.api.running import ControlPlane
    from exuvia.api.server import Front, Settings
    from exuvia.api.webhooks import Billing

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@config_file("/etc/exuvia/serve.toml")
@option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to answer requests.",
)
@database_option
@option("--pool4", metavar="CIDR", help="Where IPv4 tunnel addresses are drawn from (10.0.0.0/8 at first).")
@option("--pool6", metavar="CIDR", help="The same for IPv6, a /64 (a random ULA at first).")
@option("--tls-cert", type=_FILE, metavar="FILE", help="Certificate chain, as PEM.")
@option("--tls-key", type=_FILE, metavar="FILE", help="Its private key, as PEM.")
@option("--behind-proxy", is_flag=True, help="A proxy in front of this address does TLS.")
@option(
    "--operator-token-file", type=_FILE, metavar="FILE", help="The token that opens /v1/admin and /metrics."
)
@option(
    "--erase-after",
    type=click.FloatRange(1, 86400),
    default=900,
    show_default=True,
    metavar="SECONDS",
    help="When the last byte of what was deleted is gone.",
)
@option(
    "--retire-every",
    type=click.FloatRange(1, 3600),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long retired keys are gathered before gateways are told, so that each hides among them.",
)
@option(
    "--unproven-keys",
    type=click.Choice(["allow", "refuse"]),
    default=UNPROVEN,
    show_default=True,
    help="What to do with a public key whose sender does not prove to hold its private half.",
)
@option("--portal/--no-portal", default=True, show_default=True, help="Whether people can log in at /.")
@option("--webhook-url", metavar="URL", help="Where billing is told of accounts that were cancelled.")
@option(
    "--webhook-secret-file", type=_FILE, metavar="FILE", help="What signs that: whsec_… (docs/operate.md)."
)
@option("--webhook-ca-file", type=_FILE, metavar="FILE", help="Certificates to trust there, as PEM.")
@option(
    "--webhook-every",
    type=click.FloatRange(1, 86400),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long that is gathered, so that its moment tells nothing.",
)
@option("--new-epoch", is_flag=True, help="After an older database was put back: drop all keys, begin anew.")
@option("--trust-clock", is_flag=True, help="After the clock was set: it is right now.")
def command(
    listen: str,
    database: str,
    pool4: str | None,
    pool6: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    operator_token_file: Path | None,
    erase_after: float,
    retire_every: float,
    unproven_keys: Unproven,
    portal: bool,
    webhook_url: str | None,
    webhook_secret_file: Path | None,
    webhook_ca_file: Path | None,
    webhook_every: float,
    new_epoch: bool,
    trust_clock: bool,
) -> None:
    """Run the control plane: the API for clients, and the feed for gateways."""
    # Imported here: `exuvia serve --help` should not wait for a web server.
    from exuvia.api.server import Settings
    from exuvia.store.store import Wanted

    log.set_up()
    host, port = _address(listen)
    wanted = Wanted(
        pool4=None if pool4 is None else pool4_from_text(pool4),
        pool6=None if pool6 is None else pool6_from_text(pool6),
        new_epoch=new_epoch,
        hour=int(clock.wall().timestamp() // 3600),
    )
    settings = Settings(
        host,
        port,
        database_path(database),
        wanted,
        erase_after,
        retire_every,
        behind_proxy,
        tls_cert,
        tls_key,
        _token(operator_token_file),
        trust_clock,
        unproven_keys,
        _billing(webhook_url, webhook_secret_file, webhook_ca_file, webhook_every),
    )
    _run(settings, front=_with_portal(settings) if portal else _alone)


def _run(settings: "Settings", *, front: "Front") -> None:
    import uvloop

    from exuvia.api.server import serve

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, ready=_tell, front=front))


def _alone(plane: "ControlPlane") -> "Application":
    return plane.public


def _with_portal(settings: "Settings") -> "Front":
    from exuvia.portal.app import beside

    return partial(beside, is_https=settings.is_https)


def _tell(url: str) -> None:
    click.echo(f"exuvia serve: ready at {url}")
    notify(READY=1)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(host)), int(port)
    except ValueError:
        raise InvalidConfiguration("--listen is ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080") from None


def _billing(
    url: str | None, secret_file: Path | None, ca_file: Path | None, every: float
) -> "Billing | None":
    from exuvia.api.webhooks import Billing
    from exuvia.system.posting import Receiver

    if url is None and secret_file is None:
        return None
    if url is None or secret_file is None:
        raise InvalidConfiguration("--webhook-url and --webhook-secret-file belong together")
    try:
        text = secret_file.read_text()
    except (OSError, UnicodeDecodeError):
        raise InvalidConfiguration(f"{secret_file}: the webhook's secret can't be read") from None
    return Billing(Receiver(url, ca_file=ca_file), secrets_from_text(text), every)


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise InvalidConfiguration(f"{file}: the operator's token can't be read") from None
    if len(token) < 32:
        raise InvalidConfiguration(f"{file}: the operator's token must have at least 32 characters")
    return token
