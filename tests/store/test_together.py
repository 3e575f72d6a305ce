"""Registering many at once comes to the same as one after the other."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane import fresh_key
from exuvia.errors import AddressPoolExhausted, DeviceLimitReached, ExuviaError, KeyRefused, UnknownCredential
from exuvia.rules.allocation import Pools, random_pool6
from exuvia.store import database, together
from exuvia.store.migrate import migrate, migrations
from exuvia.store.registration import Registered, Registration, register
from exuvia.store.together import register_all
from exuvia.store.writer import Committed, Transaction, Writer
from exuvia.system import entropy
from exuvia.wg.keys import PublicKey

TODAY = "2026-11-22"
POOLS = Pools(IPv4Network("10.9.0.0/24"), random_pool6(entropy.bits))
LARGE = Pools(IPv4Network("10.0.0.0/8"), POOLS.pool6)
"""In which nobody draws what somebody has: whoever does is registered alone."""
TINY = Pools(IPv4Network("10.9.8.0/29"), POOLS.pool6)
ACCOUNTS = {  # number hash: state, last day, limit
    b"A" * 32: ("active", None, 2),
    b"B" * 32: ("active", TODAY, 5),
    b"C" * 32: ("suspended", None, 5),
    b"D" * 32: ("active", "2026-11-21", 5),
}
UNKNOWN = b"E" * 32
AS_MADE = ("current", None)
"""How a key stands after a registration, and when it is due."""
GATEWAYS_KEY = fresh_key()


@pytest.fixture
def connection() -> sqlite3.Connection:
    """A database in memory with a few accounts and a gateway."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, migrations())
    connection.execute("INSERT INTO meta VALUES (1, 'e', 0, x'00', NULL, NULL, 0)")
    for number, (state, expires, limit) in ACCOUNTS.items():
        connection.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?)", (number[:16], number, state, expires, limit)
        )
    connection.execute(
        "INSERT INTO gateway VALUES ('g', ?, 'x:1', NULL, NULL, NULL, ?, 0, 0)", (b"g" * 32, GATEWAYS_KEY)
    )
    return connection


def wish(number: bytes, key: PublicKey, pools: Pools = POOLS) -> Registration:
    """Return a wish to register a key for an account."""
    return Registration(number, key, entropy.octets(32), TODAY, pools, entropy.bits)


KEYS = [fresh_key() for _ in range(6)] + [GATEWAYS_KEY]
Wishes = list[tuple[bytes, PublicKey]]
WISHES = st.lists(
    st.tuples(st.sampled_from([*ACCOUNTS, b"A" * 32, b"B" * 32, UNKNOWN]), st.sampled_from(KEYS)),
    min_size=1,
    max_size=14,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=WISHES, asked=WISHES)
def test_many_at_once_is_like_one_by_one(
    connection: sqlite3.Connection,
    before: list[tuple[bytes, PublicKey]],
    asked: list[tuple[bytes, PublicKey]],
) -> None:
    """Each wish is granted or refused as if they had come in some order: nobody gets more, nobody less."""
    connection.execute("BEGIN")
    transaction = Transaction(connection)
    for number, key in before:
        together._register_alone(transaction, wish(number, key))
    owners = dict(connection.execute("SELECT public_key, account_id FROM key"))
    room = {n[:16]: limit for n, (_, _, limit) in ACCOUNTS.items()}
    room = {id: limit - sum(owner == id for owner in owners.values()) for id, limit in room.items()}
    answers = register_all(transaction, [wish(number, key) for number, key in asked])
    found = dict(connection.execute("SELECT public_key, account_id FROM key"))
    committed = transaction.finish()
    connection.execute("ROLLBACK")

    for (number, key), answer in zip(asked, answers, strict=True):
        if number not in (b"A" * 32, b"B" * 32):
            assert isinstance(answer, UnknownCredential)
        elif isinstance(answer, Registered):
            assert (found[key], answer.peer[:32], answer.account_id) == (number[:16], key, number[:16])
        elif isinstance(answer, KeyRefused):
            assert key == GATEWAYS_KEY or found[key] != number[:16]
        else:
            assert isinstance(answer, DeviceLimitReached)
            assert sum(owner == number[:16] for owner in found.values()) == ACCOUNTS[number][2]
    granted = Counter(found[key] for key in found.keys() - owners.keys())
    assert all(count <= room[id] for id, count in granted.items())
    assert {key: found[key] for key in owners} == owners
    assert (committed.revision if committed else 0) == len(found)
    _assert_devices_are_different(answers)


def _assert_devices_are_different(answers: list[Registered | ExuviaError]) -> None:
    """The same key is the same device; different keys have nothing in common."""
    made = {answer.peer[:32]: answer for answer in answers if isinstance(answer, Registered)}
    for answer in answers:
        if isinstance(answer, Registered):
            assert (answer.device_id, answer.peer) == (
                made[answer.peer[:32]].device_id,
                made[answer.peer[:32]].peer,
            )
    for part in (slice(32, 36), slice(36, 52), slice(52, 84)):
        assert len({one.peer[part] for one in made.values()}) == len(made)
    assert len({(one.account_id, one.name) for one in made.values()}) == len(made)


