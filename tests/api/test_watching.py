"""P13: somebody watches everything that gateways are told, and tries to follow devices through rotations."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from control_plane import Plane, feed_message, plane_at
from exuvia.api.upkeep import Upkeep
from exuvia.messages import Change
from exuvia.rules.overlap import RETIRE_EVERY
from exuvia.store import rotation
from exuvia.wg.keys import PublicKey
from set_clocks import Time, times

__all__ = ["times"]

DEVICES = 100
ROTATIONS = 10
"""Of each device."""
BATCHES = 100
DRAIN = 45.0
"""Seconds from a new key to the end of the old one: always the same, and the adversary knows it."""


@dataclass
class Adversary:
    """Sees each change with its time, and guesses which new key is whose old one."""

    changes: list[tuple[float, Change]] = field(default_factory=list)
    first: set[bytes] = field(default_factory=set)
    """Keys of first registrations: even those he can tell from rotations."""

    def guesses(self) -> dict[str, dict[bytes, bytes]]:
        """Return the guesses of each way that he knows, as old key → new key."""
        return {
            "the same message": self._in_the_same_message(),
            "one after the other": self._one_after_the_other(),
            "in order, at the known delay": self._at_the_delay(lambda keys: keys),
            "in reverse order": self._at_the_delay(lambda keys: keys[::-1]),
            "by addresses": self._at_the_delay(self._by(slice(32, 36))),
            "by preshared keys": self._at_the_delay(self._by(slice(52, 84))),
            "the last one added": self._last_added(),
            "alike": self._alike(),
        }

    def _added(self) -> Iterator[tuple[float, bytes]]:
        for at, change in self.changes:
            yield from ((at, peer) for peer in change.put if peer[:32] not in self.first)

    def _in_the_same_message(self) -> dict[bytes, bytes]:
        return {
            old: peer[:32]
            for _, change in self.changes
            for old, peer in zip(change.remove, change.put, strict=False)
        }

    def _one_after_the_other(self) -> dict[bytes, bytes]:
        removed = [key for _, change in self.changes for key in change.remove]
        return dict(zip(removed, (peer[:32] for _, peer in self._added()), strict=False))

    def _candidates(self) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield removed keys with all peers that can have replaced them, if the delay is as he knows it."""
        added, before = list(self._added()), self.changes[0][0] - RETIRE_EVERY
        for at, change in self.changes:
            if change.remove:
                found = [peer for when, peer in added if before - DRAIN < when <= at - DRAIN]
                before = at
                yield change.remove, found

    def _at_the_delay(self, order: Callable[[list[bytes]], list[bytes]]) -> dict[bytes, bytes]:
        return {
            old: peer[:32]
            for removed, found in self._candidates()
            for old, peer in zip(removed, order(found), strict=False)
        }

    @staticmethod
    def _by(part: slice) -> Callable[[list[bytes]], list[bytes]]:
        return lambda peers: sorted(peers, key=lambda peer: peer[part])

    def _last_added(self) -> dict[bytes, bytes]:
        guessed, last = {}, b""
        for _, change in self.changes:
            guessed.update(dict.fromkeys(change.remove, last))
            last = change.put[-1][:32] if change.put else last
        return guessed

    def _alike(self) -> dict[bytes, bytes]:
        peers = {peer[:32]: peer for _, change in self.changes for peer in change.put}

        def distance(old: bytes, peer: bytes) -> int:
            numbers = [int.from_bytes(one[32:52], "big") for one in (peers[old], peer)]
            return (numbers[0] ^ numbers[1]).bit_count()

        return {
            old: min(found, key=partial(distance, old))[:32]
            for removed, found in self._candidates()
            for old in removed
            if found
        }


