"""What a gateway says of itself: its key, and how far it has come."""

import logging
from typing import TypeVar

from exuvia.api.alarms import REWOUND
from exuvia.api.control import Control
from exuvia.api.devices import public_key
from exuvia.api.routes import Call
from exuvia.errors import RevisionWentBackwards
from exuvia.messages import GatewayWelcome
from exuvia.store import gateways
from exuvia.store.gateways import Gateway
from exuvia.store.peers import Position
from exuvia.store.writer import Operation, Transaction
from exuvia.system import clock

T = TypeVar("T")
_log = logging.getLogger("exuvia.gateways")


async def hello(call: Call) -> GatewayWelcome:
    """PUT /v1/gateway: the gateway has this key now."""
    control, gateway, said = call.control, of(call), call.body
    key = public_key(said.public_key)
    if (key, said.lasting) != (gateway.public_key, gateway.lasting):
        await change(
            control,
            lambda transaction: gateways.present(transaction, gateway.name, key, lasting=said.lasting),
        )
    control.fleet.hear(gateway.name, now=clock.boottime())
    pools = control.store.pools
    return GatewayWelcome(str(pools.pool4), str(pools.pool6), pools.gateway4(), pools.gateway6())


async def acknowledge(call: Call) -> None:
    """PUT /v1/gateway/applied: the gateway has applied everything up to this revision."""
    at = Position(call.body.epoch, call.body.revision)
    await require_not_ahead(call.control, of(call), at)
    call.control.fleet.acknowledge(of(call).name, at, now=clock.boottime())


async def require_not_ahead(control: Control, gateway: Gateway, claimed: Position) -> None:
    """
    Raise RevisionWentBackwards, and the alarm, if a gateway was told more than we know.

    It is remembered: once the revisions have grown past what that gateway has, nothing else
    would tell that its table is of another history. Only that gateway is refused, so that
    none has power over the others.
    """
    try:
        control.fleet.check(gateway, claimed)
    except RevisionWentBackwards:
        control.alarms.begin(
            REWOUND,
            "a gateway was told more than the database knows: an older database was put back. Put the "
            "latest one back, or restart with --new-epoch, and devices register anew",
        )
        if not gateway.ahead:
            await change(control, lambda transaction: gateways.mark_ahead(transaction, gateway.name))
        raise


async def change(control: Control, operation: Operation[T]) -> T:
    """
    Change what the database knows of gateways, take that over, and return what the operation returns.

    What is taken over was read in the same transaction: a token that was taken away can't come
    back by a read that was late, nor stay because one failed.
    """

    def work(transaction: Transaction) -> tuple[T, list[Gateway]]:
        return operation(transaction), gateways.enrolled(transaction)

    result, enrolled = await control.store.writer.run(work)
    control.fleet.replace(enrolled)
    return result


def of(call: Call) -> Gateway:
    """Return the gateway whose call it is."""
    assert call.gateway is not None  # noqa: S101  its route asks for a gateway's token
    return call.gateway
