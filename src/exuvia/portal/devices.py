"""Devices: which there are, what is known of each, and their end."""

from functools import partial

from exuvia.api import identifiers
from exuvia.errors import NotFound
from exuvia.portal.asking import Answer, Request, redirect
from exuvia.portal.offered import offered
from exuvia.portal.showing import show
from exuvia.portal.told import ToldDevice, told
from exuvia.store import devices
from exuvia.system import clock


async def overview(request: Request) -> Answer:
    """GET / of whoever is logged in: the account's devices."""
    found = await of_account(request)
    return show(
        request, "overview", devices=found, account=request.account, has_room=has_room(request, found)
    )


async def device_page(request: Request) -> Answer:
    """GET /devices/{id}: what is known of a device, and its configuration without the private key."""
    gateways = offered(request)
    chosen = next((one for one in gateways if one.name == request.query.get("gateway")), None)
    return show(
        request,
        "device",
        device=await named(request),
        gateways=gateways,
        gateway=chosen or (gateways[0] if gateways else None),
    )


async def delete_page(request: Request) -> Answer:
    """GET /devices/{id}/delete: asks whether it is meant."""
    return show(request, "delete", device=await named(request))


async def delete(request: Request) -> Answer:
    """POST /devices/{id}/delete."""
    device, control = await named(request), request.state.control
    await control.store.writer.run(
        partial(
            devices.delete_of_account,
            number_hash=request.known.number_hash,
            id=identifiers.from_text(device.id),
            today=control.today,
            hour=control.hour,
            proven=True,
        )
    )
    request.known.notice = f"{device.name} was deleted: its key and addresses are gone."
    return redirect("/")


async def delete_all_page(request: Request) -> Answer:
    """GET /devices/delete-all: asks whether it is meant."""
    return show(request, "delete_all", devices=await of_account(request))


async def delete_all(request: Request) -> Answer:
    """POST /devices/delete-all."""
    control = request.state.control
    await control.store.writer.run(
        partial(
            devices.delete_all_of_account,
            number_hash=request.known.number_hash,
            today=control.today,
            hour=control.hour,
            proven=True,
        )
    )
    request.known.notice = "All devices were deleted: their keys and addresses are gone."
    return redirect("/")


async def device_code(request: Request) -> Answer:
    """POST /devices/code: a code that lets in one device, instead of the account's number."""
    codes = request.state.control.device_codes
    code = codes.new(request.known.number_hash, now=clock.boottime())
    return show(request, "device_code", code=code)


async def gateways_page(request: Request) -> Answer:
    """GET /gateways: those that plain configurations can name."""
    return show(request, "gateways", gateways=offered(request))


async def of_account(request: Request) -> list[ToldDevice]:
    """Return the account's devices, by name."""
    found = await request.state.control.store.reader.run(
        partial(
            devices.of_account,
            number_hash=request.known.number_hash,
            today=request.state.control.today,
            proven=True,
        )
    )
    return [told(device) for device in found]


async def named(request: Request) -> ToldDevice:
    """Return the device that the path names; NotFound if the account has none such."""
    for device in await of_account(request):
        if device.id == request.path["id"]:
            return device
    raise NotFound("the account has no such device; it may have been deleted")


def has_room(request: Request, found: list[ToldDevice]) -> bool:
    """Return whether a device can be added: one without a key makes room for another."""
    keyless = any(not device.keys for device in found)
    return keyless or len(found) < request.account.device_limit
