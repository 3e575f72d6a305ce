"""Bodies of requests, read up to a limit."""

from collections.abc import Mapping

from exuvia.api.problems import TooLarge
from exuvia.api.routes import Receive
from exuvia.errors import InvalidRequest
from exuvia.rules.limits import LONGEST_BODY


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """Return the request's body; TooLarge as soon as it is known to be too long."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit():
        raise InvalidRequest("the length of the body can't be read")
    if len(declared) > 9 or int(declared) > LONGEST_BODY:
        raise TooLarge(f"a body may have {LONGEST_BODY} bytes")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the request was cut short")
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            raise TooLarge(f"a body may have {LONGEST_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(body)
