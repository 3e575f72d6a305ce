"""
What can go wrong, by whose fault it is.

Two branches decide what a program does next: Refused (asking again will not help: a 4xx,
stop and say why) and Unavailable (later might: a 503, try again with jitter). Leaves are
facts. No message ever holds a key, an address, an account or a token.
"""


class ExuviaError(Exception):
    """Base of everything this project raises on purpose; its text is shown to people."""


class Refused(ExuviaError):
    """The request can't be granted as it stands; asking again will not help."""


class Unavailable(ExuviaError):
    """It can't be done now; later it might."""


class InvalidKey(Refused):
    """Not a usable WireGuard key: malformed, non-canonical, low-order or zero."""


class InvalidConfiguration(Refused):
    """A setting or configuration file can't be used; the text says which and why."""


class UnknownCredential(Refused):
    """No account, device or gateway has this credential; or none that may act. Never says which."""


class AccountInactive(Refused):
    """The device's account is suspended, cancelled or expired."""


class KeyRefused(Refused):
    """The public key can't be registered; one answer for every reason."""


class DeviceLimitReached(Refused):
    """The account has as many devices as it may have."""


class OnlyKey(Refused):
    """The device's only key can't be retired; log out instead."""


class KeySuperseded(Refused):
    """The key was the device's current one, until its successor was confirmed."""


class NotFound(Refused):
    """What was named does not exist."""


class AlreadyExists(Refused):
    """What was to be made is there already."""


class IdempotencyKeyReused(Refused):
    """The Idempotency-Key came with another request before."""


class InvalidRequest(Refused):
    """The request can't be understood; the text says why, without repeating it."""


class AddressPoolExhausted(Unavailable):
    """Nearly every address of the pool is in use or resting."""


class RotatedTooOften(Unavailable):
    """So many retired keys of the device wait for the next batch that it may have no more."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("this device changes its key too often: try again after the next batch")
        self.retry_after = retry_after
        """Seconds."""


class TooManyFailures(Unavailable):
    """So many credentials from one address were wrong that no more are tried now. Never says of whom."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many credentials were wrong: try again in {retry_after} s")
        self.retry_after = retry_after
        """Seconds."""


class StoreUnavailable(Unavailable):
    """The database can't be read or written now: locked, read-only, or its disk is full."""


class BackupRefused(Refused):
    """A backup can't be used: it is cut, damaged, somebody else's, too old or too new."""


class DatabaseInUse(Refused):
    """Another process looks after this database."""


class DatabaseRewound(Refused):
    """The database is older than what was last served from it."""


class FeedRefused(Refused):
    """A feed message that must not be applied."""


class FeedGap(FeedRefused):
    """The change does not follow the revision the gateway is at; a snapshot is needed."""


class RevisionWentBackwards(FeedRefused):
    """The control plane is at an earlier revision of an epoch than this gateway has applied."""

    ADVICE = (
        "the control plane is at an earlier revision than this gateway: an older database was put back. "
        "Nothing of it is believed; the peers that are served stay for one lease. Put the latest database "
        "back, or restart `exuvia serve` with --new-epoch"
    )


class ImplausibleSnapshot(FeedRefused):
    """
    A snapshot of a new epoch would drop most of the peers this gateway serves.

    Refused rather than applied: a broken database must not log everybody out. An operator
    who means it restarts the gateway with --accept-snapshot.
    """


class MalformedSnapshot(FeedRefused):
    """A snapshot whose count or digest does not fit what arrived."""


class ControlPlaneUnreachable(Unavailable):
    """The control plane did not answer, or not with what a control plane says."""


class EventUndelivered(Unavailable):
    """Billing could not be told of an event; the text says why, and nothing of the event or the URL."""


class ConnectAnew(Unavailable):
    """The tunnel in use is no longer the right one; connecting again, with the keys there are, helps."""


class InterfaceUnavailable(Unavailable):
    """The WireGuard interface does not exist, went away, or refused a change."""


class NotInKernel(InterfaceUnavailable):
    """This kernel was built without what is asked of it."""


class GarbledAnswer(Unavailable):
    """What the WireGuard interface says of itself can't be read."""


class GarbledRecord(Unavailable):
    """What came through the pipe between a gateway's processes is no record, or none that may come now."""


class InterfaceInUse(Refused):
    """Another exuvia daemon looks after this interface."""


class NotPermitted(Refused):
    """The operating system does not let this process do that; the text says what is needed."""


class AlreadyRunning(Refused):
    """Another process of ours is at the same work; the text says which."""


class AlreadyLoggedIn(Refused):
    """This machine has a device already; log out first."""


class NotLoggedIn(Refused):
    """There is no device in this state directory; log in first."""


class StateUnreadable(Refused):
    """A state file is damaged or from a later version; it is kept as it is."""


class StateNotSaved(Unavailable):
    """A state file can't be read or written now: the text says why; what was saved before stands."""


class InterfaceExists(Refused):
    """An interface of that name exists and is not ours to change."""
