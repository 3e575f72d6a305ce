"""`exuvia account`: create and look after accounts."""

import sys
from urllib.parse import quote

import click
import msgspec

from exuvia.cli.operator import Operator, database_option, print_json
from exuvia.cli.options import option
from exuvia.messages import AccountCreated, AccountNumber, AccountSummary, CreateAccount

_PAGE = 1000


@click.group()
def command() -> None:
    """
    Create and look after accounts.

    Accounts are named by the id that `list` shows, or by their number on standard input
    (never as an argument, where everybody on this machine could read it).
    """


@command.command()
@database_option
@option("--devices", type=int, default=5, show_default=True, help="How many devices it may have.")
@option("--expires", metavar="YYYY-MM-DD", help="Its last day, in UTC; without one it never expires.")
def create(database: str, devices: int, expires: str | None) -> None:
    """Create an account, and print its number: it is told this once, and only its hash is kept."""
    made = Operator(database).ask(
        "POST", "/v1/admin/accounts", CreateAccount(devices, expires), gives=AccountCreated
    )
    click.echo(made.account)


@command.command()
@database_option
@click.argument("id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(database: str, id: str | None, as_json: bool) -> None:
    """Show an account."""
    operator = Operator(database)
    _print([_found(operator, id)], as_json, single=True)


@command.command("list")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(database: str, as_json: bool) -> None:
    """List all accounts, in an order that tells nothing."""
    operator, found, after = Operator(database), list[AccountSummary](), ""
    while page := operator.ask(
        "GET", f"/v1/admin/accounts?limit={_PAGE}&after={after}", gives=list[AccountSummary]
    ):
        found += page
        after = page[-1].id
    _print(found, as_json)


@command.command()
@database_option
@click.argument("id", required=False)
def suspend(database: str, id: str | None) -> None:
    """Suspend an account: its devices are cut off at once."""
    _act(database, id, "suspend")


@command.command()
@database_option
@click.argument("id", required=False)
def resume(database: str, id: str | None) -> None:
    """Resume a suspended account: its devices may register anew."""
    _act(database, id, "resume")


@command.command()
@database_option
@click.argument("id", required=False)
def cancel(database: str, id: str | None) -> None:
    """Delete an account with its devices and keys; nothing is left of it."""
    _act(database, id, "cancel")


def _act(database: str, id: str | None, what: str) -> None:
    operator = Operator(database)
    operator.ask("POST", f"/v1/admin/accounts/{_found(operator, id).id}/{what}", gives=msgspec.Raw)


def _found(operator: Operator, id: str | None) -> AccountSummary:
    if id is not None:
        return operator.ask("GET", f"/v1/admin/accounts/{quote(id, safe='')}", gives=AccountSummary)
    number = sys.stdin.readline().strip()
    return operator.ask("POST", "/v1/admin/accounts/find", AccountNumber(number), gives=AccountSummary)


def _print(accounts: list[AccountSummary], as_json: bool, *, single: bool = False) -> None:
    if as_json:
        print_json(accounts[0] if single else accounts)
        return
    click.echo(f"{'ID':26}  {'STATE':9}  {'LAST DAY':10}  DEVICES")
    for account in accounts:
        devices = f"{account.devices} of {account.device_limit}"
        click.echo(f"{account.id}  {account.state:9}  {account.expires or 'none':10}  {devices}")
