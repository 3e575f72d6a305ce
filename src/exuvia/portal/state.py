"""What the website is while it runs: the control plane behind it, and what is kept in memory only."""

from dataclasses import dataclass, field

from exuvia.api.control import Control
from exuvia.portal.pages import Pages
from exuvia.portal.sessions import Sessions
from exuvia.portal.site import Site


@dataclass(slots=True)
class State:
    """Everything a page may need."""

    control: Control
    site: Site
    pages: Pages = field(default_factory=Pages)
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.control.bits)
