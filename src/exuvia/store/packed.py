"""
Many rows in one parameter of one statement.

sqlite3 gives up the interpreter's lock for every step of a statement, and gets it back only
when the event loop has nothing to do. A statement that takes its rows out of a blob is one
step for all of them, and runs beside the event loop instead of waiting for it.
"""


class Packed:
    """
    Rows of columns with fixed widths, one after the other in the parameter ?1; ?2 says how many.

    Statements begin with EACH, and name columns by column().
    """

    EACH = "WITH RECURSIVE at (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM at WHERE n + 1 < ?2) "

    def __init__(self, **widths: int) -> None:
        self._widths = widths
        self._width = sum(widths.values())

    def column(self, name: str) -> str:
        """Return the SQL expression for a column of the row `at.n`."""
        names = list(self._widths)
        offset = sum(self._widths[before] for before in names[: names.index(name)])
        return f"substr(?1, at.n * {self._width} + {offset + 1}, {self._widths[name]})"

    def text(self, name: str) -> str:
        """Return the SQL expression for a column that holds text, filled up with spaces."""
        return f"rtrim(CAST({self.column(name)} AS TEXT))"

    def columns(self, *names: str) -> str:
        """Return the SQL expressions for some columns."""
        return ", ".join(self.column(name) for name in names)
