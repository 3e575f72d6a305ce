"""What a device asks of its keys: a next one, that it works, that one is done with."""

from functools import partial

from exuvia.api.devices import addresses, credential_of
from exuvia.api.routes import Call
from exuvia.errors import InvalidKey, KeyRefused
from exuvia.messages import KeyRegistered
from exuvia.rules.overlap import KEY_REFUSED
from exuvia.store import rotation
from exuvia.system import clock
from exuvia.wg.keys import PublicKey


async def put_key(call: Call) -> KeyRegistered:
    """PUT /v1/device/keys/{public_key}: the same key again gets the same answer."""
    control, wish = call.control, _wish(call)
    control.possession.check(wish.public_key, call.body.proof)
    next_batch = control.until_batch(now=clock.boottime())
    granted = await control.store.writer.run(
        partial(
            rotation.put,
            wish=wish,
            pools=control.store.pools,
            bits=control.bits,
            next_batch=next_batch,
        )
    )
    peer = granted.peer
    return KeyRegistered(addresses(peer), peer.preshared_key.text(), granted.revision, granted.epoch)


async def confirm_key(call: Call) -> None:
    """POST /v1/device/keys/{public_key}/confirm: the key works, the other one may go when it has drained."""
    control = call.control
    became_old = await control.store.writer.run(partial(rotation.confirm, wish=_wish(call)))
    for key in became_old:
        control.draining.begin(key, now=clock.boottime())


async def retire_key(call: Call) -> None:
    """DELETE /v1/device/keys/{public_key}: also if it is gone already."""
    await call.control.store.writer.run(partial(rotation.retire, wish=_wish(call)))


def _wish(call: Call) -> rotation.Wish:
    return rotation.Wish(
        credential_of(call), _public_key(call.path["public_key"]), call.control.today, call.control.clock.wall
    )


def _public_key(text: str) -> PublicKey:
    """Return the key in a path, or refuse it like a key that somebody else has."""
    try:
        return PublicKey.from_path(text)
    except InvalidKey:
        raise KeyRefused(KEY_REFUSED) from None
