"""What a backup holds, who can open it, and what is made of it."""

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import Plane, fresh_key, plane_at, spellings
from exuvia.errors import AlreadyExists, BackupRefused, DatabaseInUse, InvalidConfiguration
from exuvia.rules.backups import Term
from exuvia.store import backup, envelope, files
from exuvia.store.backup import Begin, End, Part, Rows
from exuvia.store.envelope import BackupKey, Recipient
from exuvia.store.migrate import migrations
from exuvia.store.restoring import restore
from exuvia.system import entropy

KEY = BackupKey.new(entropy.bits)
TERM = Term(500_000, 500_168)


def made(path: Path, key: BackupKey = KEY) -> bytes:
    """Return a backup of the database at a path."""
    with backup.snapshot(path) as connection:
        parts = backup.encoded(backup.parts(connection, files.hash_key(path, fresh=None)))
        return b"".join(envelope.sealed(key.recipient(), TERM, parts, entropy.bits))


def parts_of(content: bytes, key: BackupKey = KEY) -> Iterator[Part]:
    """Go through what is in a backup."""
    return backup.decoded(envelope.opened(key, io.BytesIO(content)))


def put_back(content: bytes, path: Path, *, replace: bool = False) -> End:
    """Make a database of a backup."""
    return restore(path, lambda: parts_of(content), replace=replace, bits=entropy.bits)


def resealed(parts: list[Part]) -> bytes:
    """Return a backup of these parts, whatever they are."""
    return b"".join(envelope.sealed(KEY.recipient(), TERM, backup.encoded(parts), entropy.bits))


def rows(path: Path, table: str) -> list[tuple[object, ...]]:
    """Return all rows of a table."""
    connection = sqlite3.connect(path)
    found = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
    connection.close()
    return found


