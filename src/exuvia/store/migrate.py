"""
Numbered migrations, each applied once and never changed again.

schema.sql is what they add up to; a test compares the two.
"""

import functools
import sqlite3
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from exuvia.errors import InvalidConfiguration

_TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    number INTEGER NOT NULL PRIMARY KEY,
    checksum TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    script: str

    def checksum(self) -> str:
        """Return what the database remembers of it."""
        return sha256(self.script.encode()).hexdigest()


@functools.cache
def migrations() -> list[Migration]:
    """Return all migrations in their order."""
    folder = files("exuvia.store") / "migrations"
    scripts = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(Migration(int(file.name[:3]), file.read_text("utf-8")) for file in scripts)


def migrate(connection: sqlite3.Connection, steps: list[Migration]) -> list[int]:
    """Bring the database up to date, each step in a transaction of its own; return which were taken."""
    connection.execute(_TABLE)
    done = steps_taken(connection, steps)
    missing = [step for step in steps if step.number not in done]
    for step in missing:
        _apply(connection, step)
    return [step.number for step in missing]


def steps_taken(connection: sqlite3.Connection, known: list[Migration]) -> dict[int, str]:
    """Return the steps that a database has behind it; InvalidConfiguration if we don't know one of them."""
    done = dict(connection.execute("SELECT number, checksum FROM migration"))
    if done and max(done) > known[-1].number:
        raise InvalidConfiguration("the database was made by a newer version of exuvia: install that version")
    for step in known:
        if done.get(step.number, step.checksum()) != step.checksum():
            raise InvalidConfiguration(f"migration {step.number} of the database is not the one that we know")
    return done


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements(step.script):
            connection.execute(statement)
        connection.execute("INSERT INTO migration VALUES (?, ?)", (step.number, step.checksum()))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def statements(script: str) -> list[str]:
    """Return the statements of a script (executescript would commit before each)."""
    found, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found
