"""
How a gateway is to be run, as words of a command line: `interface=wg0`, `listen-port=51820`.

The command reads options, environment and file; the processes that it starts are told in these
words, which hold no secret: tokens and private keys are named by their files.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

from exuvia.errors import InvalidConfiguration
from exuvia.rules.feed import LEASE

_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator asked for."""

    control: str
    """The control plane's URL."""
    token_file: str
    interface: str
    listen_port: int | None = None
    nat: str | None = None
    """The interface through which clients leave; None if they don't."""
    private_key_file: str | None = None
    ca_file: str | None = None
    accept_snapshot: bool = False
    lease: float = LEASE
    """Seconds for which peers are served that nothing confirms."""
    forget_flows: bool = False
    """Whether a purge also cuts the peer's connections through the tunnel."""

    def check(self) -> None:
        """Raise InvalidConfiguration if something can't be meant so."""
        for name in (self.interface, self.nat):
            if name is not None and not _INTERFACE.fullmatch(name):
                raise InvalidConfiguration(f"{name!r} can't be the name of a network interface")
        if self.nat == self.interface:
            raise InvalidConfiguration("--nat takes the interface that leads out, not WireGuard's")
        if self.lease < 60:
            raise InvalidConfiguration("a lease below a minute would end while the control plane restarts")

    def words(self) -> list[str]:
        """Return the settings as words; what is as by default is left out."""
        given = [(field, getattr(self, field.name)) for field in fields(self)]
        return [f"{_word(field.name)}={value}" for field, value in given if value != field.default]

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Self:
        """Return the settings that these words tell."""
        told = dict(word.split("=", 1) for word in words)
        port, lease = told.get("listen-port"), told.get("lease")
        return cls(
            control=told["control"],
            token_file=told["token-file"],
            interface=told["interface"],
            listen_port=None if port is None else int(port),
            nat=told.get("nat"),
            private_key_file=told.get("private-key-file"),
            ca_file=told.get("ca-file"),
            accept_snapshot="accept-snapshot" in told,
            lease=LEASE if lease is None else float(lease),
            forget_flows="forget-flows" in told,
        )


def _word(name: str) -> str:
    return name.replace("_", "-")
