"""`exuvia gateway list`, `retire` and `rotate-token`: the gateways that the control plane knows."""

from urllib.parse import quote

import click
import msgspec

from exuvia.cli.operator import Operator, database_option, print_json
from exuvia.messages import GatewayEnrolled, GatewaySummary


@click.command("list")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(database: str, as_json: bool) -> None:
    """
    List the gateways that are enrolled.

    A gateway is live if the control plane heard from it within 45 seconds; while `exuvia serve`
    does not run, none is.
    """
    found = Operator(database).ask("GET", "/v1/admin/gateways", gives=list[GatewaySummary])
    if as_json:
        print_json(found)
        return
    click.echo(f"{'NAME':20}  {'LIVE':4}  {'PLACE':20}  ENDPOINT")
    for gateway in found:
        place = " ".join(part for part in (gateway.country, gateway.city) if part) or "-"
        click.echo(f"{gateway.name:20}  {'yes' if gateway.live else 'no':4}  {place:20}  {gateway.endpoint}")


@click.command()
@click.argument("name")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def retire(name: str, database: str, as_json: bool) -> None:
    """
    Remove the gateway NAME: clients are no longer led there, and it is told nothing any more.

    It keeps serving the peers that it knows until its lease ends. So stop it there too, and delete
    its interface.
    """
    Operator(database).ask("DELETE", f"/v1/admin/gateways/{quote(name, safe='')}", gives=msgspec.Raw)
    if as_json:
        print_json({"name": name})


@click.command("rotate-token")
@click.argument("name")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_token(name: str, database: str, as_json: bool) -> None:
    """
    Give the gateway NAME another token, and print it: it is told this once.

    The token before is good no more, at once. The gateway goes on with the peers that it knows,
    and follows again once it is restarted with the new token.
    """
    made = Operator(database).ask(
        "POST", f"/v1/admin/gateways/{quote(name, safe='')}/token", gives=GatewayEnrolled
    )
    if as_json:
        print_json(made)
    else:
        click.echo(made.token)
