"""What the website is while it runs: the control plane behind it, and what is kept in memory only."""

from dataclasses import dataclass, field

from exuvia.api.control import Control
from exuvia.portal.codes import Codes
from exuvia.portal.pages import Pages
from exuvia.portal.sessions import Sessions
from exuvia.portal.site import Site
from exuvia.store.sealing import Sealer
from exuvia.system import clock


@dataclass(slots=True)
class State:
    """Everything a page may need."""

    control: Control
    site: Site
    pages: Pages = field(default_factory=Pages)
    sessions: Sessions = field(init=False)
    sealer: Sealer = field(init=False)
    codes: Codes = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.control.bits)
        self.sealer = Sealer(self.control.hasher.sealing_key())
        self.codes = Codes(wall=clock.wall().timestamp())
