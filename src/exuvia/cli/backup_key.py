"""`exuvia backup-key`: the pair of which the control plane has the half that opens nothing."""

from pathlib import Path

import click

from exuvia.errors import AlreadyExists
from exuvia.system import entropy
from exuvia.system.files import write


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """
    Make the key that opens backups, write it to FILE, and print the line that backups are made with.

    Run it on a machine that is not the control plane, and keep FILE there, and another copy of it somewhere
    safe: without it no backup can be opened, by anybody. The line that is printed goes to
    /etc/exuvia/backup.recipient on the control plane.
    """
    from exuvia.store.envelope import BackupKey

    if file.exists():
        raise AlreadyExists(f"{file}: there is something already; what it opens would be lost with it")
    key = BackupKey.new(entropy.bits)
    write(file, f"{key.text()}\n".encode())
    click.echo(key.recipient().text())
