"""`exuvia restore`: the control plane's database made of a backup."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from exuvia.cli.backup import told
from exuvia.cli.operator import database_path, print_json, served
from exuvia.cli.options import option
from exuvia.errors import BackupRefused, InvalidConfiguration
from exuvia.rules import backups
from exuvia.rules.backups import Term
from exuvia.system import clock, entropy, process

if TYPE_CHECKING:
    from exuvia.store.backup import Part
    from exuvia.store.envelope import BackupKey

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@option("--key-file", type=_FILE, required=True, metavar="FILE", help="What `exuvia backup-key` wrote.")
@option("--database", metavar="sqlite:///PATH", help="Where to make the database (where serve.toml has it).")
@click.option("--replace", is_flag=True, help="Take the place of the database that is there.")
@click.option("--old", is_flag=True, help="Although the backup is older than backups are kept.")
@click.option("--check", is_flag=True, help="Only look whether the backup is whole and the key opens it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: Path, key_file: Path, database: str | None, replace: bool, old: bool, check: bool, as_json: bool
) -> None:
    """
    Make the control plane's database of the backup FILE, where there is none.

    All of FILE is checked before anything is written. The database begins a new epoch with no keys:
    devices register others by themselves on their next contact, and gateways keep their peers meanwhile. Who
    was cancelled, suspended or logged out after the backup was made is back: do that again.
    """
    from exuvia.store import backup, envelope
    from exuvia.store.restoring import restore

    key = _key(key_file)
    with _opened(file) as source:
        term = envelope.term_of(source.read(64))
        if not check:
            _require_fresh(term, old=old)
        read = partial(_read, source, key)
        end = (
            backup.checked(read())
            if check
            else restore(_place(database), read, replace=replace, bits=entropy.bits)
        )
    made = datetime.fromtimestamp(term.made * 3600, UTC)
    if as_json:
        print_json({"made": made, "holds": end.counts})
    else:
        click.echo(f"{told(end.counts)}, as they were on {made:%Y-%m-%d at %H:00} UTC")


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise InvalidConfiguration(f"{file}: {error.strerror}") from None


def _read(source: BinaryIO, key: "BackupKey") -> "Iterator[Part]":
    from exuvia.store import backup, envelope

    source.seek(0)
    return backup.decoded(envelope.opened(key, source))


def _place(database: str | None) -> Path:
    from exuvia.store.migrate import migrations

    found = database or served()
    if found is None:
        raise click.UsageError("say where: --database sqlite:///PATH")
    path = database_path(found)
    migrations()  # read while we may: whoever we become may not see where we are installed
    if path.parent.is_dir():
        # What root made there, a server that is not root could not open.
        process.become_owner_of(path.parent)
    return path


def _require_fresh(term: Term, *, old: bool) -> None:
    """Raise BackupRefused if a backup is older than backups are kept, or can't be as old as it says."""
    standing = backups.standing(term, hour=int(clock.wall().timestamp() // 3600))
    if standing == "over" and not old:
        raise BackupRefused(
            "the backup is older than backups are kept: who was deleted since would be back. If there is "
            "none that is newer, add --old"
        )
    if standing == "ahead" and not old:
        raise BackupRefused("the backup was made in the future: set the clock, or add --old if it is right")


def _key(file: Path) -> "BackupKey":
    from exuvia.store.envelope import BackupKey

    try:
        return BackupKey.from_text(file.read_text())
    except OSError as error:
        raise InvalidConfiguration(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidConfiguration(f"{file}: this is no text") from None
