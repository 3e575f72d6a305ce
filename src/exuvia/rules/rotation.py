"""
Where it is decided what becomes of a client's keys: the life of a key as a table.

A phase is saved before what belongs to it is done, and all of that can be done again: whoever
is stopped at any moment goes on with the phase that was saved. The old key is kept until the
control plane has answered that the new one is confirmed. The picture in docs/client.md is
drawn from this table.
"""

from collections.abc import Iterator, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar

K = TypeVar("K")

Phase = Literal["settled", "registering", "spreading", "switching", "confirming", "draining", "retiring"]
# fmt: off
Event = Literal[
    "due", "granted", "refused", "applied", "late", "works", "silent", "confirmed", "drained", "retired",
    "known", "unconfirmed", "superseded", "ahead", "unknown",
]
# fmt: on
"""
What happened. The last five are found by asking which keys the control plane knows: `known`: the
current one, in good standing; `unconfirmed`: the current one, but as a next one that ends when it
is not confirmed; `superseded`: of two keys the previous one, and it alone lasts; `ahead`: of two keys
the pending one, likewise; `unknown`: none that lasts.
"""

Change = Literal["none", "make", "adopt", "go back", "forget"]
"""
What becomes of the keys: `make`: a new pending one, and no previous; `adopt`: the pending one
becomes the current, that the previous; `go back`: the previous becomes the current, that is
forgotten; `forget`: the previous is overwritten.
"""

Standing = Literal["current", "next", "old"]
"""What a key is to the control plane; a key that it does not know has none."""

DEEDS: Mapping[Phase, str] = {
    "settled": "wait until a change is due",
    "registering": "PUT the pending key",
    "spreading": "ask whether every gateway knows it",
    "switching": "first handshake with it",
    "confirming": "new flows take it; POST confirm",
    "draining": "old flows go on over the previous key",
    "retiring": "DELETE the previous key",
}
"""What is done in each phase; each may be done twice."""


class Step(NamedTuple):
    """Where an event leads to, and what becomes of the keys on the way."""

    phase: Phase
    change: Change = "none"


TABLE: Mapping[tuple[Phase, Event], Step] = {
    ("settled", "due"): Step("registering", "make"),
    ("registering", "granted"): Step("spreading"),
    ("registering", "refused"): Step("registering", "make"),
    ("spreading", "applied"): Step("switching"),
    ("spreading", "late"): Step("switching"),
    ("switching", "works"): Step("confirming", "adopt"),
    ("switching", "silent"): Step("registering"),
    ("confirming", "confirmed"): Step("draining"),
    ("draining", "drained"): Step("retiring"),
    ("retiring", "retired"): Step("settled", "forget"),
    # Healing. Before a new key is adopted, registering it (again) answers every question.
    ("settled", "known"): Step("settled"),
    ("settled", "unconfirmed"): Step("confirming"),
    ("settled", "unknown"): Step("registering", "make"),
    ("registering", "known"): Step("registering"),
    ("registering", "unconfirmed"): Step("registering"),
    ("registering", "ahead"): Step("confirming", "adopt"),
    ("registering", "unknown"): Step("registering"),
    ("spreading", "known"): Step("spreading"),
    ("spreading", "unconfirmed"): Step("registering"),
    ("spreading", "ahead"): Step("confirming", "adopt"),
    ("spreading", "unknown"): Step("registering"),
    ("switching", "known"): Step("switching"),
    ("switching", "unconfirmed"): Step("registering"),
    ("switching", "ahead"): Step("confirming", "adopt"),
    ("switching", "unknown"): Step("registering"),
    ("confirming", "known"): Step("confirming"),
    ("confirming", "unconfirmed"): Step("confirming"),
    ("confirming", "superseded"): Step("settled", "go back"),
    ("confirming", "unknown"): Step("registering", "make"),
    ("draining", "known"): Step("draining"),
    ("draining", "unconfirmed"): Step("confirming"),
    ("draining", "superseded"): Step("settled", "go back"),
    ("draining", "unknown"): Step("registering", "make"),
    ("retiring", "known"): Step("retiring"),
    ("retiring", "unconfirmed"): Step("confirming"),
    ("retiring", "superseded"): Step("settled", "go back"),
    ("retiring", "unknown"): Step("registering", "make"),
}


class Keys(NamedTuple, Generic[K]):
    """The keys of a client, of whatever kind: never more than two of them."""

    current: K | None
    """What to connect with."""
    pending: K | None = None
    """Not yet known to work."""
    previous: K | None = None
    """Replaced, and kept until the control plane has answered."""


def after(keys: Keys[K], change: Change, *, made: K | None = None) -> Keys[K]:
    """Return what becomes of the keys; `made` is the new one if one is to be made."""
    match change:
        case "make":
            return Keys(keys.current, made)
        case "adopt":
            return Keys(keys.pending, None, keys.current)
        case "go back":
            return Keys(keys.current if keys.previous is None else keys.previous)
        case "forget":
            return Keys(keys.current)
        case "none":
            return keys


def judge(standings: Keys[Standing]) -> Event:
    """
    Return what it means that the control plane knows the keys so; None stands for a key it does not know.

    An old key lasts for some minutes only: whoever has nothing better has none.
    """
    if standings.current == "current":
        return "known"
    if standings.pending == "current":
        return "ahead"
    if standings.previous == "current":
        return "unconfirmed" if standings.current == "next" else "superseded"
    return "unconfirmed" if standings.current == "next" else "unknown"


def diagram() -> Iterator[str]:
    """Yield the lines of the table's picture, as Mermaid draws it; what leads nowhere else is left out."""
    yield "stateDiagram-v2"
    yield "  [*] --> settled"
    for phase, deed in DEEDS.items():
        yield f"  {phase}: {phase} ({deed})"
    for (phase, event), step in TABLE.items():
        if step.phase != phase or step.change != "none":
            keys = "" if step.change == "none" else f" / {_TOLD[step.change]}"
            yield f"  {phase} --> {step.phase}: {_SAID.get(event, event)}{keys}"


_TOLD: Mapping[Change, str] = {
    "make": "make a key",
    "adopt": "the pending key becomes the current one",
    "go back": "the previous key becomes the current one",
    "forget": "forget the previous key",
}
_SAID: Mapping[Event, str] = {
    "late": "15 s are over",
    "works": "it works",
    "unconfirmed": "found unconfirmed",
    "superseded": "found superseded",
    "ahead": "found ahead",
    "unknown": "found unknown",
}
