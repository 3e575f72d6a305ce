"""
Registering many devices at once: one question and two insertions, however many there are.

What is plain is done together: an active account with room, a key and addresses that nobody
has. Whatever is not is done one by one, and registration.register says what it means.
"""

from typing import NamedTuple

import msgspec

from exuvia.errors import ExuviaError
from exuvia.messages import AccountState
from exuvia.rules import allocation
from exuvia.rules.expiry import account_state
from exuvia.rules.limits import has_room
from exuvia.rules.naming import LONGEST_NAME, draw_name
from exuvia.store.devices import ID_LENGTH
from exuvia.store.packed import Packed
from exuvia.store.registration import Registered, Registration, register
from exuvia.store.writer import Transaction
from exuvia.wg.keys import PresharedKey
from exuvia.wg.peers import TunnelPeer

_WISH = Packed(number_hash=32, public_key=32, address4=4, address6=16, preshared_key=32)
# One row for all: each row of an answer would be another step.
_FACTS = (
    f"{Packed.EACH} SELECT json_group_array(json_array(at.n, hex(account.id), state, expires, device_limit, "  # noqa: S608
    "(SELECT group_concat(name, ',') FROM device WHERE account_id = account.id), "
    f"EXISTS (SELECT 1 FROM key WHERE public_key = {_WISH.column('public_key')}) "
    f"OR EXISTS (SELECT 1 FROM gateway WHERE public_key = {_WISH.column('public_key')}) "
    f"OR EXISTS (SELECT 1 FROM key WHERE address4 = {_WISH.column('address4')}) "
    f"OR EXISTS (SELECT 1 FROM key WHERE address6 = {_WISH.column('address6')}) "
    f"OR EXISTS (SELECT 1 FROM resting WHERE address IN ({_WISH.columns('address4', 'address6')})), "
    "EXISTS (SELECT 1 FROM second_factor WHERE account_id = account.id)"
    f")) FROM at LEFT JOIN account ON number_hash = {_WISH.column('number_hash')}"
)

_ROW = Packed(
    account_id=16,
    device_id=16,
    name=LONGEST_NAME,
    secret_hash=32,
    public_key=32,
    address4=4,
    address6=16,
    preshared_key=32,
)
_INSERT_DEVICES = (
    f"{Packed.EACH} INSERT INTO device SELECT {_ROW.columns('account_id', 'device_id')}, "  # noqa: S608
    f"{_ROW.text('name')}, {_ROW.column('secret_hash')} FROM at"
)
_INSERT_KEYS = (
    f"{Packed.EACH} INSERT INTO key (public_key, account_id, device_id, address4, address6, "  # noqa: S608
    "preshared_key, standing) "
    f"SELECT {_ROW.columns('public_key', 'account_id', 'device_id')}, "
    f"{_ROW.columns('address4', 'address6', 'preshared_key')}, 'current' FROM at"
)


class _Facts(NamedTuple):
    """What the database knows of a wish."""

    place: int
    """Of the wish, among all that are registered together."""
    account_id: str
    """In hexadecimal; empty if there is no such account."""
    state: AccountState | None
    expires: str | None
    device_limit: int | None
    names: str | None
    """Of the account's devices, with commas."""
    taken: int
    """Whether somebody has the key or one of the addresses, or an address rests."""
    guarded: int
    """Whether the account asks for more than its number."""


def register_all(transaction: Transaction, wishes: list[Registration]) -> list[Registered | ExuviaError]:
    """Do for many what register does for one."""
    peers = [_draft(wish) for wish in wishes]
    answers = _register_plain(transaction, wishes, peers)
    for place, wish in enumerate(wishes):
        if place not in answers:
            answers[place] = _register_alone(transaction, wish)
    return [answers[place] for place in range(len(wishes))]


def _draft(wish: Registration) -> TunnelPeer:
    """Return the key with addresses that may or may not be free."""
    return TunnelPeer.pack(
        wish.public_key,
        allocation.draw4(wish.pools.pool4, wish.bits),
        allocation.draw6(wish.pools.pool6, wish.bits),
        PresharedKey(wish.bits(256).to_bytes(32, "big")),
    )


def _register_plain(
    transaction: Transaction, wishes: list[Registration], peers: list[TunnelPeer]
) -> dict[int, Registered | ExuviaError]:
    """Register what is plain; return the answers by place."""
    answers: dict[int, Registered | ExuviaError] = {}
    rows: list[bytes] = []
    names: dict[str, list[str]] = {}
    seen: set[bytes] = set()
    for facts in _look(transaction, wishes, peers):
        wish, peer = wishes[facts.place], peers[facts.place]
        taken = names.setdefault(facts.account_id, facts.names.split(",") if facts.names else [])
        parts = {peer[:32], peer[32:36], peer[36:52]}
        if _is_plain(facts, wish, len(taken)) and not parts & seen:
            seen |= parts
            made = _made(transaction, facts, wish, peer, taken)
            taken.append(made.name)
            rows.append(_row(made, wish))
            answers[facts.place] = made
    if rows:
        transaction.execute(_INSERT_DEVICES, (b"".join(rows), len(rows)))
        transaction.execute(_INSERT_KEYS, (b"".join(rows), len(rows)))
    return answers


def _look(transaction: Transaction, wishes: list[Registration], peers: list[TunnelPeer]) -> list[_Facts]:
    """Ask the database for the facts of all wishes."""
    packed = b"".join([wish.number_hash + peer for wish, peer in zip(wishes, peers, strict=True)])
    (found,) = transaction.execute(_FACTS, (packed, len(wishes))).fetchone()
    return [_Facts(*facts) for facts in msgspec.json.decode(found)]


def _is_plain(facts: _Facts, wish: Registration, devices: int) -> bool:
    return (
        facts.state is not None
        and facts.device_limit is not None
        and account_state(facts.state, facts.expires, wish.today) == "active"
        and has_room(devices, facts.device_limit)
        and not facts.taken
        and (wish.proven or not facts.guarded)
    )


def _made(
    transaction: Transaction, facts: _Facts, wish: Registration, peer: TunnelPeer, taken: list[str]
) -> Registered:
    transaction.put(peer)
    return Registered(
        bytes.fromhex(facts.account_id),
        wish.bits(8 * ID_LENGTH).to_bytes(ID_LENGTH, "big"),
        draw_name(taken, wish.bits),
        peer,
        transaction.epoch,
        transaction.revision,
    )


def _row(made: Registered, wish: Registration) -> bytes:
    name = made.name.encode().ljust(LONGEST_NAME)
    return b"".join((made.account_id, made.device_id, name, wish.secret_hash, made.peer))


def _register_alone(transaction: Transaction, wish: Registration) -> Registered | ExuviaError:
    try:
        return register(transaction, wish)
    except ExuviaError as error:  # it refuses before it writes
        return error
