"""The store against a plain model of it, whatever is done in whatever order."""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from control_plane import fresh_key
from exuvia.errors import (
    AccountInactive,
    AddressPoolExhausted,
    DeviceLimitReached,
    ExuviaError,
    KeyRefused,
    NotFound,
    UnknownCredential,
)
from exuvia.rules.expiry import rested_before
from exuvia.rules.overlap import Event, Standing, decide, due_hour
from exuvia.store import accounts, devices, peers, rotation, store
from exuvia.store.credentials import DeviceCredential
from exuvia.store.registration import Registered, Registration, register
from exuvia.store.store import Store, Wanted
from exuvia.store.together import register_all
from exuvia.store.writer import Committed
from exuvia.system import entropy
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

POOL = IPv4Network("10.9.8.0/28")
USABLE = 13
TODAY = "2026-11-22"


@dataclass
class Device:
    """A device as the model has it."""

    secret: bytes
    keys: dict[bytes, Standing] = field(default_factory=dict)
    """Retired ones too, as long as they wait."""
    due: dict[bytes, int] = field(default_factory=dict)

    @property
    def living(self) -> list[bytes]:
        """Its keys, but for retired ones."""
        return [key for key, standing in self.keys.items() if standing != "retired"]

    def become(self, becomes: dict[bytes, Standing], hour: int) -> None:
        """Let keys stand otherwise."""
        for key, standing in becomes.items():
            self.keys[key] = standing
            self.due.pop(key, None)
            if (due := due_hour(standing, wall=hour * 3600.0)) is not None:
                self.due[key] = due


@dataclass
class Account:
    """An account as the model has it."""

    id: bytes
    number_hash: bytes
    limit: int
    expires: str | None
    suspended: bool = False
    devices: dict[bytes, Device] = field(default_factory=dict)

    @property
    def acts(self) -> bool:
        """Whether it may do anything today."""
        return not self.suspended and (self.expires is None or self.expires >= TODAY)

    def has(self, key: bytes) -> bool:
        """Whether one of its devices has this key."""
        return any(key in device.living for device in self.devices.values())


