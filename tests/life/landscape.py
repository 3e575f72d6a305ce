"""This side: a machine whose tunnels work when they would, and the ways from it to the control plane."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import TypeVar

from office import Gateway as Site
from office import Office
from virtual import SimClock

from exuvia.client.gateways import Address, Endpoint, Gateway
from exuvia.client.state import Grant
from exuvia.errors import ControlPlaneUnreachable, InterfaceUnavailable, Unavailable
from exuvia.messages import DeviceState, GatewayListing
from exuvia.system.dns import Way
from exuvia.wg.keys import PrivateKey, PublicKey
from exuvia.wg.peers import Sighting
from exuvia.wg.timing import REKEY_TIMEOUT

T = TypeVar("T")

YEAR = 365 * 86_400.0
CERTIFICATE = 100 * 86_400.0
"""Seconds around the true time for which the control plane's certificate is valid."""


class Killed(BaseException):
    """The process has ended: nothing of it runs on."""


@dataclass
class Trouble:
    """What is wrong at the moment."""

    offline: bool = False
    direct_blocked: bool = False
    lose: float = 0.0
    """How likely the answer to a request gets lost."""
    twice: float = 0.0
    """How likely a request arrives twice."""
    disk_full: bool = False
    dead: bool = False
    """Whether the client's process was killed: then it can do nothing any more."""
    edges: int = 0
    """How often the client has reached out for anything."""
    kill_at: int | None = None

    def reach_out(self) -> None:
        """Count one more time, and end the process if it is the one to end at."""
        self.edges += 1
        if self.edges == self.kill_at:
            self.dead = True
        if self.dead:
            raise Killed


class Tunnel:
    """One tunnel: when it was last dialled, and what its counters show."""

    def __init__(self, gateway: Gateway, key: PrivateKey, grant: Grant, now: float) -> None:
        self.gateway = gateway
        self.key = bytes(key.public_key())
        self.grant = grant
        self.attempt = now
        self.handshake = self.rx = self.tx = 0


class FakeMachine:
    """Does what exuvia.client.network does, as far as anybody outside can tell."""

    interface = "exuvia0"

    def __init__(self, office: Office, clock: SimClock, trouble: Trouble) -> None:
        self._office = office
        self._clock = clock
        self._trouble = trouble
        self.used: Tunnel | None = None
        self.beside: Tunnel | None = None
        self.old: Tunnel | None = None
        self.is_shut = False
        self.control_open = False
        self.until: datetime | None = None
        self.switches = 0

    # What the client does.

    def shut(self, gateway: Gateway | None, control: Iterable[Endpoint]) -> None:
        """Close the kill switch."""
        self._alive()
        self.is_shut, self.control_open = True, bool(list(control))

    def harden(self) -> list[str]:
        """Nothing to change."""
        return []

    def dial(self, gateway: Gateway, key: PrivateKey, grant: Grant, *, keepalive: int) -> Way | None:
        """Dial."""
        self._alive()
        self.used = Tunnel(gateway, key, grant, self._clock.boottime())
        return None

    def keep_alive(self, seconds: int) -> None:
        """Nothing to do."""
        self._alive()

    def keep_names(self) -> None:
        """Nothing to do."""

    def look(self) -> Sighting:
        """Return the counters of the tunnel in use."""
        self._alive()
        if self.used is None:
            raise InterfaceUnavailable("exuvia0 is gone")
        return self._seen(self.used)

    def prepare(self, gateway: Gateway, key: PrivateKey, grant: Grant) -> None:
        """Make the tunnel beside; its handshake begins with kick()."""
        self._alive()
        self.old = None
        self.beside = Tunnel(gateway, key, grant, float("inf"))

    def kick(self) -> None:
        """Begin its handshake."""
        self._required().attempt = self._clock.boottime()

    def look_beside(self) -> Sighting:
        """Return its counters."""
        return self._seen(self._required())

    def switch(self) -> None:
        """Let everything new use it."""
        beside = self._required()
        self.used, self.old, self.beside = beside, self.used, None
        self.switches += 1

    def abandon(self) -> None:
        """Remove it."""
        self._alive()
        self.beside = None

    def old_is_idle(self) -> bool:
        """Somebody always downloads something."""
        self._alive()
        return self.old is None

    def end_old(self) -> None:
        """Remove the old tunnel."""
        self._alive()
        self.old = None

    def hold(self, until: datetime | None) -> None:
        """Note until when the user's traffic is let in."""
        self._alive()
        self.until = until

    # What is so.

    def works(self, tunnel: Tunnel | None) -> bool:
        """Say whether what is sent into a tunnel is answered."""
        if tunnel is None or self._trouble.offline or not tunnel.handshake:
            return False
        return self._accepts(tunnel)

    @property
    def lets_out(self) -> bool:
        """Whether the user's traffic may enter the tunnel."""
        return self.until is None or self._clock.wall() < self.until

    def forget(self) -> None:
        """The machine boots, or the client's process ends: no tunnel is left; a kill switch may be."""
        self.used = self.beside = self.old = None

    def _accepts(self, tunnel: Tunnel) -> bool:
        site = self._site(tunnel.gateway)
        return site.up and tunnel.key in site.table and tunnel.key not in site.locked

    def _site(self, gateway: Gateway) -> Site:
        return next(site for site in self._office.gateways if site.name == gateway.name)

    def _seen(self, tunnel: Tunnel) -> Sighting:
        now = self._clock.boottime()
        answered = not self._trouble.offline and self._accepts(tunnel)
        if now >= tunnel.attempt:
            tunnel.attempt += REKEY_TIMEOUT * max(1, 1 + int((now - tunnel.attempt) / REKEY_TIMEOUT))
            if answered and not tunnel.handshake:
                tunnel.handshake = 1 + int(now)
        tunnel.tx += 148
        tunnel.rx += 92 if answered and tunnel.handshake else 0
        return Sighting(b"", tunnel.handshake, tunnel.rx, tunnel.tx, True)

    def _required(self) -> Tunnel:
        self._alive()
        if self.beside is None:
            raise InterfaceUnavailable("there is no tunnel beside")
        return self.beside

    def _alive(self) -> None:
        self._trouble.reach_out()


