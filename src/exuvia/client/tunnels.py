"""
What a change of keys asks of this machine's network: a second tunnel beside the first, and back to one.

There is the tunnel that new flows take, and at most one other: before `switch` it is the one
beside, which nobody uses yet; afterwards it is the old one, on which flows that began there
go on. Each step may be taken again after it failed, and by a client that was started anew.
"""

from datetime import datetime
from typing import Protocol

from exuvia.client.gateways import Gateway
from exuvia.client.state import Grant
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Sighting


class Tunnels(Protocol):
    """
    Two tunnels at most, one of which takes all new flows.

    Every method raises InterfaceUnavailable if the machine does not let it be done (then
    nothing is open that was closed), NotPermitted without CAP_NET_ADMIN.
    """

    def prepare(self, gateway: Gateway, key: PrivateKey, grant: Grant) -> None:
        """
        Make a second tunnel beside the one in use, with its own port; no handshake, no flow uses it.

        A tunnel that was beside it already is replaced; an old one that still drained is ended first.
        """

    def kick(self) -> None:
        """Begin the handshake of the tunnel beside now, anew also if one is pending."""

    def look_beside(self) -> Sighting:
        """Return what the counters of the tunnel beside show; all 0 before anything was sent."""

    def switch(self) -> None:
        """
        Let new flows and name resolution take the tunnel beside, in one step; the other one is old now.

        Flows that began on the old one go on there.
        """

    def abandon(self) -> None:
        """Remove the tunnel beside, as if it had never been prepared; nothing if there is none."""

    def old_is_idle(self) -> bool:
        """
        Say whether nothing uses the old tunnel any more: True if there is none.

        That is: no socket of this machine has its address, and it carried nothing but empty
        packets for 15 s. Only asked every few seconds can it tell.
        """

    def end_old(self) -> None:
        """Remove the old tunnel; what still used it is told at once. Nothing if there is none."""

    def hold(self, until: datetime | None) -> None:
        """
        Let traffic into the tunnel only until this time of the wall clock (aware); None: always.

        Beyond it only the client's own way to the control plane stays open, through the tunnel,
        so that what is due while the machine sleeps is done before anything of the user's
        leaves. To be moved on while awake.
        """
