"""What an interface tells of itself, as values."""

from dataclasses import dataclass, field
from typing import NamedTuple

from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import Peer, Sighting


class Facts(NamedTuple):
    """What an interface is, apart from its peers; its private key stays where it is."""

    public_key: PublicKey | None
    """None as long as the interface has no private key."""
    listen_port: int


class Look(NamedTuple):
    """How one reading of an interface ended."""

    peers: int
    """How many were seen; a peer purged while the reading ran may have been seen twice."""
    whole: bool
    """False if others changed the interface meanwhile: what was left out proves nothing."""


class Configured(NamedTuple):
    """A peer as an interface has it: its whole configuration, and what there is to forget."""

    peer: Peer
    sighting: Sighting


@dataclass(slots=True)
class Comparison:
    """How an interface differs from a peer table."""

    whole: bool = False
    """False if others changed the interface meanwhile: then `missing` proves nothing."""
    equal: int = 0
    """How many peers of the table are on the interface exactly so."""
    different: list[bytes] = field(default_factory=list)
    """Keys of the table whose peer on the interface has another configuration."""
    missing: list[bytes] = field(default_factory=list)
    """Keys of the table that the interface does not have."""
    strangers: list[bytes] = field(default_factory=list)
    """Keys that are not in the table, with all their allowed IPs (one at least) inside the pools."""
    bare: list[bytes] = field(default_factory=list)
    """Keys that are not in the table, without any allowed IP: whose they are can't be told."""
    foreign: int = 0
    """How many peers have an allowed IP outside the pools: somebody else's."""
