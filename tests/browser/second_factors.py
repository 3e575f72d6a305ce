"""An authenticator app, and a security key that is made of software."""

import base64
import json
import socket
import time
from abc import ABC, abstractmethod
from typing import Any

import zxingcpp
from browsing import Visitor
from playwright.sync_api import CDPSession

from exuvia.rules import totp


def code(secret: str, *, later: int = 0) -> str:
    """Return the code that an app shows, or will show some steps later."""
    return totp.code(base64.b32decode(secret.replace(" ", "")), totp.step_at(time.time()) + later)


def scanned(visitor: Visitor, selector: str) -> str:
    """Return what a QR code on the page says."""
    (found,) = zxingcpp.read_barcodes(visitor.picture(selector), formats=zxingcpp.BarcodeFormat.QRCode)
    return str(found.text)


def set_up_app(visitor: Visitor) -> str:
    """Set up an authenticator app, and return its secret."""
    visitor.open("/account/second-factor/code")
    secret = visitor.page.locator("code.key").inner_text()
    visitor.page.get_by_label("The code that the app shows now").fill(code(secret))
    visitor.go("Ask for codes from now on")
    return secret


class SecurityKey(ABC):
    """A security key that is plugged into the visitor's machine."""

    def __init__(self) -> None:
        self._id = self._plugged_in()

    def another(self) -> None:
        """Let it be another one, which knows no website yet."""
        self.unplug()
        self._id = self._plugged_in()

    @abstractmethod
    def is_in_a_strangers_hand(self) -> None:
        """Let whoever holds it from now on be somebody whom it doesn't know."""

    @abstractmethod
    def unplug(self) -> None:
        """Take it away."""

    @abstractmethod
    def _plugged_in(self) -> str:
        """Make one, and return what the browser calls it."""


class KeyInChromium(SecurityKey):
    """One of Chromium's own making."""

    def __init__(self, visitor: Visitor) -> None:
        self._session: CDPSession = visitor.page.context.new_cdp_session(visitor.page)
        self._session.send("WebAuthn.enable")
        super().__init__()

    def is_in_a_strangers_hand(self) -> None:
        """Let whoever holds it from now on be somebody whom it doesn't know."""
        given = {"authenticatorId": self._id, "isUserVerified": False}
        self._session.send("WebAuthn.setUserVerified", given)

    def unplug(self) -> None:
        """Take it away."""
        self._session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self._id})

    def _plugged_in(self) -> str:
        options = {
            "protocol": "ctap2",
            "transport": "usb",
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        made = self._session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return str(made["authenticatorId"])


class Marionette:
    """What Firefox can be asked by its own protocol: JSON behind its length. Firefox ends with this."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._answers = self._socket.makefile("rb")
        self._read()

    def ask(self, command: str, **given: object) -> dict[str, object]:
        """Ask, and return the answer."""
        text = json.dumps([0, 1, command, given]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, found = self._read()
        assert error is None, error
        return dict(found or {})

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def _read(self) -> Any:
        length = b"".join(iter(lambda: self._answers.read(1), b":"))
        return json.loads(self._answers.read(int(length)))


class KeyInFirefox(SecurityKey):
    """One of Firefox's own making."""

    def __init__(self, marionette: Marionette) -> None:
        self._marionette = marionette
        super().__init__()

    def is_in_a_strangers_hand(self) -> None:
        """Let whoever holds it from now on be somebody whom it doesn't know."""
        self._marionette.ask("WebAuthn:SetUserVerified", authenticatorId=self._id, isUserVerified=False)

    def unplug(self) -> None:
        """Take it away."""
        self._marionette.ask("WebAuthn:RemoveVirtualAuthenticator", authenticatorId=self._id)

    def _plugged_in(self) -> str:
        wanted = {"protocol": "ctap2", "transport": "usb", "isUserConsenting": True}
        person = {"hasUserVerification": True, "isUserVerified": True, "hasResidentKey": False}
        made = self._marionette.ask("WebAuthn:AddVirtualAuthenticator", **wanted, **person)
        return str(made["value"])
