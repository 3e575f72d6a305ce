"""The whole peer table, read once for all gateways that ask for it at the same time."""

import asyncio
from dataclasses import dataclass

from exuvia.rules.feed import table_digest
from exuvia.store import peers
from exuvia.store.peers import Position
from exuvia.store.reader import Reader
from exuvia.wg.peers import TunnelPeer


@dataclass(frozen=True, slots=True)
class Digested:
    """The peer table at a position, packed one peer after the other, with its digest."""

    at: Position
    packed: bytes
    digest: bytes


class Tables:
    """Reads the peer table. It is not kept: in memory it stays while it is being sent."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._reading: asyncio.Task[Digested] | None = None

    async def at_least(self, revision: int) -> Digested:
        """Return the table as it is at this revision or a later one."""
        while True:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._read())
                self._reading.add_done_callback(self._forget)
            found = await asyncio.shield(self._reading)
            if found.at.revision >= revision:
                return found

    async def _read(self) -> Digested:
        table = await self._reader.run(peers.table)
        return await asyncio.to_thread(_digested, table)

    def _forget(self, _done: object) -> None:
        self._reading = None


def _digested(table: peers.Table) -> Digested:
    packed, length = table.packed, TunnelPeer.LENGTH
    digest = table_digest(packed[at : at + length] for at in range(0, len(packed), length))
    return Digested(table.at, packed, digest)
