"""When a tunnel works, when it is merely quiet, and when it is lost."""

from exuvia.rules.liveness import KEEPALIVE_LENGTH, PATIENCE, Liveness
from exuvia.wg.peers import Sighting
from exuvia.wg.timing import KEEPALIVE_TIMEOUT, REKEY_TIMEOUT

DATA = 96
INITIATION = 148


def seen(handshake: int = 1, rx: int = 0, tx: int = 0) -> Sighting:
    """What an interface shows of its peer."""
    return Sighting(b"", handshake, rx, tx, True)


def test_connected_with_the_first_handshake() -> None:
    """A tunnel is connected once a handshake shows, and not by sending or receiving alone."""
    liveness = Liveness()
    liveness.see(seen(0, rx=92, tx=INITIATION), now=1.0)
    assert not liveness.connected
    assert liveness.handshake_age(now=2.0) is None
    liveness.see(seen(7, rx=92, tx=INITIATION), now=3.0)

    assert liveness.connected
    assert liveness.handshake_age(now=10.5) == 7.5


def test_a_new_handshake_is_young() -> None:
    """The age counts from when the handshake changed, on our clock, whatever its own stamp says."""
    liveness = Liveness()
    liveness.see(seen(handshake=10**18), now=0.0)
    liveness.see(seen(handshake=5), now=100.0)
    liveness.see(seen(handshake=5), now=110.0)

    assert liveness.handshake_age(now=110.0) == 10.0


def test_unanswered_data_is_a_loss() -> None:
    """What was sent and not answered for as long as WireGuard needs to answer, and more, is a loss."""
    liveness = Liveness()
    liveness.see(seen(rx=500, tx=500), now=0.0)
    liveness.see(seen(rx=500, tx=500 + DATA), now=10.0)
    liveness.see(seen(rx=500, tx=500 + DATA + INITIATION), now=25.0)

    assert not liveness.lost(now=10.0 + PATIENCE - 0.001)
    assert liveness.lost(now=10.0 + PATIENCE)
    assert KEEPALIVE_TIMEOUT + REKEY_TIMEOUT < PATIENCE


def test_an_answer_ends_the_wait() -> None:
    """Anything received means that the other side is there; the wait begins anew with what is sent next."""
    liveness = Liveness()
    liveness.see(seen(rx=500, tx=500), now=0.0)
    liveness.see(seen(rx=500, tx=600), now=10.0)
    liveness.see(seen(rx=532, tx=700), now=20.0)
    assert not liveness.lost(now=10.0 + PATIENCE)
    liveness.see(seen(rx=532, tx=800), now=30.0)

    assert not liveness.lost(now=30.0 + PATIENCE - 0.001)
    assert liveness.lost(now=30.0 + PATIENCE)


def test_silence_is_no_loss() -> None:
    """A tunnel through which nothing is sent is not lost, for however long."""
    liveness = Liveness()
    liveness.see(seen(rx=500, tx=500), now=0.0)
    for hour in range(1, 100):
        liveness.see(seen(rx=500, tx=500), now=3600.0 * hour)
        assert not liveness.lost(now=3600.0 * hour)


def test_keepalives_are_not_answered() -> None:
    """Empty packets, which the other side never answers, make no tunnel look lost."""
    liveness = Liveness()
    for number in range(100):
        liveness.see(seen(rx=500, tx=500 + KEEPALIVE_LENGTH * number), now=25.0 * number)
        assert not liveness.lost(now=25.0 * number)


def test_being_asleep_is_no_answer() -> None:
    """What was unanswered before a night's sleep is lost after it: the session keys are gone anyway."""
    liveness = Liveness()
    liveness.see(seen(rx=500, tx=500), now=0.0)
    liveness.see(seen(rx=500, tx=600), now=1.0)

    assert liveness.lost(now=8 * 3600.0)