class StoreMachine(RuleBasedStateMachine):
    """Registers, rotates, deletes, suspends, expires, sleeps and restarts, and compares."""

    numbers: Bundle[bytes] = Bundle("numbers")
    keys: Bundle[PublicKey] = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.accounts: dict[bytes, Account] = {}
        self.table: dict[bytes, TunnelPeer] = {}
        self.history: dict[int, dict[bytes, TunnelPeer]] = {0: {}}
        self.resting: dict[bytes, int] = {}
        self.hour = 1000
        self.followed: dict[bytes, TunnelPeer] = {}
        self.revision = 0
        self.erased = 0
        self._open()

    def _open(self) -> None:
        self.stack = AsyncExitStack()
        context = store.opened(
            self.folder / "x.db", Wanted(pool4=POOL), bits=entropy.bits, on_commit=self._follow
        )
        self.store: Store = self.loop.run_until_complete(self.stack.enter_async_context(context))

    def teardown(self) -> None:
        """Clean up."""
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)

    def _follow(self, committed: Committed) -> None:
        """Do what a gateway does with a change."""
        assert committed.after == self.revision
        self.revision = committed.revision
        for key in committed.remove:
            self.followed.pop(key, None)
        self.followed.update({peer.public_key: peer for peer in committed.put})

    def write(self, operation: Any) -> Any:
        """Do an operation, and note what the table is at the revision it leads to."""
        try:
            return self.loop.run_until_complete(self.store.writer.run(operation))
        finally:
            self.history[self.revision] = dict(self.table)

    def write_with_others(self, wish: Registration) -> Registered:
        """Register the way that serves many at once."""
        return self.loop.run_until_complete(self.store.writer.run_with_others(register_all, wish))

    def read(self, question: Any) -> Any:
        """Ask a question."""
        return self.loop.run_until_complete(self.store.reader.run(question))

    def lose(self, device: Device, keys: list[bytes]) -> None:
        """Take keys of a device out of the model; their addresses rest."""
        for key in keys:
            peer = self.table.pop(key)
            self.resting |= {peer[32:36]: self.hour, peer[36:52]: self.hour}
            device.keys.pop(key)
            device.due.pop(key, None)

    def done(self) -> None:
        """Note what the table has become."""
        self.history[self.revision] = dict(self.table)

    @rule(target=numbers, limit=st.integers(1, 3), expires=st.sampled_from([None, None, TODAY, "2026-11-21"]))
    def create(self, limit: int, expires: str | None) -> bytes:
        """An account appears."""
        id, number_hash = entropy.octets(16), entropy.octets(32)
        self.write(
            partial(accounts.create, id=id, number_hash=number_hash, device_limit=limit, expires=expires)
        )
        self.accounts[number_hash] = Account(id, number_hash, limit, expires)
        return number_hash

    @rule(target=keys, number=numbers, key=st.one_of(st.builds(fresh_key), keys), data=st.data())
    def register(self, number: bytes, key: PublicKey, data: st.DataObject) -> Any:
        """A device registers, with a key that is new, its own, or somebody else's."""
        account = self.accounts.get(number)
        wish = Registration(number, key, entropy.octets(32), TODAY, self.store.pools, entropy.bits)
        try:
            made = (
                self.write_with_others(wish)
                if data.draw(st.booleans())
                else self.write(partial(register, wish=wish))
            )
        except UnknownCredential:
            assert account is None or not account.acts
        except DeviceLimitReached:
            assert account is not None
            assert len([d for d in account.devices.values() if d.keys]) == account.limit
            assert not account.has(key)
        except KeyRefused:
            assert account is not None
            assert key in self.table
            assert not account.has(key)
        except AddressPoolExhausted:
            self.assert_nearly_full()
        else:
            assert account is not None
            self._note_registration(account, made, wish)
            return key
        return multiple()

    def assert_nearly_full(self) -> None:
        """Check that a draw can have found no address."""
        busy = {peer[32:36] for peer in self.table.values()} | {a for a in self.resting if len(a) == 4}
        assert len(busy) >= USABLE - 3

    def _note_registration(self, account: Account, made: Registered, wish: Registration) -> None:
        assert account.acts
        key = wish.public_key
        if account.has(key):
            assert key in account.devices[made.device_id].living
            assert made.peer == self.table[key]
            account.devices[made.device_id].secret = wish.secret_hash
            return
        if len(account.devices) >= account.limit:
            self._drop_one_without_key(account)
        account.devices[made.device_id] = Device(wish.secret_hash, {key: "current"})
        self._note_peer(made.peer, made.revision)

    def _note_peer(self, peer: TunnelPeer, revision: int) -> None:
        assert peer.public_key not in self.table
        taken = {part for other in self.table.values() for part in (other[32:36], other[36:52])}
        assert not {peer[32:36], peer[36:52]} & (taken | set(self.resting))
        self.table[peer.public_key] = peer
        assert revision == self.revision
        self.done()

    def _drop_one_without_key(self, account: Account) -> None:
        left = {
            device.id
            for device in self.read(partial(devices.of_account, number_hash=account.number_hash, today=TODAY))
        }
        (dropped,) = set(account.devices) - left
        assert account.devices.pop(dropped).keys == {}

    @rule(
        target=keys,
        number=numbers,
        event=st.sampled_from([Event.PUT, Event.CONFIRM, Event.DELETE]),
        key=st.one_of(st.builds(fresh_key), keys),
        data=st.data(),
    )
    def rotate(self, number: bytes, event: Event, key: PublicKey, data: st.DataObject) -> Any:
        """A device registers, confirms or retires a key: its own, a new one, or somebody else's."""
        account = self.accounts.get(number)
        if account is None or not account.devices:
            return multiple()
        id = data.draw(st.sampled_from(sorted(account.devices)))
        device = account.devices[id]
        key = data.draw(st.sampled_from([key, *map(PublicKey, device.keys)]))
        credential = DeviceCredential(account.id, id, device.secret)
        wish = rotation.Wish(credential, key, TODAY, self.hour * 3600.0)
        try:
            done = self.write(self._operation(event, wish))
        except AccountInactive:
            assert not account.acts
        except AddressPoolExhausted:
            self.assert_nearly_full()
        except ExuviaError as error:
            self._check_refusal(error, event, device, key)
        else:
            assert account.acts
            becomes = decide(event, device.keys, key)
            device.become(becomes, self.hour)
            if event is Event.PUT and becomes:
                self._note_peer(done.peer, done.revision)
            if event is Event.PUT:
                assert done.peer == self.table[key]
            return key
        return multiple()

    def _operation(self, event: Event, wish: rotation.Wish) -> Any:
        if event is Event.PUT:
            return partial(rotation.put, wish=wish, pools=self.store.pools, bits=entropy.bits, next_batch=1)
        return partial(rotation.confirm if event is Event.CONFIRM else rotation.retire, wish=wish)

    def _check_refusal(self, error: ExuviaError, event: Event, device: Device, key: PublicKey) -> None:
        """Check that it is refused by the table, or that the key is somebody else's."""
        try:
            decide(event, device.keys, key)
        except ExuviaError as expected:
            assert type(error) is type(expected)
        else:
            assert isinstance(error, KeyRefused) and key in self.table and key not in device.keys

    @rule()
    def retire_due(self) -> None:
        """Whatever is due is retired."""
        self.write(partial(rotation.retire_due, hour=self.hour))
        for device in self.everybodys_devices():
            due = [key for key, hour in device.due.items() if hour <= self.hour]
            device.become(dict.fromkeys(due, "retired"), self.hour)

    @rule()
    def remove_retired(self) -> None:
        """A batch of retired keys goes."""
        self.write(partial(rotation.remove_retired, hour=self.hour))
        for device in self.everybodys_devices():
            self.lose(device, [key for key in device.keys if key not in device.living])
        self.done()

    def everybodys_devices(self) -> list[Device]:
        """Return all devices."""
        return [device for account in self.accounts.values() for device in account.devices.values()]

    @rule(number=numbers, data=st.data())
    def delete(self, number: bytes, data: st.DataObject) -> None:
        """A device is deleted by its account, or one that it doesn't have."""
        account = self.accounts.get(number)
        everybodys = sorted(id for a in self.accounts.values() for id in a.devices)
        id = data.draw(st.sampled_from([*everybodys, b"?" * 16]))
        try:
            self.write(
                partial(devices.delete_of_account, number_hash=number, id=id, today=TODAY, hour=self.hour)
            )
        except UnknownCredential:
            assert account is None or not account.acts
        except NotFound:
            assert account is not None and id not in account.devices
        else:
            assert account is not None
            device = account.devices.pop(id)
            self.lose(device, list(device.keys))
            self.done()

    @rule(number=numbers)
    def suspend(self, number: bytes) -> None:
        """An account is suspended."""
        if account := self.accounts.get(number):
            self.write(partial(accounts.suspend, id=account.id, hour=self.hour))
            account.suspended = True
            for device in account.devices.values():
                self.lose(device, list(device.keys))
            self.done()

    @rule(number=numbers)
    def resume(self, number: bytes) -> None:
        """An account is resumed."""
        if account := self.accounts.get(number):
            self.write(partial(accounts.resume, id=account.id))
            account.suspended = False

    @rule(number=consumes(numbers))
    def cancel(self, number: bytes) -> None:
        """An account is cancelled."""
        if account := self.accounts.pop(number, None):
            self.write(partial(accounts.cancel, id=account.id, hour=self.hour))
            for device in account.devices.values():
                self.lose(device, list(device.keys))
            self.done()

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        """Time passes, and addresses that have rested may be drawn again."""
        self.hour += hours
        rested = self.read(partial(peers.rested, hour=rested_before(self.hour)))
        self.write(partial(peers.wake, addresses=rested))
        self.resting = {a: hour for a, hour in self.resting.items() if hour + 25 > self.hour}

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """The memory of changes is erased up to a revision."""
        self.erased = data.draw(st.integers(self.erased, self.revision))
        self.write(partial(peers.forget_changes, revision=self.erased))

    @rule()
    def restart(self) -> None:
        """The process ends and another one begins."""
        self.loop.run_until_complete(self.stack.aclose())
        self._open()
        assert self.store.opened_at.revision == self.revision

    @invariant()
    def the_table_is_what_it_should_be(self) -> None:
        """The database, whoever followed the commits, and the model agree on every peer."""
        found = self.read(peers.table)
        length = TunnelPeer.LENGTH
        stored = [found.packed[at : at + length] for at in range(0, len(found.packed), length)]

        assert found.at.revision == self.revision
        assert stored == sorted(self.table.values())
        assert self.followed == self.table

    @invariant()
    def keys_stand_as_they_should(self) -> None:
        """Each device has the keys that the model has, and they are due when it says so."""
        query = "SELECT account_id, device_id, public_key, standing, due_hour FROM key"
        found = self.read(lambda connection: connection.execute(query).fetchall())
        expected = [
            (account.id, id, key, standing, device.due.get(key))
            for account in self.accounts.values()
            for id, device in account.devices.items()
            for key, standing in device.keys.items()
        ]

        assert sorted(found) == sorted(expected)

    @invariant()
    def whoever_was_away_can_follow(self) -> None:
        """From every revision that is still known, the difference leads to the present table."""
        for revision, table in self.history.items():
            difference = self.read(partial(peers.changes_after, revision=revision))
            assert (difference is None) == (revision < self.erased)
            if difference is not None:
                gone = set(difference.remove)
                reached = {key: peer for key, peer in table.items() if key not in gone}
                reached |= {PublicKey(peer[:32]): TunnelPeer(peer) for peer in difference.put}
                assert reached == self.table

    @invariant()
    def addresses_rest(self) -> None:
        """What rests is known by address and hour, and is nobody's."""
        found = dict(self.read(lambda connection: connection.execute("SELECT * FROM resting").fetchall()))

        assert found == self.resting
        assert not set(found) & {part for peer in self.table.values() for part in (peer[32:36], peer[36:52])}


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
