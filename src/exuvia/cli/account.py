"""`exuvia account`: create and look after accounts."""

import sys
from urllib.parse import quote

import click
import msgspec

from exuvia.cli.operator import Operator, database_option, print_json
from exuvia.cli.options import option
from exuvia.messages import (
    AccountCreated,
    AccountNumber,
    AccountSummary,
    CreateAccounts,
    ExtendAccount,
    LimitDevices,
)

_PAGE = 1000


@click.group()
def command() -> None:
    """
    Create and look after accounts.

    Accounts are named by the id that `list` shows, or by their number on standard input
    (never as an argument, where everybody on this machine could read it).
    """


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command.command()
@database_option
@option(
    "--devices", type=int, default=5, show_default=True, metavar="N", help="How many devices it may have."
)
@option("--expires", metavar="YYYY-MM-DD", help="Its last day, in UTC; without one it never expires.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Create so many, and print one on a line.")
@_as_json
def create(database: str, devices: int, expires: str | None, count: int | None, as_json: bool) -> None:
    """
    Create an account, and print its number: it is told this once, and only its hash is kept.

    With --json the id is told as well.
    """
    operator, made = Operator(database), list[AccountCreated]()
    while len(made) < (count or 1):
        wanted = CreateAccounts(min(_PAGE, (count or 1) - len(made)), devices, expires)
        page = operator.ask("POST", "/v1/admin/accounts/batch", wanted, gives=list[AccountCreated])
        if not as_json:
            click.echo("\n".join(account.account for account in page))
        made += page
    if as_json:
        print_json(made if count else made[0])


@command.command()
@database_option
@click.argument("id", required=False)
@_as_json
def show(database: str, id: str | None, as_json: bool) -> None:
    """Show an account; without ID its number is read from standard input."""
    operator = Operator(database)
    _print([_found(operator, id)], as_json, single=True)


@command.command("list")
@database_option
@click.option(
    "--state", type=click.Choice(["active", "suspended", "expired"]), help="Only those in this state."
)
@_as_json
def list_(database: str, state: str | None, as_json: bool) -> None:
    """List accounts, in an order that tells nothing; never their numbers, which nobody knows."""
    operator, found, after = Operator(database), list[AccountSummary](), ""
    only = f"&state={state}" if state else ""
    while page := operator.ask(
        "GET", f"/v1/admin/accounts?limit={_PAGE}&after={after}{only}", gives=list[AccountSummary]
    ):
        found += page
        after = page[-1].id
    _print(found, as_json)


@command.command()
@database_option
@click.argument("id", required=False)
@_as_json
def suspend(database: str, id: str | None, as_json: bool) -> None:
    """
    Suspend an account: its devices are cut off at once.

    Without ID the account's number is read from standard input.
    """
    _act(database, id, "suspend", as_json)


@command.command()
@database_option
@click.argument("id", required=False)
@_as_json
def resume(database: str, id: str | None, as_json: bool) -> None:
    """
    Resume a suspended account: its devices get other addresses when they next make contact.

    Without ID the account's number is read from standard input.
    """
    _act(database, id, "resume", as_json)


@command.command()
@database_option
@click.argument("id", required=False)
@_as_json
def cancel(database: str, id: str | None, as_json: bool) -> None:
    """
    Delete an account with its devices and keys; nothing is left of it.

    Without ID the account's number is read from standard input.
    """
    operator = Operator(database)
    found = _found(operator, id).id
    operator.ask("POST", f"/v1/admin/accounts/{found}/cancel", gives=msgspec.Raw)
    if as_json:
        print_json({"id": found, "state": "cancelled"})


@command.command()
@database_option
@click.argument("id", required=False)
@click.option("--expires", metavar="YYYY-MM-DD", help="Its last day from now on, in UTC.")
@click.option("--days", type=int, metavar="N", help="So many more days, from today if its last one is over.")
@click.option("--never", is_flag=True, help="It is to have no last day.")
@_as_json
def extend(
    database: str, id: str | None, expires: str | None, days: int | None, never: bool, as_json: bool
) -> None:
    """
    Give an account another last day.

    One that had expired works again at once; its devices register anew by themselves.
    Without ID the account's number is read from standard input.
    """
    _act(database, id, "extend", as_json, ExtendAccount(expires, days, never))


@command.command("device-limit")
@database_option
@click.argument("words", nargs=-1, required=True, metavar="[ID] N")
@_as_json
def device_limit(database: str, words: tuple[str, ...], as_json: bool) -> None:
    """
    Let an account have N devices from now on.

    Those that it has already stay, even if they are more.
    Without ID the account's number is read from standard input.
    """
    if len(words) > 2 or not words[-1].isdecimal():
        raise click.UsageError(
            "say how many devices, after the account's id if that is not on standard input"
        )
    id = words[0] if len(words) == 2 else None
    _act(database, id, "device-limit", as_json, LimitDevices(int(words[-1])))


@command.command("remove-second-factor")
@database_option
@click.argument("id", required=False)
@_as_json
def remove_second_factor(database: str, id: str | None, as_json: bool) -> None:
    """
    Let an account be opened by its number alone again.

    For people who lost their authenticator or passkey: there is no other way back in. Be sure
    that it is the account's holder who asks.
    """
    _act(database, id, "remove-second-factor", as_json)


def _act(database: str, id: str | None, what: str, as_json: bool, body: object | None = None) -> None:
    operator = Operator(database)
    path = f"/v1/admin/accounts/{_found(operator, id).id}/{what}"
    account = operator.ask("POST", path, body, gives=AccountSummary)
    if as_json:
        print_json(account)


def _found(operator: Operator, id: str | None) -> AccountSummary:
    if id is not None:
        return operator.ask("GET", f"/v1/admin/accounts/{quote(id, safe='')}", gives=AccountSummary)
    if sys.stdin.isatty():
        number = click.prompt("Account number (not shown)", hide_input=True, err=True)
    else:
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
