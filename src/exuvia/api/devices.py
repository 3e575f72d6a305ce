"""What a person's programs ask: register a device, list and delete devices, log out."""

from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Annotated

import msgspec

from exuvia.api import identifiers
from exuvia.api.control import Control
from exuvia.api.routes import Call
from exuvia.errors import ExuviaError, InvalidKey, KeyRefused
from exuvia.messages import (
    Applied,
    DeviceKey,
    DeviceRegistered,
    DeviceState,
    DeviceSummary,
    GatewayListing,
    RotationLimits,
)
from exuvia.rules.limits import waiting_time
from exuvia.rules.overlap import KEY_REFUSED
from exuvia.store import devices
from exuvia.store.credentials import DeviceCredential, device_token, new_secret
from exuvia.store.peers import Position
from exuvia.store.registration import Registration
from exuvia.store.together import register_all
from exuvia.system import clock
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

Revision = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_LOOK_AGAIN = 1.0
"""Seconds after which a waiting client is answered even though nobody acknowledged anything: a gateway
that is no longer live is not waited for."""


class AppliedQuery(msgspec.Struct, frozen=True):
    """The query of GET /v1/applied."""

    epoch: Annotated[str, msgspec.Meta(max_length=64)]
    revision: Revision
    wait: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """Seconds."""


async def register(call: Call) -> DeviceRegistered:
    """POST /v1/devices: by an account's number, or by a code that lets in one device."""
    codes, key = call.control.device_codes, public_key(call.body.public_key)
    call.control.possession.check(key, call.body.proof)
    holder = codes.redeem(call.number_hash, key, now=clock.boottime())
    try:
        return await _register(call.control, holder or call.number_hash, key, proven=holder is not None)
    except ExuviaError:
        codes.give_back(call.number_hash, key)
        raise


async def _register(
    control: Control, number_hash: bytes, key: PublicKey, *, proven: bool
) -> DeviceRegistered:
    secret = new_secret(control.bits)
    wish = Registration(
        number_hash=number_hash,
        public_key=key,
        secret_hash=control.hasher.device_secret(secret),
        today=control.today,
        pools=control.store.pools,
        bits=control.bits,
        proven=proven,
    )
    made = await control.store.writer.run_with_others(register_all, wish)
    peer = made.peer
    return DeviceRegistered(
        id=identifiers.text(made.device_id),
        name=made.name,
        token=device_token(made.account_id, made.device_id, secret),
        addresses=addresses(peer),
        preshared_key=peer.preshared_key.text(),
        revision=made.revision,
        epoch=made.epoch,
    )


async def list_devices(call: Call) -> list[DeviceSummary]:
    """GET /v1/devices."""
    control = call.control
    found = await control.store.reader.run(
        partial(devices.of_account, number_hash=call.number_hash, today=control.today)
    )
    return [
        DeviceSummary(
            identifiers.text(device.id), device.name, [key.peer.public_key.text() for key in device.keys]
        )
        for device in found
    ]


async def delete_device(call: Call) -> None:
    """DELETE /v1/devices/{id}."""
    control = call.control
    id = identifiers.from_text(call.path["id"])
    await control.store.writer.run(
        partial(
            devices.delete_of_account,
            number_hash=call.number_hash,
            id=id,
            today=control.today,
            hour=control.hour,
        )
    )


async def own_state(call: Call) -> DeviceState:
    """GET /v1/device."""
    device = await _device(call)
    keys = [
        DeviceKey(peer.public_key.text(), addresses(peer), peer.preshared_key.text(), standing)
        for peer, standing in device.keys
    ]
    return DeviceState(identifiers.text(device.id), device.name, keys, RotationLimits())


async def log_out(call: Call) -> None:
    """DELETE /v1/device."""
    credential, hour = credential_of(call), call.control.hour
    await call.control.store.writer.run(partial(devices.delete_own, credential=credential, hour=hour))


async def list_gateways(call: Call) -> list[GatewayListing]:
    """GET /v1/gateways: those that have connected, for until then nobody knows their key."""
    control = call.control
    if call.device is not None:
        await _device(call)
    else:
        await control.store.reader.run(
            partial(devices.require_account, number_hash=call.number_hash, today=control.today)
        )
    return [
        GatewayListing(g.name, g.public_key.text(), g.endpoint, g.country, g.city, g.dns)
        for g in control.fleet.all()
        if g.public_key is not None
    ]


async def applied(call: Call) -> Applied:
    """GET /v1/applied: whether every live gateway has come so far; waits for it as long as asked."""
    await _device(call)
    fleet, query = call.control.fleet, call.query
    wanted = Position(query.epoch, query.revision)
    until = clock.boottime() + waiting_time(query.wait)
    while not (done := fleet.have_applied(wanted, now=clock.boottime())):
        left = until - clock.boottime()
        if left <= 0:
            break
        await fleet.progress(min(left, _LOOK_AGAIN))
    return Applied(done)


def public_key(text: str) -> PublicKey:
    """Return the key, or refuse it like a key that somebody else has."""
    try:
        return PublicKey.from_text(text)
    except InvalidKey:
        raise KeyRefused(KEY_REFUSED) from None


def credential_of(call: Call) -> DeviceCredential:
    """Return what the device's token came to."""
    assert call.device is not None  # noqa: S101  its route asks for a device's token
    return call.device


def addresses(peer: TunnelPeer) -> list[str]:
    """Return a peer's tunnel addresses as clients configure them."""
    # Not by ipaddress, which takes ten times as long, and this is what is asked most.
    return [f"{inet_ntop(AF_INET, peer[32:36])}/32", f"{inet_ntop(AF_INET6, peer[36:52])}/128"]


async def _device(call: Call) -> devices.Device:
    credential, today = credential_of(call), call.control.today
    return await call.control.store.reader.run(
        partial(devices.by_credential, credential=credential, today=today)
    )
