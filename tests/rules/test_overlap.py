"""The server's half of a rotation, as a table: every row of it, and what it must never lead to."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import ExuviaError, KeyRefused, KeySuperseded, NotFound, OnlyKey
from exuvia.rules.overlap import (
    DRAINING,
    MOST_RETIRED,
    TABLE,
    UNCONFIRMED,
    Draining,
    Event,
    Place,
    Standing,
    decide,
    due_hour,
    may_have_another,
)

Keys = dict[bytes, Standing]
A, B, C, NEW = b"a", b"b", b"c", b"n"
ALONE: Keys = {A: "current"}
SPREADING: Keys = {A: "current", B: "next"}
DRAINED: Keys = {A: "current", B: "old"}


def test_the_table_has_a_row_for_whatever_can_happen() -> None:
    """Each event at each place is answered, and nothing else."""
    assert set(TABLE) == set(itertools.product(Event, Place))


@pytest.mark.parametrize(
    ("event", "keys", "key", "then"),
    [
        (Event.PUT, {}, NEW, {NEW: "current"}),
        (Event.REPLACE, {}, NEW, {NEW: "current"}),
        (Event.REPLACE, ALONE, NEW, {A: "retired", NEW: "current"}),
        (Event.REPLACE, SPREADING, NEW, {A: "retired", B: "retired", NEW: "current"}),
        (Event.REPLACE, SPREADING, B, {A: "retired", B: "current"}),
        (Event.REPLACE, SPREADING, A, {B: "retired"}),
        (Event.REPLACE, ALONE, A, {}),
        (Event.PUT, ALONE, NEW, {NEW: "next"}),
        (Event.PUT, SPREADING, NEW, {B: "retired", NEW: "next"}),
        (Event.PUT, DRAINED, NEW, {B: "retired", NEW: "next"}),
        (Event.PUT, ALONE, A, {}),
        (Event.PUT, SPREADING, A, {}),
        (Event.PUT, SPREADING, B, {}),
        (Event.PUT, DRAINED, B, {}),
        (Event.PUT, {**ALONE, C: "retired"}, C, KeyRefused),
        (Event.CONFIRM, SPREADING, B, {A: "old", B: "current"}),
        (Event.CONFIRM, {**SPREADING, C: "retired"}, B, {A: "old", B: "current"}),
        (Event.CONFIRM, ALONE, A, {}),
        (Event.CONFIRM, SPREADING, A, {}),
        (Event.CONFIRM, DRAINED, A, {}),
        (Event.CONFIRM, DRAINED, B, KeySuperseded),
        (Event.CONFIRM, ALONE, NEW, NotFound),
        (Event.CONFIRM, {}, NEW, NotFound),
        (Event.CONFIRM, {**ALONE, C: "retired"}, C, NotFound),
        (Event.DELETE, SPREADING, B, {B: "retired"}),
        (Event.DELETE, DRAINED, B, {B: "retired"}),
        (Event.DELETE, SPREADING, A, {A: "retired", B: "current"}),
        (Event.DELETE, DRAINED, A, {A: "retired", B: "current"}),
        (Event.DELETE, ALONE, A, OnlyKey),
        (Event.DELETE, {**ALONE, C: "retired"}, A, OnlyKey),
        (Event.DELETE, {**ALONE, C: "retired"}, C, {}),
        (Event.DELETE, ALONE, NEW, {}),
        (Event.DELETE, {}, NEW, {}),
        (Event.DUE, SPREADING, B, {B: "retired"}),
        (Event.DUE, DRAINED, B, {B: "retired"}),
        (Event.DUE, SPREADING, A, {}),
        (Event.DUE, ALONE, A, {}),
        (Event.DUE, ALONE, NEW, {}),
    ],
)
def test_what_becomes_of_which_keys(
    event: Event, keys: Keys, key: bytes, then: Keys | type[ExuviaError]
) -> None:
    """As the contract of the API says it, case by case."""
    if isinstance(then, dict):
        assert decide(event, keys, key) == then
    else:
        with pytest.raises(then):
            decide(event, keys, key)


def happenings() -> st.SearchStrategy[list[tuple[Event, int]]]:
    """Anything that happens to any of six keys, in any order."""
    return st.lists(st.tuples(st.sampled_from(Event), st.integers(0, 5)), max_size=40)


def lives(events: list[tuple[Event, int]]) -> Iterator[tuple[Event, bytes, Keys, Keys]]:
    """Yield each event with the keys before and after it."""
    keys: Keys = {}
    for event, number in events:
        before, key = dict(keys), bytes([number])
        try:
            keys |= decide(event, keys, key)
        except ExuviaError:
            assert keys == before
        yield event, key, before, dict(keys)


@given(happenings())
def test_a_device_never_has_more_than_two_keys_nor_loses_its_last(events: list[tuple[Event, int]]) -> None:
    """One current key from the first on, at most one beside it; and what is retired stays so."""
    for _event, _key, before, after in lives(events):
        standings = [standing for standing in after.values() if standing != "retired"]
        assert standings.count("current") == bool(after)
        assert len(standings) <= 2
        assert all(after[key] == "retired" for key, standing in before.items() if standing == "retired")


@given(happenings())
def test_every_event_twice_is_the_event_once(events: list[tuple[Event, int]]) -> None:
    """A request whose answer was lost can be sent again."""
    for event, key, before, after in lives(events):
        if before != after:
            assert decide(event, after, key) == {}


@given(happenings())
def test_items_21_and_22_no_key_goes_before_another_works(events: list[tuple[Event, int]]) -> None:
    """
    Only a confirmation replaces a current key, and then it stays beside.

    Or its own device retires it; or the account's holder puts another one in its place, and no third.
    """
    for event, key, before, after in lives(events):
        current = [k for k, standing in before.items() if standing == "current"]
        if event in (Event.PUT, Event.DUE):
            assert all(after[k] == "current" for k in current)
        elif event is Event.CONFIRM:
            assert all(after[k] in ("current", "old") for k in current)
        elif event is Event.REPLACE:
            assert before == after or after[key] == "current"
        elif current and after[current[0]] != "current":
            assert key == current[0]


def test_how_many_retired_keys_may_wait() -> None:
    """Whatever is retired afterwards, no more than the limit come to wait."""
    retired: Keys = {bytes([n, 1]): "retired" for n in range(MOST_RETIRED)}
    fewer = dict(list(retired.items())[:-1])

    assert may_have_another({})
    assert may_have_another({**fewer, A: "current"})
    assert not may_have_another({**fewer, A: "current", B: "next"})
    assert not may_have_another({**retired, A: "current"})


@given(wall=st.floats(0, 4e9))
def test_the_hour_that_is_stored_is_never_early(wall: float) -> None:
    """A next key has a whole day, an old one 20 minutes, and each at most an hour more."""
    for standing, lasts in (("next", UNCONFIRMED), ("old", DRAINING)):
        hour = due_hour(standing, wall=wall)  # type: ignore[arg-type]
        assert hour is not None
        assert wall + lasts <= hour * 3600 < wall + lasts + 3600 + 1e-3
    assert due_hour("current", wall=wall) is None
    assert due_hour("retired", wall=wall) is None


def test_old_keys_are_due_after_twenty_minutes() -> None:
    """To the second, by a clock that never steps; once seen to, they are forgotten."""
    draining = Draining()
    draining.begin(A, now=100.0)
    draining.begin(B, now=160.0)

    assert draining.due(now=100.0 + DRAINING - 0.1) == []
    assert draining.due(now=100.0 + DRAINING) == [A]
    draining.forget([A])
    assert draining.due(now=1e9) == [B]
