"""How the operator makes gateways known."""

import re
from ipaddress import ip_address

from exuvia.api.gateways import change
from exuvia.api.routes import Call
from exuvia.errors import InvalidRequest
from exuvia.messages import EnrollGateway, GatewayEnrolled, GatewaySummary
from exuvia.store import gateways
from exuvia.store.credentials import new_secret, token
from exuvia.store.gateways import Gateway
from exuvia.system import clock

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_COUNTRY = re.compile(r"[A-Z]{2}")


async def enroll_gateway(call: Call) -> GatewayEnrolled:
    """POST /v1/admin/gateways."""
    control = call.control
    made = token(new_secret(control.bits))
    gateway = _checked(call.body, control.hasher.gateway(made))
    await change(control, lambda transaction: gateways.enroll(transaction, gateway))
    return GatewayEnrolled(gateway.name, made)


async def list_enrolled(call: Call) -> list[GatewaySummary]:
    """GET /v1/admin/gateways."""
    fleet, now = call.control.fleet, clock.boottime()
    return [
        GatewaySummary(g.name, g.endpoint, g.country, g.city, g.dns, fleet.is_live(g.name, now=now))
        for g in fleet.all()
    ]


async def retire_gateway(call: Call) -> None:
    """DELETE /v1/admin/gateways/{name}: it is told nothing from now on."""
    name = call.path["name"]
    before = await change(call.control, lambda transaction: gateways.retire(transaction, name))
    call.control.hub.cut(before)


async def rotate_token(call: Call) -> GatewayEnrolled:
    """POST /v1/admin/gateways/{name}/token: the token before is good no more."""
    control, name = call.control, call.path["name"]
    made = token(new_secret(control.bits))
    token_hash = control.hasher.gateway(made)
    before = await change(control, lambda transaction: gateways.replace_token(transaction, name, token_hash))
    control.hub.cut(before)
    return GatewayEnrolled(name, made)


def _checked(wanted: EnrollGateway, token_hash: bytes) -> Gateway:
    """Return the gateway as described; InvalidRequest if the description can't be right."""
    if not _NAME.fullmatch(wanted.name):
        raise InvalidRequest("a name has small letters, digits and dashes")
    if not is_endpoint(wanted.endpoint):
        raise InvalidRequest("an endpoint is HOST:PORT, with an IPv6 address in brackets")
    if wanted.country is not None and not _COUNTRY.fullmatch(wanted.country):
        raise InvalidRequest("a country is two capital letters, such as SE")
    if wanted.city is not None and not (0 < len(wanted.city) <= 64 and wanted.city.isprintable()):
        raise InvalidRequest("the name of a city has at most 64 printable letters")
    if wanted.dns is not None and not _is_address(wanted.dns):
        raise InvalidRequest("the DNS server is given as an IP address")
    return Gateway(wanted.name, token_hash, wanted.endpoint, wanted.country, wanted.city, wanted.dns)


def is_endpoint(text: str) -> bool:
    """Return whether a WireGuard client could use this as an endpoint."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        return False
    if host.startswith("[") and host.endswith("]"):
        return ":" in host and _is_address(host[1:-1])
    return _HOST.fullmatch(host) is not None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