def tables(path: Path) -> set[str]:
    """Return the names of all tables."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    connection.close()
    return {name for (name,) in found}


async def populate(plane: Plane) -> str:
    """Give the control plane something of everything; return an account number."""
    number = await plane.account(expires="2199-01-01", devices=7)
    device = await plane.register(number)
    await plane.ask("PUT", f"/v1/device/keys/{fresh_key().path()}", bearer=device.token)
    gone = await plane.register(number)
    await plane.ask("DELETE", "/v1/device", bearer=gone.token)
    await plane.act(await plane.account(), "suspend")
    await plane.gateway("se1")
    await plane.gateway("de1")
    writer = plane.inner.control.store.writer
    await writer.run(lambda t: t.execute("INSERT INTO billing VALUES (1)") and None)
    await writer.run(lambda t: t.execute("UPDATE gateway SET ahead = 1 WHERE name = 'de1'") and None)
    await writer.run(
        lambda t: (
            t.execute(
                "INSERT INTO second_factor SELECT id, randomblob(16), 'code', randomblob(40) FROM account"
            )
            and None
        )
    )
    await plane.act(await plane.account(), "cancel")
    return number


@pytest.fixture
async def content(tmp_path: Path) -> bytes:
    """A backup of a database that has something of everything."""
    (tmp_path / "before").mkdir()
    async with plane_at(tmp_path / "before/x.db") as plane:
        await populate(plane)
        return made(tmp_path / "before/x.db")


async def test_accounts_devices_and_gateways_come_back(content: bytes, tmp_path: Path) -> None:
    """Row for row; in another epoch at revision 0, with the same pools, and nothing of keys or addresses."""
    old, new = tmp_path / "before/x.db", tmp_path / "x.db"
    end = put_back(content, new)

    assert end.counts == {"account": 2, "device": 1, "second_factor": 2, "gateway": 2}
    for table in ("account", "device", "second_factor"):
        assert rows(new, table) == rows(old, table) != []
    # That one of them was ahead says something of the epoch before.
    assert [row[:-1] for row in rows(new, "gateway")] == [row[:-1] for row in rows(old, "gateway")]
    assert [[row[-1] for row in rows(path, "gateway")] for path in (old, new)] == [[1, 0], [0, 0]]
    for table in ("key", "change", "resting", "outbox", "billing"):
        assert rows(old, table) != []
        assert rows(new, table) == []
    async with plane_at(old) as before, plane_at(new) as after:
        was, is_now = before.inner.control.store, after.inner.control.store
        assert is_now.opened_at.epoch != was.opened_at.epoch
        assert is_now.opened_at.revision == 0
        assert is_now.pools == was.pools
        assert is_now.clock_hour == was.clock_hour


def test_every_table_is_held_or_left_out_for_a_reason(content: bytes, tmp_path: Path) -> None:
    """A table that is added to the schema has to be thought of here."""
    assert tables(tmp_path / "before/x.db") == {*backup.KEPT, *backup.LEFT_OUT}
    assert not {*backup.KEPT} & {*backup.LEFT_OUT}


def test_p14_a_backup_holds_no_key_and_no_address(content: bytes, tmp_path: Path) -> None:
    """Opened, it has none of the secrets of the tables that it leaves out, however they are written."""
    connection = sqlite3.connect(tmp_path / "before/x.db")
    secrets = {
        value
        for row in connection.execute("SELECT public_key, address6, preshared_key FROM key")
        for value in row
    }
    secrets |= {value for (value,) in connection.execute("SELECT public_key FROM change")}
    secrets |= {v for (v,) in connection.execute("SELECT address FROM resting WHERE length(address) = 16")}
    secrets |= {value for (value,) in connection.execute("SELECT account_id FROM outbox")}
    (held,) = connection.execute("SELECT token_hash FROM device").fetchone()
    connection.close()
    plain = b"".join(envelope.opened(KEY, io.BytesIO(content)))

    assert len(secrets) > 8
    assert held in plain
    assert not [secret for secret in secrets if any(way in plain for way in spellings(secret))]


def test_closed_it_tells_nothing(content: bytes, tmp_path: Path) -> None:
    """Nothing of the database stands in it, nor the key of the keyed hashes; no two are alike."""
    connection = sqlite3.connect(tmp_path / "before/x.db")
    found = [v for row in connection.execute("SELECT id, number_hash FROM account") for v in row]
    found += [v.encode() for row in connection.execute("SELECT name, endpoint FROM gateway") for v in row]
    connection.close()
    found += [(tmp_path / "before/x.db.key").read_bytes()]

    assert not [secret for secret in found if any(way in content for way in spellings(secret))]
    assert made(tmp_path / "before/x.db")[32:] != content[32:]


def test_every_byte_is_checked(content: bytes, tmp_path: Path) -> None:
    """Cut anywhere, with any byte changed or something behind it, it is refused; nothing is made."""
    wrong = [content[:at] for at in range(0, len(content), 7)]
    wrong += [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 5)]
    wrong += [content + b"\0", content + content]
    for one in wrong:
        with pytest.raises(BackupRefused):
            put_back(one, tmp_path / "x.db")

    assert list(tmp_path.glob("x.db*")) == []
    assert put_back(content, tmp_path / "x.db")


def test_parts_can_not_be_exchanged(content: bytes, tmp_path: Path) -> None:
    """Neither their order, nor that one is left out, nor where the end is."""
    begin = 112
    chunks, at = [], begin
    while at < len(content):
        length = 4 + int.from_bytes(content[at : at + 4], "big")
        chunks.append(content[at : at + length])
        at += length
    assert len(chunks) == 7
    for wrong in (
        [chunks[0], chunks[2], chunks[1], *chunks[3:]],
        [*chunks[:2], *chunks[3:]],
        [*chunks[:3], chunks[-1]],
        chunks[:-1],
    ):
        with pytest.raises(BackupRefused):
            put_back(content[:begin] + b"".join(wrong), tmp_path / "x.db")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (b"", "no backup that exuvia made"),
        (b"SQLite format 3\0" * 9, "no backup that exuvia made"),
        (b"exuvia backup 2\n" + bytes(200), "newer version"),
        (b"exuvia backup 1\n", "cut short"),
    ],
)
def test_what_is_no_backup_of_ours(wrong: bytes, words: str, tmp_path: Path) -> None:
    """Each is refused with what it is."""
    with pytest.raises(BackupRefused, match=words):
        put_back(wrong, tmp_path / "x.db")


def test_another_key_does_not_open_it(content: bytes) -> None:
    """The words say that it is the key, not the file."""
    with pytest.raises(BackupRefused, match="made for another key"):
        list(parts_of(content, BackupKey.new(entropy.bits)))


def test_nobody_else_can_make_one(content: bytes) -> None:
    """Who knows the public key, but not the second secret, makes nothing that is accepted."""

    class Forger(Recipient):
        def name(self) -> bytes:
            return KEY.recipient().name()

    ours, others = (Forger(KEY.recipient().key, shared) for shared in (KEY.shared, os.urandom(32)))
    honest, forged = (
        b"".join(envelope.sealed(one, TERM, [b"something"], entropy.bits)) for one in (ours, others)
    )

    assert list(envelope.opened(KEY, io.BytesIO(honest))) == [b"something"]
    with pytest.raises(BackupRefused, match="not made by your control plane"):
        list(envelope.opened(KEY, io.BytesIO(forged)))


def test_both_halves_are_written_and_read() -> None:
    """A slip in any place is noticed, and so is one half in place of the other; neither shows itself."""
    for half, kind, other in ((KEY, BackupKey, Recipient), (KEY.recipient(), Recipient, BackupKey)):
        text = half.text()
        assert kind.from_text(f" {text}\n") == half
        assert text.split()[1] not in repr(half) + str(half)
        with pytest.raises(InvalidConfiguration, match="half of the backup key"):
            other.from_text(text)
        for at in range(len(text) - 2):  # bits of the last symbol mean nothing
            slip = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
            with pytest.raises(InvalidConfiguration):
                kind.from_text(slip)
        for nothing in ("", "x y", text[:-8], text + text):
            with pytest.raises(InvalidConfiguration):
                kind.from_text(nothing)


def test_a_backup_of_a_newer_version_is_refused(content: bytes, tmp_path: Path) -> None:
    """Whose schema has a step that we don't know, or another one than we know."""
    begin, *rest = parts_of(content)
    assert isinstance(begin, Begin)
    for steps in ({**begin.steps, 9999: "later"}, {**begin.steps, 1: "another"}):
        other = Begin(steps, begin.hash_key, begin.pool4, begin.pool6, begin.clock_hour)
        with pytest.raises(BackupRefused, match="newer version"):
            put_back(resealed([other, *rest]), tmp_path / "x.db")

    assert list(tmp_path.glob("x.db*")) == []


