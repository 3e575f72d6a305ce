"""
What the control plane does by itself: it forgets what is over, and ends what has expired.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from exuvia.api.alarms import CLOCK, ERASURE, EXPIRY, POOL, RETIREMENT, STORE
from exuvia.api.control import Control
from exuvia.errors import StoreUnavailable
from exuvia.rules.allocation import NEARLY_FULL
from exuvia.rules.expiry import ChangeAges, look, rested_before
from exuvia.rules.overlap import RETIRE_EVERY
from exuvia.store import accounts, meta, peers, rotation
from exuvia.store.wiping import Wiped
from exuvia.system import clock

_TICK = 1.0
_ACCOUNTS_AT_ONCE = 50
_PATIENCE = 50
"""How often to try while somebody reads what is not in the file yet, at every tenth of a second."""


class Upkeep:
    """Runs for as long as the server does."""

    def __init__(self, control: Control, *, erase_after: float, retire_every: float = RETIRE_EVERY) -> None:
        now = clock.boottime()
        self._control = control
        self._ages = ChangeAges(erase_after=erase_after, now=now)
        self._next_erasure = now + self._ages.interval
        self._expired_for = ""
        """The day whose expired accounts have lost their keys."""
        self._retired_for = 0
        """The hour whose due keys are retired."""
        self._cleared_until = -1
        """How many rows had been written when leftovers were cleared."""
        self._retire_every = retire_every
        control.batch_at = now + retire_every

    async def run(self) -> None:
        """Look after everything, once a second and when erasure is due."""
        while True:
            await self.look_after(now=clock.boottime())
            await asyncio.sleep(max(0.0, min(_TICK, self._next() - clock.boottime())))

    def _next(self) -> float:
        return min(self._next_erasure, self._control.batch_at)

    async def look_after(self, *, now: float) -> None:
        """Do what is due."""
        self._look_at_the_clock(now)
        self._control.failures.forget_in_time()
        if not self._control.clock.paused and self._expired_for != self._control.today:
            await self._attempt(EXPIRY, self._expire())
        if self._is_any_due(now):
            await self._attempt(RETIREMENT, self._retire(now))
        if now >= self._next_erasure:
            self._next_erasure = now + self._ages.interval
            await self._attempt(ERASURE, self._erase(now))

    def _look_at_the_clock(self, now: float) -> None:
        control = self._control
        control.believe(look(control.clock, wall=clock.wall().timestamp(), boottime=now))
        if control.clock.paused:
            control.alarms.begin(
                CLOCK,
                "the wall clock stepped by over an hour: no account expires until it is right again. "
                "If it is right now, restart with --trust-clock",
            )
        else:
            control.alarms.end(CLOCK)

    async def _attempt(self, alarm: str, work: Coroutine[Any, Any, None]) -> None:
        alarms = self._control.alarms
        try:
            await work
        except (StoreUnavailable, OSError) as error:
            alarms.begin(alarm, f"not possible at the moment, tried again: {error}")
        else:
            alarms.end(alarm)
            alarms.end(STORE)

    async def _expire(self) -> None:
        """Take the keys of accounts whose last day has passed."""
        control, today = self._control, self._control.today
        while ids := await control.store.reader.run(
            lambda connection: accounts.expired_with_keys(connection, today=today, limit=_ACCOUNTS_AT_ONCE)
        ):
            await control.store.writer.run(partial(accounts.expire, ids=ids, today=today, hour=control.hour))
        self._expired_for = today

    def _is_any_due(self, now: float) -> bool:
        return self._is_new_hour() or now >= self._control.batch_at or bool(self._drained(now))

    def _is_new_hour(self) -> bool:
        return not self._control.clock.paused and self._retired_for != self._control.hour

    def _drained(self, now: float) -> list[bytes]:
        return self._control.draining.due(now=now)

    async def _retire(self, now: float) -> None:
        """Retire keys whose overlap is over; and if it is time, remove what was retired, all at once."""
        control, writer = self._control, self._control.store.writer
        if drained := self._drained(now):
            await writer.run(partial(rotation.retire_drained, keys=drained))
            control.draining.forget(drained)
        if self._is_new_hour():
            hour = control.hour
            while await writer.run(partial(rotation.retire_due, hour=hour)):
                pass
            self._retired_for = hour
        if now >= control.batch_at:
            control.batch_at = now + self._retire_every
            await writer.run_apart(partial(rotation.remove_retired, hour=control.hour))

    async def _erase(self, now: float) -> None:
        """Erase what is over, so that no byte of it is left in any file."""
        await self._forget_changes(self._ages.tick(self._control.hub.at.revision, now=now))
        if not self._control.clock.paused:
            await self._wake_rested()
        # Also while the wall clock is wrong: believed time goes on without it.
        hour = self._control.hour
        await self._control.store.writer.run(lambda transaction: meta.note_hour(transaction, hour))
        await self._control.store.renew_generation(self._control.bits)
        await self._clear_leftovers()
        await self._patiently(self._truncate)
        await self._count()

    async def _forget_changes(self, revision: int) -> None:
        more = revision > 0
        while more:
            more = await self._control.store.writer.run(
                lambda transaction: peers.forget_changes(transaction, revision)
            )

    async def _wake_rested(self) -> None:
        store, hour = self._control.store, rested_before(self._control.hour)
        while addresses := await store.reader.run(lambda connection: peers.rested(connection, hour)):
            await store.writer.run(partial(peers.wake, addresses=addresses))

    async def _clear_leftovers(self) -> None:
        store = self._control.store
        written = store.writer.rows_written
        if written != self._cleared_until:
            await self._patiently(partial(store.writer.run_alone, store.clearing()))
            self._cleared_until = written

    async def _truncate(self) -> Wiped:
        return Wiped.ALL if await self._control.store.truncate_log() else Wiped.BUSY

    async def _patiently(self, step: Callable[[], Awaitable[Wiped]]) -> None:
        """Repeat a step until all is done; requests that wait are served between two steps."""
        patience = _PATIENCE
        while (done := await step()) is not Wiped.ALL:
            if done is Wiped.BUSY:
                patience -= 1
                if not patience:
                    raise StoreUnavailable("something can't be erased while it is being read")
                await asyncio.sleep(0.1)

    async def _count(self) -> None:
        control = self._control
        control.peers, resting = await control.store.reader.run(peers.counts)
        control.addresses_in_use = (control.peers + resting) / control.store.pools.usable4()
        if control.addresses_in_use > NEARLY_FULL:
            control.alarms.begin(
                POOL, "nearly all tunnel addresses are in use: registrations will be refused"
            )
        else:
            control.alarms.end(POOL)
