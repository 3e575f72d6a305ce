"""Telling whoever waits for a change of keys how it goes."""

import asyncio
from collections.abc import AsyncGenerator

from exuvia.client.talk import Progress
from exuvia.rules.rotation import Event, Phase

_TOLD: dict[Phase, str] = {
    "registering": "registering a new key",
    "spreading": "waiting until every gateway knows the new key",
    "switching": "waiting for the first handshake with the new key",
    "confirming": "new connections use the new key; telling the control plane",
}
CHANGED = "the key is changed"
FORGOTTEN = "the control plane has forgotten the new key: connecting again with what it knows"


def told(event: Event, phase: Phase) -> Progress | None:
    """Return what is said of a step in a change of keys that led to this phase."""
    if event == "confirmed":
        return Progress(CHANGED, done=True)
    if event in ("superseded", "unknown"):
        return Progress(FORGOTTEN, done=True, failed=True)
    return Progress(_TOLD[phase]) if phase in _TOLD else None


class Following:
    """Everybody who waits."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Queue[Progress]] = set()

    def moved(self, event: Event, phase: Phase) -> None:
        """Tell of a step, if there is anything to tell."""
        progress = told(event, phase)
        if progress is not None:
            self.tell(progress)

    def end(self, said: str, *, failed: bool = False) -> None:
        """Tell the outcome."""
        self.tell(Progress(said, done=True, failed=failed))

    def tell(self, progress: Progress) -> None:
        """Tell everybody."""
        for queue in self._waiting:
            queue.put_nowait(progress)

    def follow(self) -> AsyncGenerator[Progress, None]:
        """Yield what is told from now on, the outcome last."""
        queue: asyncio.Queue[Progress] = asyncio.Queue()
        self._waiting.add(queue)
        return self._told(queue)

    async def _told(self, queue: asyncio.Queue[Progress]) -> AsyncGenerator[Progress, None]:
        try:
            while True:
                progress = await queue.get()
                yield progress
                if progress.done:
                    return
        finally:
            self._waiting.discard(queue)
