"""kill -9 at any moment: what was acknowledged is there, and the rest happened whole or not at all."""

import asyncio
import contextlib
import http.client
import itertools
import signal
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from control_plane import Server, honest_key, server_in
from database_files import assert_consistent
from exuvia.errors import ControlPlaneUnreachable
from exuvia.messages import DeviceRegistered, DeviceState
from exuvia.system.http import Connection

CONNECTIONS = 16


@dataclass
class Known:
    """What clients were told."""

    alive: dict[str, DeviceRegistered] = field(default_factory=dict)
    deleted: list[DeviceRegistered] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    being_deleted: list[DeviceRegistered] = field(default_factory=list)
    seen: int = 0
    """How many of those that are alive were looked at."""
    seen_deleted: int = 0


async def client(server: Server, number: str, known: Known) -> None:
    """Register devices, and delete every third, until the server is gone."""
    connection = Connection(server.url)
    try:
        while True:
            key = honest_key()
            known.unanswered.append(key)
            answer = await connection.request("POST", "/v1/devices", bearer=number, body={"public_key": key})
            assert answer.status == 201
            device = answer.decode(DeviceRegistered)
            known.unanswered.remove(key)
            if len(known.alive) % 3:
                known.alive[key] = device
                continue
            known.being_deleted.append(device)
            assert (await connection.request("DELETE", "/v1/device", bearer=device.token)).status == 204
            known.being_deleted.remove(device)
            known.deleted.append(device)
    except ControlPlaneUnreachable:
        await connection.close()


async def load_until_killed(server: Server, number: str, known: Known, seconds: float) -> None:
    """Let many clients work, and kill the server in the midst of it."""
    clients = [asyncio.ensure_future(client(server, number, known)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    await asyncio.gather(*clients)


def from_elsewhere(server: Server, method: str, token: str) -> int:
    """Ask for a device, and return the status; from another address each time, as wrong tokens count."""
    parts, elsewhere = urlsplit(server.url), str(IPv4Address("127.1.0.1") + next(_addresses))
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, 20, source_address=(elsewhere, 0))
    with contextlib.closing(connection):
        connection.request(method, "/v1/device", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status


_addresses = itertools.count()


async def check(server: Server, number: str, known: Known) -> None:
    """Compare what the server knows with what clients were told since the last look."""
    connection = Connection(server.url)
    for key, device in list(known.alive.items())[known.seen :]:
        answer = await connection.request("GET", "/v1/device", bearer=device.token)
        (found,) = answer.decode(DeviceState).keys
        assert (found.public_key, found.addresses) == (key, device.addresses)
        assert found.preshared_key == device.preshared_key
    for device in known.deleted[known.seen_deleted :]:
        assert from_elsewhere(server, "GET", device.token) == 401
    for device in known.being_deleted:
        assert from_elsewhere(server, "DELETE", device.token) in (204, 401)
    for key in known.unanswered:
        answer = await connection.request("POST", "/v1/devices", bearer=number, body={"public_key": key})
        known.alive[key] = answer.decode(DeviceRegistered)
    known.seen, known.seen_deleted = len(known.alive), len(known.deleted)
    known.unanswered.clear()
    known.being_deleted.clear()
    await connection.close()


@pytest.mark.parametrize("kills", [6])
def test_p16_what_was_acknowledged_survives_and_the_rest_is_atomic(tmp_path: Path, kills: int) -> None:
    """Killed again and again under load, the server forgets nothing it has promised, and halves nothing."""
    known = Known()
    with server_in(tmp_path) as server:
        number = server.account(devices=1000)
        for kill in range(kills):
            if kill:
                server.start()
            asyncio.run(load_until_killed(server, number, known, 0.1 + 0.07 * kill))
            assert_consistent(server.path)
            server.start()
            asyncio.run(check(server, number, known))
            number = server.account(devices=1000) if len(known.alive) > 500 else number
            server.stop(signal.SIGKILL)
        # Once more all of them, after all kills.
        known.seen = known.seen_deleted = 0
        server.start()
        asyncio.run(check(server, number, known))

    assert known.alive and known.deleted
