"""How much is too much: sizes of requests, devices of an account."""

LONGEST_BODY = 64 * 1024
"""Bytes of a request's body."""
LONGEST_HEADERS = 16 * 1024
"""Bytes of a request's target and headers together."""
SLOWEST_REQUEST = 10.0
"""Seconds from a request's first byte to its last."""
SLOWEST_READER = 30.0
"""Seconds that a client may leave unread what it was answered."""
MOST_AT_ONCE = 16
"""Requests that may wait on one connection for the answers to those before them."""
MOST_CONNECTIONS = 50_000
"""Connections at a time, if the operating system lets us have as many."""
GRACE = 1.0
"""Seconds for which each of them may wait, however many there are."""
MOST_WAITING = 4_000
"""Connections on which no request has come whole, or none since the last answer."""
LONGEST_WAIT = 30.0
"""Seconds that a client may have the server wait for gateways."""
MOST_DEVICES = 1000
"""Devices that an account can be allowed."""
MOST_ACCOUNTS_AT_ONCE = 1000
"""Accounts that one request can create."""
LONGEST_EXTENSION = 36525
"""Days by which one request can put off an account's last day."""
LONGEST_IDEMPOTENCY_KEY = 255
"""Characters."""
MOST_ANSWERS_KEPT = 10_000
"""Answers that can be given again; of more, the oldest are forgotten."""


def has_room(devices: int, device_limit: int) -> bool:
    """Return whether an account with so many devices may have another one."""
    return devices < device_limit


def waiting_time(asked: float) -> float:
    """Return how long to wait for gateways, in seconds, when a client asked for so long."""
    return min(max(asked, 0.0), LONGEST_WAIT)
