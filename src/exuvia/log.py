"""
Logs that tell nothing of anybody: whatever looks like a key, an address, a token or a number is replaced.

No message is meant to hold any of these; this is what catches the one that does.
"""

import logging
import re
import sys
from ipaddress import AddressValueError, IPv6Address

_REPLACED = "<redacted>"

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![0-9A-Za-z])(?:[0-9A-Za-z]{4}[ -]){6}[0-9A-Za-z]{4}(?![0-9A-Za-z])",  # account numbers
        r"[A-Za-z0-9+/]{42,}=",  # keys as WireGuard writes them
        r"[\w-]{40,}",  # tokens, keys in paths, hashes in hexadecimal
        r"(?<![\w.])[A-Za-z0-9]{26,}(?![\w])",  # identifiers, bare account numbers
        r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)(?::\d+|/\d+)?",  # IPv4, with a port or a prefix
    )
)
_MAYBE_ADDRESS6 = re.compile(
    r"\[(?P<inner>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?)\](?::\d+)?"
    r"|(?<![\w:.])(?P<bare>[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)(?:%\w+|/\d+)?"
)


def redacted(text: str) -> str:
    """Return a text without anything that looks as if it were about somebody."""
    for pattern in _PATTERNS:
        text = pattern.sub(_REPLACED, text)
    return _MAYBE_ADDRESS6.sub(_address6_redacted, text)


class RedactingFormatter(logging.Formatter):
    """Formats a record, with its traceback, and redacts the whole of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line to write."""
        return redacted(super().format(record))


def set_up(level: int = logging.INFO) -> None:
    """Log to standard error, which systemd keeps; time stamps are its business."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # A server that tells of every malformed request lets strangers write its log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _address6_redacted(match: re.Match[str]) -> str:
    """Replace what can be read as an address; a sentence may go on with a colon or a full stop."""
    text = match["inner"] or match["bare"]
    for length in range(len(text), 1, -1):
        try:
            IPv6Address(text[:length].split("%")[0])
        except AddressValueError:
            continue
        return _REPLACED + ("" if match["inner"] else text[length:])
    return match.group()
