"""The feed: ordered, unique, atomic, resumable; and what it never tells."""

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from control_plane import Plane, feed_message, honest_key, plane_at, scope, spellings
from exuvia.api import feed, hub
from exuvia.api.alarms import REWOUND
from exuvia.messages import Change, FeedMessage, Heartbeat, Snapshot, SnapshotEnd, SnapshotPeers
from exuvia.rules.feed import table_digest
from exuvia.store import peers
from exuvia.wg.peers import TunnelPeer


class Listener:
    """A gateway's end of the feed, and the peer table that it follows."""

    def __init__(self) -> None:
        self.status = 0
        self.raw = b""
        self.messages: list[FeedMessage] = []
        self.table: dict[bytes, bytes] = {}
        self.at: tuple[str, int] = ("", -1)
        self.gone = asyncio.Event()
        self.news = asyncio.Condition()
        self.held = asyncio.Event()
        self.held.set()

    async def receive(self) -> Mapping[str, Any]:
        """Say nothing until the listener goes away."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take what is sent, when the listener is not held up."""
        await self.held.wait()
        self.status = message.get("status", self.status)
        data = message.get("body", b"")
        self.raw += data
        if self.status == 200:
            for line in data.splitlines():
                self.follow(feed_message(line))
        async with self.news:
            self.news.notify_all()

    def follow(self, message: FeedMessage) -> None:
        """Apply a message, if it may be applied."""
        self.messages.append(message)
        match message:
            case Snapshot(epoch, revision, count):
                self.fresh, self.expected, self.coming = dict[bytes, bytes](), count, (epoch, revision)
            case SnapshotPeers(part):
                self.fresh |= {peer[:32]: peer for peer in part}
            case SnapshotEnd(digest):
                assert (len(self.fresh), table_digest(self.fresh.values())) == (self.expected, digest)
                assert self.coming[0] != self.at[0] or self.coming[1] >= self.at[1]
                self.table, self.at = self.fresh, self.coming
            case Change(epoch, after, revision, put, remove):
                assert (epoch, after) == self.at
                assert revision > after
                for key in remove:
                    self.table.pop(key, None)
                self.table |= {peer[:32]: peer for peer in put}
                self.at = (epoch, revision)
            case Heartbeat(epoch, revision):
                assert (epoch, revision) == self.at

    async def until(self, revision: int) -> None:
        """Wait until the table has come so far."""
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: self.at[1] >= revision)

    def kinds(self) -> list[str]:
        """Return which messages have come."""
        return [type(message).__name__ for message in self.messages]


@contextlib.asynccontextmanager
async def listening(
    plane: Plane, token: str, at: tuple[str, int] | None = None, listener: Listener | None = None
) -> AsyncIterator[Listener]:
    """Follow the feed for as long as the block lasts."""
    listener = listener or Listener()
    listener.gone.clear()
    query = f"?epoch={at[0]}&revision={at[1]}" if at else ""
    request = scope("GET", f"/v1/feed{query}", token, {})
    running = asyncio.ensure_future(plane.inner.public(request, listener.receive, listener.send))
    try:
        async with asyncio.timeout(20), listener.news:
            await listener.news.wait_for(lambda: listener.status != 0 and (listener.raw != b""))
        yield listener
    finally:
        listener.gone.set()
        listener.held.set()
        await running


async def stored(plane: Plane) -> dict[bytes, bytes]:
    """Return the peer table as the database has it."""
    found = await plane.inner.control.store.reader.run(peers.table)
    step = TunnelPeer.LENGTH
    rows = [found.packed[at : at + step] for at in range(0, len(found.packed), step)]
    return {row[:32]: row for row in rows}


async def test_a_new_gateway_gets_a_snapshot_then_changes(plane: Plane) -> None:
    """The whole table with its position, count and digest, then each change as it is committed."""
    number, gateway = await plane.account(), await plane.gateway()
    await plane.register(number)
    async with listening(plane, gateway) as listener:
        assert listener.kinds() == ["Snapshot", "SnapshotPeers", "SnapshotEnd"]
        device = await plane.register(number)
        await listener.until(2)
        await plane.ask("DELETE", "/v1/device", bearer=device.token)
        await listener.until(3)

        assert listener.kinds()[3:] == ["Change", "Change"]
        assert listener.table == await stored(plane)


