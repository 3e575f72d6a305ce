"""
A device's keys as they follow each other: registered, confirmed, retired, removed in batches.

What becomes of each is decided in rules/overlap. Operations of the writer.
"""

from dataclasses import dataclass

from exuvia.errors import KeyRefused, RotatedTooOften
from exuvia.rules.allocation import Bits, Pools
from exuvia.rules.overlap import KEY_REFUSED, Event, Standing, decide, due_hour, may_have_another
from exuvia.store import devices
from exuvia.store.credentials import DeviceCredential
from exuvia.store.registration import insert_key, new_peer
from exuvia.store.writer import Transaction
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

_AT_ONCE = 1000
"""Keys that are looked after in one go, so that nobody waits long for the writer."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a device wants done with one of its keys."""

    credential: DeviceCredential
    public_key: PublicKey
    today: str
    wall: float
    """Seconds since 1970, as far as believed."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a device is told of a key it may use, and when gateways know it."""

    peer: TunnelPeer
    epoch: str
    revision: int


def put(transaction: Transaction, wish: Wish, *, pools: Pools, bits: Bits, next_batch: int) -> Granted:
    """
    Give the device a next key, or its first; one that it has already is granted again, unchanged.

    A next key that was never confirmed makes room, and so does an old one. `next_batch` is
    in how many seconds retired keys go.
    """
    keys = _keys_of_device(transaction, wish)
    becomes = decide(Event.PUT, keys, wish.public_key)
    if not becomes:
        return Granted(_peer(transaction, wish.public_key), transaction.epoch, transaction.revision)
    if _is_known(transaction, wish.public_key):
        raise KeyRefused(KEY_REFUSED)
    if not may_have_another(keys):
        raise RotatedTooOften(next_batch)
    peer = new_peer(transaction, wish.public_key, pools, bits)
    standing = becomes.pop(wish.public_key)
    _become(transaction, becomes, wall=wish.wall)
    device = (wish.credential.account_id, wish.credential.device_id)
    insert_key(transaction, device, peer, standing, due_hour(standing, wall=wish.wall))
    return Granted(peer, transaction.epoch, transaction.revision)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What an account's holder wants: a key in place of all that a device has."""

    number_hash: bytes
    device_id: bytes
    public_key: PublicKey
    today: str


def replace(
    transaction: Transaction, wish: Replacement, *, pools: Pools, bits: Bits, next_batch: int
) -> Granted:
    """
    Give a device this key as its only one; whatever it had is retired, and leaves with the next batch.

    The account's holder proved to be it. The same key again changes nothing.
    """
    account = devices.active_account(transaction, wish.number_hash, wish.today, proven=True)
    devices.require_device(transaction, account.id, wish.device_id)
    keys = _standings(transaction, (account.id, wish.device_id))
    becomes = decide(Event.REPLACE, keys, wish.public_key)
    if wish.public_key not in keys:
        if _is_known(transaction, wish.public_key):
            raise KeyRefused(KEY_REFUSED)
        if not may_have_another(keys):
            raise RotatedTooOften(next_batch)
        peer = new_peer(transaction, wish.public_key, pools, bits)
        standing = becomes.pop(wish.public_key)
        _become(transaction, becomes)
        insert_key(transaction, (account.id, wish.device_id), peer, standing)
    else:
        _become(transaction, becomes)
    return Granted(_peer(transaction, wish.public_key), transaction.epoch, transaction.revision)


def confirm(transaction: Transaction, wish: Wish) -> list[bytes]:
    """Make a next key the current one; return the keys that became old by it."""
    return _happen(transaction, Event.CONFIRM, wish)


def retire(transaction: Transaction, wish: Wish) -> None:
    """Take a key from the device, if it has another one; gateways are told with the next batch."""
    _happen(transaction, Event.DELETE, wish)


def retire_due(transaction: Transaction, hour: int) -> bool:
    """Retire some of the keys that are due at this hour; return whether there may be more."""
    rows = transaction.execute(
        "SELECT public_key, standing FROM key WHERE due_hour <= ? LIMIT ?", (hour, _AT_ONCE)
    ).fetchall()
    _retire(transaction, rows)
    return len(rows) == _AT_ONCE


def retire_drained(transaction: Transaction, keys: list[bytes]) -> None:
    """Retire those of some keys that are still old ones: their time is over to the minute."""
    for key in keys:
        rows = transaction.execute(
            "SELECT public_key, standing FROM key WHERE public_key = ? AND standing = 'old'", (key,)
        ).fetchall()
        _retire(transaction, rows)


def remove_retired(transaction: Transaction, hour: int) -> int:
    """
    Remove all retired keys, and return how many there were; their addresses begin to rest.

    The order is that of the keys' bytes, which are random: it tells nothing of who retired when.
    """
    gone = transaction.execute(
        "DELETE FROM key WHERE standing = 'retired' RETURNING public_key, address4, address6"
    ).fetchall()
    devices.remove(transaction, sorted(gone), hour)
    return len(gone)


def _retire(transaction: Transaction, due: list[tuple[bytes, Standing]]) -> None:
    for key, standing in due:
        _become(transaction, decide(Event.DUE, {key: standing}, key))


def _happen(transaction: Transaction, event: Event, wish: Wish) -> list[bytes]:
    """Let something happen to a key of a device; return the keys that became old by it."""
    becomes = decide(event, _keys_of_device(transaction, wish), wish.public_key)
    _become(transaction, becomes, wall=wish.wall)
    return [key for key, standing in becomes.items() if standing == "old"]


def _keys_of_device(transaction: Transaction, wish: Wish) -> dict[bytes, Standing]:
    """Return how the device's keys stand; an error if it may do nothing today."""
    devices.require_active(transaction, wish.credential, today=wish.today)
    return _standings(transaction, wish.credential[:2])


def _standings(transaction: Transaction, device: tuple[bytes, bytes]) -> dict[bytes, Standing]:
    rows = transaction.execute(
        "SELECT public_key, standing FROM key WHERE account_id = ? AND device_id = ?", device
    )
    return dict(rows.fetchall())


def _become(transaction: Transaction, becomes: dict[bytes, Standing], *, wall: float = 0.0) -> None:
    # All at once is not possible in SQL: for a moment a device would have two keys that stand alike.
    for key in becomes:
        transaction.execute(
            "UPDATE key SET standing = 'retired', due_hour = NULL WHERE public_key = ?", (key,)
        )
    for key, standing in becomes.items():
        if standing != "retired":
            transaction.execute(
                "UPDATE key SET standing = ?, due_hour = ? WHERE public_key = ?",
                (standing, due_hour(standing, wall=wall), key),
            )


def _is_known(transaction: Transaction, public_key: PublicKey) -> bool:
    """Return whether anybody has this key."""
    found = transaction.execute(
        "SELECT EXISTS (SELECT 1 FROM key WHERE public_key = ?1) "
        "OR EXISTS (SELECT 1 FROM gateway WHERE public_key = ?1)",
        (public_key,),
    ).fetchone()
    return bool(found[0])


def _peer(transaction: Transaction, public_key: PublicKey) -> TunnelPeer:
    row = transaction.execute(
        "SELECT public_key, address4, address6, preshared_key FROM key WHERE public_key = ?",
        (public_key,),
    ).fetchone()
    return TunnelPeer(b"".join(row))
