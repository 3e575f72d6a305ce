"""
What the programs say to each other, as values and as JSON.

Bytes travel as base64. Keys in the HTTP API are WireGuard's own base64 text; a peer on the
feed is the 84 bytes of TunnelPeer.
"""

from typing import Literal

import msgspec


class RegisterDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/devices."""

    public_key: str
    proof: str | None = None
    """That the sender holds its private half, see rules/possession."""


class ServerKey(msgspec.Struct, frozen=True):
    """The answer to GET /v1/possession: the key that a proof is made for."""

    server_key: str
    seconds: int
    """For how long it is surely accepted."""


class ProveKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PUT /v1/device/keys/{public_key}; an empty body is one without a proof."""

    proof: str | None = None


class DeviceRegistered(msgspec.Struct, frozen=True):
    """The answer to POST /v1/devices."""

    id: str
    name: str
    token: str
    addresses: list[str]
    preshared_key: str
    revision: int
    epoch: str


class KeyRegistered(msgspec.Struct, frozen=True):
    """The answer to PUT /v1/device/keys/{public_key}."""

    addresses: list[str]
    preshared_key: str
    revision: int
    epoch: str


class DeviceSummary(msgspec.Struct, frozen=True):
    """One device of GET /v1/devices."""

    id: str
    name: str
    public_keys: list[str]


KeyStanding = Literal["current", "next", "old"]
"""`next` was not confirmed yet; `old` was replaced, and goes 20 minutes after that at the latest."""


class DeviceKey(msgspec.Struct, frozen=True):
    """One key of GET /v1/device."""

    public_key: str
    addresses: list[str]
    preshared_key: str
    standing: KeyStanding


class RotationLimits(msgspec.Struct, frozen=True):
    """How often a client may change its key, in days."""

    shortest: int = 1
    usual: int = 7
    longest: int = 30


class DeviceState(msgspec.Struct, frozen=True):
    """GET /v1/device: what a device may know of itself."""

    id: str
    name: str
    keys: list[DeviceKey]
    rotation_days: RotationLimits


class GatewayListing(msgspec.Struct, frozen=True):
    """One gateway of GET /v1/gateways."""

    name: str
    public_key: str
    endpoint: str
    country: str | None
    city: str | None
    dns: str | None


class Applied(msgspec.Struct, frozen=True):
    """GET /v1/applied."""

    applied: bool


class GatewayHello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PUT /v1/gateway: a gateway presents the key it has at the moment."""

    public_key: str
    lasting: bool
    """False if the private key lives in memory only and changes when the interface is made anew."""


class GatewayWelcome(msgspec.Struct, frozen=True):
    """The answer to PUT /v1/gateway."""

    pool4: str
    pool6: str
    address4: str
    """The gateways' own address in the pool, with its prefix length; alike on every gateway."""
    address6: str


class GatewayApplied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PUT /v1/gateway/applied: the one number that goes back."""

    epoch: str
    revision: int


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """Feed: the whole peer table at a revision follows, in SnapshotPeers, then SnapshotEnd."""

    epoch: str
    revision: int
    count: int


class SnapshotPeers(msgspec.Struct, frozen=True, tag="peers"):
    """Feed: part of a snapshot, in the order of the keys' bytes, which tells nothing."""

    peers: list[bytes]


class SnapshotEnd(msgspec.Struct, frozen=True, tag="end"):
    """Feed: the snapshot is complete, if its count and this digest fit."""

    digest: bytes


class Change(msgspec.Struct, frozen=True, tag="change"):
    """Feed: what changed after one revision up to another; removals come first."""

    epoch: str
    after: int
    revision: int
    put: list[bytes]
    remove: list[bytes]


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """Feed: nothing else was said for a while; the table is at this revision."""

    epoch: str
    revision: int


FeedMessage = Snapshot | SnapshotPeers | SnapshotEnd | Change | Heartbeat

AccountState = Literal["active", "suspended", "cancelled", "expired"]
"""`expired` is never stored: it is what an active account is after its last day."""


class CreateAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/admin/accounts."""

    devices: int = 5
    expires: str | None = None
    """Last day, as YYYY-MM-DD."""


class CreateAccounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/admin/accounts/batch: so many alike."""

    count: int
    devices: int = 5
    expires: str | None = None
    """Last day, as YYYY-MM-DD."""


class ExtendAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/admin/accounts/{id}/extend: exactly one of these."""

    expires: str | None = None
    """The new last day, as YYYY-MM-DD."""
    days: int | None = None
    """So many more days: after the last day, or after today if that is over."""
    never: bool = False
    """It is to have no last day."""


class LimitDevices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/admin/accounts/{id}/device-limit."""

    devices: int


class AccountCreated(msgspec.Struct, frozen=True):
    """The answer to POST /v1/admin/accounts; the number is told this once."""

    id: str
    account: str


class AccountSummary(msgspec.Struct, frozen=True):
    """What an operator can see of an account."""

    id: str
    state: AccountState
    expires: str | None
    devices: int
    device_limit: int
    second_factor: bool = False
    """Whether it asks for more than its number."""


class AccountNumber(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/admin/accounts/find: a number travels in the body, never in a path."""

    account: str


class EnrollGateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/admin/gateways."""

    name: str
    endpoint: str
    """HOST:PORT at which clients reach it."""
    country: str | None = None
    city: str | None = None
    dns: str | None = None


class GatewayEnrolled(msgspec.Struct, frozen=True):
    """The answer to POST /v1/admin/gateways; the token is told this once."""

    name: str
    token: str


class GatewaySummary(msgspec.Struct, frozen=True):
    """One gateway of GET /v1/admin/gateways."""

    name: str
    endpoint: str
    country: str | None
    city: str | None
    dns: str | None
    live: bool


class Health(msgspec.Struct, frozen=True):
    """GET /healthz: how often each alarm was raised since the start."""

    status: Literal["ok"]
    alarms: dict[str, int]


class AccountCancelled(msgspec.Struct, frozen=True, tag="account.cancelled"):
    """What billing is told: which account was cancelled, in an event with a random id of its own."""

    id: str
    account_id: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str | None = None
