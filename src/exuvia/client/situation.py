"""How a running client is at the moment."""

from dataclasses import dataclass
from typing import Literal

from exuvia.client.gateways import Gateway
from exuvia.client.talk import Condition

WayOut = Literal["open", "tunnel", "marked"]
"""
How the control plane is reached: as anything is, before the kill switch closes; through the
tunnel; or, only while none works, beside it, by a mark that the kill switch knows.
"""


@dataclass(slots=True)
class Situation:
    """What the parts of a running client tell each other."""

    condition: Condition = "connecting"
    gateway: Gateway | None = None
    reason: str | None = None
    """Why it is refused."""
    shut: bool = False
    """Whether the kill switch stands."""
    may_open: bool = True
    """Whether it may be opened if the client ends without having been told to."""

    @property
    def way_out(self) -> WayOut:
        """How the control plane can be reached."""
        if self.condition == "connected":
            return "tunnel"
        return "marked" if self.shut else "open"
