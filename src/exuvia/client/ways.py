"""How a new key is put to use: beside the tunnel in use, or without one."""

import asyncio
from collections.abc import Awaitable, Callable

from exuvia.client.edges import Clock
from exuvia.client.gateways import Gateway
from exuvia.client.state import Grant
from exuvia.client.tunnels import Tunnels
from exuvia.errors import Unavailable
from exuvia.wg.keys import PrivateKey

SPREADING = 15.0
"""Seconds that the gateways may take to learn of a key before ours is tried anyway."""
HANDSHAKE = 30.0
"""Seconds that a first handshake may take, once the gateways know the key: time for five more tries."""

_LOOK_FIRST = 0.002
_LOOK = 0.02
_LOOK_LATER = 0.2
_SOON = 2.0
_IDLE = 3.0


class Beside:
    """
    Make before break: a second tunnel to the same gateway, that new flows take once it works.

    Flows that began before go on for up to `drain` seconds.
    """

    patience = SPREADING

    def __init__(self, tunnels: Tunnels, gateway: Gateway, *, drain: float, clock: Clock) -> None:
        self.hurry = asyncio.Event()
        """Set when what still drains is to end at once."""
        self.until: float | None = None
        """While the old tunnel drains: when that ends at the latest."""
        self._tunnels = tunnels
        self._gateway = gateway
        self._drain = drain
        self._clock = clock

    def prepare(self, key: PrivateKey, grant: Grant) -> None:
        """Make the tunnel."""
        self._tunnels.prepare(self._gateway, key, grant)

    async def works(self, everywhere: asyncio.Event) -> bool:
        """Wait for its first handshake, begun anew when every gateway knows the key."""
        # An initiation that came before the gateway knew the key is lost, and WireGuard would
        # send the next one only after REKEY_TIMEOUT.
        early = not everywhere.is_set()
        self._tunnels.kick()
        began = self._clock.boottime()
        while not self._tunnels.look_beside().handshake:
            now = self._clock.boottime()
            if early and everywhere.is_set():
                early, began = False, now
                self._tunnels.kick()
            elif now - began >= HANDSHAKE:
                return False
            await asyncio.sleep(_until_next_look(now - began))
        return True

    def take(self) -> None:
        """Let new flows use it."""
        self._tunnels.switch()

    async def drain(self) -> None:
        """Let old flows end by themselves, but not for ever; then end the old tunnel."""
        now = self._clock.boottime()
        self.until = now + self._drain
        try:
            while now < self.until and not self.hurry.is_set() and not self._tunnels.old_is_idle():
                await _happens(self.hurry, max(_LOOK, min(_IDLE, self.until - now)))
                now = self._clock.boottime()
            self._tunnels.end_old()
        finally:
            self.until = None

    def leave(self) -> None:
        """Remove the second tunnel, if it was not taken."""
        self._tunnels.abandon()

    def end(self) -> None:
        """Remove whatever there is beside the tunnel in use."""
        self._tunnels.abandon()
        self._tunnels.end_old()


class Asleep:
    """While the client is down: what the control plane says of the gateways has to do."""

    patience = 0.0

    def prepare(self, key: PrivateKey, grant: Grant) -> None:
        """Nothing is made."""

    async def works(self, everywhere: asyncio.Event) -> bool:
        """Say that it does, if every gateway comes to know the key."""
        await _happens(everywhere, SPREADING)
        if not everywhere.is_set():
            raise Unavailable("not every gateway knows the new key yet: it is taken at the next opportunity")
        return True

    def take(self) -> None:
        """Nothing uses any key."""

    async def drain(self) -> None:
        """Nothing drains."""

    def leave(self) -> None:
        """Nothing was prepared."""


class Instead(Asleep):
    """While nothing is connected: the one tunnel is dialled with the new key."""

    patience = 5.0

    def __init__(self, dial: Callable[[PrivateKey, Grant], Awaitable[bool]]) -> None:
        """`dial` says whether a handshake came of it."""
        self._dial = dial
        self._key: tuple[PrivateKey, Grant] | None = None

    def prepare(self, key: PrivateKey, grant: Grant) -> None:
        """Note the key."""
        self._key = key, grant

    async def works(self, everywhere: asyncio.Event) -> bool:
        """Dial with it; also if a gateway does not know it yet, for that need not be ours."""
        return self._key is not None and await self._dial(*self._key)


def _until_next_look(waited: float) -> float:
    """A handshake takes as long as a packet to the gateway and back: rarely long, often very short."""
    return max(_LOOK_FIRST, min(waited, _LOOK)) if waited < _SOON else _LOOK_LATER


async def _happens(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