def test_what_does_not_fit_together_is_refused(content: bytes, tmp_path: Path) -> None:
    """Rows that are missing, twice, without their account or of other tables: nothing is left of the try."""
    begin, *middle, end = parts_of(content)
    accounts, devices = (part for part in middle[:2] if isinstance(part, Rows))
    no_account = End({"account": 0, "device": 1, "second_factor": 0, "gateway": 0})
    twice = End({"account": 4, "device": 0, "second_factor": 0, "gateway": 0})
    nothing = End(dict.fromkeys(backup.KEPT, 0))
    for wrong in (
        [begin, *middle],
        [*middle, end],
        [begin, end],
        [],
        [begin, devices, no_account],
        [begin, accounts, accounts, twice],
        [begin, Rows("key", ["public_key"], [[b"k"]]), nothing],
        [begin, Rows("account", ["number"], [[b"k"]]), End({**nothing.counts, "account": 1})],
        [begin, Rows("account", ["id"], [[1.5]]), End({**nothing.counts, "account": 1})],
    ):
        with pytest.raises((BackupRefused, AssertionError)):
            put_back(resealed(wrong), tmp_path / "x.db")

    assert [path.name for path in tmp_path.glob("x.db*")] in ([], ["x.db.lock"])


def test_a_database_is_not_replaced_unasked(content: bytes, tmp_path: Path) -> None:
    """It is as it was; asked to, it is replaced, and its log with it."""
    path = tmp_path / "before/x.db"
    shutil.copytree(tmp_path / "before", tmp_path / "kept")
    with pytest.raises(AlreadyExists, match="--replace"):
        put_back(content, path)
    assert rows(path, "key") == rows(tmp_path / "kept/x.db", "key") != []

    put_back(content, path, replace=True)

    assert rows(path, "key") == []
    assert len(rows(path, "account")) == 2
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "x.db",
        "x.db.generation",
        "x.db.key",
        "x.db.lock",
    ]


async def test_a_database_that_is_served_is_not_replaced(content: bytes, tmp_path: Path) -> None:
    """Not even if asked to."""
    async with plane_at(tmp_path / "before/x.db") as plane:
        with pytest.raises(DatabaseInUse):
            put_back(content, tmp_path / "before/x.db", replace=True)
        assert len(rows(tmp_path / "before/x.db", "key")) == 2
        await plane.account()


