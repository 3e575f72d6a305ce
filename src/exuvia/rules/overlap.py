"""
The server's half of a rotation: a device's next key lives beside its current one, for a while.

A device has one key, or two: a current one, and beside it either the next one, which was not
confirmed yet, or the old one, which was replaced and drains. What is retired is nobody's any
more; it leaves the database and the gateways with the next batch.
"""

import math
from collections.abc import Mapping
from enum import Enum
from typing import Literal, NamedTuple

from exuvia.errors import ExuviaError, KeyRefused, KeySuperseded, NotFound, OnlyKey

Standing = Literal["current", "next", "old", "retired"]

UNCONFIRMED = 24 * 3600.0
"""Seconds after which a next key that was never confirmed is retired."""
DRAINING = 20 * 60.0
"""Seconds after a confirmation until the old key is retired; clients drain for 10 minutes at most."""
RETIRE_EVERY = 600.0
"""Seconds from one batch of retired keys to the next: each key hides among those of its batch."""
KEY_REFUSED = (
    "this public key can't be registered: it is malformed or somebody has it, or what should prove that "
    "you hold its private half is missing or wrong (GET /v1/possession)"
)
"""What is always said of a key that is malformed, retired, a gateway's, somebody else's, or not proven."""
MOST_RETIRED = 60
"""Retired keys of one device that may wait for a batch: each keeps its addresses for a day."""


class Event(Enum):
    """What happens to a key of a device."""

    PUT = "registered"
    CONFIRM = "confirmed"
    DELETE = "retired by its device"
    DUE = "due"
    REPLACE = "put in place of all others by the account's holder"


class Place(Enum):
    """What a key is to a device, and whether there is another one."""

    FIRST = "unknown to a device without a key"
    NEW = "unknown to a device with keys"
    ONLY = "its only key"
    CURRENT = "its current key, with another one beside it"
    NEXT = "its next key"
    OLD = "its old key"
    RETIRED = "retired"


class Step(NamedTuple):
    """What becomes of the key, and of the device's other keys by what they are; None: as they are."""

    key: Standing | None = None
    current: Standing | None = None
    second: Standing | None = None
    """Of the next or the old key, whichever there is."""


_NOTHING = Step()

TABLE: dict[tuple[Event, Place], Step | type[ExuviaError]] = {
    (Event.PUT, Place.FIRST): Step(key="current"),
    (Event.PUT, Place.NEW): Step(key="next", second="retired"),
    (Event.PUT, Place.ONLY): _NOTHING,
    (Event.PUT, Place.CURRENT): _NOTHING,
    (Event.PUT, Place.NEXT): _NOTHING,
    (Event.PUT, Place.OLD): _NOTHING,
    (Event.PUT, Place.RETIRED): KeyRefused,
    (Event.CONFIRM, Place.FIRST): NotFound,
    (Event.CONFIRM, Place.NEW): NotFound,
    (Event.CONFIRM, Place.ONLY): _NOTHING,
    (Event.CONFIRM, Place.CURRENT): _NOTHING,
    (Event.CONFIRM, Place.NEXT): Step(key="current", current="old"),
    (Event.CONFIRM, Place.OLD): KeySuperseded,
    (Event.CONFIRM, Place.RETIRED): NotFound,
    (Event.DELETE, Place.FIRST): _NOTHING,
    (Event.DELETE, Place.NEW): _NOTHING,
    (Event.DELETE, Place.ONLY): OnlyKey,
    (Event.DELETE, Place.CURRENT): Step(key="retired", second="current"),
    (Event.DELETE, Place.NEXT): Step(key="retired"),
    (Event.DELETE, Place.OLD): Step(key="retired"),
    (Event.DELETE, Place.RETIRED): _NOTHING,
    (Event.DUE, Place.FIRST): _NOTHING,
    (Event.DUE, Place.NEW): _NOTHING,
    (Event.DUE, Place.ONLY): _NOTHING,
    (Event.DUE, Place.CURRENT): _NOTHING,
    (Event.DUE, Place.NEXT): Step(key="retired"),
    (Event.DUE, Place.OLD): Step(key="retired"),
    (Event.DUE, Place.RETIRED): _NOTHING,
    (Event.REPLACE, Place.FIRST): Step(key="current"),
    (Event.REPLACE, Place.NEW): Step(key="current", current="retired", second="retired"),
    (Event.REPLACE, Place.ONLY): _NOTHING,
    (Event.REPLACE, Place.CURRENT): Step(second="retired"),
    (Event.REPLACE, Place.NEXT): Step(key="current", current="retired"),
    (Event.REPLACE, Place.OLD): KeyRefused,
    (Event.REPLACE, Place.RETIRED): KeyRefused,
}

_TEXTS: dict[type[ExuviaError], str] = {
    KeyRefused: KEY_REFUSED,
    KeySuperseded: "this key was replaced, and its successor was confirmed",
    NotFound: "the device has no such key",
    OnlyKey: "a device's only key can't be retired: log the device out instead",
}


def place(keys: Mapping[bytes, Standing], key: bytes) -> Place:
    """Return what a key is to a device that has these, its retired ones among them."""
    standing = keys.get(key)
    living = sum(one != "retired" for one in keys.values())
    if standing is None:
        return Place.NEW if living else Place.FIRST
    if standing == "current":
        return Place.CURRENT if living > 1 else Place.ONLY
    return Place[standing.upper()]


def decide(event: Event, keys: Mapping[bytes, Standing], key: bytes) -> dict[bytes, Standing]:
    """
    Return what becomes of which keys; nothing if all stay as they are.

    Raises what the table says where the event is refused.
    """
    step = TABLE[event, place(keys, key)]
    if not isinstance(step, Step):
        raise step(_TEXTS[step])
    becomes: dict[bytes, Standing] = {}
    for other, standing in keys.items():
        then = step.current if standing == "current" else step.second
        if other != key and standing != "retired" and then is not None:
            becomes[other] = then
    return becomes if step.key is None else {**becomes, key: step.key}


def may_have_another(keys: Mapping[bytes, Standing]) -> bool:
    """Return whether a device may have one more key: each but one may come to wait for a batch."""
    return len(keys) <= MOST_RETIRED


def due_hour(standing: Standing, *, wall: float) -> int | None:
    """
    Return the hour since 1970 from which a key that stands so since `wall` is due; None if it never is.

    Rounded up: hours are all that is stored, and no key may go early.
    """
    if standing not in _LASTS:
        return None
    return math.ceil((wall + _LASTS[standing]) / 3600)


_LASTS: dict[Standing, float] = {"next": UNCONFIRMED, "old": DRAINING}


class Draining:
    """
    When old keys are due to the minute, kept in memory only. Times are seconds of CLOCK_BOOTTIME.

    A restarted server has forgotten them, and goes by the hour that is stored.
    """

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def begin(self, key: bytes, *, now: float) -> None:
        """Note that a key became old now."""
        self._until[key] = now + DRAINING

    def due(self, *, now: float) -> list[bytes]:
        """Return the keys whose time is over."""
        return [key for key, until in self._until.items() if now >= until]

    def forget(self, keys: list[bytes]) -> None:
        """Drop keys that were seen to."""
        for key in keys:
            self._until.pop(key, None)