async def test_a_snapshot_is_cut_into_lines_in_the_order_of_the_keys(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line holds more peers than it may, and the order tells nothing of who came first."""
    monkeypatch.setattr(feed, "PEERS_A_LINE", 3)
    number, gateway = await plane.account(devices=10), await plane.gateway()
    for _ in range(8):
        await plane.register(number)
    async with listening(plane, gateway) as listener:
        lines = [message.peers for message in listener.messages if isinstance(message, SnapshotPeers)]
        keys = [peer[:32] for line in lines for peer in line]

        assert [len(line) for line in lines] == [3, 3, 2]
        assert keys == sorted(keys)


async def test_p18_a_gateway_resumes_where_it_was(plane: Plane) -> None:
    """After an interruption it gets what it missed, and nothing else."""
    number, gateway = await plane.account(devices=50), await plane.gateway()
    first = await plane.register(number)
    async with listening(plane, gateway) as listener:
        at = listener.at
    await plane.ask("DELETE", "/v1/device", bearer=first.token)
    for _ in range(5):
        await plane.register(number)
    listener.status, listener.raw, listener.messages = 0, b"", []
    async with listening(plane, gateway, at, listener):
        assert listener.kinds() == ["Change"]
        assert listener.table == await stored(plane)
        await plane.register(number)
        await listener.until(8)
        assert listener.table == await stored(plane)


async def test_p18_who_missed_nothing_is_told_so_at_once(plane: Plane) -> None:
    """A heartbeat says that the table is right as it is."""
    gateway = await plane.gateway()
    device = await plane.register(await plane.account())
    async with listening(plane, gateway) as listener:
        pass
    listener.status, listener.raw, listener.messages = 0, b"", []
    async with listening(plane, gateway, (device.epoch, device.revision), listener):
        assert listener.messages == [Heartbeat(device.epoch, device.revision)]


@pytest.mark.parametrize("epoch", ["another", None])
async def test_p18_of_another_epoch_means_a_snapshot(plane: Plane, epoch: str | None) -> None:
    """What a gateway knows of another database is of no use."""
    gateway = await plane.gateway()
    device = await plane.register(await plane.account())
    async with listening(plane, gateway, (epoch or device.epoch, 0) if epoch else None) as listener:
        assert listener.kinds()[0] == "Snapshot"


async def test_p18_what_is_no_longer_known_means_a_snapshot(plane: Plane) -> None:
    """Once the memory of changes has been erased, who asks for older ones gets the whole table."""
    number, gateway = await plane.account(devices=9), await plane.gateway()
    for _ in range(6):
        await plane.register(number)
    await plane.inner.control.store.writer.run(partial(peers.forget_changes, revision=3))
    epoch = plane.inner.control.hub.at.epoch
    plane.inner.control.fleet.tell("se1", 6)
    async with listening(plane, gateway, (epoch, 2)) as too_old:
        assert too_old.kinds()[0] == "Snapshot"
    listener = Listener()
    listener.at = (epoch, 3)
    async with listening(plane, gateway, (epoch, 3), listener):
        assert listener.kinds() == ["Change"]
        assert listener.at == (epoch, 6)


async def test_nothing_is_lost_between_snapshot_and_changes(plane: Plane) -> None:
    """Gateways that join while devices come and go by the hundred all end with exactly the table."""
    gateways = [await plane.gateway(f"g{n}") for n in range(6)]
    number = await plane.account(devices=1000)
    listeners: list[Listener] = []
    stop = asyncio.Event()

    async def churn() -> None:
        while not stop.is_set():
            device = await plane.register(number)
            if os.urandom(1)[0] < 100:
                await plane.ask("DELETE", "/v1/device", bearer=device.token)

    churning = [asyncio.ensure_future(churn()) for _ in range(10)]
    async with contextlib.AsyncExitStack() as stack:
        for gateway in gateways:
            listeners.append(await stack.enter_async_context(listening(plane, gateway)))
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*churning)
        expected = await stored(plane)
        for listener in listeners:
            await listener.until(plane.inner.control.hub.at.revision)

        assert plane.inner.control.hub.at.revision > 50
        assert all(listener.table == expected for listener in listeners)


async def test_a_large_change_is_cut_into_lines(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand devices cut off at once take several messages, each following the one before."""
    monkeypatch.setattr(hub, "LONGEST_CHANGE", 7)
    number, gateway = await plane.account(devices=30), await plane.gateway()
    for _ in range(20):
        await plane.register(number)
    async with listening(plane, gateway) as listener:
        await plane.act(number, "suspend")
        await listener.until(40)

        assert listener.kinds()[3:] == ["Change"] * 3
        assert listener.table == {}


async def test_a_gateway_that_reads_too_slowly_is_cut_off(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it is bounded; it can come back and resume, and others don't notice."""
    monkeypatch.setattr(hub, "LONGEST_QUEUE", 2000)
    number, slow, quick = await plane.account(devices=99), await plane.gateway("a"), await plane.gateway("b")
    listener = Listener()
    async with listening(plane, quick) as other, listening(plane, slow, None, listener):
        listener.held.clear()
        for _ in range(40):
            await plane.register(number)
        assert len(plane.inner.control.hub) == 2
        listener.held.set()
        await other.until(40)
        for _ in range(50):
            await asyncio.sleep(0)
        at = listener.at

        assert at[1] < 40
        assert len(plane.inner.control.hub) == 1
    listener.status, listener.raw = 0, b""
    async with listening(plane, slow, at, listener):
        assert listener.at[1] == 40
        assert listener.table == await stored(plane)


async def test_who_does_not_read_at_all_is_disconnected(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while its connection is cut, whatever stands in the way."""
    monkeypatch.setattr(feed, "SLOWEST_READER", 0.05)
    number, gateway = await plane.account(), await plane.gateway()
    listener, cut = Listener(), asyncio.Event()
    request = {**scope("GET", "/v1/feed", gateway, {}), "abort": cut.set}
    running = asyncio.ensure_future(plane.inner.public(request, listener.receive, listener.send))
    async with asyncio.timeout(10), listener.news:
        await listener.news.wait_for(lambda: listener.at[1] == 0)
    listener.held.clear()
    await plane.register(number)
    async with asyncio.timeout(10):
        await cut.wait()
    listener.held.set()
    await running

    assert len(plane.inner.control.hub) == 0


async def test_silence_is_broken_by_heartbeats(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway hears that nothing happened, and at which revision."""
    monkeypatch.setattr(feed, "HEARTBEAT", 0.01)
    gateway = await plane.gateway()
    device = await plane.register(await plane.account())
    async with listening(plane, gateway) as listener:
        async with asyncio.timeout(10), listener.news:
            await listener.news.wait_for(lambda: len(listener.messages) >= 6)

        assert listener.messages[-1] == Heartbeat(device.epoch, device.revision)
    assert feed.HEARTBEAT == 0.01


async def test_a_gateway_ahead_of_the_database_is_refused_for_good(plane: Plane) -> None:
    """A revision that was never told here is 409 and an alarm, and stays so when it has been passed."""
    number, gateway, other = (
        await plane.account(devices=99),
        await plane.gateway("a"),
        await plane.gateway("b"),
    )
    device = await plane.register(number)
    ahead = await plane.ask("GET", f"/v1/feed?epoch={device.epoch}&revision=5", bearer=gateway)
    for _ in range(9):
        await plane.register(number)
    still = await plane.ask("GET", f"/v1/feed?epoch={device.epoch}&revision=5", bearer=gateway)
    body = {"epoch": device.epoch, "revision": 5}
    acknowledged = await plane.ask("PUT", "/v1/gateway/applied", bearer=gateway, body=body)

    assert [answer.status for answer in (ahead, still, acknowledged)] == [409] * 3
    assert ahead.json["type"] == "urn:exuvia:problem:rewound"
    assert plane.inner.control.alarms.counts[REWOUND] == 1
    async with listening(plane, other) as listener:
        assert listener.at[1] == 10


async def test_a_gateway_ahead_is_remembered_over_a_restart_and_forgiven_by_a_new_epoch(
    tmp_path: Path,
) -> None:
    """Until --new-epoch it is refused: its table may be of a history that this database never had."""
    path = tmp_path / "x.db"
    async with plane_at(path) as plane:
        gateway, number = await plane.gateway(), await plane.account()
        epoch = plane.inner.control.hub.at.epoch
        assert (await plane.ask("GET", f"/v1/feed?epoch={epoch}&revision=1", bearer=gateway)).status == 409
        await plane.register(number)
    async with plane_at(path) as plane:
        assert (await plane.ask("GET", f"/v1/feed?epoch={epoch}&revision=1", bearer=gateway)).status == 409
    async with plane_at(path, new_epoch=True) as plane, listening(plane, gateway, (epoch, 1)) as listener:
        assert listener.kinds() == ["Snapshot", "SnapshotEnd"]


async def test_a_gateway_may_be_where_the_server_before_had_come(tmp_path: Path) -> None:
    """After a restart nobody is refused for what the server before it has told."""
    path = tmp_path / "x.db"
    async with plane_at(path) as plane:
        gateway, device = await plane.gateway(), await plane.register(await plane.account())
    async with plane_at(path) as plane:
        listener = Listener()
        listener.at = (device.epoch, device.revision)
        async with listening(plane, gateway, listener.at, listener):
            assert listener.kinds() == ["Heartbeat"]


async def test_p9_a_revoked_key_does_not_come_back_by_itself(plane: Plane) -> None:
    """Neither a snapshot, nor a difference from any revision, nor a late answer brings it again."""
    number, gateway, key = await plane.account(), await plane.gateway(), honest_key()
    raw = base64.b64decode(key)
    device = await plane.register(number, key)
    await plane.ask("DELETE", "/v1/device", bearer=device.token)
    for at in (None, (device.epoch, 0), (device.epoch, 1), (device.epoch, 2)):
        listener = Listener()
        listener.at = at or ("", -1)
        if at == (device.epoch, 2):
            plane.inner.control.fleet.tell("se1", 2)
        async with listening(plane, gateway, at, listener):
            assert raw not in listener.table
            assert all(raw not in peer for m in listener.messages if isinstance(m, Change) for peer in m.put)

    again = await plane.register(number, key)
    assert again.addresses != device.addresses


async def test_p13_gateways_are_told_nothing_of_accounts_and_devices(plane: Plane) -> None:
    """No byte of an account, a device, a name or a token is on the feed, however it might be written."""
    number, gateway = await plane.account(devices=9), await plane.gateway()
    control = plane.inner.control
    async with listening(plane, gateway) as listener:
        made = [await plane.register(number) for _ in range(5)]
        await plane.ask("DELETE", "/v1/device", bearer=made[0].token)
        await listener.until(6)
    async with listening(plane, gateway) as whole:
        pass
    told = listener.raw + whole.raw
    rows = await control.store.reader.run(
        lambda connection: connection.execute(
            "SELECT account.id, number_hash, device.id, token_hash "
            "FROM account JOIN device ON account_id = account.id"
        ).fetchall()
    )
    secrets = {value for row in rows for value in row}
    secrets |= {base64.urlsafe_b64decode(device.token + "==")[32:] for device in made}
    texts = {
        number,
        number.replace("-", ""),
        *(d.name for d in made),
        *(d.id for d in made),
        *(d.token for d in made),
    }

    assert len(secrets) == 1 + 1 + 4 + 4 + 5
    assert [s for secret in secrets for s in spellings(secret) if s in told] == []
    assert [text for text in texts if text.encode() in told] == []
    assert base64.b64encode(made[1].addresses[0].encode()) not in told


async def test_p13_a_peer_on_the_feed_is_84_bytes(plane: Plane) -> None:
    """Public key, two addresses, preshared key: there is no room for anything else, and no order."""
    number, gateway = await plane.account(devices=99), await plane.gateway()
    async with listening(plane, gateway) as listener:
        await asyncio.gather(*(plane.register(number) for _ in range(60)))
        await listener.until(60)
    changes = [message for message in listener.messages if isinstance(message, Change)]

    assert {len(peer) for change in changes for peer in change.put} == {84}
    assert all(change.put == sorted(change.put) for change in changes)
    assert max(len(change.put) for change in changes) > 1
