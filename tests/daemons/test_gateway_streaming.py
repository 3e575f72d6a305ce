"""The network process's conversation with the control plane, as records come out of it."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from exuvia.gateway import streaming
from exuvia.gateway.pipes import Pipes
from exuvia.gateway.records import (
    Alive,
    Applied,
    Beat,
    ChangeBegins,
    Follow,
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
    from_network,
    split,
)
from exuvia.gateway.streaming import Conversation
from exuvia.messages import Change, GatewayHello, Snapshot, SnapshotPeers
from exuvia.rules.feed import Position, table_digest
from exuvia.rules.ownership import Pools
from exuvia.system.http import Connection
from exuvia.testing.feed import TOKEN, WELCOME, FakeFeed, lines, peer, snapshot
from exuvia.wg.keys import PrivateKey

POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
IDENTITY = Identity(PrivateKey(b"g" * 32).public_key(), lasting=False)
AT = Position("first", 0)


@pytest.fixture
def feed() -> Iterator[FakeFeed]:
    """A control plane on a port of its own."""
    made = FakeFeed(table={peer(1)[:32]: peer(1)})
    with socket.create_server(("127.0.0.1", 0)) as sock:
        made.port = sock.getsockname()[1]  # type: ignore[attr-defined]
        with made.serving(sock):
            yield made


class KernelSide:
    """The other end of the pipes."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._buffer = bytearray()
        self.said: list[FromNetwork] = []
        self.complaints: list[str] = []
        os.set_blocking(incoming, False)

    def send(self, record: Identity | Follow | Applied) -> None:
        """Say something to the network process."""
        os.write(self._outgoing, record.encode())

    async def until(self, *expected: FromNetwork) -> None:
        """Wait until these records have been said, one behind the other."""
        await self.when(lambda: _contains(self.said, list(expected)))

    async def when(self, so: Callable[[], Any]) -> None:
        """Wait until something is so, while records are taken in."""
        async with asyncio.timeout(20):
            while not so():
                self._read()
                await asyncio.sleep(0.005)

    def close(self) -> None:
        """Close the pipes, as if the kernel process had ended."""
        os.close(self._incoming)
        os.close(self._outgoing)

    def _read(self) -> None:
        try:
            self._buffer += os.read(self._incoming, 1 << 16)
        except BlockingIOError:
            return
        self.said += [
            record for record in map(from_network, split(self._buffer)) if not isinstance(record, Alive)
        ]


def _contains(said: list[FromNetwork], expected: list[FromNetwork]) -> bool:
    return any(said[at : at + len(expected)] == expected for at in range(len(said)))


@asynccontextmanager
async def talking(url: str, *, token: str = TOKEN) -> AsyncIterator[KernelSide]:
    """Run the conversation while the block runs; it has to end when the pipes are closed."""
    to_kernel, to_network = os.pipe(), os.pipe()
    side = KernelSide(to_kernel[0], to_network[1])
    conversation = Conversation(Connection(url), Connection(url), token, tell=side.complaints.append)
    task = asyncio.create_task(conversation.run(Pipes(to_network[0], to_kernel[1])))
    try:
        yield side
    finally:
        side.close()
        async with asyncio.timeout(5):
            await task
        os.close(to_network[0])
        os.close(to_kernel[1])


def url(feed: FakeFeed) -> str:
    """Return where the control plane answers."""
    return f"http://127.0.0.1:{feed.port}"  # type: ignore[attr-defined]


async def following(side: KernelSide, position: Position | None = None, number: int = 1) -> None:
    """Let the conversation begin, and follow from this position."""
    side.send(IDENTITY)
    await side.until(Welcome(POOLS), StreamLost())
    side.send(Follow(number, position))
    await side.until(StreamBegins(number))


async def test_hello_snapshot_change_and_heartbeat(feed: FakeFeed) -> None:
    """All that a feed says comes out as records, in its order."""
    feed.heartbeat_every = 0.2
    async with talking(url(feed)) as side:
        await following(side)
        await side.until(SnapshotBegins(AT, 1), Row(peer(1)), SnapshotEnds(table_digest([peer(1)])))
        feed.change(put=[peer(2)], remove=[peer(1)[:32]])
        await side.until(ChangeBegins(AT, 1, 1, 1), Removal(peer(1).public_key), Row(peer(2)))
        await side.until(Beat(Position("first", 1)))

    assert feed.hellos == [GatewayHello(IDENTITY.public_key.text(), lasting=False)]
    assert feed.asked == [None]
    assert side.complaints == []


