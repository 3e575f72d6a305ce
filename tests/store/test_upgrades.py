"""A database of any earlier version is brought up to date with all that it holds, or stays as it was."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control_plane import COMMAND, honest_key, plane_at, server_in
from exuvia.api import identifiers
from exuvia.errors import InvalidConfiguration
from exuvia.store import files, generation
from exuvia.store.migrate import Migration, migrate, migrations

LANDED = Path(__file__).parent / "landed"
HASH_KEY = b"h" * 32
ACCOUNT = b"a" * 16
_A, _B, _D = (f"x'{name * 16}'" for name in ("61", "62", "64"))

ROWS = {
    1: (
        f"INSERT INTO meta VALUES (1, 'epoch', 7, x'{'67' * 16}', '10.0.0.0/8', 'fd12:3456:789a::/64', 1)",
        f"INSERT INTO account VALUES ({_A}, zeroblob(32), 'active', '2199-12-31', 5)",
        f"INSERT INTO account VALUES ({_B}, randomblob(32), 'suspended', NULL, 1)",
        f"INSERT INTO device VALUES ({_A}, {_D}, 'quiet otter', zeroblob(32))",
        f"INSERT INTO key VALUES (zeroblob(32), {_A}, {_D}, x'0a000002', randomblob(16), randomblob(32), "
        "'current', NULL)",
        f"INSERT INTO key VALUES (randomblob(32), {_A}, {_D}, x'0a000003', randomblob(16), randomblob(32), "
        "'next', 500000)",
        "INSERT INTO resting VALUES (x'0a000004', 495000)",
        "INSERT INTO change VALUES (7, zeroblob(32))",
        "INSERT INTO gateway VALUES ('se1', zeroblob(32), 'se1.example:51820', 'SE', 'Malmö', '9.9.9.9', "
        "randomblob(32), 1, 0)",
    ),
    2: (f"INSERT INTO second_factor VALUES ({_A}, randomblob(16), 'code', randomblob(60))",),
    3: (
        "INSERT INTO billing VALUES (1)",
        "INSERT INTO outbox VALUES (randomblob(16), randomblob(16), 20650)",
    ),
}
"""What each step's tables might hold; a step that is added adds its own."""


def steps_until(number: int) -> list[Migration]:
    """Return the steps that a version had whose last one was this."""
    return [step for step in migrations() if step.number <= number]


def database_of(path: Path, number: int) -> dict[str, list[dict[str, Any]]]:
    """Make a database as an earlier version left it, with something in each table; return what it holds."""
    files.touch(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for step in steps_until(number):
        migrate(connection, steps_until(step.number))
        for statement in ROWS[step.number]:
            connection.execute(statement)
    held = content(connection)
    connection.close()
    files.replace(files.beside(path, ".key"), HASH_KEY)
    generation.settle(path, b"g" * 16)
    return held


def content(connection: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    ]
    found = {}
    for table in tables:
        rows = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in rows.description]
        found[table] = sorted((dict(zip(names, row, strict=True)) for row in rows), key=repr)
    return found


