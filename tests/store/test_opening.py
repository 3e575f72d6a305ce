"""Opening a database: what is made, what is checked, and what is refused with words that help."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from exuvia.errors import DatabaseInUse, DatabaseRewound, InvalidConfiguration
from exuvia.store import accounts, files, generation, store
from exuvia.store.store import Store, Wanted
from exuvia.store.writer import Transaction
from exuvia.system import entropy


def opened(path: Path, **wanted: Any) -> Any:
    """Open a store without anybody listening to its commits."""
    return store.opened(path, Wanted(**wanted), bits=entropy.bits, on_commit=lambda _committed: None)


async def make_account(opened_store: Store) -> None:
    """Add an account with a device and a key."""
    account, device = os.urandom(16), os.urandom(16)

    def make(transaction: Transaction) -> None:
        accounts.create(transaction, id=account, number_hash=os.urandom(32), device_limit=5, expires=None)
        transaction.execute("INSERT INTO device VALUES (?, ?, 'a b', ?)", (account, device, os.urandom(32)))
        addresses = (os.urandom(4), os.urandom(16), os.urandom(32))
        transaction.execute(
            "INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, 'current', NULL)",
            (os.urandom(32), account, device, *addresses),
        )

    await opened_store.writer.run(make)


def rows(path: Path, table: str) -> int:
    """Count the rows of a table."""
    connection = sqlite3.connect(path)
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(count)


def modes(folder: Path) -> dict[str, int]:
    """Return who may do what with each file of a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_all_files_are_private(tmp_path: Path) -> None:
    """Nobody but their owner reads the database, its WAL, the key, or what else lies beside it."""
    async with opened(tmp_path / "x.db") as open_store:
        await make_account(open_store)
        found = modes(tmp_path)

    assert set(found) == {f"x.db{end}" for end in ("", "-wal", "-shm", ".key", ".lock", ".generation")}
    assert set(found.values()) == {0o600}


async def test_p16_every_commit_is_fsynced_and_what_is_deleted_is_overwritten(tmp_path: Path) -> None:
    """SQLite is told so, and to spill nothing, and to hold references."""
    settings = {}
    async with opened(tmp_path / "x.db") as open_store:
        for name in ("journal_mode", "synchronous", "secure_delete", "temp_store", "foreign_keys"):
            settings[name] = await open_store.writer.run_alone(
                lambda connection, name=name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            )

    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "temp_store": 2,
        "foreign_keys": 1,
    }


async def test_epoch_and_revision_last(tmp_path: Path) -> None:
    """Opened again, a database is in the same epoch, at the same revision; another one is not."""
    async with opened(tmp_path / "x.db") as first:
        await first.writer.run(lambda transaction: transaction.remove(b"\1" * 32))
    async with opened(tmp_path / "x.db") as again:
        pass
    async with opened(tmp_path / "y.db") as other:
        pass

    assert (again.opened_at.epoch, again.opened_at.revision) == (first.opened_at.epoch, 1)
    assert other.opened_at.epoch != first.opened_at.epoch


async def test_only_one_process_has_a_database(tmp_path: Path) -> None:
    """Whoever comes second is refused, also in another process."""
    other = (
        "import asyncio, sys, pathlib\n"
        "from exuvia.store import store\n"
        "from exuvia.system import entropy\n"
        "from exuvia.errors import DatabaseInUse\n"
        "async def main():\n"
        "    try:\n"
        "        async with store.opened(pathlib.Path(sys.argv[1]), store.Wanted(), bits=entropy.bits,\n"
        "                                on_commit=print): pass\n"
        "    except DatabaseInUse: print('in use')\n"
        "asyncio.run(main())\n"
    )
    async with opened(tmp_path / "x.db"):
        with pytest.raises(DatabaseInUse):
            async with opened(tmp_path / "x.db"):
                pass
        done = subprocess.run(  # noqa: ASYNC221  nothing else is to happen meanwhile
            [sys.executable, "-c", other, str(tmp_path / "x.db")], capture_output=True, text=True, check=True
        )

    assert done.stdout == "in use\n"


async def test_an_older_database_is_refused(tmp_path: Path) -> None:
    """Yesterday's file put back is noticed, and the refusal names the way out."""
    path = tmp_path / "x.db"
    async with opened(path) as first:
        await make_account(first)
        await first.renew_generation(entropy.bits)
    shutil.copy(path, tmp_path / "yesterday.db")
    async with opened(path) as second:
        await second.renew_generation(entropy.bits)
    shutil.copy(tmp_path / "yesterday.db", path)

    with pytest.raises(DatabaseRewound, match="--new-epoch"):
        async with opened(path):
            pass