async def test_nothing_is_said_before_there_is_an_identity(feed: FakeFeed) -> None:
    """A gateway whose interface is missing has no key to present."""
    async with talking(url(feed)) as side:
        await asyncio.sleep(0.2)

    assert (feed.hellos, side.said) == ([], [])


async def test_the_feed_is_asked_from_where_the_kernel_process_says(feed: FakeFeed) -> None:
    """The network process knows no position of its own."""
    async with talking(url(feed)) as side:
        await following(side, AT)
        await side.until(Beat(AT))

    assert feed.asked == [AT]


async def test_a_lost_stream_is_begun_anew(feed: FakeFeed) -> None:
    """After a while it says hello again, and asks again from where to follow."""
    async with talking(url(feed)) as side:
        await following(side)
        await side.until(SnapshotBegins(AT, 1))
        side.said.clear()
        feed.cut()
        await side.until(Welcome(POOLS), StreamLost())
        side.send(Follow(2, AT))
        await side.until(StreamBegins(2), Beat(AT))

    assert "ended the feed" in side.complaints[0] or "can't be reached" in side.complaints[0]


async def test_what_was_applied_is_acknowledged(feed: FakeFeed) -> None:
    """The position goes back to the control plane, and nothing else."""
    async with talking(url(feed)) as side:
        await following(side)
        side.send(Applied(AT))
        await side.when(lambda: feed.applied)

    assert feed.applied == [AT]


async def test_nothing_is_acknowledged_before_the_key_is_known(feed: FakeFeed) -> None:
    """An acknowledgement makes clients connect: with a key that they can find in the list of gateways."""
    async with talking(url(feed)) as side:
        side.send(Applied(AT))
        await asyncio.sleep(0.2)
        assert feed.applied == []
        side.send(IDENTITY)
        await side.when(lambda: feed.applied)


async def test_p9_a_claim_is_heard_before_the_feed_is_asked_for(feed: FakeFeed) -> None:
    """A control plane that was put back to less refuses the claim before it has sent anything."""
    claimed = Position("first", 99)
    heard_before: list[Position] = []
    feed.instead = lambda _: heard_before.extend(feed.applied)
    feed.refuses_claims = True
    async with talking(url(feed)) as side:
        side.send(IDENTITY)
        await side.until(Welcome(POOLS), StreamLost())
        side.send(Applied(claimed))
        side.send(Follow(1, None))
        await side.until(WentBack(), StreamBegins(1), SnapshotBegins(AT, 1))

    assert heard_before == [claimed]


async def test_p9_no_feed_is_asked_for_while_a_claim_is_not_heard(feed: FakeFeed) -> None:
    """Whoever can't be told how far the gateway has come can't be trusted with what comes next."""
    feed.hears_claims = False
    async with talking(url(feed)) as side:
        side.send(IDENTITY)
        await side.until(Welcome(POOLS), StreamLost())
        side.send(Applied(Position("first", 99)))
        side.send(Follow(1, None))
        await side.when(lambda: any("does not hear" in said for said in side.complaints))

    assert feed.asked == []


async def test_a_new_identity_is_presented_at_once(feed: FakeFeed) -> None:
    """A key that changed with the interface goes to the control plane without delay."""
    other = Identity(PrivateKey(b"h" * 32).public_key(), lasting=True)
    async with talking(url(feed)) as side:
        await following(side)
        await side.until(SnapshotBegins(AT, 1))
        side.send(other)
        await side.when(lambda: len(feed.hellos) == 2)

    assert feed.hellos[1] == GatewayHello(other.public_key.text(), lasting=True)


async def test_a_stream_that_was_refused_is_left(feed: FakeFeed) -> None:
    """Told to follow from elsewhere, it leaves the present stream and begins another."""
    async with talking(url(feed)) as side:
        await following(side)
        await side.until(SnapshotBegins(AT, 1))
        side.said.clear()
        side.send(Follow(2, None))
        await side.until(Welcome(POOLS), StreamLost())

    assert side.complaints == []


