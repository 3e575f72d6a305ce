"""
The control plane of the simulation: the real store, hub, fleet, feed and upkeep, without threads or sockets.

The database is a real file, so that it can be copied and put back. Nothing here waits: what is
a coroutine in the real one is run to its end at once.
"""

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from exuvia.api import feed, gateways, tables
from exuvia.api.control import Control
from exuvia.api.fleet import Fleet
from exuvia.api.hub import Hub
from exuvia.api.upkeep import Upkeep
from exuvia.rules.allocation import pool4_from_text, pool6_from_text
from exuvia.rules.expiry import first_look
from exuvia.store import accounts, devices, files, generation, peers, registration, store, wiping
from exuvia.store import gateways as enrolled_gateways
from exuvia.store.credentials import device_token, new_secret
from exuvia.store.gateways import Gateway
from exuvia.store.peers import Position
from exuvia.store.store import Store, Wanted
from exuvia.store.writer import Committed, Operation, Transaction, Writer, _Job
from exuvia.system import clock
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

T = TypeVar("T")

POOL4, POOL6 = "10.20.30.0/26", "fd20:30::/64"


def done(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait, and return what it returns."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("something waits that should not")


class _Reader:
    """Answers questions at once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run(self, question: Callable[[Any], T]) -> T:
        self._connection.execute("BEGIN")
        try:
            return question(self._connection)
        finally:
            self._connection.execute("COMMIT")


class _Writer(Writer):
    """The real writer without its thread: each operation is a group of its own."""

    def __init__(self, connection: Any, on_commit: Callable[[Committed], None]) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._note = lambda _rows_written: None

    async def run(self, operation: Operation[T]) -> T:
        (result,) = self.together([operation])
        return result  # type: ignore[no-any-return]

    async def run_apart(self, operation: Operation[T]) -> T:
        return await self.run(operation)

    def together(self, operations: list[Operation[Any]]) -> list[Any]:
        """Commit operations as one group; raise the first error."""
        jobs = [_Job(None, operation=operation) for operation in operations]  # type: ignore[arg-type]
        for committed in self._commit(jobs):
            self._on_commit(committed)
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [job.result for job in jobs]

    async def run_alone(self, work: Callable[[Any], T]) -> T:
        return work(self._connection)


class _Tables:
    """The whole table, read and digested at once."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    async def at_least(self, revision: int) -> tables.Digested:
        return tables._digested(await self._reader.run(peers.table))


class ControlPlane:
    """`exuvia serve`, which can be restarted, and whose database can be put back."""

    def __init__(self, folder: Path, chance: Random) -> None:
        self._path = folder / "exuvia.db"
        self._bits = chance.getrandbits
        self.control: Control
        self.start()

    def start(self, *, new_epoch: bool = False) -> None:
        """Start it; DatabaseRewound if an older database was put back."""
        # As `exuvia serve` opens it.
        hour = int(clock.wall().timestamp() // 3600)
        wanted = Wanted(pool4_from_text(POOL4), pool6_from_text(POOL6), new_epoch, hour)
        connection = store._connected(self._path)
        # Nobody cuts the power here.
        connection.execute("PRAGMA synchronous = OFF")
        try:
            hasher = store._ready(connection, self._path, wanted, self._bits)
            pools = store._pinned_pools(connection, wanted, self._bits)
        except BaseException:
            connection.close()
            raise
        (clock_hour,) = connection.execute("SELECT clock_hour FROM meta").fetchone()
        at = peers.position(connection)
        hubs: list[Hub] = []
        self.connection = connection
        self.writer = _Writer(connection, lambda committed: hubs[0].publish(committed))
        reader = _Reader(connection)
        opened = _Store(self._path, hasher, pools, clock_hour, at, self.writer, reader, None)  # type: ignore
        hubs.append(Hub(at))
        fleet = Fleet(done(reader.run(enrolled_gateways.enrolled)), at)
        now = clock.boottime()
        believed = first_look(
            wall=clock.wall().timestamp(), boottime=now, latest_hour=clock_hour, trusted=False
        )
        self.control = Control(opened, hubs[0], fleet, believed, bits=self._bits)
        self.control.tables = _Tables(reader)  # type: ignore[assignment]
        self._upkeep = Upkeep(self.control, erase_after=900)

    def stop(self) -> None:
        """End it at once, as a kill does; every stream ends."""
        self.control.hub.close()
        self.connection.close()

    def tick(self) -> None:
        """Let it do what it does by itself."""
        done(self._upkeep.look_after(now=clock.boottime()))

    # Operators.

    def create_account(self, id: bytes, number: str, *, device_limit: int, expires: str | None) -> None:
        """Make an account with this number."""
        number_hash = self.control.hasher.account(number)
        assert number_hash is not None
        self._do(
            partial(
                accounts.create, id=id, number_hash=number_hash, device_limit=device_limit, expires=expires
            )
        )

    def suspend(self, id: bytes) -> None:
        """Suspend an account."""
        self._do(partial(accounts.suspend, id=id, hour=self.control.hour))

    def resume(self, id: bytes) -> None:
        """Resume an account."""
        self._do(partial(accounts.resume, id=id))

    def cancel(self, id: bytes) -> None:
        """Cancel an account."""
        self._do(partial(accounts.cancel, id=id, hour=self.control.hour))

    def enroll(self, name: str) -> None:
        """Enroll a gateway."""
        gateway = Gateway(name, self.control.hasher.gateway(name), f"{name}.example:51820", None, None, None)
        self._do(lambda transaction: enrolled_gateways.enroll(transaction, gateway))
        self._reread()

    # People.

    def register(self, number: str, key: bytes) -> tuple[registration.Registered, str]:
        """Register a device; return it with its token."""
        control = self.control
        secret = new_secret(self._bits)
        number_hash = control.hasher.account(number)
        assert number_hash is not None
        wish = registration.Registration(
            number_hash,
            PublicKey(key),
            control.hasher.device_secret(secret),
            control.today,
            control.store.pools,
            self._bits,
        )
        made = self._do(partial(registration.register, wish=wish))
        return made, device_token(made.account_id, made.device_id, secret)

    def log_out(self, token: str) -> None:
        """Log a device out by its token."""
        self._do(partial(devices.delete_own, credential=self._credential(token), hour=self.control.hour))

    def delete_device(self, number: str, id: bytes) -> None:
        """Delete a device by its account."""
        number_hash = self.control.hasher.account(number)
        assert number_hash is not None
        self._do(
            partial(
                devices.delete_of_account,
                number_hash=number_hash,
                id=id,
                today=self.control.today,
                hour=self.control.hour,
            )
        )

    def device(self, token: str) -> devices.Device:
        """Return what a device's token shows of it."""
        return devices.by_credential(self.connection, self._credential(token), today=self.control.today)

    def _credential(self, token: str) -> devices.DeviceCredential:
        credential = self.control.hasher.device(token)
        assert credential is not None
        return credential

    # Gateways.

    def hello(self, name: str, key: PublicKey, *, lasting: bool) -> None:
        """PUT /v1/gateway."""
        self._do(lambda transaction: enrolled_gateways.present(transaction, name, key, lasting=lasting))
        self._reread()
        self.control.fleet.hear(name, now=clock.boottime())

    def acknowledge(self, name: str, at: Position) -> None:
        """PUT /v1/gateway/applied."""
        done(gateways.require_not_ahead(self.control, self._gateway(name), at))
        self.control.fleet.acknowledge(name, at, now=clock.boottime())

    def stream(self, name: str, asked: Position) -> "Stream":
        """GET /v1/feed; RevisionWentBackwards is its 409."""
        done(gateways.require_not_ahead(self.control, self._gateway(name), asked))
        self.control.fleet.hear(name, now=clock.boottime())
        return Stream(self.control, name, asked)

    def _reread(self) -> None:
        self.control.fleet.replace(enrolled_gateways.enrolled(self.connection))

    def _gateway(self, name: str) -> Gateway:
        return next(gateway for gateway in self.control.fleet.all() if gateway.name == name)

    # What can happen to a database.

    def back_up(self) -> dict[str, bytes]:
        """Copy the database and what lies beside it."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        paths = (self._path, files.beside(self._path, ".generation"))
        return {path.name: path.read_bytes() for path in paths}

    def put_back(self, backup: dict[str, bytes], *, whole: bool) -> None:
        """Put an earlier database file in place; `whole` means with what lies beside it. It must not run."""
        for suffix in ("-wal", "-shm"):
            files.beside(self._path, suffix).unlink(missing_ok=True)
        for name, content in backup.items():
            if whole or name == self._path.name:
                (self._path.parent / name).write_bytes(content)

    def table(self) -> dict[bytes, TunnelPeer]:
        """Return the peer table as the database has it."""
        packed, length = peers.table(self.connection).packed, TunnelPeer.LENGTH
        rows = [TunnelPeer(packed[at : at + length]) for at in range(0, len(packed), length)]
        return {bytes(row[:32]): row for row in rows}

    def secrets(self) -> list[bytes]:
        """Return all that no gateway may ever be told: ids, names, hashes."""
        found: list[bytes] = []
        for query in ("SELECT id, number_hash FROM account", "SELECT id, name, token_hash FROM device"):
            for row in self.connection.execute(query):
                found += [value.encode() if isinstance(value, str) else value for value in row]
        return found

    def _do(self, operation: Callable[[Transaction], T]) -> T:
        return done(self.writer.run(operation))


class _Store(Store):
    """The real store's surface, with nothing in it that waits."""

    async def renew_generation(self, bits: Callable[[int], int]) -> None:
        fresh = bits(8 * generation.LENGTH).to_bytes(generation.LENGTH, "big")
        generation.renew(self.writer._connection, self.path, fresh)

    async def truncate_log(self) -> bool:
        return wiping.truncate_log(self.writer._connection)


class Stream:
    """The feed of one gateway: what it is sent, in lines."""

    def __init__(self, control: Control, name: str, asked: Position) -> None:
        self._control = control
        self._name = name
        self._subscriber = control.hub.subscribe()
        first = done(feed._beginning(control, asked))
        self._at = first.at
        lines = feed._snapshot(first) if isinstance(first, tables.Digested) else feed._missed(first)
        self._first = list(lines)
        control.fleet.tell(name, self._at.revision)

    @property
    def closed(self) -> bool:
        """Whether the control plane has ended it."""
        return self._subscriber.closed

    def news(self) -> Iterator[bytes]:
        """Yield what has not been sent yet."""
        first, self._first = self._first, []
        yield from (part for data in first for part in data.splitlines())
        for revision, data in done(self._subscriber.next(0)) if self._subscriber._waiting else []:
            # As feed._messages passes over what was in the table already.
            if revision > self._at.revision:
                self._at = Position(self._at.epoch, revision)
                self._control.fleet.tell(self._name, revision)
                yield data.rstrip()

    def heartbeat(self) -> bytes:
        """Return what is sent when nothing else is."""
        return feed.heartbeat(self._at).rstrip()

    def close(self) -> None:
        """End it."""
        self._control.hub.unsubscribe(self._subscriber)
