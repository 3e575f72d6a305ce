"""An authenticator app, and a security key that is made of software."""

import base64
import time

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


class SecurityKey:
    """A security key in the visitor's Chromium."""

    def __init__(self, visitor: Visitor) -> None:
        self._session: CDPSession = visitor.page.context.new_cdp_session(visitor.page)
        self._session.send("WebAuthn.enable")
        self._id = self._plugged_in()

    def another(self) -> None:
        """Let it be another one, which knows no website yet."""
        self._session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self._id})
        self._id = self._plugged_in()

    def is_in_a_strangers_hand(self) -> None:
        """Let whoever holds it from now on be somebody whom it doesn't know."""
        given = {"authenticatorId": self._id, "isUserVerified": False}
        self._session.send("WebAuthn.setUserVerified", given)

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
