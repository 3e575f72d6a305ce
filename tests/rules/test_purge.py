"""Where it is decided that a peer is forgotten."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exuvia.rules.purge import CAP, QUIET, Watch
from exuvia.wg.peers import Sighting
from exuvia.wg.timing import REJECT_AFTER_TIME

KEY = b"k" * 32
OTHER = b"o" * 32
STEP = 0.25
"""Seconds; every time of these tests is a multiple of it, which a float holds exactly."""


def sighting(key: bytes = KEY, *, handshake: int = 1, rx: int = 0, endpoint: bool = True) -> Sighting:
    """What one look tells of a peer."""
    return Sighting(key, handshake, rx, 0, endpoint)


def look(watch: Watch, *seen: Sighting, now: float, whole: bool = True) -> list[bytes]:
    """Take one look, in one part, and return who is to be purged."""
    watch.begin()
    due = watch.see(seen, now=now)
    watch.end(whole=whole)
    return due


def first_purge(looks: list[tuple[float, Sighting]]) -> float | None:
    """Return when a peer that is seen like this is purged for the first time."""
    watch = Watch()
    for now, seen in looks:
        if look(watch, seen, now=now):
            return now
    return None


def every_second(until: float, seen: object) -> list[tuple[float, Sighting]]:
    """Return looks at every second; `seen` says what each one sees."""
    return [(float(now), seen(now)) for now in range(int(until))]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("what", "seen", "purged"),
    [
        ("a session that ended", lambda now: sighting(handshake=9), REJECT_AFTER_TIME),
        ("a handshake that never completed", lambda now: sighting(handshake=0, rx=148), QUIET),
        ("an endpoint that somebody else set", lambda now: sighting(handshake=0), QUIET),
        ("a session, then quiet", lambda now: sighting(rx=min(now, 170)), REJECT_AFTER_TIME + 10),
        (
            "handshakes replayed every 15 s",
            lambda now: sighting(rx=now // 15),
            REJECT_AFTER_TIME + CAP,
        ),
        (
            "half-open handshakes replayed every 15 s",
            lambda now: sighting(handshake=0, rx=now // 15),
            CAP,
        ),
        ("a session renewed every 120 s", lambda now: sighting(handshake=now // 120 + 1, rx=now), None),
        (
            "a session renewed at the last moment",
            lambda now: sighting(handshake=now // REJECT_AFTER_TIME + 1, rx=now),
            None,
        ),
        (
            "a session at last after a half-open handshake",
            lambda now: sighting(handshake=int(now >= 19), rx=now),
            19 + REJECT_AFTER_TIME + CAP,
        ),
        (
            "a handshake that comes back from the future",
            lambda now: sighting(handshake=10**18 if now < 5 else 1),
            5 + REJECT_AFTER_TIME,
        ),
    ],
)
def test_p1_when_a_peer_is_purged(what: str, seen: object, purged: float | None) -> None:
    """A peer is purged at the first second at which it is stale and quiet, or stale for too long."""
    assert first_purge(every_second(600, seen)) == purged


def test_the_numbers_are_those_of_the_promises() -> None:
    """The promises speak of 180 s, G = 20 s and C = 180 s."""
    assert (REJECT_AFTER_TIME, QUIET, CAP) == (180, 20, 180)


observations = st.lists(
    st.tuples(
        st.integers(1, 800).map(lambda steps: steps * STEP),
        st.sampled_from([0, 1, 2]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=400)
@given(observations)
def test_p1_the_rule_is_that_of_a_naive_model(observed: list[tuple[float, int, int]]) -> None:
    """Whatever is seen when, a peer is due exactly if the sentence of the rule says so."""
    watch, history, now = Watch(), [], 1000.0
    for pause, handshake, rx in observed:
        now += pause
        history.append((now, handshake, rx))

        assert look(watch, sighting(handshake=handshake, rx=rx), now=now) == (
            [KEY] if naively_due(history) else []
        )


def naively_due(history: list[tuple[float, int, int]]) -> bool:
    """Say by the words of the rule whether the peer is to be purged at the last of these looks."""
    now, handshake, _ = history[-1]
    same_handshake = now - unchanged_since(history, lambda seen: seen[1])
    quiet = now - unchanged_since(history, lambda seen: seen[2])
    stale_for = same_handshake - (REJECT_AFTER_TIME if handshake else 0)
    return stale_for >= 0 and (quiet >= QUIET or stale_for >= CAP)


def unchanged_since(history: list[tuple[float, int, int]], what: object) -> float:
    """Return at which look the present value was seen first, without another since."""
    since = history[-1][0]
    for seen in reversed(history):
        if what(seen) != what(history[-1]):  # type: ignore[operator]
            break
        since = seen[0]
    return since


def test_a_peer_that_was_purged_starts_anew() -> None:
    """Once the kernel acknowledged the purge, what is seen of the peer next counts from then."""
    watch = Watch()
    look(watch, sighting(handshake=0), now=0)
    assert look(watch, sighting(handshake=0), now=QUIET) == [KEY]
    watch.purged(KEY)
    assert len(watch) == 0

    assert look(watch, sighting(handshake=0), now=QUIET + 1) == []
    assert look(watch, sighting(handshake=0), now=QUIET + 1 + QUIET) == [KEY]


def test_a_purge_that_was_not_acknowledged_is_due_again() -> None:
    """A peer stays due until the kernel says that it is clean."""
    watch = Watch()
    look(watch, sighting(handshake=0), now=0)

    assert look(watch, sighting(handshake=0), now=QUIET) == [KEY]
    assert look(watch, sighting(handshake=0), now=QUIET + 1) == [KEY]


def test_purging_a_peer_that_was_never_seen_is_nothing() -> None:
    """An acknowledgement of a peer that is not remembered changes nothing."""
    watch = Watch()
    watch.purged(KEY)

    assert len(watch) == 0


def test_what_is_clean_or_gone_is_forgotten() -> None:
    """A peer that a whole look no longer shows as having anything to forget is not remembered."""
    watch = Watch()
    look(watch, sighting(), sighting(OTHER), now=0)
    look(watch, sighting(OTHER), now=1)

    assert len(watch) == 1
    assert look(watch, sighting(), now=REJECT_AFTER_TIME) == []


def test_a_look_that_was_cut_short_forgets_nobody() -> None:
    """What an interrupted look leaves out proves nothing: time goes on for those peers."""
    watch = Watch()
    look(watch, sighting(), now=0)
    look(watch, now=1, whole=False)

    assert look(watch, sighting(), now=REJECT_AFTER_TIME) == [KEY]


def test_a_look_in_many_parts_is_one_look() -> None:
    """Parts of one look add up: nobody is forgotten because another part did not show him."""
    watch = Watch()
    for now in (0.0, float(REJECT_AFTER_TIME)):
        watch.begin()
        first = watch.see([sighting()], now=now)
        second = watch.see([sighting(OTHER)], now=now)
        watch.end(whole=True)

    assert (first, second, len(watch)) == ([KEY], [OTHER], 2)


def test_how_many_will_be_purged_is_known_before() -> None:
    """The number of peers that fall due by some instant is known without a look."""
    watch = Watch()
    look(watch, sighting(handshake=0), sighting(OTHER), now=0)

    assert [watch.expected(now=now) for now in (QUIET - 1, QUIET, REJECT_AFTER_TIME)] == [0, 1, 2]


def test_who_has_shown_no_other_handshake_is_waited_for() -> None:
    """A guard that looks once waits for whoever was there when it began, and for nobody who came later."""
    watch = Watch()
    look(watch, sighting(), now=5)
    look(watch, sighting(), sighting(OTHER), now=9)

    assert [watch.unchanged_since(moment) for moment in (4, 5, 8, 9)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("peers", "took", "wait"),
    [
        (10, 0.0, 0.75),
        (10, 0.001, 0.75),
        (10_000, 0.018, 0.9),
        (10_000, 0.020, 1.0),
        (10_000, 0.200, 1.0),
        (10_001, 0.020, 1.0),
        (10_001, 0.200, 4.0),
        (100_000, 0.150, 3.0),
        (100_000, 0.300, 6.0),
        (1_000_000, 2.0, 10.0),
    ],
)
def test_how_often_an_interface_is_looked_at(peers: int, took: float, wait: float) -> None:
    """At least every second, for 2 % of a core, up to 10,000 peers; beyond, at least every 10 s, for 5 %."""
    watch = Watch()
    look(watch, now=50)

    assert watch.next_look(began=50, took=took, peers=peers) - 50 == pytest.approx(wait)


@pytest.mark.parametrize(
    ("due_in", "took", "wait"),
    [
        (0.5, 0.001, 0.5),
        (0.25, 0.001, 0.251),
        (0.125, 0.001, 0.251),
        (0.5, 0.015, 0.75),
        (0.625, 0.004, 0.625),
        (5.0, 0.001, 0.75),
        (0.875, 0.0175, 0.875),
    ],
)
def test_the_next_look_is_when_the_next_peer_can_fall_due(due_in: float, took: float, wait: float) -> None:
    """A peer that will be due is looked at then: not sooner than 250 ms later, nor more than a second."""
    watch, now = Watch(), 64.0
    look(watch, sighting(handshake=0), now=now)
    began = now + QUIET - due_in
    look(watch, sighting(handshake=0), now=began)

    assert watch.next_look(began=began, took=took, peers=1) - began == pytest.approx(wait)


def test_the_nearest_of_many_decides_when_to_look_again() -> None:
    """Of several peers the one that falls due first decides, in whatever order they are seen."""
    for order in ([KEY, OTHER], [OTHER, KEY]):
        watch = Watch()
        look(watch, sighting(KEY, handshake=0), now=0.0)
        both = [sighting(key, handshake=0) for key in order]
        look(watch, *both, now=0.25)
        look(watch, *both, now=QUIET - 0.5)

        assert watch.next_look(began=QUIET - 0.5, took=0.001, peers=2) == pytest.approx(QUIET)


def test_a_purged_peer_does_not_hasten_the_next_look() -> None:
    """A peer that is due now is purged now, and is no reason to look again sooner."""
    watch = Watch()
    look(watch, sighting(handshake=0), now=0)
    look(watch, sighting(handshake=0), now=QUIET)

    assert watch.next_look(began=QUIET, took=0.001, peers=1) == QUIET + 0.75