def test_what_is_stored_is_what_was_answered(connection: sqlite3.Connection) -> None:
    """Taken out of their blob, rows are what one insertion after the other would have made."""
    connection.execute("BEGIN")
    transaction = Transaction(connection)
    wishes = [wish(b"B" * 32, fresh_key(), LARGE) for _ in range(5)]
    answers = [answer for answer in register_all(transaction, wishes) if isinstance(answer, Registered)]
    devices = connection.execute("SELECT account_id, id, name, token_hash FROM device ORDER BY id").fetchall()
    keys = connection.execute("SELECT * FROM key ORDER BY device_id").fetchall()
    committed = transaction.finish()
    changes = connection.execute("SELECT revision, public_key FROM change ORDER BY revision").fetchall()

    expected = sorted(zip(answers, wishes, strict=True), key=lambda pair: pair[0].device_id)
    assert len(answers) == 5
    assert devices == [(b"B" * 16, made.device_id, made.name, asked.secret_hash) for made, asked in expected]
    assert keys == [
        (
            made.peer[:32],
            b"B" * 16,
            made.device_id,
            made.peer[32:36],
            made.peer[36:52],
            made.peer[52:],
            *AS_MADE,
        )
        for made, _ in expected
    ]
    assert changes == [(revision, answer.peer[:32]) for revision, answer in enumerate(answers, 1)]
    assert [answer.revision for answer in answers] == [1, 2, 3, 4, 5]
    assert committed is not None and committed.put == sorted(answer.peer for answer in answers)


def test_many_fill_a_pool_to_its_last_address(connection: sqlite3.Connection) -> None:
    """Drafts that collide with each other or with what is taken are drawn again, until nothing is left."""
    connection.execute("BEGIN")
    connection.execute("UPDATE account SET device_limit = 50")
    answers = register_all(Transaction(connection), [wish(b"B" * 32, fresh_key(), TINY) for _ in range(20)])
    made = [answer for answer in answers if isinstance(answer, Registered)]

    assert {one.peer[32:36] for one in made} == {bytes([10, 9, 8, host]) for host in range(2, 7)}
    assert Counter(type(answer) for answer in answers) == {Registered: 5, AddressPoolExhausted: 15}


@pytest.mark.parametrize("family", ["draw4", "draw6"])
def test_a_draft_whose_address_is_taken_is_drawn_again(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """In either family; the others of its group do not notice."""
    connection.execute("BEGIN")
    transaction = Transaction(connection)
    (first,) = register_all(transaction, [wish(b"A" * 32, fresh_key())])
    assert isinstance(first, Registered)
    taken = first.peer.address4 if family == "draw4" else first.peer.address6
    draw, drawn = getattr(together.allocation, family), iter([taken])
    monkeypatch.setattr(together.allocation, family, lambda pool, bits: next(drawn, None) or draw(pool, bits))
    answers = register_all(transaction, [wish(b"B" * 32, fresh_key()) for _ in range(2)])

    assert [type(answer) for answer in answers] == [Registered, Registered]


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[tuple[Writer, list[Committed]]]:
    """A writer, and what it commits."""
    connection, commits = database.writer(tmp_path / "x.db"), list[Committed]()
    migrate(connection, migrations())
    connection.execute("INSERT INTO meta VALUES (1, 'e', 0, x'00', NULL, NULL, 0)")
    for number, (state, expires, _) in ACCOUNTS.items():
        connection.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, 999)", (number[:16], number, state, expires)
        )
    writer = Writer(connection, commits.append)
    yield writer, commits
    await writer.close()
    connection.close()


async def test_a_failure_among_many_is_undone_alone(
    writer: tuple[Writer, list[Committed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one registration breaks what is done together, the others are done without it."""
    broken = fresh_key()
    row = together._row

    def breaking(made: Registered, asked: Registration) -> bytes:
        return row(made, asked) if asked.public_key != broken else b"too short"

    monkeypatch.setattr(together, "_row", breaking)
    keys = [fresh_key() for _ in range(20)] + [broken]
    done = await asyncio.gather(
        *(writer[0].run_with_others(register_all, wish(b"A" * 32, key, LARGE)) for key in keys),
        return_exceptions=True,
    )

    assert [isinstance(answer, Registered) for answer in done] == [True] * 20 + [False]
    assert sum(len(commit.put) for commit in writer[1]) == 20


EXPECTED = {
    b"A" * 32: ["Registered"] * 2 + ["DeviceLimitReached"] * 2 + ["Registered"],
    b"B" * 32: ["Registered"] * 3 + ["KeyRefused", "Registered"],
}


def test_one_by_one_says_what_it_means(connection: sqlite3.Connection) -> None:
    """The way of doing it alone and the way of doing it together give a lone wish the same answer."""
    for number in (*ACCOUNTS, UNKNOWN):
        for way in (together._register_alone, lambda t, w: register_all(t, [w])[0]):
            connection.execute("BEGIN")
            transaction = Transaction(connection)
            answers = [way(transaction, wish(number, key)) for key in (*KEYS[:3], GATEWAYS_KEY, KEYS[0])]
            kinds = [type(answer).__name__ for answer in answers]
            connection.execute("ROLLBACK")
            assert kinds == EXPECTED.get(number, ["UnknownCredential"] * 5)
    assert register is not register_all
