"""The other side: a control plane by the server's own rules, and gateways that follow it."""

import asyncio
from ipaddress import IPv4Address, IPv6Address
from random import Random

from virtual import TrueTime

from exuvia.client.state import Grant
from exuvia.errors import (
    AccountInactive,
    ControlPlaneUnreachable,
    KeySuperseded,
    NotFound,
    OnlyKey,
    Unavailable,
    UnknownCredential,
)
from exuvia.messages import DeviceKey, DeviceState, GatewayListing, RotationLimits
from exuvia.rules.overlap import (
    DRAINING,
    RETIRE_EVERY,
    UNCONFIRMED,
    Event,
    Standing,
    decide,
    may_have_another,
)
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey

HOUR = 3600.0
LIVE = 45.0


class Gateway:
    """A gateway: the keys it accepts, as far as it has followed."""

    def __init__(self, number: int, random: Random) -> None:
        self.name = f"gw{number}"
        self.key = PrivateKey(random.randbytes(32)).public_key()
        self.table: set[bytes] = set()
        self.at: tuple[int, int] = (0, 0)
        """Epoch and revision that it has applied."""
        self.locked: set[bytes] = set()
        """Keys whose handshakes it takes for old ones: somebody has replayed one from the future."""
        self.lag = 0.2
        self.follows = True
        self.up = True
        self.down_since = 0.0

    def listing(self) -> GatewayListing:
        """Return what the control plane tells of it."""
        number = self.name.removeprefix("gw")
        return GatewayListing(self.name, self.key.text(), f"198.51.100.{number}:51820", None, None, None)


class Office:
    """One account with one device, and the gateways."""

    def __init__(self, true: TrueTime, random: Random, gateways: int) -> None:
        self.true = true
        self._random = random
        self.gateways = [Gateway(number + 1, random) for number in range(gateways)]
        self.keys: dict[bytes, Standing] = {}
        self.epoch, self.revision = 1, 0
        self.active = True
        self.removed = False
        self.up = True
        self.most_keys = 0
        self.steady = False
        """Whether gateways take exactly as long as they do on average."""
        self._grants: dict[bytes, Grant] = {}
        self._due: dict[bytes, float] = {}
        self._batch = RETIRE_EVERY
        self._backup: tuple[dict[bytes, Standing], dict[bytes, Grant], dict[bytes, float]] = ({}, {}, {})

    @property
    def living(self) -> dict[bytes, Standing]:
        """The device's keys, without those that were retired."""
        return {key: standing for key, standing in self.keys.items() if standing != "retired"}

    # What a device asks.

    def authorise(self) -> None:
        """Raise what a device's token leads to."""
        if not self.up:
            raise ControlPlaneUnreachable("the control plane can't be reached")
        if self.removed:
            raise UnknownCredential("the control plane does not know this device")
        if not self.active:
            raise AccountInactive("the account is not active: suspended")
        self.tick()

    def put(self, key: PublicKey) -> Grant:
        """PUT /v1/device/keys/{key}."""
        raw = bytes(key)
        if raw not in self.keys and not may_have_another(self.keys):
            raise Unavailable("this device changes its key too often")
        becomes = decide(Event.PUT, self.keys, raw)
        if raw not in self.keys:
            self._grants[raw] = self._drawn()
        self._become(becomes)
        if becomes:
            self._publish()
        grant = self._grants[raw]
        return Grant(grant.address4, grant.address6, grant.preshared_key, self.revision, f"epoch{self.epoch}")

    def confirm(self, key: PublicKey) -> bool:
        """POST …/confirm."""
        try:
            self._become(decide(Event.CONFIRM, self.keys, bytes(key)))
        except (NotFound, KeySuperseded):
            return False
        return True

    def delete(self, key: PublicKey) -> bool:
        """DELETE …."""
        try:
            self._become(decide(Event.DELETE, self.keys, bytes(key)))
        except OnlyKey:
            return False
        return True

    def device(self) -> DeviceState:
        """GET /v1/device."""
        keys = [
            DeviceKey(PublicKey(key).text(), [], "", standing)
            for key, standing in self.keys.items()
            if standing != "retired"
        ]
        return DeviceState("d", "quiet heron", keys, RotationLimits())

    def applied(self, grant: Grant) -> bool:
        """GET /v1/applied, without waiting."""
        wanted = (int(grant.epoch.removeprefix("epoch")), grant.revision)
        live = [one for one in self.gateways if one.up or self.true.now - one.down_since < LIVE]
        return wanted[0] == self.epoch and all(one.at >= wanted for one in live)

    # What befalls it.

    def tick(self) -> None:
        """Let everything happen that is due by now."""
        now = self.true.now
        for key in [key for key, due in self._due.items() if due <= now]:
            self._become(decide(Event.DUE, self.keys, key))
            self._due.pop(key, None)
        if now >= self._batch:
            self._batch = now + RETIRE_EVERY
            if any(standing == "retired" for standing in self.keys.values()):
                self.keys = self.living
                self._publish()

    def suspend(self) -> None:
        """The account is suspended: every key is gone at once."""
        self.active = False
        self._begin({}, {}, {})

    def back_up(self) -> None:
        """Copy the database."""
        self._backup = (dict(self.keys), dict(self._grants), dict(self._due))

    def restore(self, *, with_keys: bool) -> None:
        """Put a copy back, under a new epoch; backups proper hold no keys, copies of the machine do."""
        self.epoch, self.revision = self.epoch + 1, 0
        keys, grants, due = self._backup if with_keys else ({}, {}, {})
        self._begin(dict(keys), dict(grants), dict(due))

    def follow(self, gateway: Gateway) -> None:
        """Let a gateway catch up at once."""
        gateway.table, gateway.at = set(self.keys), (self.epoch, self.revision)

    def _begin(
        self, keys: dict[bytes, Standing], grants: dict[bytes, Grant], due: dict[bytes, float]
    ) -> None:
        self.keys, self._grants, self._due = keys, grants, due
        self._publish()

    def _become(self, becomes: dict[bytes, Standing]) -> None:
        for key, standing in becomes.items():
            self.keys[key] = standing
            self._due.pop(key, None)
            if standing == "next":
                self._due[key] = (self.true.now + UNCONFIRMED) // HOUR * HOUR + HOUR
            elif standing == "old":
                self._due[key] = self.true.now + DRAINING
        self.most_keys = max(self.most_keys, len(self.living))

    def _publish(self) -> None:
        self.revision += 1
        loop = asyncio.get_running_loop()
        for gateway in self.gateways:
            spread = 1.0 if self.steady else 0.5 + self._random.random()
            loop.call_later(gateway.lag * spread, self._arrive, gateway)

    def _arrive(self, gateway: Gateway) -> None:
        if gateway.follows and gateway.up:
            self.follow(gateway)

    def _drawn(self) -> Grant:
        four = IPv4Address(0x0A000002 + self._random.getrandbits(20))
        six = IPv6Address((0xFD << 120) + self._random.getrandbits(64))
        return Grant(four, six, PresharedKey(self._random.randbytes(32)), 0, "")
