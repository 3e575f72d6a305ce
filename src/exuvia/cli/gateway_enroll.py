"""`exuvia gateway enroll`: make a gateway known to the control plane."""

import click

from exuvia.cli.operator import Operator, database_option, print_json
from exuvia.cli.options import option
from exuvia.messages import EnrollGateway, GatewayEnrolled


@click.command()
@click.argument("name")
@database_option
@option("--endpoint", required=True, metavar="HOST:PORT", help="Where clients reach its WireGuard.")
@option("--country", metavar="CC", help="Two capital letters, such as SE.")
@option("--city", metavar="NAME", help="Shown to people who choose a gateway.")
@option("--dns", metavar="ADDRESS", help="The DNS server that its clients are to use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def enroll(
    name: str,
    database: str,
    endpoint: str,
    country: str | None,
    city: str | None,
    dns: str | None,
    as_json: bool,
) -> None:
    """Enroll the gateway NAME, and print its token: it is told this once, and only its hash is kept."""
    wanted = EnrollGateway(name, endpoint, country, city, dns)
    made = Operator(database).ask("POST", "/v1/admin/gateways", wanted, gives=GatewayEnrolled)
    if as_json:
        print_json(made)
    else:
        click.echo(made.token)