async def test_a_database_without_its_generation_is_refused(tmp_path: Path) -> None:
    """A copy of the database alone, on another machine, is not taken for the one that was served."""
    async with opened(tmp_path / "x.db"):
        pass
    (tmp_path / "x.db.generation").unlink()

    with pytest.raises(DatabaseRewound):
        async with opened(tmp_path / "x.db"):
            pass


async def test_a_new_epoch_keeps_accounts_and_drops_keys(tmp_path: Path) -> None:
    """After --new-epoch there is another epoch and no key; accounts and devices stay, addresses rest."""
    path = tmp_path / "x.db"
    async with opened(path) as first:
        await make_account(first)
    (tmp_path / "x.db.generation").unlink()
    async with opened(path, new_epoch=True, hour=7) as second:
        pass
    async with opened(path) as third:
        pass

    assert second.opened_at.epoch != first.opened_at.epoch
    assert (third.opened_at.epoch, third.opened_at.revision) == (second.opened_at.epoch, 0)
    assert [rows(path, table) for table in ("account", "device", "key", "change", "resting")] == [
        1,
        1,
        0,
        0,
        2,
    ]


class _Crash(Exception):
    """The power goes."""


@pytest.mark.parametrize("step", ["before", "announced", "written", "settled"])
async def test_a_crash_while_the_generation_changes_bricks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whenever the power goes between the file and the database, what is there can be opened."""
    path = tmp_path / "x.db"
    async with opened(path) as open_store:
        _crash_at(step, monkeypatch)
        with pytest.raises(_Crash):
            await open_store.renew_generation(entropy.bits)
        monkeypatch.undo()
    async with opened(path) as again:
        await again.renew_generation(entropy.bits)
    async with opened(path):
        pass

    assert (tmp_path / "x.db.generation").stat().st_size == generation.LENGTH


def _crash_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the power go at a step of the change."""
    replace, settle, seen = files.replace, generation.settle, []

    def replacing(path: Path, content: bytes) -> None:
        if step == "before":
            raise _Crash
        seen.append(content)
        replace(path, content)
        if (step == "announced" and len(seen) == 1) or (step == "settled" and len(seen) == 2):
            raise _Crash

    def settling(path: Path, value: bytes) -> None:
        if step == "written":
            raise _Crash
        settle(path, value)

    monkeypatch.setattr(files, "replace", replacing)
    monkeypatch.setattr(generation, "settle", settling)


async def test_the_file_accepts_one_value_only_once_all_is_settled(tmp_path: Path) -> None:
    """A copy from before the last renewal is as old as any other."""
    path = tmp_path / "x.db"
    async with opened(path) as open_store:
        await open_store.truncate_log()
        shutil.copy(path, tmp_path / "a-minute-ago.db")
        await open_store.renew_generation(entropy.bits)
    shutil.copy(tmp_path / "a-minute-ago.db", path)

    with pytest.raises(DatabaseRewound):
        async with opened(path):
            pass


async def test_without_its_hash_key_a_database_is_refused(tmp_path: Path) -> None:
    """A new key would recognise no account: the refusal asks for the old one."""
    async with opened(tmp_path / "x.db"):
        pass
    key = tmp_path / "x.db.key"
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(InvalidConfiguration, match=r"x\.db\.key is missing"):
        async with opened(tmp_path / "x.db"):
            pass
    key.write_bytes(kept[:-1])
    with pytest.raises(InvalidConfiguration, match="32 bytes"):
        async with opened(tmp_path / "x.db"):
            pass
    key.write_bytes(kept)
    async with opened(tmp_path / "x.db"):
        pass


async def test_pools_are_pinned_while_peers_have_addresses(tmp_path: Path) -> None:
    """The pools of the first start hold; others are refused once a device has a key, and not before."""
    path, small, six = tmp_path / "x.db", IPv4Network("10.9.0.0/24"), IPv6Network("fd00:1::/64")
    async with opened(path) as first:
        assert str(first.pools.pool4) == "10.0.0.0/8"
    async with opened(path, pool4=small, pool6=six) as changed:
        assert (changed.pools.pool4, changed.pools.pool6) == (small, six)
        await make_account(changed)
    async with opened(path) as kept:
        assert (kept.pools.pool4, kept.pools.pool6) == (small, six)
    with pytest.raises(InvalidConfiguration, match=r"10\.9\.0\.0/24"):
        async with opened(path, pool4=IPv4Network("10.8.0.0/24")):
            pass
    async with opened(path, pool4=small):
        pass


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be mistaken for one" * 20])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """It is left as it was, and the words say which file it is."""
    path = tmp_path / "x.db"
    path.write_bytes(content)

    with pytest.raises(InvalidConfiguration, match=r"x\.db: not usable"):
        async with opened(path):
            pass
    assert path.read_bytes() == content


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The words say that the folder has to exist and be writable."""
    with pytest.raises(InvalidConfiguration, match="folder"):
        async with opened(tmp_path / "nowhere" / "x.db"):
            pass
