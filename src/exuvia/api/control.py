"""What the control plane is while it runs: the store, and what is kept in memory only."""

import hmac
import logging
import math
from collections import Counter
from dataclasses import dataclass, field

from exuvia.api.alarms import STORE, Alarms
from exuvia.api.device_codes import DeviceCodes
from exuvia.api.failures import Failures
from exuvia.api.fleet import Fleet
from exuvia.api.hub import Hub
from exuvia.api.idempotency import Answers
from exuvia.api.possession import Possession
from exuvia.api.tables import Tables
from exuvia.errors import StoreUnavailable
from exuvia.rules.allocation import Bits
from exuvia.rules.expiry import Clock
from exuvia.rules.overlap import Draining
from exuvia.store.credentials import Hasher
from exuvia.store.store import Store

_log = logging.getLogger("exuvia.api")


@dataclass(slots=True)
class Control:
    """Everything a handler may need."""

    store: Store
    hub: Hub
    fleet: Fleet
    clock: Clock
    bits: Bits
    alarms: Alarms = field(default_factory=Alarms)
    operator_hash: bytes | None = None
    """None: nobody is the operator over the network."""
    answers: Counter[int] = field(default_factory=Counter)
    """By status, since the start."""
    peers: int = 0
    """In the peer table at the last tick."""
    addresses_in_use: float = 0.0
    """Share of the IPv4 pool at the last tick."""
    draining: Draining = field(default_factory=Draining)
    batch_at: float = 0.0
    """When retired keys go next, in seconds of CLOCK_BOOTTIME."""
    tables: Tables = field(init=False)
    hasher: Hasher = field(init=False)
    answers_kept: Answers = field(init=False)
    device_codes: DeviceCodes = field(init=False)
    failures: Failures = field(init=False)
    possession: Possession = field(init=False)
    today: str = field(init=False)
    hour: int = field(init=False)

    def __post_init__(self) -> None:
        self.hasher = self.store.hasher
        self.tables = Tables(self.store.reader)
        self.answers_kept = Answers(self.bits(256).to_bytes(32, "big"))
        self.device_codes = DeviceCodes(self.hasher, self.bits)
        self.failures = Failures(self.bits)
        self.possession = Possession(self.hasher, lambda: self.clock.wall)
        self.believe(self.clock)

    def believe(self, clock: Clock) -> None:
        """Take over what time it is believed to be."""
        self.clock, self.today, self.hour = clock, clock.day(), clock.hour()

    def until_batch(self, *, now: float) -> int:
        """Return in how many seconds, rounded up, retired keys go."""
        return max(1, math.ceil(self.batch_at - now))

    def is_operator(self, token: str) -> bool:
        """Return whether this is the operator's token."""
        return self.operator_hash is not None and hmac.compare_digest(
            self.hasher.operator(token), self.operator_hash
        )

    def count(self, status: int) -> None:
        """Count an answer."""
        self.answers[status] += 1

    def store_failed(self, error: StoreUnavailable) -> None:
        """Tell the operator that requests are refused because of the database."""
        self.alarms.begin(STORE, f"{error}; requests that need it are answered with 503 until it can")
