"""docs/privacy.md: every stored column stands there, and nothing that is not stored."""

import re
import sqlite3

from source import SRC, table


def stored_columns() -> set[str]:
    """Every column of the database as table.column."""
    database = sqlite3.connect(":memory:")
    for script in sorted((SRC / "exuvia/store").glob("schema*.sql")):
        database.executescript(script.read_text())
    tables = [row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    columns = {f"{t}.{row[1]}" for t in tables for row in database.execute(f"PRAGMA table_info({t})")}
    database.close()
    return columns


def documented_columns() -> dict[str, list[str]]:
    """Every column of the document, with why it is stored, how long, and who sees it."""
    rows = table("docs/privacy.md", heading="column")
    return {name: row[1:] for row in rows for name in re.findall(r"`(\w+\.\w+)`", row[0])}


def test_the_document_and_the_schema_name_the_same_columns() -> None:
    """No column is stored that docs/privacy.md does not explain, and none is explained that is not stored."""
    assert stored_columns()
    assert stored_columns() == set(documented_columns())


def test_every_column_says_why_how_long_and_who() -> None:
    """Each row of docs/privacy.md has a reason, a time and somebody who sees it."""
    incomplete = [name for name, cells in documented_columns().items() if len(cells) != 3 or not all(cells)]

    assert incomplete == []
