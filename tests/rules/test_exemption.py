"""Which peers the guard leaves alone."""

from exuvia.rules.exemption import ENDPOINT, KEEPALIVE, Exemptions
from exuvia.wg.peers import Sighting

PEER, OTHER = bytes(range(32)), bytes(range(1, 33))


def sighting(
    key: bytes = PEER, *, rx: int = 0, tx: int = 0, handshake: int = 0, endpoint: bool = True
) -> Sighting:
    """Return a sighting of a peer."""
    return Sighting(key, handshake, rx, tx, endpoint)


def test_an_endpoint_of_the_configuration_file_is_left_alone():
    """A peer whose endpoint the file gives is never ours to purge."""
    exemptions = Exemptions([PEER])

    assert exemptions.filter([sighting(rx=148), sighting(OTHER, rx=148)]) == [sighting(OTHER, rx=148)]
    assert exemptions.counts() == {ENDPOINT: 1}


def test_an_endpoint_that_nothing_was_received_from_is_configured_after_two_looks():
    """Somebody set it: no packet brought it. One look is not enough to say so."""
    exemptions = Exemptions()

    first = exemptions.filter([sighting(tx=148)])
    second = exemptions.filter([sighting(tx=296)])
    third = exemptions.filter([sighting(tx=296, rx=92)])

    assert [len(first), len(second), len(third)] == [1, 0, 0]


def test_an_endpoint_that_came_with_bytes_is_not_taken_for_configured():
    """A replayed first message leaves endpoint, rx 148 and handshake 0: that must be purged."""
    exemptions = Exemptions()
    planted = sighting(rx=148, tx=92)

    for _ in range(5):
        assert exemptions.filter([planted]) == [planted]
    assert exemptions.counts() == {}


def test_a_keepalive_can_be_switched_off_but_an_endpoint_is_remembered():
    """A peer is left alone for a keepalive only as long as it is set."""
    exemptions = Exemptions([OTHER])
    seen = [sighting(rx=1), sighting(OTHER, rx=1)]
    exemptions.keepalive(PEER, 25)
    exemptions.keepalive(OTHER, 25)
    before, counted = exemptions.filter(seen), exemptions.counts()
    exemptions.keepalive(PEER, 0)
    exemptions.keepalive(OTHER, 0)

    assert (before, counted) == ([], {ENDPOINT: 1, KEEPALIVE: 1})
    assert exemptions.filter(seen) == [sighting(rx=1)]
