"""The store: a database that is locked, up to date, not rewound, and ready to be worked with."""

import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from exuvia.errors import InvalidConfiguration
from exuvia.rules.allocation import DEFAULT_POOL4, Bits, Pools, pool4_from_text, pool6_from_text, random_pool6
from exuvia.rules.expiry import first_look
from exuvia.store import database, files, generation, meta, peers
from exuvia.store.checkpoints import Checkpoints
from exuvia.store.credentials import KEY_LENGTH, Hasher
from exuvia.store.migrate import migrate, migrations
from exuvia.store.reader import Reader
from exuvia.store.wiping import Step, Wiped, Wiper, truncate_log
from exuvia.store.writer import Committed, Writer

_log = logging.getLogger("exuvia.store")
SMALL = 32 * 1024 * 1024
"""Bytes of a file that is written anew in a moment: 0.15 s for 32 MiB, some 70,000 keys."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a database is to be opened. A pool that is None is whatever it was, or the default."""

    pool4: IPv4Network | None = None
    pool6: IPv6Network | None = None
    new_epoch: bool = False
    hour: int = 0
    """The hour at which addresses that a new epoch drops begin to rest."""


@dataclass(frozen=True, slots=True)
class Store:
    """An open database: its one writer, its readers, and what was true when it was opened."""

    path: Path
    hasher: Hasher
    pools: Pools
    clock_hour: int
    """The latest hour that was believed before."""
    opened_at: peers.Position
    writer: Writer
    reader: Reader
    wiper: Wiper

    async def renew_generation(self, bits: Bits) -> None:
        """Make every copy of the database that was taken until now recognisable as old."""
        fresh = generation.fresh(bits)
        await self.writer.run_alone(lambda connection: generation.renew(connection, self.path, fresh))

    def clearing(self) -> Step:
        """
        Return a step to repeat, alone, until what moving rows left in unused parts of pages is cleared.

        secure_delete clears what is deleted, but not these copies: of 9,000 deleted secrets up to
        five were there. A small file is written anew at once, which also forgets in which order
        rows came; of a large one the unused parts are cleared in steps.
        """
        return self.wiper.clearing() if self.path.stat().st_size > SMALL else _write_anew

    async def truncate_log(self) -> bool:
        """Bring the database file up to date and empty the WAL; False if somebody is reading."""
        return await self.writer.run_alone(truncate_log)


@contextlib.asynccontextmanager
async def opened(
    path: Path, wanted: Wanted, *, bits: Bits, on_commit: Callable[[Committed], None]
) -> AsyncIterator[Store]:
    """Open the database at a path, which is made if it does not exist, for this process alone."""
    with contextlib.ExitStack() as stack:
        with _faults_explained(path):
            stack.enter_context(files.lock(path))
            files.touch(path)
            files.beside(path, files.UNFINISHED).unlink(missing_ok=True)
            wiper = stack.enter_context(contextlib.closing(Wiper(path)))
            connection = stack.enter_context(contextlib.closing(_connected(path)))
            hasher = _ready(connection, path, wanted, bits)
            pools = _pinned_pools(connection, wanted, bits)
            (clock_hour,) = connection.execute("SELECT clock_hour FROM meta").fetchone()
            at = peers.position(connection)
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(path)))
        writer, reader = Writer(connection, on_commit, checkpoints.note), Reader(path)
        try:
            yield Store(path, hasher, pools, clock_hour, at, writer, reader, wiper)
        finally:
            await reader.close()
            await writer.close()


def _connected(path: Path) -> sqlite3.Connection:
    connection = database.writer(path)
    try:
        taken = migrate(connection, migrations())
        if taken and taken != [step.number for step in migrations()]:
            _log.info(
                "the database was brought up to date by step %s; earlier versions open it no more",
                ", ".join(map(str, taken)),
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _ready(connection: sqlite3.Connection, path: Path, wanted: Wanted, bits: Bits) -> Hasher:
    """Make what a new database needs, or check that an old one is the one that was last served."""
    is_new = connection.execute("SELECT 1 FROM meta").fetchone() is None
    key = files.hash_key(path, fresh=bits(8 * KEY_LENGTH).to_bytes(KEY_LENGTH, "big") if is_new else None)
    if is_new:
        _begin(connection, path, bits)
    elif wanted.new_epoch:
        _begin_epoch(connection, path, _believable(connection, wanted.hour), bits)
    else:
        generation.check(connection, path)
    return Hasher(key)


def _begin(connection: sqlite3.Connection, path: Path, bits: Bits) -> None:
    first = generation.fresh(bits)
    generation.settle(path, first)
    connection.execute(
        "INSERT INTO meta (one, epoch, revision, generation, clock_hour) VALUES (1, ?, 0, ?, 0)",
        (meta.fresh_epoch(bits), first),
    )


def _believable(connection: sqlite3.Connection, hour: int) -> int:
    """Return the hour, or the latest that was believed if this one can't be: addresses rest from it on."""
    (latest,) = connection.execute("SELECT clock_hour FROM meta").fetchone()
    believed = first_look(wall=hour * 3600.0, boottime=0.0, latest_hour=latest, trusted=False)
    return believed.hour()


def _begin_epoch(connection: sqlite3.Connection, path: Path, hour: int, bits: Bits) -> None:
    """Drop all keys and what was known of their history; accounts, devices and gateways stay."""
    fresh = generation.fresh(bits)
    (current,) = connection.execute("SELECT generation FROM meta").fetchone()
    generation.announce(path, current, fresh)
    connection.execute("BEGIN IMMEDIATE")
    for column in ("address4", "address6"):
        connection.execute(f"INSERT OR REPLACE INTO resting SELECT {column}, ? FROM key", (hour,))  # noqa: S608
    connection.execute("DELETE FROM key")
    connection.execute("DELETE FROM change")
    connection.execute("UPDATE gateway SET ahead = 0")
    connection.execute(
        "UPDATE meta SET epoch = ?, revision = 0, generation = ?", (meta.fresh_epoch(bits), fresh)
    )
    connection.execute("COMMIT")
    generation.settle(path, fresh)


def _pinned_pools(connection: sqlite3.Connection, wanted: Wanted, bits: Bits) -> Pools:
    """Return the pools, which can only be changed while no peer has an address in them."""
    row = connection.execute("SELECT pool4, pool6 FROM meta").fetchone()
    pinned4 = pool4_from_text(row[0]) if row[0] else None
    pinned6 = pool6_from_text(row[1]) if row[1] else None
    pools = Pools(wanted.pool4 or pinned4 or DEFAULT_POOL4, wanted.pool6 or pinned6 or random_pool6(bits))
    if (pools.pool4, pools.pool6) == (pinned4, pinned6):
        return pools
    if connection.execute("SELECT 1 FROM key LIMIT 1").fetchone() is not None:
        raise InvalidConfiguration(
            f"peers have addresses in the pools {pinned4} and {pinned6}: start with these, or without "
            "--pool4 and --pool6; pools can be changed while no device has a key"
        )
    connection.execute("UPDATE meta SET pool4 = ?, pool6 = ?", (str(pools.pool4), str(pools.pool6)))
    return pools


def _write_anew(connection: sqlite3.Connection) -> Wiped:
    connection.execute("VACUUM")
    return Wiped.ALL


@contextlib.contextmanager
def _faults_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidConfiguration(
            f"{path}: {error.strerror}; the database and its folder must be writable"
        ) from None
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise InvalidConfiguration(f"{path}: not usable as a database ({name})") from None
