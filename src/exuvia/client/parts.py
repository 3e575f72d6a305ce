"""What the parts of a running client have in common."""

from dataclasses import dataclass, field

from exuvia.client.edges import Edges
from exuvia.client.keeping import Keeper
from exuvia.client.login import Say
from exuvia.client.progress import Following
from exuvia.client.situation import Situation
from exuvia.client.state import StateFolder
from exuvia.rules.liveness import Liveness


class Sight:
    """What the counters of the tunnel in use have shown."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._liveness = Liveness()

    def begin(self) -> None:
        """Forget what was seen: the tunnel is another one now."""
        self._liveness = Liveness()

    def see(self) -> Liveness:
        """Look, and return what is known."""
        self._liveness.see(self._edges.machine.look(), now=self._edges.clock.boottime())
        return self._liveness

    def handshake_age(self) -> float | None:
        """Return seconds since the latest handshake was seen, or None if there was none."""
        return self._liveness.handshake_age(now=self._edges.clock.boottime())

    def unanswered(self) -> float:
        """Return for how many seconds what was sent has gone unanswered."""
        return self._liveness.unanswered(now=self._edges.clock.boottime())

    def lost(self) -> bool:
        """Look, and say whether the other side is gone."""
        return self.see().lost(now=self._edges.clock.boottime())


@dataclass(slots=True)
class Parts:
    """The parts themselves."""

    folder: StateFolder
    keeper: Keeper
    situation: Situation
    edges: Edges
    say: Say
    sight: Sight = field(init=False)
    following: Following = field(default_factory=Following)

    def __post_init__(self) -> None:
        self.sight = Sight(self.edges)

    def about(self, seconds: float) -> float:
        """Return this time, up to a fifth shorter or longer, so that not everybody asks at once."""
        return seconds * (0.8 + 0.4 * self.chance())

    def chance(self) -> float:
        """Return a random number between 0 and 1."""
        return self.edges.entropy.bits(32) / 2**32
