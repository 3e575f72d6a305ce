"""The client's state while it runs: what is saved, changed by one step of the rules at a time."""

from typing import TypeVar

import msgspec

from exuvia.client.edges import Clock, Entropy
from exuvia.client.state import ClientKey, ClientState, Grant, StateFolder
from exuvia.errors import StateNotSaved, StateUnreadable
from exuvia.messages import DeviceState, RotationLimits
from exuvia.rules import schedule
from exuvia.rules.rotation import TABLE, Event, Keys, Phase, Standing, after, judge
from exuvia.rules.schedule import Moment
from exuvia.wg.keys import KEY_LENGTH, PrivateKey

T = TypeVar("T")


class Keeper:
    """
    The state, as it was last saved: nothing is done that isn't saved before.

    After StateNotSaved the state is as before, here and in the file.
    """

    def __init__(self, folder: StateFolder, *, clock: Clock, entropy: Entropy) -> None:
        """Raise NotLoggedIn if the folder has no device."""
        self.state, self.device, _, _ = folder.require()
        self.limits = RotationLimits()
        """What the control plane allows, as far as it was asked."""
        self._folder = folder
        self._clock = clock
        self._entropy = entropy

    @property
    def phase(self) -> Phase:
        """Where the client is in the life of its keys."""
        return self.state.phase

    @property
    def current(self) -> tuple[PrivateKey, Grant]:
        """The key to connect with."""
        return granted(self.state.current)

    @property
    def pending(self) -> ClientKey:
        """The key that is to become the current one; there must be one in this phase."""
        return _there(self.state.pending)

    def step(self, event: Event, *, grant: Grant | None = None) -> Phase:
        """Save what follows from an event, and return the new phase; `grant` is the pending key's."""
        phase, change = TABLE[self.phase, event]
        made = ClientKey(PrivateKey(self._entropy.octets(KEY_LENGTH))) if change == "make" else None
        keys = after(self.state.keys, change, made=made)
        if grant is not None and keys.pending is not None:
            keys = keys._replace(pending=msgspec.structs.replace(keys.pending, grant=grant))
        due = self._drawn(self.state.interval) if change == "adopt" else self.state.due
        changed = msgspec.structs.replace(self.state, phase=phase, due=due, **keys._asdict())
        if changed != self.state:
            self._save(changed)
        return phase

    def find(self, told: DeviceState) -> Event:
        """Take in what the control plane knows of the keys, and return what it found them to be."""
        self.limits = told.rotation_days
        found = self.judge(told)
        self.step(found)
        return found

    def judge(self, told: DeviceState) -> Event:
        """Return what the keys are found to be by what the control plane knows; nothing changes."""
        standings = {key.public_key: key.standing for key in told.keys}
        found = judge(Keys(*(_standing(key, standings) for key in self.state.keys)))
        if found == "ahead" and self.pending.grant is None:
            return "unknown"  # what it was given is not known here: registering it again tells
        return found

    def left(self) -> float:
        """Return the seconds until the next change is due; 0 if it is due now."""
        if self.state.due is None:
            return self._days(self.state.interval) * schedule.DAY
        return schedule.remaining(self.state.due, self._days(self.state.interval), now=self.now())

    def anchor(self) -> None:
        """Draw when the next change is due if that was never done; count it by this boot's clocks."""
        now, due = self.now(), self.state.due
        if due is None:
            due = self._drawn(self.state.interval)
        elif due.boot != now.boot or not now.boot:
            due = schedule.anchored(due, self._days(self.state.interval), now=now)
        if due != self.state.due:
            # On a full disk this is done again at the next start: no reason not to connect.
            changed = msgspec.structs.replace(self.state, due=due)
            try:
                self._save(changed)
            except StateNotSaved:
                self.state = changed

    def set_interval(self, days: int) -> str:
        """Change the key so often from now on, and say so; what is due sooner anyway stays so."""
        drawn = self._drawn(days)
        sooner = self.state.due is not None and self.left() < drawn.boottime - self.now().boottime
        due = self.state.due if sooner else drawn
        self._save(msgspec.structs.replace(self.state, interval=days, due=due))
        allowed = self._days(days)
        often = "every day" if allowed == 1 else f"every {allowed} days"
        told = f"the key is changed {often}, a fifth more or less"
        return told if allowed == days else f"{told}: that is what the control plane allows"

    def now(self) -> Moment:
        """Return the present moment, on both clocks."""
        return Moment(self._clock.wall().timestamp(), self._clock.boottime(), self._clock.boot())

    def _drawn(self, days: int) -> Moment:
        chance = self._entropy.bits(32) / 2**32
        return schedule.drawn(self._days(days), chance=chance, now=self.now())

    def _days(self, days: int) -> int:
        return schedule.within(days, shortest=self.limits.shortest, longest=self.limits.longest)

    def _save(self, changed: ClientState) -> None:
        self._folder.save(changed)
        self.state = changed


def granted(key: ClientKey | None) -> tuple[PrivateKey, Grant]:
    """Return both parts of a key that was granted, as the state's phases make sure that it was."""
    found = _there(key)
    return found.private_key, _there(found.grant)


def _there(part: T | None) -> T:
    if part is None:
        raise StateUnreadable("the saved keys do not fit the phase that they are in")
    return part


def _standing(key: ClientKey | None, standings: dict[str, Standing]) -> Standing | None:
    return None if key is None else standings.get(key.private_key.public_key().text())
