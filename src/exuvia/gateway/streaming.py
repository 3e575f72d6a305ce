"""
The conversation with the control plane: hello, the feed as records, acknowledgements, and again.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from urllib.parse import urlencode

import msgspec

from exuvia.errors import ControlPlaneUnreachable, ExuviaError, InvalidConfiguration
from exuvia.gateway.pipes import Pipes
from exuvia.gateway.records import (
    Alive,
    Applied,
    Beat,
    ChangeBegins,
    Follow,
    FromKernel,
    FromNetwork,
    Identity,
    Removal,
    Row,
    SnapshotBegins,
    SnapshotEnds,
    StreamBegins,
    StreamLost,
    Welcome,
    WentBack,
)
from exuvia.messages import (
    Change,
    FeedMessage,
    GatewayApplied,
    GatewayHello,
    GatewayWelcome,
    Heartbeat,
    Snapshot,
    SnapshotPeers,
)
from exuvia.rules.feed import Position
from exuvia.rules.ownership import Pools
from exuvia.rules.retrying import pause
from exuvia.system import entropy
from exuvia.system.http import Connection, Response, StreamRefused
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

IDLE = 45.0
"""Seconds of silence after which a stream is given up: three heartbeats."""

ALIVE_EVERY = 5.0
_CONFLICT, _UNAUTHORIZED, _FORBIDDEN = 409, 401, 403

_read_message = msgspec.json.Decoder(FeedMessage).decode


class Conversation:
    """
    A gateway's side of it, over two connections: one for the feed, one for everything else.

    Where to follow from is asked of the kernel process each time: it alone knows.
    """

    def __init__(
        self, feed: Connection, requests: Connection, token: str, *, tell: Callable[[str], None]
    ) -> None:
        self._feed = feed
        self._requests = requests
        self._token = token
        self._tell = tell
        self._one_request = asyncio.Lock()
        self._identity: Identity | None = None
        self._identified = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._follow: asyncio.Future[Follow] | None = None
        self._round: asyncio.Future[None] | None = None
        self._applied = asyncio.Queue[Position](maxsize=1)
        self._unheard = False
        """Whether the latest acknowledgement found nobody."""
        self._failures = 0
        self._trouble = ""

    async def run(self, pipes: Pipes) -> None:
        """Talk until the kernel process closes its pipe."""
        self._pipes = pipes
        pipes.listen(self._take_in)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pipes.until_closed())
                tasks.create_task(self._sign_of_life())
                tasks.create_task(self._acknowledge())
                tasks.create_task(self._converse())
        except* EOFError:
            pass
        finally:
            await self._feed.close()
            await self._requests.close()

    # With the kernel process.

    def _take_in(self, record: FromKernel) -> None:
        if isinstance(record, Applied):
            if self._applied.full():
                self._applied.get_nowait()
                self._applied.task_done()
            self._applied.put_nowait(record.position)
            # What is claimed before a stream is asked for says nothing of how well it goes.
            if self._follow is None or self._follow.done():
                self._failures = 0
        elif isinstance(record, Identity):
            self._identity = record
            self._identified.set()
            self._welcomed.clear()
            self._break_off()
        elif self._follow is not None and not self._follow.done():
            self._follow.set_result(record)
        else:
            # What the present stream said could not be accepted.
            self._break_off()

    def _break_off(self) -> None:
        if self._round is not None:
            self._round.cancel()

    async def _sign_of_life(self) -> None:
        while True:
            await self._pipes.say(Alive())
            await asyncio.sleep(ALIVE_EVERY)

    # With the control plane.

    async def _converse(self) -> None:
        while True:
            self._round = asyncio.ensure_future(self._talk())
            try:
                await asyncio.wait((self._round,))
                await self._judge(self._round)
            finally:
                self._round.cancel()
            self._failures += 1
            await asyncio.sleep(pause(self._failures, chance=entropy.bits(16) / 0xFFFF))

    async def _judge(self, talk: "asyncio.Future[None]") -> None:
        """Say once why a talk ended; what is no fault of others is raised."""
        if talk.cancelled():
            return
        error = talk.exception()
        if isinstance(error, StreamRefused):
            if error.response.status == _CONFLICT:
                await self._pipes.say(WentBack())
            else:
                self._complain(_meaning(error.response))
        elif isinstance(error, ExuviaError):
            self._complain(str(error))
        elif error is not None:
            raise error

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._tell(f"{trouble}; the peers stay as they are meanwhile")

    async def _talk(self) -> None:
        """Introduce the gateway and follow the feed, until something is in the way."""
        await self._identified.wait()
        self._unheard = False
        welcome = await self._hello()
        self._welcomed.set()
        self._follow = asyncio.get_running_loop().create_future()
        await self._pipes.say(Welcome(_pools(welcome)), StreamLost())
        follow = await self._follow
        # Whoever was put back to less than we know is to say so before it sends anything.
        await self._applied.join()
        if self._unheard:
            raise ControlPlaneUnreachable("the control plane does not hear how far this gateway has come")
        await self._pipes.say(StreamBegins(follow.number))
        position = follow.position
        query = "" if position is None else "?" + urlencode(position._asdict())
        lines = self._feed.lines(f"/v1/feed{query}", bearer=self._token, idle_timeout=IDLE)
        async with aclosing(lines):
            async for line in lines:
                await self._pipes.write(_passed_on(line))
                self._trouble = ""
        raise ControlPlaneUnreachable("the control plane ended the feed")

    async def _hello(self) -> GatewayWelcome:
        assert self._identity is not None  # noqa: S101  it is known before a talk begins
        hello = GatewayHello(self._identity.public_key.text(), self._identity.lasting)
        response = await self._request("/v1/gateway", hello)
        if response.status != 200:
            raise ControlPlaneUnreachable(_meaning(response))
        return response.decode(GatewayWelcome)

    async def _acknowledge(self) -> None:
        """Tell the control plane how far we have come; each heartbeat brings the next occasion."""
        while True:
            position = await self._applied.get()
            # What is applied counts for clients, who have to learn a new key of ours first.
            await self._welcomed.wait()
            try:
                response = await self._request(
                    "/v1/gateway/applied", GatewayApplied(position.epoch, position.revision)
                )
                if response.status == _CONFLICT:
                    await self._pipes.say(WentBack())
                self._unheard = False
            except ControlPlaneUnreachable:
                self._unheard = True
            finally:
                self._applied.task_done()

    async def _request(self, path: str, body: object) -> Response:
        async with self._one_request:
            return await self._requests.request("PUT", path, bearer=self._token, body=body)


def _pools(welcome: GatewayWelcome) -> Pools:
    try:
        pools = Pools(
            IPv4Network(welcome.pool4),
            IPv6Network(welcome.pool6),
            IPv4Interface(welcome.address4).ip,
            IPv6Interface(welcome.address6).ip,
        )
        pools.check()
    except (ValueError, InvalidConfiguration):
        raise ControlPlaneUnreachable("the control plane's pools can't be read") from None
    return pools


def _passed_on(line: bytes) -> bytes:
    """Return one line of the feed as records."""
    try:
        return b"".join([record.encode() for record in _parts(_read_message(line))])
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, ExuviaError):
        raise ControlPlaneUnreachable("what comes is not a control plane's feed") from None


def _parts(message: FeedMessage) -> list[FromNetwork]:
    match message:
        case Snapshot(epoch, revision, count):
            return [SnapshotBegins(Position(epoch, revision), count)]
        case SnapshotPeers(peers):
            return [_row(peer) for peer in peers]
        case Change(epoch, after, revision, put, remove):
            begin = ChangeBegins(Position(epoch, after), revision, len(remove), len(put))
            return [begin, *map(_removal, remove), *map(_row, put)]
        case Heartbeat(epoch, revision):
            return [Beat(Position(epoch, revision))]
    return [SnapshotEnds(_sized(message.digest, 32))]


def _row(peer: bytes) -> Row:
    return Row(TunnelPeer(_sized(peer, TunnelPeer.LENGTH)))


def _removal(key: bytes) -> Removal:
    return Removal(PublicKey(_sized(key, 32)))


def _sized(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise ValueError("of another length")
    return value


def _meaning(response: Response) -> str:
    """Return what an answer that is no welcome means for whoever runs the gateway."""
    if response.status in (_UNAUTHORIZED, _FORBIDDEN):
        return "the control plane does not accept this gateway's token: enroll it again"
    return f"the control plane answers with status {response.status}"
