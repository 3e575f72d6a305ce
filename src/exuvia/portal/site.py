"""How browsers reach the website: its cookie, where its forms may come from, what each answer tells."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from exuvia.errors import Refused

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        # No script of these pages makes elements of text: none may.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_PERMISSIONS = (
    "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), "
    "display-capture=(), publickey-credentials-create=(self), publickey-credentials-get=(self)"
)
_ALWAYS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", _PERMISSIONS.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-robots-tag", b"noindex"),
)
_YEAR = 365 * 24 * 3600

Headers = Mapping[bytes, bytes]
HOST_NAME = re.compile(r"[a-z0-9.-]{1,100}")
"""What a host can be called, as far as we need it."""


class ForeignForm(Refused):
    """The request does not come from a page of ours."""


@dataclass(frozen=True, slots=True)
class Site:
    """The website as browsers see it."""

    is_https: bool

    @property
    def cookie(self) -> str:
        """The cookie's name: __Host- has browsers refuse it without Secure, or for another host."""
        return "__Host-exuvia" if self.is_https else "exuvia"

    def set_cookie(self, value: str | None) -> tuple[bytes, bytes]:
        """Return the header that gives the browser this session, or takes away the one it has."""
        secure = "; Secure" if self.is_https else ""
        gone = "; Max-Age=0" if value is None else ""
        text = f"{self.cookie}={value or ''}; Path=/; HttpOnly; SameSite=Strict{secure}{gone}"
        return b"set-cookie", text.encode()

    def session_id(self, headers: Headers) -> str | None:
        """Return the session that the browser says it has."""
        for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie:
                return value
        return None

    def host(self, headers: Headers) -> str:
        """Return the host that the browser asked for, with a port if it is not the usual one."""
        return headers.get(b"host", b"").decode("latin-1").lower()

    def host_name(self, headers: Headers) -> str:
        """Return the host that the browser asked for, without a port."""
        return re.sub(r":\d+$", "", self.host(headers))

    def origin(self, headers: Headers) -> str:
        """Return the origin that our pages have for this browser."""
        return f"{'https' if self.is_https else 'http'}://{self.host(headers)}"

    def require_own_form(self, headers: Headers) -> None:
        """
        Raise ForeignForm unless the browser says that one of our pages sends this.

        Sec-Fetch-Site is the browser's own word, and holds whatever a proxy makes of the Host header.
        Without it, Origin must be ours; a browser that says neither is refused.
        """
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            is_ours = site == b"same-origin"
        else:
            is_ours = headers.get(b"origin", b"").decode("latin-1").lower() == self.origin(headers)
        if not is_ours:
            raise ForeignForm(
                "this did not come from a page of this website: open the page anew, and try again from there"
            )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what every answer tells the browser."""
        if not self.is_https:
            return list(_ALWAYS)
        return [*_ALWAYS, (b"strict-transport-security", b"max-age=%d" % _YEAR)]
