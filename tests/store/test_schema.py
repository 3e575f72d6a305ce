"""The schema, and the migrations that lead to it."""

import sqlite3
from importlib.resources import files

import pytest

from exuvia.errors import InvalidConfiguration
from exuvia.store.migrate import Migration, migrate, migrations

Columns = list[tuple[object, ...]]


def described(connection: sqlite3.Connection) -> dict[str, tuple[str, Columns]]:
    """Return what a database consists of: tables with columns, constraints and indices."""
    objects = connection.execute("SELECT name, type, tbl_name FROM sqlite_schema").fetchall()
    return {
        name: (f"{kind} of {table}", _details(connection, name, kind))
        for name, kind, table in sorted(objects)
    }


def _details(connection: sqlite3.Connection, name: str, kind: str) -> Columns:
    if kind == "index":
        return connection.execute(f"PRAGMA index_xinfo({name})").fetchall()
    found = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
    found += connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
    found += connection.execute(f"PRAGMA index_list({name})").fetchall()
    found += connection.execute("SELECT strict, wr FROM pragma_table_list WHERE name = ?", (name,)).fetchall()
    return found


def checks(connection: sqlite3.Connection) -> list[str]:
    """Return all CHECK constraints, without comments and spaces."""
    texts = [sql or "" for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")]
    lines = [line.split("--")[0] for text in texts for line in text.splitlines()]
    return sorted("".join(line.split()) for line in lines if "CHECK" in line)


def test_migrations_add_up_to_the_schema() -> None:
    """A database made by all migrations is one made by schema.sql."""
    migrated, stated = sqlite3.connect(":memory:", isolation_level=None), sqlite3.connect(":memory:")
    migrate(migrated, migrations())
    stated.executescript((files("exuvia.store") / "schema.sql").read_text())

    assert described(stated) == described(migrated)
    assert checks(stated) == checks(migrated)
    migrated.close()
    stated.close()


def test_tables_keep_no_order_of_insertion() -> None:
    """Every table is STRICT and WITHOUT ROWID: there is no number that grows with each row."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, migrations())
    tables = connection.execute(
        "SELECT name, strict, wr FROM pragma_table_list WHERE schema = 'main'"
    ).fetchall()
    connection.close()

    assert {(strict, wr) for name, strict, wr in tables if not name.startswith("sqlite_")} == {(1, 1)}


def test_migrating_twice_changes_nothing() -> None:
    """A database that is up to date stays as it is."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, migrations())
    before = connection.total_changes
    migrate(connection, migrations())

    assert connection.total_changes == before
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind() -> None:
    """Each migration happens whole or not at all; those before it stay."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    first = Migration(1, "CREATE TABLE a (b INTEGER) STRICT;")
    broken = Migration(2, "CREATE TABLE c (d INTEGER) STRICT;\nCREATE TABLE a (b INTEGER) STRICT;")

    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [first, broken])

    assert [n for (n,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")] == [
        "migration",
        "a",
    ]
    assert [n for (n,) in connection.execute("SELECT number FROM migration")] == [1]
    connection.close()


def test_a_migration_that_was_changed_is_refused() -> None:
    """What is in the database must be what these migrations make."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, [Migration(1, "CREATE TABLE a (b INTEGER) STRICT;")])

    with pytest.raises(InvalidConfiguration, match="migration 1"):
        migrate(connection, [Migration(1, "CREATE TABLE a (c INTEGER) STRICT;")])
    connection.close()


def test_a_database_of_a_newer_version_is_refused() -> None:
    """An older program never writes into a newer database."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    steps = [
        Migration(1, "CREATE TABLE a (b INTEGER) STRICT;"),
        Migration(2, "CREATE TABLE c (d TEXT) STRICT;"),
    ]
    migrate(connection, steps)

    with pytest.raises(InvalidConfiguration, match="newer"):
        migrate(connection, steps[:1])
    connection.close()


@pytest.mark.parametrize(
    ("standings", "allowed"),
    [
        (["current"], True),
        (["current", "next"], True),
        (["current", "old"], True),
        (["current", "next", "retired", "retired"], True),
        (["current", "current"], False),
        (["next", "next"], False),
        (["current", "next", "old"], False),
        (["used"], False),
    ],
)
def test_the_database_itself_refuses_a_third_key(standings: list[str], allowed: bool) -> None:
    """A device has a current key and one beside it; retired ones wait in any number."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, migrations())
    try:
        for n, standing in enumerate(standings):
            due = 7 if standing in ("next", "old") else None
            parts = [bytes([n]) * 32, b"a" * 16, b"d" * 16, bytes([n]) * 4, bytes([n]) * 16, b"p" * 32]
            connection.execute("INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*parts, standing, due))
        assert allowed
    except sqlite3.IntegrityError:
        assert not allowed
    finally:
        connection.close()


@pytest.mark.parametrize(("standing", "due"), [("current", 7), ("retired", 7), ("next", None), ("old", None)])
def test_an_hour_is_stored_only_while_a_key_is_due(standing: str, due: int | None) -> None:
    """Nothing tells when a device rotated, once it has."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, migrations())
    parts = [b"k" * 32, b"a" * 16, b"d" * 16, b"4444", b"6" * 16, b"p" * 32]
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*parts, standing, due))
    connection.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("account", "id"),
        ("account", "number_hash"),
        ("key", "public_key"),
        ("key", "address4"),
        ("key", "address6"),
        ("gateway", "name"),
        ("gateway", "token_hash"),
        ("gateway", "public_key"),
    ],
)
def test_p7_the_database_itself_refuses_what_somebody_has(table: str, column: str) -> None:
    """Two rows that differ in all but one of these columns are refused; in all, they are two rows."""
    made = {
        "account": lambda c: {"id": c * 16, "number_hash": c * 32, "state": "active", "device_limit": 5},
        "key": lambda c: {
            "public_key": c * 32,
            "account_id": c * 16,
            "device_id": c * 16,
            "address4": c * 4,
            "address6": c * 16,
            "preshared_key": c * 32,
            "standing": "current",
        },
        "gateway": lambda c: {
            "name": c.decode(),
            "token_hash": c * 32,
            "endpoint": "x:1",
            "public_key": c * 32,
            "lasting": 0,
            "ahead": 0,
        },
    }[table]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, migrations())

    def insert(row: dict[str, object]) -> None:
        places = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))

    insert(made(b"a"))
    insert(made(b"b"))
    with pytest.raises(sqlite3.IntegrityError):
        insert({**made(b"c"), column: made(b"a")[column]})
    connection.close()
