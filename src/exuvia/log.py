"""
Logs that tell nothing of anybody: whatever looks like a key, an address, a token or a number is replaced.

No message is meant to hold any of these; this is what catches the one that does. What an exception
says that nobody expected may be about somebody in any words: of such a one only the place is told.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv6Address
from typing import TextIO

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
    """Formats a record, with the places of its exception, and redacts the whole of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line to write."""
        record.exc_text = None  # what another formatter may have left there
        if record.name == "asyncio":
            # It quotes the objects at hand, and with them whatever these hold.
            record.msg, record.args = "something failed that nobody waited for", None
        return redacted(super().format(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Return where an exception came from, and nothing that it says."""
        error = ei[1] if isinstance(ei, tuple) else None
        return "\n".join(places(error)) if isinstance(error, BaseException) else ""


def places(error: BaseException) -> Iterator[str]:
    """Yield a line for each exception that had a part in this: of which kind, and where it came from."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    yield f"{type(error).__name__} at {where or 'no place'}"
    for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from places(each)
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from places(earlier)


def hide_values(tell: Callable[[str], None]) -> None:
    """See to it that what ends a program, or fails in its background, is told by its place only."""

    def hook(_kind: object, error: BaseException | None, _trace: object) -> None:
        for line in places(error) if error is not None else ():
            tell(f"internal error: {line}")

    sys.excepthook = hook
    threading.excepthook = lambda failed: hook(failed.exc_type, failed.exc_value, failed.exc_traceback)
    sys.unraisablehook = lambda failed: hook(failed.exc_type, failed.exc_value, failed.exc_traceback)
    # What is logged where nobody set up a log; in debug mode event loops quote what takes them long.
    logging.lastResort = _handler("%(name)s: %(message)s", logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def set_up(level: int = logging.INFO) -> None:
    """Log to standard error, which systemd keeps; time stamps are its business."""
    handler = _handler("%(levelname)s %(name)s: %(message)s")
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)  # Python's own may quote the address of a socket
    # A server that tells of every malformed request lets strangers write its log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _handler(form: str, level: int = logging.NOTSET) -> "logging.StreamHandler[TextIO]":
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(RedactingFormatter(form))
    return handler


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