async def test_the_log_of_what_was_there_is_not_taken_for_ones_own(content: bytes, tmp_path: Path) -> None:
    """A server that was killed leaves a log beside its database: nothing of it comes into the new one."""
    async with plane_at(tmp_path / "before/x.db") as plane:
        await plane.register(await plane.account())
        shutil.copytree(tmp_path / "before", tmp_path / "killed")
    assert (tmp_path / "killed/x.db-wal").stat().st_size > 0

    put_back(content, tmp_path / "killed/x.db", replace=True)

    assert len(rows(tmp_path / "killed/x.db", "account")) == 2
    connection = sqlite3.connect(tmp_path / "killed/x.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_a_broken_database_is_replaced(content: bytes, tmp_path: Path) -> None:
    """Beside what can't be opened lies a killed server's log: neither is a reason to fail, nor comes back."""
    async with plane_at(tmp_path / "before/x.db") as plane:
        await plane.account()
        shutil.copytree(tmp_path / "before", tmp_path / "killed")
    path = tmp_path / "killed/x.db"
    path.write_bytes(os.urandom(8192))
    (tmp_path / "killed/x.db.generation").unlink()
    assert (tmp_path / "killed/x.db-wal").stat().st_size > 0

    put_back(content, path, replace=True)

    assert not (tmp_path / "killed/x.db-wal").exists()
    assert len(rows(path, "account")) == 2


def test_the_key_of_another_control_plane_is_not_overwritten(content: bytes, tmp_path: Path) -> None:
    """Its database could recognise nobody any more: whoever means it moves both away."""
    (tmp_path / "x.db.key").write_bytes(bytes(32))
    for replace in (False, True):
        with pytest.raises(AlreadyExists, match=r"x\.db\.key"):
            put_back(content, tmp_path / "x.db", replace=replace)

    assert (tmp_path / "x.db.key").read_bytes() == bytes(32)


def test_all_that_is_made_is_private_and_complete(content: bytes, tmp_path: Path) -> None:
    """The same files as beside any database, for their owner only; nothing that was in the making."""
    (tmp_path / "x.db.restoring").write_bytes(b"of a restore that was killed")
    put_back(content, tmp_path / "x.db")

    assert {path.name[4:]: path.stat().st_mode & 0o777 for path in tmp_path.glob("x.db*")} == {
        "": 0o600,
        ".key": 0o600,
        ".generation": 0o600,
        ".lock": 0o600,
    }


async def test_p14_a_server_removes_what_a_killed_restore_left(tmp_path: Path) -> None:
    """When it starts, a database in the making is gone: whose accounts they were, nobody would ever erase."""
    (tmp_path / "x.db.restoring").write_bytes(b"accounts")
    async with plane_at(tmp_path / "x.db"):
        assert not (tmp_path / "x.db.restoring").exists()


KILLED = """
import io, os, signal, sys
from pathlib import Path
from exuvia.store import backup, envelope, files, generation, restoring
from exuvia.store.envelope import BackupKey
from exuvia.system import entropy
key, content, path, step = sys.argv[1], Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]), int(sys.argv[4])
count = 0
def trace(event, arguments):
    global count
    # Every change of a file on the way, by whatever module.
    if event in ("open", "os.rename", "os.remove", "sqlite3.connect") and str(path) in str(arguments[0]):
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(trace)
read = lambda: backup.decoded(envelope.opened(BackupKey.from_text(key), io.BytesIO(content)))
restoring.restore(path, read, replace=True, bits=entropy.bits)
print(count)
"""


@pytest.mark.parametrize("there", [False, True], ids=["nothing there", "a database there"])
async def test_p16_a_restore_that_is_killed(content: bytes, tmp_path: Path, there: bool) -> None:
    """At each change of a file: what was there before, or all of the backup, is there, and can be served."""
    (tmp_path / "content").write_bytes(content)
    step, ended, seen = 0, False, set()
    while not ended:
        step += 1
        folder = tmp_path / str(step)
        if there:
            shutil.copytree(tmp_path / "before", folder)
        else:
            folder.mkdir()
        path = folder / "x.db"
        command = [sys.executable, "-c", KILLED, KEY.text(), tmp_path / "content", path, str(step)]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: ASYNC221
        assert done.returncode in (0, -9), done.stderr
        ended = done.returncode == 0
        if not path.exists():
            assert not there
            put_back(content, path)
        async with plane_at(path) as plane:
            found = len(rows(path, "account")), len(rows(path, "key"))
            assert found in ((2, 0), (2, 2)), found
            seen.add(found[1])
            assert not (folder / "x.db.restoring").exists()
            await plane.account()

    assert step > 8
    assert seen == ({0, 2} if there else {0})


def test_an_older_backup_is_brought_up_to_date(content: bytes, tmp_path: Path) -> None:
    """A backup made before a table or a step existed leads to today's schema, with all that it held."""
    begin, *middle, end = parts_of(content)
    assert isinstance(begin, Begin)
    assert isinstance(end, End)
    first = Begin({1: begin.steps[1]}, begin.hash_key, begin.pool4, begin.pool6, begin.clock_hour)
    older = [part for part in middle if isinstance(part, Rows) and part.table != "second_factor"]
    put_back(resealed([first, *older, End({**end.counts, "second_factor": 0})]), tmp_path / "x.db")

    assert len(rows(tmp_path / "x.db", "migration")) == len(migrations())
    assert rows(tmp_path / "x.db", "device") == rows(tmp_path / "before/x.db", "device")


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A typing error in the path leaves no empty database behind."""
    with pytest.raises(InvalidConfiguration, match="there is no database"), backup.snapshot(tmp_path / "x"):
        pass

    assert list(tmp_path.iterdir()) == []
