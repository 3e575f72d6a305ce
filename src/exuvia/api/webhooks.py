"""
Telling billing which accounts were cancelled, so that it stops charging: at least once, signed, and no more.

Nothing else waits for it, and what fails here ends nothing else.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

import msgspec

from exuvia.api import identifiers
from exuvia.api.alarms import UNTOLD, WEBHOOK
from exuvia.api.control import Control
from exuvia.errors import EventUndelivered, StoreUnavailable
from exuvia.messages import AccountCancelled
from exuvia.rules.retrying import pause
from exuvia.rules.webhooks import GATHERED, LONGEST_PAUSE, MOST_REFUSALS, signature
from exuvia.store import outbox
from exuvia.store.outbox import Event
from exuvia.system import clock
from exuvia.system.posting import Receiver

_log = logging.getLogger("exuvia.webhook")
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Billing:
    """Whom to tell, and how it knows that it was us."""

    receiver: Receiver
    secrets: list[bytes]
    every: float = GATHERED


class Webhooks:
    """Runs for as long as the server does."""

    def __init__(self, control: Control, billing: Billing) -> None:
        self._control = control
        self._billing = billing
        self._failures = 0
        """Rounds in a row in which something was not delivered."""

    async def run(self) -> None:
        """Tell what there is to tell, in rounds."""
        await asyncio.sleep(self._billing.every * self._chance())
        while True:
            await self.tell_all()
            await asyncio.sleep(self._pause())

    async def tell_all(self) -> None:
        """Tell billing of everything that it was not told yet; what fails is tried in the next round."""
        try:
            await self._give_up()
            failure = await self._tell_some()
        except (StoreUnavailable, OSError) as error:
            failure = str(error)
        except Exception:
            # A mistake of ours in here must not end the control plane.
            _log.exception("a round of webhooks failed")
            failure = "there is a mistake in exuvia"
        if failure is None:
            self._failures = 0
            self._control.alarms.end(WEBHOOK)
        else:
            self._failures += 1
            self._control.alarms.begin(
                WEBHOOK, f"billing can't be told of accounts that were cancelled, tried again: {failure}"
            )

    def _pause(self) -> float:
        if not self._failures:
            return self._billing.every
        return pause(self._failures, chance=self._chance(), longest=LONGEST_PAUSE)

    def _chance(self) -> float:
        return self._control.bits(16) / 0xFFFF

    async def _give_up(self) -> None:
        hour, alarms = self._control.hour, self._control.alarms
        lost = await self._control.store.writer.run(
            lambda transaction: outbox.give_up(transaction, hour=hour)
        )
        if lost:
            alarms.end(UNTOLD)
            alarms.begin(
                UNTOLD,
                f"billing was never told of {lost} accounts that were cancelled: compare what it charges "
                "with `exuvia account list`. This alarm is on until the server is restarted",
            )

    async def _tell_some(self) -> str | None:
        """Tell of events until none is left; return what was wrong in the end."""
        question, refusals = partial(outbox.some, limit=_AT_ONCE), 0
        failure = None
        while failure is None and (events := await self._control.store.reader.run(question)):
            for event in events:
                try:
                    status = await self._tell(event)
                except EventUndelivered as error:
                    return str(error)
                if not 200 <= status < 300:
                    failure, refusals = f"it answered with status {status}", refusals + 1
                if refusals >= MOST_REFUSALS:
                    break
        return failure

    async def _tell(self, event: Event) -> int:
        """Tell of one event, and forget it if that was accepted."""
        status = await self._billing.receiver.post(*_letter(event, self._billing.secrets))
        if 200 <= status < 300:
            await self._control.store.writer.run(lambda transaction: outbox.forget(transaction, event.id))
        return status


def _letter(event: Event, secrets: list[bytes]) -> tuple[bytes, list[str]]:
    """Return what is posted of an event: the body and its headers."""
    id, now = identifiers.text(event.id), int(clock.wall().timestamp())
    body = msgspec.json.encode(AccountCancelled(id, identifiers.text(event.account_id)))
    return body, [
        f"webhook-id: {id}",
        f"webhook-timestamp: {now}",
        f"webhook-signature: {signature(secrets, id, now, body)}",
    ]
