"""
Registering a device: one after the other, which says what it means, and many at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

from exuvia.errors import AddressPoolExhausted, DeviceLimitReached, KeyRefused
from exuvia.rules import allocation
from exuvia.rules.allocation import Bits, Pools
from exuvia.rules.limits import has_room
from exuvia.rules.naming import draw_name
from exuvia.rules.overlap import KEY_REFUSED, Standing
from exuvia.store.devices import ID_LENGTH, Account, active_account
from exuvia.store.writer import Transaction
from exuvia.wg.keys import PresharedKey, PublicKey
from exuvia.wg.peers import TunnelPeer


@dataclass(frozen=True, slots=True)
class Registration:
    """A wish to register a device."""

    number_hash: bytes
    public_key: PublicKey
    secret_hash: bytes
    """Of the secret that the device is to prove itself with."""
    today: str
    pools: Pools
    bits: Bits
    proven: bool = False
    """Whether all that the account asks for beside its number was given."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration led to."""

    account_id: bytes
    device_id: bytes
    name: str
    peer: TunnelPeer
    epoch: str
    revision: int


def register(transaction: Transaction, wish: Registration) -> Registered:
    """
    Give the account a device with this key, or the same device a new token.

    The same key of the same account again is the same device: an answer that was lost can
    be asked for again.
    """
    account = active_account(transaction, wish.number_hash, wish.today, proven=wish.proven)
    owner = _owner(transaction, wish.public_key)
    if owner is not None and owner.account_id == account.id and owner.standing != "retired":
        return _register_again(transaction, owner, wish)
    names, useless = _room_for_another(transaction, account)
    if owner is not None:
        raise KeyRefused(KEY_REFUSED)
    peer = new_peer(transaction, wish.public_key, wish.pools, wish.bits)
    if useless is not None:
        transaction.execute("DELETE FROM device WHERE account_id = ? AND id = ?", (account.id, useless))
    id = wish.bits(8 * ID_LENGTH).to_bytes(ID_LENGTH, "big")
    name = draw_name(names, wish.bits)
    transaction.execute("INSERT INTO device VALUES (?, ?, ?, ?)", (account.id, id, name, wish.secret_hash))
    insert_key(transaction, (account.id, id), peer, "current")
    return Registered(account.id, id, name, peer, transaction.epoch, transaction.revision)


class _Owner(NamedTuple):
    """Who has a public key, and what the peer table says of it; all None for a gateway."""

    account_id: bytes | None
    device_id: bytes
    address4: bytes
    address6: bytes
    preshared_key: bytes
    standing: Standing


def _owner(transaction: Transaction, public_key: PublicKey) -> _Owner | None:
    row = transaction.execute(
        "SELECT account_id, device_id, address4, address6, preshared_key, standing FROM key "
        "WHERE public_key = ?1 "
        "UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL FROM gateway WHERE public_key = ?1",
        (public_key,),
    ).fetchone()
    return None if row is None else _Owner(*row)


def _room_for_another(transaction: Transaction, account: Account) -> tuple[list[str], bytes | None]:
    """
    Return the names of the account's devices, and one to delete if there are as many as may be.

    Only a device that a suspension or a new epoch left without a key makes room for another;
    DeviceLimitReached if there is none.
    """
    names = transaction.execute("SELECT name FROM device WHERE account_id = ?", (account.id,)).fetchall()
    useless = None
    if not has_room(len(names), account.device_limit):
        useless = transaction.execute(
            "SELECT id FROM device WHERE account_id = ?1 AND NOT EXISTS "
            "(SELECT 1 FROM key WHERE account_id = ?1 AND device_id = device.id) LIMIT 1",
            (account.id,),
        ).fetchone()
        if useless is None:
            raise DeviceLimitReached("the account has as many devices as it may have: log one out first")
    return [name for (name,) in names], useless[0] if useless else None


def _register_again(transaction: Transaction, owner: _Owner, wish: Registration) -> Registered:
    assert owner.account_id is not None  # noqa: S101  it was compared with an account's
    place = (owner.account_id, owner.device_id)
    (name,) = transaction.execute("SELECT name FROM device WHERE account_id = ? AND id = ?", place).fetchone()
    transaction.execute(
        "UPDATE device SET token_hash = ? WHERE account_id = ? AND id = ?", (wish.secret_hash, *place)
    )
    peer = TunnelPeer(wish.public_key + owner.address4 + owner.address6 + owner.preshared_key)
    return Registered(*place, name, peer, transaction.epoch, transaction.revision)


def new_peer(transaction: Transaction, public_key: PublicKey, pools: Pools, bits: Bits) -> TunnelPeer:
    """Return the key with addresses that nobody has and that are not resting."""
    preshared_key = PresharedKey(bits(256).to_bytes(32, "big"))
    for _ in range(allocation.REDRAWS):
        address4 = allocation.draw4(pools.pool4, bits)
        address6 = allocation.draw6(pools.pool6, bits)
        if _are_free(transaction, address4.packed, address6.packed):
            return TunnelPeer.pack(public_key, address4, address6, preshared_key)
    raise AddressPoolExhausted("the address pool is nearly full: try again later")


def _are_free(transaction: Transaction, address4: bytes, address6: bytes) -> bool:
    row = transaction.execute(
        "SELECT EXISTS (SELECT 1 FROM key WHERE address4 = ?1) "
        "OR EXISTS (SELECT 1 FROM key WHERE address6 = ?2) "
        "OR EXISTS (SELECT 1 FROM resting WHERE address IN (?1, ?2))",
        (address4, address6),
    ).fetchone()
    return not row[0]


def insert_key(
    transaction: Transaction,
    device: tuple[bytes, bytes],
    peer: TunnelPeer,
    standing: Standing,
    due_hour: int | None = None,
) -> None:
    """Add a key to a device, given by its account's id and its own; gateways are told."""
    transaction.execute(
        "INSERT INTO key (public_key, account_id, device_id, address4, address6, preshared_key, standing, "
        "due_hour) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (peer[:32], *device, peer[32:36], peer[36:52], peer[52:], standing, due_hour),
    )
    transaction.put(peer)
