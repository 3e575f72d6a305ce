"""All that is stored about one account: for its holder, who may know it."""

import sqlite3
from typing import Any

_OF_ACCOUNT = ("device", "key", "second_factor")
"""Tables whose rows name an account."""


def everything(connection: sqlite3.Connection, number_hash: bytes) -> dict[str, Any]:
    """Return every row that leads to the account with this number, table by table."""
    accounts = _rows(connection, "SELECT * FROM account WHERE number_hash = ?", number_hash)
    (id,) = connection.execute("SELECT id FROM account WHERE number_hash = ?", (number_hash,)).fetchone()
    found: dict[str, Any] = {"account": accounts[0]}
    for table in _OF_ACCOUNT:
        found[table] = _rows(connection, f"SELECT * FROM {table} WHERE account_id = ?", id)  # noqa: S608
    found["change"] = _rows(
        connection,
        "SELECT change.* FROM change JOIN key USING (public_key) WHERE account_id = ? ORDER BY revision",
        id,
    )
    return found


def _rows(connection: sqlite3.Connection, question: str, whose: bytes) -> list[dict[str, Any]]:
    rows = connection.execute(question, (whose,))
    names = [column[0] for column in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows]