async def test_p9_a_control_plane_that_is_behind_says_so(feed: FakeFeed) -> None:
    """Its 409 becomes a record, whether it answers the feed or an acknowledgement."""
    feed.instead = lambda _: 409
    async with talking(url(feed)) as side:
        side.send(IDENTITY)
        await side.until(Welcome(POOLS), StreamLost())
        side.send(Follow(1, Position("first", 99)))
        await side.until(WentBack())


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"<html><body>Welcome to nginx!</body></html>\n", "not a control plane's feed"),
        (b"null\n[]\n", "not a control plane's feed"),
        (b'{"type":"peers","peers":["AAAA"]}\n', "not a control plane's feed"),
        (lines(Change("e" * 65, 0, 1, [], [])), "not a control plane's feed"),
        (lines(Snapshot("first", -1, 0)), "not a control plane's feed"),
        (lines(Snapshot("first", 2**64, 0)), "not a control plane's feed"),
        (b"x" * 300_000, "too long"),
        (404, "status 404"),
        (500, "status 500"),
        (403, "enroll it again"),
    ],
)
async def test_p18_rubbish_is_no_feed(feed: FakeFeed, answer: bytes | int, complaint: str) -> None:
    """HTML, JSON of other things, or an error: nothing of it is passed on, and it is said once."""
    feed.instead = lambda _: answer
    async with talking(url(feed)) as side:
        await following_or_not(side)
        await side.when(lambda: side.complaints)

    assert complaint in side.complaints[0]
    assert not any(isinstance(record, Row | ChangeBegins | SnapshotBegins) for record in side.said)


async def following_or_not(side: KernelSide) -> None:
    """Let the conversation begin, whatever the control plane then answers."""
    side.send(IDENTITY)
    await side.until(Welcome(POOLS), StreamLost())
    side.send(Follow(1, None))


async def test_a_snapshot_that_is_cut_off_is_passed_on_as_such(feed: FakeFeed) -> None:
    """What arrived is passed on; that it is no whole snapshot is for the kernel process to see."""
    feed.instead = lambda _: snapshot(AT, [peer(1), peer(2)]).rpartition(b"\n{")[0] + b"\n"
    async with talking(url(feed)) as side:
        await following(side)
        await side.until(SnapshotBegins(AT, 2))
        feed.cut()
        await side.when(lambda: StreamLost() in side.said[3:])

    assert not any(isinstance(record, SnapshotEnds) for record in side.said)


async def test_a_token_that_is_not_accepted(feed: FakeFeed) -> None:
    """It says what to do, once, and goes on asking."""
    async with talking(url(feed), token="wrong") as side:
        side.send(IDENTITY)
        await side.when(lambda: side.complaints)
        await asyncio.sleep(0.5)

    assert len(side.complaints) == 1
    assert "enroll it again" in side.complaints[0]


async def test_pools_that_make_no_sense(feed: FakeFeed) -> None:
    """A welcome without usable pools is none."""
    feed.welcome = type(WELCOME)("10.0.0.0/8", "fd00::/64", "192.0.2.1/8", "fd00::1/64")
    async with talking(url(feed)) as side:
        side.send(IDENTITY)
        await side.when(lambda: side.complaints)

    assert "pools can't be read" in side.complaints[0]


async def test_a_control_plane_that_is_not_there() -> None:
    """It is said once, with what it means, and tried again until the kernel process ends."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        nobody = sock.getsockname()[1]
    async with talking(f"http://127.0.0.1:{nobody}") as side:
        side.send(IDENTITY)
        await side.when(lambda: side.complaints)
        await asyncio.sleep(0.5)

    assert len(side.complaints) == 1
    assert side.complaints[0].endswith("the peers stay as they are meanwhile")


async def test_it_waits_while_the_kernel_process_is_busy(feed: FakeFeed) -> None:
    """A large snapshot does not pile up in memory: the pipe's end decides how fast it is read."""
    many = [peer(number) for number in range(1, 3000)]
    feed.instead = lambda _: snapshot(AT, many)
    async with talking(url(feed)) as side:
        side.send(IDENTITY)
        await side.until(Welcome(POOLS), StreamLost())
        side.send(Follow(1, None))
        await asyncio.sleep(1)
        await side.until(SnapshotEnds(table_digest(many)))

    assert sum(isinstance(record, Row) for record in side.said) == len(many)


async def test_signs_of_life_go_on_while_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the control plane answers or not, the kernel process hears that we are not stuck."""
    monkeypatch.setattr(streaming, "ALIVE_EVERY", 0.05)
    alive = 0
    async with talking("http://127.0.0.1:9") as side:
        for _ in range(100):
            await asyncio.sleep(0.02)
            try:
                alive += os.read(side._incoming, 1 << 16).count(b"A" + bytes(127))
            except BlockingIOError:
                continue
            if alive > 3:
                break

    assert alive > 3


def test_every_message_of_the_feed_has_its_records() -> None:
    """A message without its records would be lost without anybody noticing."""
    assert streaming._passed_on(lines(SnapshotPeers([bytes(peer(1))]))) == Row(peer(1)).encode()
