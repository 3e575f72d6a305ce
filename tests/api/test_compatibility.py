"""Gateways and clients of an earlier version under a later control plane (docs/operate.md, Upgrades)."""

from typing import Any

import msgspec
import pytest

from control_plane import Plane, feed_message, honest_key
from exuvia.api.table import ROUTES
from exuvia.messages import Change, Heartbeat, Snapshot, SnapshotEnd, SnapshotPeers

FEED = [
    Snapshot("epoch", 1, 0),
    SnapshotPeers([]),
    SnapshotEnd(b"d" * 32),
    Change("epoch", 1, 2, [], []),
    Heartbeat("epoch", 2),
]
ANSWERS = [
    route.gives
    for route in ROUTES
    if isinstance(route.gives, type) and issubclass(route.gives, msgspec.Struct)
]


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_answers_may_say_more_than_one_knows(kind: Any) -> None:
    """What a later control plane adds to an answer is passed over."""
    assert not kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("message", FEED, ids=lambda message: type(message).__name__)
def test_the_feed_may_say_more_than_one_knows(message: Any) -> None:
    """What a later control plane adds to a message of the feed is passed over."""
    line = msgspec.json.encode({**msgspec.to_builtins(message), "added": {"later": [1]}})

    assert feed_message(line) == message


async def test_what_the_first_version_sends_is_understood(plane: Plane) -> None:
    """Requests as the first version's gateways and devices send them, with nothing that was added since."""
    gateway = await plane.gateway()
    hello = {"public_key": honest_key(), "lasting": True}
    assert (await plane.ask("PUT", "/v1/gateway", bearer=gateway, body=hello)).status == 200
    device = await plane.register(await plane.account())
    position = {"epoch": device.epoch, "revision": 0}
    applied = await plane.ask("PUT", "/v1/gateway/applied", bearer=gateway, body=position)
    asked = f"/v1/applied?epoch={device.epoch}&revision={device.revision}"

    assert applied.status == 204
    for path in ("/v1/device", "/v1/gateways", asked):
        assert (await plane.ask("GET", path, bearer=device.token)).status == 200
    assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 204
