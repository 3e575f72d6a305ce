"""
How a gateway does, read from its interface: counts, and nothing of any peer.
"""

import json
from dataclasses import asdict, dataclass

from exuvia.errors import InterfaceUnavailable
from exuvia.gateway.alias import Alias
from exuvia.system import clock
from exuvia.system.interface import open_interface
from exuvia.system.links import Links
from exuvia.wg.peers import Sighting


@dataclass
class Status:
    """What can be said of a gateway; of its clients only how many."""

    interface: str
    peers: int = 0
    forgotten: int = 0
    """Peers of which the interface shows nothing but their configuration."""
    with_endpoint: int = 0
    half_open: int = 0
    """Peers with an endpoint whose handshake was never completed."""
    epoch: str | None = None
    revision: int | None = None
    confirmed_seconds_ago: float | None = None
    """Since the control plane last confirmed the table; times are of CLOCK_BOOTTIME."""
    rewound: bool = False
    """Whether the control plane went back to an earlier revision, so that it is not believed."""
    keeping_seconds: float | None = None
    """For how long peers are kept yet that the newest table lacks."""

    def count(self, sightings: list[Sighting]) -> None:
        """Count the peers that have something to forget."""
        self.with_endpoint += sum(sighting.endpoint for sighting in sightings)
        self.half_open += sum(sighting.endpoint and not sighting.handshake for sighting in sightings)
        self.forgotten -= len(sightings)

    def json(self) -> str:
        """Return it for programs."""
        return json.dumps(asdict(self))

    def text(self) -> str:
        """Return it for people."""
        half_open = f", {self.half_open} of them half-open" if self.half_open else ""
        lines = [
            f"{self.interface}: {self.peers} peers, {self.forgotten} of them forgotten",
            f"  with an endpoint: {self.with_endpoint}{half_open}",
        ]
        if self.revision is None or self.confirmed_seconds_ago is None:
            lines.append("  peer table: none of a control plane was applied yet")
        else:
            ago = round(self.confirmed_seconds_ago)
            lines.append(f"  peer table: revision {self.revision}, confirmed {ago} s ago")
        if self.rewound:
            lines.append("  alarm: the control plane went back to an earlier revision, and is not believed")
        if self.keeping_seconds is not None:
            lines.append(
                f"  peers that the newest table lacks are kept for {round(self.keeping_seconds)} s yet"
            )
        return "\n".join(lines)


def read_status(name: str) -> Status:
    """Return how the gateway on this interface does, whether its daemon runs or not."""
    links = Links()
    try:
        link = links.find(name)
    finally:
        links.close()
    if link is None:
        raise InterfaceUnavailable(f"there is no network interface {name!r} here")
    status = Status(name)
    interface = open_interface(name, alone=False)
    try:
        status.peers = interface.look(status.count).peers
    finally:
        interface.close()
    status.forgotten += status.peers
    alias = Alias.read(link.alias)
    if alias is not None:
        _add(status, alias, now=clock.boottime())
    return status


def _add(status: Status, alias: Alias, *, now: float) -> None:
    if alias.position is not None:
        status.epoch, status.revision = alias.position
        status.confirmed_seconds_ago = max(0.0, now - alias.confirmed)
    status.rewound = alias.rewound
    if alias.keep_until is not None and alias.keep_until > now:
        status.keeping_seconds = alias.keep_until - now
