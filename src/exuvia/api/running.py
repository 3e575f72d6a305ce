"""A control plane that is ready to be asked, with or without a server in front of it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from exuvia.api.app import Application
from exuvia.api.control import Control
from exuvia.api.fleet import Fleet
from exuvia.api.hub import Hub
from exuvia.api.table import router
from exuvia.rules.expiry import first_look
from exuvia.store import gateways, store
from exuvia.store.store import Wanted
from exuvia.store.writer import Committed
from exuvia.system import clock, entropy


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """What answers requests, and what has to run beside it."""

    control: Control
    public: Application
    operators: Application
    """For whoever reaches the socket beside the database, or runs in this process."""


@contextlib.asynccontextmanager
async def opened(path: Path, wanted: Wanted, *, trust_clock: bool = False) -> AsyncIterator[ControlPlane]:
    """Open the database at a path and make a control plane of it."""
    hubs: list[Hub] = []

    def publish(committed: Committed) -> None:
        hubs[0].publish(committed)

    async with store.opened(path, wanted, bits=entropy.bits, on_commit=publish) as database:
        hubs.append(Hub(database.opened_at))
        enrolled = await database.reader.run(gateways.enrolled)
        believed = first_look(
            wall=clock.wall().timestamp(),
            boottime=clock.boottime(),
            latest_hour=database.clock_hour,
            trusted=trust_clock,
        )
        control = Control(database, hubs[0], Fleet(enrolled, database.opened_at), believed, bits=entropy.bits)
        routes = router()
        yield ControlPlane(control, Application(control, routes), Application(control, routes, trusted=True))
