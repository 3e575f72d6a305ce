"""
What a gateway writes on its interface, as the interface's alias, so that its successor knows.

It lives exactly as long as the interface and its peers, in the kernel's memory only. It says
which table the interface was last made equal to, when that was confirmed, and in which pools
the peers that are ours have their addresses; nothing of any peer. Everybody on the host
can read it.
"""

import re
from typing import NamedTuple

from exuvia.errors import InvalidConfiguration
from exuvia.rules.feed import Position
from exuvia.rules.ownership import Pools

MARK = "exuvia1"
LONGEST = 255
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,6})?")
_EPOCH = re.compile(r"[\w.-]{1,64}", re.ASCII)
_NONE = "-"


class Alias(NamedTuple):
    """What an interface's alias says; times are seconds of CLOCK_BOOTTIME."""

    position: Position | None
    confirmed: float
    pools: Pools
    rewound: bool = False
    keep_until: float | None = None

    def text(self) -> str:
        """Return it as it stands on the interface: `exuvia1 EPOCH REVISION CONFIRMED …`."""
        epoch, revision = self.position or (_NONE, 0)
        pool4, pool6, address4, address6 = self.pools
        words = [MARK, epoch, f"{revision}", f"{self.confirmed:.3f}"]
        words += [f"{address4}/{pool4.prefixlen}", f"{address6}/{pool6.prefixlen}"]
        if self.keep_until is not None:
            words.append(f"keep={self.keep_until:.3f}")
        if self.rewound:
            words.append("rewound")
        return " ".join(words)

    @classmethod
    def read(cls, text: str) -> "Alias | None":
        """Return what this text says, or None if it is not one of ours."""
        match text.split(" "):
            case [mark, epoch, revision, confirmed, own4, own6, *rest] if mark == MARK:
                return _read(epoch, revision, confirmed, own4, own6, rest)
        return None


def is_foreign(text: str) -> bool:
    """Say whether an alias is somebody else's, so that it has to stay."""
    return bool(text) and text.split(" ")[0] != MARK


def _read(epoch: str, revision: str, confirmed: str, own4: str, own6: str, rest: list[str]) -> Alias | None:
    if not (_EPOCH.fullmatch(epoch) and revision.isascii() and revision.isdigit()):
        return None
    if not _NUMBER.fullmatch(confirmed):
        return None
    try:
        pools = Pools.around(own4, own6)
    except InvalidConfiguration:
        return None
    keep = next((word.removeprefix("keep=") for word in rest if word.startswith("keep=")), None)
    if keep is not None and not _NUMBER.fullmatch(keep):
        return None
    position = None if epoch == _NONE else Position(epoch, int(revision))
    return Alias(position, float(confirmed), pools, "rewound" in rest, None if keep is None else float(keep))
