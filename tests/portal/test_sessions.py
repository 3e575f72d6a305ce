"""Sessions: how long they last, how many there are, what is kept of them."""

import pytest

from exuvia.portal.sessions import IDLE, LONGEST, MOST_OF_ACCOUNT, Session, Sessions
from exuvia.system import entropy

HASH, OTHER = b"a" * 32, b"b" * 32
NONE: frozenset[bytes] = frozenset()


@pytest.fixture
async def sessions() -> Sessions:
    """No session."""
    return Sessions(entropy.bits)


def begin(
    sessions: Sessions, number_hash: bytes = HASH, *, is_complete: bool = True, now: float = 0.0
) -> str:
    """Begin a session, and return what its browser shows."""
    return sessions.begin(number_hash, is_complete=is_complete, asked=NONE, now=now)[0]


async def test_a_session_ends_when_it_was_idle(sessions: Sessions) -> None:
    """Half an hour after the last request, not after the first."""
    id = begin(sessions)
    assert sessions.find(id, now=IDLE) is not None
    assert sessions.find(id, now=2 * IDLE) is not None
    assert sessions.find(id, now=3 * IDLE + 1) is None
    assert sessions.find(id, now=0) is None and len(sessions) == 0


async def test_a_session_ends_however_busy_it_is(sessions: Sessions) -> None:
    """After twelve hours."""
    id, now = begin(sessions), 0.0
    while now < LONGEST:
        assert sessions.find(id, now=now) is not None
        now += IDLE / 2
    assert sessions.find(id, now=LONGEST + 1) is None


async def test_what_is_over_is_forgotten_without_being_asked_for(sessions: Sessions) -> None:
    """So that nothing of it stays in memory."""
    begin(sessions)
    kept = begin(sessions, OTHER, now=IDLE)
    sessions.sweep(now=IDLE + 1)
    assert len(sessions) == 1 and sessions.find(kept, now=IDLE + 1) is not None
    assert sessions._sweeping is not None


async def test_an_account_has_few_sessions(sessions: Sessions) -> None:
    """Of more the one that was idle for longest ends; those of other accounts do not."""
    other = begin(sessions, OTHER)
    ids = [begin(sessions, now=n) for n in range(MOST_OF_ACCOUNT)]
    assert sessions.find(ids[0], now=50) is not None
    begin(sessions, now=60)

    assert [sessions.find(id, now=61) is None for id in ids] == [False, True] + [False] * (
        MOST_OF_ACCOUNT - 2
    )
    assert sessions.find(other, now=61) is not None


async def test_the_number_alone_pushes_nobody_out(sessions: Sessions) -> None:
    """However often somebody gives the number without the second factor, those who gave it stay."""
    id = begin(sessions)
    for _ in range(2 * MOST_OF_ACCOUNT):
        begin(sessions, is_complete=False)

    assert sessions.find(id, now=1) is not None and len(sessions) == MOST_OF_ACCOUNT + 1


async def test_all_together_are_bounded(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many accounts there are."""
    monkeypatch.setattr("exuvia.portal.sessions.MOST", 5)
    for n in range(9):
        begin(sessions, bytes([n]) * 32)
    assert len(sessions) == 5


async def test_memory_does_not_hold_what_browsers_show(sessions: Sessions) -> None:
    """Only a hash of it; two servers, or one after a restart, have different ones."""
    id = begin(sessions)
    names = list(sessions._all)

    assert len(id) == 43 and id.encode() not in names
    assert Sessions(entropy.bits)._hash(id) not in names
    assert Session.__slots__ and "id" not in Session.__slots__


async def test_nothing_odd_is_a_session(sessions: Sessions) -> None:
    """No name, an empty one, one that is no text."""
    begin(sessions)
    for id in (None, "", "x", "é", "ÿ", "x" * 10_000):
        assert sessions.find(id, now=0) is None