class FakePlane:
    """A connection to the control plane, by the way that packets would take."""

    def __init__(
        self,
        office: Office,
        machine: FakeMachine,
        clock: SimClock,
        trouble: Trouble,
        random: Random,
        marked: bool,
    ) -> None:
        self._office, self._machine, self._clock = office, machine, clock
        self._trouble, self._random, self._marked = trouble, random, marked

    async def gateways(self) -> list[GatewayListing]:
        """GET /v1/gateways."""
        await self._travel()
        return await self._back([gateway.listing() for gateway in self._office.gateways])

    async def device(self) -> DeviceState:
        """GET /v1/device."""
        await self._travel()
        return await self._back(self._office.device())

    async def register_key(self, key: PrivateKey) -> Grant:
        """PUT /v1/device/keys/{key}."""
        await self._travel()
        grant = self._office.put(key.public_key())
        if self._random.random() < self._trouble.twice:
            grant = self._office.put(key.public_key())
        return await self._back(grant)

    async def confirm(self, key: PublicKey) -> bool:
        """POST …/confirm."""
        await self._travel()
        done = self._office.confirm(key)
        if self._random.random() < self._trouble.twice:
            done = self._office.confirm(key)
        return await self._back(done)

    async def retire(self, key: PublicKey) -> bool:
        """DELETE …."""
        await self._travel()
        done = self._office.delete(key)
        if self._random.random() < self._trouble.twice:
            done = self._office.delete(key)
        return await self._back(done)

    async def applied(self, grant: Grant) -> bool:
        """GET /v1/applied, waiting up to 5 s."""
        await self._travel()
        for _ in range(50):
            if self._office.applied(grant):
                break
            await asyncio.sleep(0.1)
        self._reach()
        return await self._back(self._office.applied(grant))

    async def close(self) -> None:
        """Nothing stays open."""

    async def _travel(self) -> None:
        self._trouble.reach_out()
        await asyncio.sleep(0.01 + 0.05 * self._random.random())
        try:
            self._reach()
        except Unavailable:
            await asyncio.sleep(5 * self._random.random())
            raise
        self._office.authorise()

    async def _back(self, answer: T) -> T:
        await asyncio.sleep(0.01 + 0.05 * self._random.random())
        if self._random.random() < self._trouble.lose:
            await asyncio.sleep(10)
            raise ControlPlaneUnreachable("the control plane did not answer in time")
        self._reach()
        return answer

    def _reach(self) -> None:
        """Raise unless a packet would get through."""
        self._trouble.reach_out()
        machine = self._machine
        if self._marked or not machine.is_shut:
            way = not self._trouble.offline and not self._trouble.direct_blocked
            way = way and (not machine.is_shut or machine.control_open)
        else:
            way = machine.works(machine.used)
        if not way or not self._office.up:
            raise ControlPlaneUnreachable("the control plane can't be reached")
        if abs(self._clock.wrong) > CERTIFICATE:
            raise ControlPlaneUnreachable("the control plane's certificate can't be trusted: check the clock")


@dataclass
class Ways:
    """Makes connections."""

    office: Office
    machine: FakeMachine
    clock: SimClock
    trouble: Trouble
    random: Random

    def __call__(self, *, addresses: Sequence[Address], mark: int | None) -> FakePlane:
        """Make one."""
        return FakePlane(
            self.office, self.machine, self.clock, self.trouble, self.random, marked=mark is not None
        )
