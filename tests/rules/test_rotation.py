"""The life of a key: whatever happens, in whatever order, a working key is never given up for nothing."""

from itertools import product
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from exuvia.rules.rotation import DEEDS, TABLE, Event, Keys, Phase, Standing, after, diagram, judge

PHASES: tuple[Phase, ...] = get_args(Phase)
BEFORE: tuple[Phase, ...] = ("registering", "spreading", "switching")
AFTER: tuple[Phase, ...] = ("confirming", "draining", "retiring")


def test_every_phase_can_be_left_and_reached() -> None:
    """From each phase a way leads to settled, and from settled one leads to each phase."""
    assert set(DEEDS) == set(PHASES)
    for start in PHASES:
        reached = {start}
        for _ in PHASES:
            reached |= {step.phase for (phase, _), step in TABLE.items() if phase in reached}
        assert reached == set(PHASES)


def test_a_change_takes_every_step_once() -> None:
    """Without any trouble a change goes through each phase in order, and ends with the new key alone."""
    phase: Phase = "settled"
    keys: Keys[str] = Keys("a")
    passed = []
    events: list[Event] = ["due", "granted", "applied", "works", "confirmed", "drained", "retired"]
    for event in events:
        phase, change = TABLE[phase, event]
        keys = after(keys, change, made="b")
        passed.append((phase, tuple(keys)))

    assert passed == [
        ("registering", ("a", "b", None)),
        ("spreading", ("a", "b", None)),
        ("switching", ("a", "b", None)),
        ("confirming", ("b", None, "a")),
        ("draining", ("b", None, "a")),
        ("retiring", ("b", None, "a")),
        ("settled", ("b", None, None)),
    ]


def possible(phase: Phase) -> list[Event]:
    """Return what can happen in a phase."""
    return sorted(event for place, event in TABLE if place == phase)


@given(st.data())
def test_never_more_than_two_keys_and_always_a_current_one(data: st.DataObject) -> None:
    """After any events there is a current key, at most one other, and that is the one the phase needs."""
    phase: Phase = "settled"
    keys: Keys[int] = Keys(0)
    for made in range(1, 30):
        event = data.draw(st.sampled_from(possible(phase)))
        before, (phase, change) = keys, TABLE[phase, event]
        keys = after(keys, change, made=made)
        assert keys.current is not None
        assert (keys.pending is not None) == (phase in BEFORE)
        if phase in AFTER and before.previous is not None:
            assert keys.previous == before.previous
        if keys.current != before.current:
            assert keys.current in (before.pending, before.previous)


def test_p9_the_old_key_is_kept_until_the_answer() -> None:
    """Between adopting a key and the answer to its confirmation no event but a finding drops the old one."""
    findings = {"superseded", "unknown"}
    for (phase, event), step in TABLE.items():
        if phase in ("confirming", "draining") and event not in findings:
            assert step.change == "none"
            assert step.phase in AFTER


def test_every_finding_leads_on() -> None:
    """Whatever the control plane says of the keys that a phase has, the table knows what to do."""
    standings: tuple[Standing | None, ...] = (None, *get_args(Standing))
    for phase in PHASES:
        previous = standings if phase in AFTER else (None,)
        for current, other in product(standings, previous):
            assert (phase, judge(Keys(current, None, other))) in TABLE


def test_what_ends_by_itself_is_not_relied_on() -> None:
    """A key that the control plane is about to retire leads to another key, or to its confirmation."""
    assert judge(Keys("old")) == "unknown"
    assert judge(Keys("old", None, "current")) == "superseded"
    assert judge(Keys(None, None, "current")) == "superseded"
    assert judge(Keys("next", None, "current")) == judge(Keys("next")) == "unconfirmed"
    assert judge(Keys("current", None, "old")) == judge(Keys("current", "next")) == "known"
    assert judge(Keys(None, "current")) == "ahead"
    assert judge(Keys(None, None, "old")) == "unknown"


def test_the_picture_shows_the_table() -> None:
    """The diagram has an arrow for every row that leads somewhere else or changes a key."""
    arrows = [line for line in diagram() if "-->" in line]
    rows = [1 for (phase, _), step in TABLE.items() if step.phase != phase or step.change != "none"]

    assert len(arrows) == len(rows) + 1
