"""Keys that come from the browser: for a new device, or in place of what a device has."""

from functools import partial
from urllib.parse import quote

import msgspec

from exuvia.api import identifiers
from exuvia.api.devices import addresses, public_key
from exuvia.errors import DeviceLimitReached, ExuviaError, InvalidRequest, KeyRefused
from exuvia.portal.asking import Answer, Request, json, redirect
from exuvia.portal.devices import has_room, named, of_account
from exuvia.portal.offered import Offered, chosen, offered
from exuvia.portal.showing import show
from exuvia.store import rotation
from exuvia.store.credentials import new_secret
from exuvia.store.registration import Registration
from exuvia.store.together import register_all
from exuvia.system import clock
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer


class KeyGiven(msgspec.Struct, frozen=True):
    """What the browser is told of a key that gateways will admit."""

    id: str
    name: str
    addresses: list[str]
    preshared_key: str
    gateway: Offered | None
    revision: int
    epoch: str


async def new_page(request: Request) -> Answer:
    """GET /devices/new: a form; or, where no device can be added, which ones could go."""
    devices = await of_account(request)
    if not has_room(request, devices):
        return show(request, "limit", devices=devices, account=request.account)
    return _form(request, "device_new")


async def add(request: Request) -> Answer:
    """POST /devices/new: the device, with its tunnel addresses."""
    control = request.state.control
    try:
        gateway, key = chosen(request), _key(request)
        made = await control.store.writer.run_with_others(register_all, _registration(request, key))
    except DeviceLimitReached:
        if request.wants_json:
            raise
        return show(request, "limit", 409, devices=await of_account(request), account=request.account)
    except (KeyRefused, InvalidRequest) as error:
        return _refused(request, "device_new", error)
    id = identifiers.text(made.device_id)
    if request.wants_json:
        return json(_given(id, made.name, made.peer, gateway, made.revision, made.epoch), 201)
    request.known.notice = f"{made.name} was added."
    return redirect(_to_device(id, gateway))


async def replace_page(request: Request) -> Answer:
    """GET /devices/{id}/replace."""
    return _form(request, "device_replace", device=await named(request))


async def replace(request: Request) -> Answer:
    """POST /devices/{id}/replace: the new key is the only one; the others go with the next batch."""
    control, device = request.state.control, await named(request)
    try:
        gateway, key = chosen(request), _key(request)
        wish = rotation.Replacement(
            request.known.number_hash, identifiers.from_text(device.id), key, control.today
        )
        work = partial(
            rotation.replace,
            wish=wish,
            pools=control.store.pools,
            bits=control.bits,
            next_batch=control.until_batch(now=clock.boottime()),
        )
        granted = await control.store.writer.run(work)
    except (KeyRefused, InvalidRequest) as error:
        return _refused(request, "device_replace", error, device=device)
    if request.wants_json:
        given = _given(device.id, device.name, granted.peer, gateway, granted.revision, granted.epoch)
        return json(given, 201)
    request.known.notice = f"{device.name} has another key. The one before is gone within ten minutes."
    return redirect(_to_device(device.id, gateway))


def _key(request: Request) -> PublicKey:
    """Return the key of a form, once it is known to be the browser's own."""
    key = public_key(request.form.get("public_key", "").strip())
    request.state.control.possession.check(key, request.form.get("proof"))
    return key


def _registration(request: Request, key: PublicKey) -> Registration:
    """Return the wish for a device whose token nobody is told: this website looks after it."""
    control = request.state.control
    return Registration(
        number_hash=request.known.number_hash,
        public_key=key,
        secret_hash=control.hasher.device_secret(new_secret(control.bits)),
        today=control.today,
        pools=control.store.pools,
        bits=control.bits,
        proven=True,
    )


def _given(
    id: str, name: str, peer: TunnelPeer, gateway: Offered | None, revision: int, epoch: str
) -> KeyGiven:
    return KeyGiven(id, name, addresses(peer), peer.preshared_key.text(), gateway, revision, epoch)


def _to_device(id: str, gateway: Offered | None) -> str:
    return f"/devices/{id}" + (f"?gateway={quote(gateway.name)}" if gateway else "")


def _form(request: Request, template: str, status: int = 200, **values: object) -> Answer:
    """Return a form for a key; one that was made elsewhere can't be proven here, and may be refused."""
    possession = request.state.control.possession
    wants_own = "own" in request.query or status != 200
    known = {
        "account": request.account,
        "gateways": offered(request),
        "server_key": possession.server_key().text(),
        "error": "",
        "may_paste": not possession.is_required,
        "is_own": wants_own and not possession.is_required,
    }
    return show(request, template, status, **{**known, **values})


def _refused(request: Request, template: str, error: ExuviaError, **values: object) -> Answer:
    """Return the form again, with what is wrong; a script is told by a problem document."""
    if request.wants_json:
        raise error
    return _form(request, template, 422, error=str(error), **values)