def reread(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables of a file."""
    connection = sqlite3.connect(path)
    found = content(connection)
    connection.close()
    return found


def shape(path: Path) -> list[tuple[str, str]]:
    """Return the schema of a file, without comments and spaces."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return sorted((name, _plain(sql)) for name, sql in rows)


def _plain(sql: str) -> str:
    return "".join("".join(line.split("--")[0].split()) for line in sql.splitlines()).lower()


VERSIONS = [step.number for step in migrations()]


def test_what_has_landed_is_never_changed() -> None:
    """Each step is, byte for byte, what it was when it landed; a new one is copied to tests/store/landed."""
    folder = Path(sys.modules[migrate.__module__].__file__ or "").parent / "migrations"

    assert {path.name: path.read_text() for path in LANDED.iterdir()} == {
        path.name: path.read_text() for path in folder.glob("*.sql")
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_table_of_an_earlier_version_holds_something(tmp_path: Path, version: int) -> None:
    """So that the tests below look at rows of each."""
    held = database_of(tmp_path / "x.db", version)

    assert [table for table, rows in held.items() if not rows] == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_p16_a_database_of_each_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    """Each row is there with all its values, the schema is today's, and what it knows is served."""
    path, newest = tmp_path / "x.db", tmp_path / "newest.db"
    held = database_of(path, version)
    async with plane_at(newest), plane_at(path) as plane:
        upgraded = reread(path)
        account = await plane.ask("GET", f"/v1/admin/accounts/{identifiers.text(ACCOUNT)}", as_operator=True)
        number = await plane.account()
        assert (await plane.register(number, honest_key())).revision == 8

    for table in held.keys() - {"migration"}:
        for before, after in zip(held[table], upgraded[table], strict=True):
            assert before.items() <= after.items()
    assert account.json["devices"] == 1
    assert shape(path) == shape(newest)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_a_database_of_a_newer_version_is_as_it_was(tmp_path: Path) -> None:
    """An older program refuses it in one line, whatever it is asked to do, and changes nothing."""
    path = tmp_path / "control.db"
    database_of(path, VERSIONS[-1])
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, [*migrations(), Migration(999, "CREATE TABLE later (x INTEGER) STRICT;")])
    connection.close()
    before = path.read_bytes()
    key, recipient = tmp_path / "key", tmp_path / "recipient"
    made = subprocess.run([*COMMAND, "backup-key", key], capture_output=True, check=True)
    recipient.write_bytes(made.stdout)
    to = ["--to", tmp_path / "to", "--recipient-file", recipient]
    for words in (["serve", "--listen", "127.0.0.1:0"], ["account", "list"], ["backup", *to]):
        command = [*COMMAND, *words, "--database", f"sqlite:///{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (
            1,
            "",
            "exuvia: the database was made by a newer version of exuvia: install that version\n",
        )

    assert path.read_bytes() == before
    assert not list(tmp_path.glob("to*"))


def test_the_server_says_what_it_brought_up_to_date(tmp_path: Path) -> None:
    """Once, with the steps that it took; nothing of a new database, or of one that is of today."""
    with server_in(tmp_path) as server:
        server.stop()
        assert "brought up to date" not in server.log.read_text()
    for file in tmp_path.glob("control.db*"):
        file.unlink()
    database_of(tmp_path / "control.db", 1)
    with server_in(tmp_path) as server:
        server.stop()
        server.start()
        said = server.log.read_text()

    assert said.count("brought up to date") == 1
    assert f"by step {', '.join(map(str, VERSIONS[1:]))};" in said


KILLED = """
import json, os, signal, sqlite3, sys
from exuvia.store.migrate import Migration, migrate
path, stop = sys.argv[1], int(sys.argv[2])
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA synchronous = FULL")
seen = 0
def trace(statement):
    global seen
    seen += 1
    if seen == stop:
        os.kill(os.getpid(), signal.SIGKILL)
connection.set_trace_callback(trace)
migrate(connection, [Migration(*step) for step in json.loads(sys.argv[3])])
print(seen)
"""

LARGER = Migration(
    900,
    "ALTER TABLE account ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm';\n"
    "CREATE TABLE mood (account_id BLOB PRIMARY KEY, word TEXT NOT NULL) STRICT, WITHOUT ROWID;\n"
    "INSERT INTO mood SELECT id, 'calm' FROM account;\n"
    "UPDATE account SET mood = 'glad';\n"
    "DROP TABLE resting;\n",
)
"""A step as a later version might have one."""


@pytest.mark.parametrize("version", VERSIONS)
def test_p16_a_migration_that_is_killed(tmp_path: Path, version: int) -> None:
    """Killed before any statement, it is as after one of the steps; the next start finishes them all."""
    steps = [*migrations(), LARGER]
    states = {}
    for number in (version, *(step.number for step in steps if step.number > version)):
        path = tmp_path / f"after-{number}.db"
        database_of(path, version)
        connection = sqlite3.connect(path, isolation_level=None)
        migrate(connection, [step for step in steps if step.number <= number])
        connection.close()
        states[number] = shape(path)
    stop, ended = 0, False
    while not ended:
        stop += 1
        path = tmp_path / f"{stop}.db"
        held = database_of(path, version)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, path, str(stop), json.dumps(steps)], capture_output=True, text=True
        )
        assert done.returncode in (0, -9), done.stderr
        ended = done.returncode == 0
        found = reread(path)
        last = max(row["number"] for row in found["migration"])
        assert shape(path) == states[last]
        if last == version:
            assert found == held
        connection = sqlite3.connect(path, isolation_level=None)
        migrate(connection, steps)
        connection.close()
        assert shape(path) == states[LARGER.number]
        assert {row["word"] for row in reread(path)["mood"]} == {"calm"}
        assert {row["mood"] for row in reread(path)["account"]} == {"glad"}

    assert stop > 8


def test_a_step_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """Whatever goes wrong in it, the database is as before."""
    path = tmp_path / "x.db"
    held = database_of(path, VERSIONS[-1])
    connection = sqlite3.connect(path, isolation_level=None)
    wrong = Migration(901, f"{LARGER.script}INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [*migrations(), wrong])
    connection.close()

    assert reread(path) == held


def test_a_step_that_is_another_is_refused(tmp_path: Path) -> None:
    """A database whose history is not ours is not touched."""
    path = tmp_path / "x.db"
    database_of(path, VERSIONS[-1])
    first, *others = migrations()
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(InvalidConfiguration, match="migration 1"):
        migrate(connection, [Migration(1, first.script + " "), *others])
    connection.close()
