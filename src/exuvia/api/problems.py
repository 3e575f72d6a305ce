"""Which error becomes which HTTP status, and how a problem is told (RFC 9457)."""

from typing import NamedTuple

import msgspec

from exuvia import errors
from exuvia.messages import Problem

MEDIA_TYPE = b"application/problem+json"


class Kind(NamedTuple):
    """A kind of problem."""

    status: int
    name: str
    title: str
    retry_after: int | None = None
    """Seconds after which asking again makes sense."""


class NotAllowed(errors.Refused):
    """The path exists, but not with this method."""


class TooLarge(errors.Refused):
    """The body is longer than anything we would read."""


class WrongMediaType(errors.Refused):
    """The body is not JSON."""


_KINDS: dict[type[errors.ExuviaError], Kind] = {
    errors.InvalidRequest: Kind(400, "invalid-request", "The request can't be understood"),
    errors.UnknownCredential: Kind(401, "unknown-credential", "The credential is not accepted"),
    errors.AccountInactive: Kind(403, "account-inactive", "The account is not active"),
    errors.NotFound: Kind(404, "not-found", "There is no such thing"),
    NotAllowed: Kind(405, "method-not-allowed", "This method is not possible here"),
    errors.RevisionWentBackwards: Kind(409, "rewound", "The database is behind what this gateway was told"),
    errors.DeviceLimitReached: Kind(409, "device-limit-reached", "The account has all devices it may have"),
    errors.OnlyKey: Kind(409, "only-key", "A device's only key can't be retired"),
    errors.KeySuperseded: Kind(409, "key-superseded", "The key was replaced by one that was confirmed"),
    errors.AlreadyExists: Kind(409, "already-exists", "It exists already"),
    TooLarge: Kind(413, "too-large", "The body is too large"),
    WrongMediaType: Kind(415, "wrong-media-type", "The body must be JSON"),
    errors.KeyRefused: Kind(422, "key-refused", "This public key can't be registered"),
    errors.IdempotencyKeyReused: Kind(422, "idempotency-key-reused", "This Idempotency-Key was used before"),
    errors.TooManyFailures: Kind(429, "too-many-failures", "Too many credentials from there were wrong"),
    errors.RotatedTooOften: Kind(429, "rotated-too-often", "The device changes its key too often"),
    errors.AddressPoolExhausted: Kind(503, "address-pool-exhausted", "No tunnel address is free", 60),
    errors.StoreUnavailable: Kind(503, "store-unavailable", "The database can't be used at the moment", 2),
}
_INTERNAL = Kind(500, "internal-error", "Something went wrong on our side")


def kind(error: type[BaseException]) -> Kind:
    """Return what an error is to a client."""
    for ancestor in error.__mro__:
        if ancestor in _KINDS:
            return _KINDS[ancestor]
    return _INTERNAL


def kind_of(error: BaseException) -> Kind:
    """Return what this error is to a client; one that knows when to try again says so."""
    found = kind(type(error))
    if isinstance(error, errors.RotatedTooOften | errors.TooManyFailures):
        return found._replace(retry_after=error.retry_after)
    return found


def document(kind: Kind, detail: str | None = None) -> bytes:
    """Return the problem document; the detail is ours and repeats nothing that was sent."""
    return msgspec.json.encode(Problem(f"urn:exuvia:problem:{kind.name}", kind.title, kind.status, detail))


def headers(kind: Kind, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with a problem document."""
    found = [(b"content-type", MEDIA_TYPE), (b"content-length", str(len(body)).encode())]
    if kind.status == 401:
        found.append((b"www-authenticate", b"Bearer"))
    if kind.status == 413:
        found.append((b"connection", b"close"))  # rather than reading the rest of it
    if kind.retry_after is not None:
        found.append((b"retry-after", str(kind.retry_after).encode()))
    return found
