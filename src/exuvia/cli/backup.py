"""`exuvia backup`: what can't be made again, encrypted for somebody who is not here."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exuvia.cli.operator import database_option, database_path, print_json
from exuvia.cli.options import config_file, option
from exuvia.errors import InvalidConfiguration
from exuvia.rules import backups
from exuvia.system import clock
from exuvia.system.files import written

if TYPE_CHECKING:
    from exuvia.store.backup import Part
    from exuvia.store.envelope import Recipient

_RECIPIENT = "/etc/exuvia/backup.recipient"
_PATIENCE = 2.0
"""Seconds after which somebody who waits wants to know how it goes."""


@click.command()
@config_file("/etc/exuvia/backup.toml")
@database_option
@option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE",
    help="Where to write it; in a folder each day has its file, and those that are too old are removed.",
)
@option(
    "--recipient-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=_RECIPIENT,
    show_default=True,
    metavar="FILE",
    help="The line that `exuvia backup-key` printed.",
)
@option(
    "--keep",
    type=click.IntRange(2, 366),
    default=backups.KEEP_DAYS,
    show_default=True,
    metavar="DAYS",
    help="How long a backup is good for: that long somebody who is deleted may still be in one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(database: str, to: Path, recipient_file: Path, keep: int, as_json: bool) -> None:
    """
    Write an encrypted backup, whether or not `exuvia serve` runs.

    It holds accounts with their second factors, devices, gateways, and the key of the keyed hashes. It never
    holds a key of a device, a tunnel address, or what says how either changed. Only the private half of
    the backup key opens it.
    """
    from exuvia.store import shelf

    hour = int(clock.wall().timestamp() // 3600)
    recipient = _recipient(recipient_file)
    path = shelf.place(to, hour=hour, keep_days=keep)
    counts = _write(database_path(database), path, recipient, backups.term(hour=hour, keep_days=keep))
    tidied = shelf.tidy(to, hour=hour, keep_days=keep, but=path) if to.is_dir() else None
    if tidied is not None and tidied.ahead:
        _say(f"{tidied.ahead} backups there say that they were made in the future: look at the clock")
    if as_json:
        print_json({"file": str(path), "removed": tidied.removed if tidied else 0, "holds": counts})
    else:
        click.echo(f"{path}: {told(counts)}")


def told(counts: dict[str, int]) -> str:
    """Return how much a backup holds, in words."""
    names = {
        "account": "accounts",
        "device": "devices",
        "second_factor": "second factors",
        "gateway": "gateways",
    }
    return ", ".join(f"{count:,} {names[table]}" for table, count in counts.items())


def _write(database: Path, path: Path, recipient: "Recipient", term: backups.Term) -> dict[str, int]:
    """Write the backup; return how many rows of each table it holds."""
    from exuvia.store import backup, envelope, files
    from exuvia.system import entropy

    counts: dict[str, int] = {}
    with backup.snapshot(database) as connection, written(path) as file:
        parts = backup.parts(connection, files.hash_key(database, fresh=None))
        encoded = backup.encoded(_watched(parts, counts))
        for piece in envelope.sealed(recipient, term, encoded, entropy.bits):
            file.write(piece)
    return counts


def _watched(parts: "Iterator[Part]", counts: dict[str, int]) -> "Iterator[Part]":
    """Pass parts on; say how far it is if it takes long, and in the end how much it was."""
    from exuvia.store.backup import End, Rows

    rows, next_word = 0, time.monotonic() + _PATIENCE
    for part in parts:
        if isinstance(part, Rows):
            rows += len(part.rows)
        elif isinstance(part, End):
            counts.update(part.counts)
        if time.monotonic() > next_word:
            next_word += _PATIENCE
            _say(f"{rows:,} rows so far")
        yield part


def _recipient(file: Path) -> "Recipient":
    from exuvia.store.envelope import Recipient

    try:
        return Recipient.from_text(file.read_text())
    except OSError as error:
        raise InvalidConfiguration(
            f"{file}: {error.strerror}; run `exuvia backup-key FILE` on another machine, keep its FILE "
            "there, and put the line that it prints here"
        ) from None
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        words = error if isinstance(error, InvalidConfiguration) else "this is no text"
        raise InvalidConfiguration(f"{file}: {words}") from None


def _say(text: str) -> None:
    click.echo(f"exuvia backup: {text}", err=True)
