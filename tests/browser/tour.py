"""Every page of the website in every state that looks different: for tests of all, and for portraits."""

from collections.abc import Iterator

from browsing import Visitor
from second_factors import code, set_up_app

from control_plane import Server


def pages(visitor: Visitor, server: Server, number: str) -> Iterator[str]:
    """Lead a visitor whose account has no devices to one page after the other; yield what each is called."""
    yield from _outside(visitor)
    visitor.log_in(number)
    yield "devices-none"
    yield from _one_device(visitor, server, number)
    yield from _several(visitor, server, number)
    for path in ("/gateways", "/account", "/account/export", "/account/cancel"):
        visitor.open(path)
        yield path.strip("/").replace("/", "-")
    yield from _second_factor(visitor, number)
    visitor.open("/devices/none")
    yield "refused"


def _outside(visitor: Visitor) -> Iterator[str]:
    visitor.open("/login")
    yield "login"
    visitor.log_in("ABCD-EFGH")
    yield "login-refused"


def _one_device(visitor: Visitor, server: Server, number: str) -> Iterator[str]:
    visitor.open("/devices/new?own")
    yield "device-own-key"
    visitor.open("/devices/new")
    yield "device-new"
    visitor.press("Add the device")
    visitor.configuration()
    yield "device-added"
    visitor.go("I have it: back to the devices")
    yield "devices-one"


def _several(visitor: Visitor, server: Server, number: str) -> Iterator[str]:
    id = server.register(number).id
    visitor.open("/")
    yield "devices"
    for what in ("", "/replace", "/delete"):
        visitor.open(f"/devices/{id}{what}")
        yield f"device{what}".replace("/", "-")
    visitor.open("/devices/delete-all")
    yield "devices-delete-all"
    server.register(number)
    visitor.open("/devices/new")
    yield "device-no-room"


def _second_factor(visitor: Visitor, number: str) -> Iterator[str]:
    visitor.open("/account/second-factor")
    yield "second-factor-none"
    visitor.open("/account/second-factor/code")
    yield "second-factor-app"
    secret = set_up_app(visitor)
    yield "second-factor"
    visitor.open(visitor.page.locator('a[href$="/remove"]').get_attribute("href") or "")
    yield "second-factor-remove"
    visitor.open("/")
    visitor.go("Log out")
    visitor.log_in(number)
    yield "login-second-factor"
    visitor.page.get_by_label("Code of your authenticator app").fill(code(secret, later=1))
    visitor.go("Go on")
