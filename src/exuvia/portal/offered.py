"""The gateways that a plain configuration can name: those whose key survives a restart."""

import msgspec

from exuvia.errors import InvalidRequest
from exuvia.portal.asking import Request


class Offered(msgspec.Struct, frozen=True):
    """A gateway, as a configuration needs it."""

    name: str
    public_key: str
    endpoint: str
    dns: str | None
    place: str


def offered(request: Request) -> list[Offered]:
    """Return the gateways that can be chosen, by name."""
    return [
        Offered(
            gateway.name,
            gateway.public_key.text(),
            gateway.endpoint,
            gateway.dns,
            ", ".join(part for part in (gateway.city, gateway.country) if part),
        )
        for gateway in request.state.control.fleet.all()
        if gateway.public_key is not None and gateway.lasting
    ]


def chosen(request: Request) -> Offered | None:
    """Return the gateway that a form names, None if it names none; InvalidRequest if it is not offered."""
    name = request.form.get("gateway", "")
    if not name:
        return None
    for gateway in offered(request):
        if gateway.name == name:
            return gateway
    raise InvalidRequest("choose one of the gateways that are offered")