@dataclass
class Town:
    """Devices that rotate, and the adversary who watches the feed."""

    plane: Plane
    times: Time
    chance: Random
    adversary: Adversary = field(default_factory=Adversary)
    successors: dict[bytes, bytes] = field(default_factory=dict)
    keys: dict[str, PublicKey] = field(default_factory=dict)
    """The current key of each device, by its token."""

    async def live(self) -> None:
        """Let all devices rotate at random times, and the control plane do its work."""
        care = Upkeep(self.plane.inner.control, erase_after=900)
        subscriber = self.plane.inner.control.hub.subscribe()
        await self._settle()
        begin, span = self.times.boot, BATCHES * RETIRE_EVERY
        steps: list[tuple[float, str, PublicKey | None]] = []
        for token in self.keys:
            # One in each part of the time: nobody rotates again before he has drained.
            for part in range(ROTATIONS):
                at = (part + self.chance.uniform(0.05, 0.95)) * span / ROTATIONS
                key = self._fresh()
                steps += [(at, token, key), (at + DRAIN, token, None)]
        ticks = [(n * RETIRE_EVERY / 4, "", None) for n in range(4 * (BATCHES + 1) + 1)]
        for at, token, key in sorted([*steps, *ticks], key=lambda step: step[0]):
            now = self.times.passes(timedelta(seconds=begin + at - self.times.boot))
            if not token:
                await care.look_after(now=now)
            elif key is not None:
                await self._replace(token, key)
            else:
                await self._ask("DELETE", token, self.old[token])
            for _, data in await subscriber.next(0) if subscriber._waiting else []:
                self._seen(now, data)

    def _seen(self, now: float, data: bytes) -> None:
        for line in data.splitlines():
            message = feed_message(line)
            assert isinstance(message, Change)
            self.adversary.changes.append((now, message))

    async def _settle(self) -> None:
        number = await self.plane.account(devices=DEVICES)
        for _ in range(DEVICES):
            key = self._fresh()
            self.keys[(await self.plane.register(number, key.text())).token] = key
            self.adversary.first.add(key)
        self.old: dict[str, PublicKey] = {}

    async def _replace(self, token: str, key: PublicKey) -> None:
        old = self.keys[token]
        await self._ask("PUT", token, key)
        await self._ask("POST", token, key, "/confirm")
        self.successors[old] = key
        self.keys[token], self.old[token] = key, old

    async def _ask(self, method: str, token: str, key: PublicKey, what: str = "") -> None:
        answer = await self.plane.ask(method, f"/v1/device/keys/{key.path()}{what}", bearer=token)
        assert answer.status in (200, 204), answer

    def _fresh(self) -> PublicKey:
        return PublicKey(self.chance.randbytes(31) + b"\1")


async def watched(folder: Path, times: Time, monkeypatch: pytest.MonkeyPatch) -> Town:
    """Return a town where a thousand rotations happened, and who watched them."""
    chance = Random(20)

    async def erase(_self: Upkeep, _now: float) -> None:
        """Erase nothing: he has seen it already."""

    monkeypatch.setattr(Upkeep, "_erase", erase)
    async with plane_at(folder / "x.db") as plane:
        control = plane.inner.control
        control.bits = chance.getrandbits
        # Nobody cuts the power here.
        await control.store.writer.run_alone(lambda c: c.execute("PRAGMA synchronous = OFF") and None)
        town = Town(plane, times, chance)
        await town.live()
    return town


def best(town: Town) -> tuple[int, str]:
    """Return how many guesses were right in the best way, and which that was."""
    return max(
        (sum(town.successors.get(old) == new for old, new in guessed.items()), way)
        for way, guessed in town.adversary.guesses().items()
    )


async def test_p13_nobody_follows_a_device_through_its_rotations(
    times: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand rotations one in a batch is guessed, as by chance, whatever the adversary tries."""
    town = await watched(tmp_path, times, monkeypatch)
    removed = [len(change.remove) for _, change in town.adversary.changes if change.remove]
    right, way = best(town)

    assert len(town.successors) == sum(removed) == DEVICES * ROTATIONS
    # Matching a batch at random, one guess is right on average, and their number varies by one.
    assert right <= len(removed) + 4 * math.sqrt(len(removed)), way
    assert all(not (change.put and change.remove) for _, change in town.adversary.changes)
    assert len(removed) <= BATCHES + 1
    assert all(change.remove == sorted(change.remove) for _, change in town.adversary.changes)


def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways are told of each retired key at once."""
    retire = rotation.retire

    def retire_and_remove(transaction: Any, wish: Any) -> None:
        retire(transaction, wish)
        rotation.remove_retired(transaction, 0)

    monkeypatch.setattr(rotation, "retire", retire_and_remove)


def told_with_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways are told of retired keys together with the next key that is added."""
    put = rotation.put

    def put_and_remove(transaction: Any, **given: Any) -> Any:
        granted = put(transaction, **given)
        rotation.remove_retired(transaction, 0)
        return granted

    monkeypatch.setattr(rotation, "put", put_and_remove)


def told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways are told in batches, one key after the other as they were retired."""
    order: list[bytes] = []
    retire = rotation.retire

    def retire_and_note(transaction: Any, wish: Any) -> None:
        retire(transaction, wish)
        order.append(wish.public_key)

    def remove(transaction: Any, key: bytes) -> None:
        transaction.execute("DELETE FROM key WHERE public_key = ?", (key,))
        transaction.remove(key)

    async def one_by_one(self: Upkeep, now: float) -> None:
        self._control.batch_at = now + RETIRE_EVERY
        while order:
            await self._control.store.writer.run(partial(remove, key=order.pop(0)))

    monkeypatch.setattr(rotation, "retire", retire_and_note)
    monkeypatch.setattr(Upkeep, "_retire", one_by_one)


@pytest.mark.parametrize("broken", [told_at_once, told_with_additions, told_in_order])
async def test_p13_the_adversary_sees_what_there_is_to_see(
    times: Time,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Told otherwise than in batches of their own, retired keys lead to the new ones mostly."""
    broken(monkeypatch)
    right, _ = best(await watched(tmp_path, times, monkeypatch))

    assert right > DEVICES * ROTATIONS / 2
