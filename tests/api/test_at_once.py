"""
What is taken away is gone at once: from the database, and from every gateway that is connected.

The server of these tests removes retired keys once in an hour: whatever goes, goes for another reason.
"""

import asyncio
import itertools
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from control_plane import COMMAND, Plane, Server, fresh_key, honest_key, plane_at, server_in
from exuvia.api.upkeep import Upkeep
from exuvia.messages import AccountCreated, CreateAccount, DeviceRegistered
from exuvia.wg.keys import PublicKey
from feed_follower import Follower, followers, raw
from portal_visitor import Visitor
from set_clocks import Time, times

__all__ = ["times"]

OF_SUSPENDED = "SELECT public_key FROM key JOIN account ON account.id = account_id WHERE state = 'suspended'"
TOKEN = "the operator's token of these tests"


class House:
    """An account with two devices in the midst of rotations, and all the keys that there are of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        made = server.operator.ask("POST", "/v1/admin/accounts", CreateAccount(), gives=AccountCreated)
        self.id, self.number = made.id, made.account
        self.devices = [server.register(self.number) for _ in range(2)]
        self.keys = [self._keys_of(device) for device in self.devices]

    def _keys_of(self, device: DeviceRegistered) -> list[bytes]:
        """Have a device rotate so that one key is retired and two are its own; return all three."""
        (shown,) = [one for one in self._listed() if one["id"] == device.id]
        first, *rest = [raw(shown["public_keys"][0]), bytes(fresh_key()), bytes(fresh_key())]
        for key in rest:
            path = f"/v1/device/keys/{PublicKey(key).path()}"
            assert self.server.ask("PUT", path, bearer=device.token).status == 200
            assert self.server.ask("POST", f"{path}/confirm", bearer=device.token).status == 204
        return [first, *rest]

    def _listed(self) -> list[dict[str, list[str]]]:
        found: list[dict[str, list[str]]] = self.server.ask("GET", "/v1/devices", bearer=self.number).json
        return found

    def command(self, *words: str) -> None:
        """Run an operator's command, with the account's number on standard input."""
        command = [*COMMAND, "account", *words, "--database", self.server.database]
        done = subprocess.run(command, input=self.number, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")

    def admin(self, what: str) -> None:
        """Ask as billing does, over the network."""
        asked = self.server.ask("POST", f"/v1/admin/accounts/{self.id}/{what}", bearer=TOKEN)
        assert asked.status in (200, 204)

    def log_out(self) -> None:
        """Have the first device log out."""
        assert self.server.ask("DELETE", "/v1/device", bearer=self.devices[0].token).status == 204

    def delete(self) -> None:
        """Delete the first device with the account's number."""
        path = f"/v1/devices/{self.devices[0].id}"
        assert self.server.ask("DELETE", path, bearer=self.number).status == 204

    def visitor(self) -> Visitor:
        """Log in on the website."""
        visitor = Visitor(self.server)
        assert visitor.log_in(self.number).path == "/"
        return visitor

    def delete_on_the_website(self) -> None:
        """Delete the first device there."""
        visitor, path = self.visitor(), f"/devices/{self.devices[0].id}/delete"
        assert visitor.submit(visitor.get(path), path).status == 200

    def delete_all_on_the_website(self) -> None:
        """Delete all devices there."""
        visitor, path = self.visitor(), "/devices/delete-all"
        assert visitor.submit(visitor.get(path), path).status == 200

    def cancel_on_the_website(self) -> None:
        """Cancel the account there."""
        visitor, path = self.visitor(), "/account/cancel"
        shown = visitor.submit(visitor.get(path), path, account=self.number)
        assert shown.path.startswith("/login")


ALL_KEYS: dict[str, Callable[[House], None]] = {
    "suspended by command": lambda house: house.command("suspend"),
    "cancelled by command": lambda house: house.command("cancel"),
    "suspended by billing": lambda house: house.admin("suspend"),
    "cancelled by billing": lambda house: house.admin("cancel"),
    "cancelled on the website": House.cancel_on_the_website,
    "devices deleted on the website": House.delete_all_on_the_website,
}
ONE_DEVICE: dict[str, Callable[[House], None]] = {
    "logged out": House.log_out,
    "deleted with the number": House.delete,
    "deleted on the website": House.delete_on_the_website,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that removes retired keys once in an hour."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "token").write_text(TOKEN)
    options = ["--retire-every", "3600", "--operator-token-file", str(folder / "token")]
    with server_in(folder, *options) as running:
        yield running


@pytest.fixture(scope="module")
def gateways(server: Server) -> Iterator[list[Follower]]:
    """Two gateways that follow the feed."""
    with followers(server) as found:
        yield found


def rows(server: Server, question: str, *values: object) -> list[tuple[bytes, ...]]:
    """Ask the database from outside."""
    with closing(sqlite3.connect(server.path)) as connection:
        return connection.execute(question, values).fetchall()


@pytest.mark.parametrize("way", [*ALL_KEYS, *ONE_DEVICE])
def test_p8_what_is_taken_away_is_gone_at_once(server: Server, gateways: list[Follower], way: str) -> None:
    """When it is answered no key is stored; gateways are told of all keys before anything done after it."""
    house = House(server)
    mine = house.keys[0] if way in ONE_DEVICE else [key for keys in house.keys for key in keys]
    others = [] if way in ONE_DEVICE or "website" in way else house.devices
    for gateway in gateways:
        gateway.wait(lambda gateway=gateway: set(mine) <= set(gateway.table))
    addresses = {bytes(row[32:36]) for row in map(gateways[0].table.__getitem__, mine)}
    began = time.monotonic()
    (ALL_KEYS | ONE_DEVICE)[way](house)
    answered = time.monotonic()

    stored = {key for (key,) in rows(server, "SELECT public_key FROM key")}
    resting = {address for (address,) in rows(server, "SELECT address FROM resting")}
    after = honest_key()
    server.register(server.account(), after)
    for gateway in gateways:
        gateway.wait_gone(mine)
        print(f"{way}: answered in {answered - began:.3f} s, told {time.monotonic() - answered:.3f} s later")
        gateway.wait(lambda gateway=gateway: raw(after) in gateway.table)
        assert max(gateway.place("remove", key) for key in mine) < gateway.place("put", raw(after))
    assert not set(mine) & stored
    assert addresses <= resting
    if way in ONE_DEVICE:
        assert set(house.keys[1]) <= stored
    for device in others:
        told = server.ask("GET", "/v1/device", bearer=device.token)
        suspended = "suspended" in way
        assert told.status == (403 if suspended else 401)
        assert not suspended or told.json["detail"] == "the account is suspended"


def test_p8_what_is_retired_waits_for_its_batch(server: Server, gateways: list[Follower]) -> None:
    """A key that its device gave up is still there when something revoked later has gone."""
    waiting, leaving = House(server), House(server)
    leaving.admin("suspend")
    for gateway in gateways:
        gateway.wait_gone(key for keys in leaving.keys for key in keys)
        assert {key for keys in waiting.keys for key in keys} <= set(gateway.table)


async def keys_of(plane: Plane) -> int:
    """Return how many keys are stored."""
    found = await plane.inner.control.store.reader.run(
        lambda connection: connection.execute("SELECT count(*) FROM key").fetchone()
    )
    return int(found[0])


@pytest.mark.parametrize("what", ["suspend", "cancel", "delete", "log out", "expire"])
async def test_p8_what_is_under_way_leaves_no_key_behind(plane: Plane, what: str) -> None:
    """Registrations and rotations that race with the end of what they belong to lose, or are undone by it."""
    chance = random.Random(what)
    control = plane.inner.control
    for _ in range(8):
        number = await plane.account(devices=60, expires=control.today)
        device = await plane.register(number)
        id = await plane.account_id(number)
        ends: dict[str, Callable[[], object]] = {
            "suspend": lambda id=id: plane.ask("POST", f"/v1/admin/accounts/{id}/suspend", as_operator=True),
            "cancel": lambda id=id: plane.ask("POST", f"/v1/admin/accounts/{id}/cancel", as_operator=True),
            "delete": lambda number=number, device=device: plane.ask(
                "DELETE", f"/v1/devices/{device.id}", bearer=number
            ),
            "log out": lambda device=device: plane.ask("DELETE", "/v1/device", bearer=device.token),
            "expire": lambda: expire(plane),
        }
        keys = [fresh_key() for _ in range(20)]
        racing = [plane.ask("PUT", f"/v1/device/keys/{key.path()}", bearer=device.token) for key in keys] + [
            plane.ask("POST", f"/v1/device/keys/{key.path()}/confirm", bearer=device.token) for key in keys
        ]
        if what not in ("delete", "log out"):
            body = {"public_key": honest_key()}
            racing += [plane.ask("POST", "/v1/devices", bearer=number, body=body) for _ in range(20)]
        chance.shuffle(racing)
        racing.insert(chance.randrange(10, len(racing)), ends[what]())  # type: ignore[arg-type]
        answers = await asyncio.gather(*racing)
        statuses = {answer.status for answer in answers if answer is not None}

        assert await keys_of(plane) == 0
        assert statuses & {200, 201}, "something was under way before it ended"
        assert statuses & {401, 403}, "something was under way when it had ended"
        control.today = control.clock.day()


async def expire(plane: Plane) -> None:
    """Let the last day of accounts pass, as the server does at midnight."""
    control = plane.inner.control
    control.today = "2199-01-01"
    await Upkeep(control, erase_after=900)._expire()


def test_p8_a_server_under_load_leaves_no_key_behind(server: Server, gateways: list[Follower]) -> None:
    """Over real connections, from several threads, while operators suspend and resume."""
    number, over = server.account(devices=50), threading.Event()
    device = server.register(number)
    before = len(gateways[0].steps)
    (id,) = [one["id"] for one in admin_list(server) if one["devices"] == 1 and one["device_limit"] == 50]

    def hammer() -> None:
        while not over.is_set():
            server.ask("POST", "/v1/devices", bearer=number, body={"public_key": honest_key()})
            server.ask("PUT", f"/v1/device/keys/{fresh_key().path()}", bearer=device.token)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        for what in ("suspend", "resume"):
            assert server.ask("POST", f"/v1/admin/accounts/{id}/{what}", bearer=TOKEN).status == 200
    assert server.ask("POST", f"/v1/admin/accounts/{id}/suspend", bearer=TOKEN).status == 200
    left = rows(server, OF_SUSPENDED)
    over.set()
    for thread in threads:
        thread.join()
    still = rows(server, OF_SUSPENDED)

    for gateway in gateways:
        mine = {key for what, key in gateway.steps[before:] if what == "put"}
        gateway.wait_gone(mine)
    assert (left, still) == ([], [])


def admin_list(server: Server) -> list[dict[str, object]]:
    """Return all accounts as billing sees them."""
    found: list[dict[str, object]] = server.ask("GET", "/v1/admin/accounts?limit=1000", bearer=TOKEN).json
    return found


@pytest.fixture
async def midnight(times: Time, tmp_path: Path) -> AsyncIterator[tuple[Plane, Upkeep]]:
    """A control plane at noon with a small pool, and what looks after it."""
    async with plane_at(tmp_path / "x.db", pool4=ip_network("10.9.8.0/28")) as plane:
        yield plane, Upkeep(plane.inner.control, erase_after=900, retire_every=3600)


async def test_p8_a_day_that_passes_takes_all_keys_before_anything_else(
    midnight: tuple[Plane, Upkeep], times: Time
) -> None:
    """In the first second of the day gateways are told of all keys of the account, retired ones too."""
    plane, care = midnight
    control = plane.inner.control
    number = await plane.account(expires=control.today)
    device = await plane.register(number)
    await care.look_after(now=times.passes(timedelta(hours=11, minutes=59, seconds=59)))
    for _ in range(2):
        path = f"/v1/device/keys/{fresh_key().path()}"
        assert (await plane.ask("PUT", path, bearer=device.token)).status == 200
        assert (await plane.ask("POST", f"{path}/confirm", bearer=device.token)).status == 204
    assert await keys_of(plane) == 3
    subscriber = control.hub.subscribe()
    await care.look_after(now=times.passes(timedelta(seconds=1)))
    await plane.register(await plane.account())
    (_, first), (_, second) = await subscriber.next(0)

    assert (first.count(b'"put":[]'), first.count(b"="), second.count(b'"remove":[]')) == (1, 3, 1)
    told = await plane.ask("GET", "/v1/device", bearer=device.token)
    assert (told.status, told.json["detail"]) == (403, "the account is expired")


async def test_p7_who_comes_back_gets_other_addresses(midnight: tuple[Plane, Upkeep], times: Time) -> None:
    """The same device and key, eight times within a day, in a pool of 13 addresses: never one of before."""
    plane, care = midnight
    number, key = await plane.account(), PublicKey.from_text(honest_key())
    device = await plane.register(number, key.text())
    had = [device.addresses]
    for _ in range(8):
        await care.look_after(now=times.passes(timedelta(hours=2)))
        assert (await plane.act(number, "suspend")).status == 200
        path = f"/v1/device/keys/{key.path()}"
        refused = await plane.ask("PUT", path, bearer=device.token)
        assert (refused.status, refused.json["detail"]) == (403, "the account is suspended")
        assert (await plane.act(number, "resume")).status == 200
        shown = (await plane.ask("GET", "/v1/device", bearer=device.token)).json
        assert (shown["id"], shown["name"], shown["keys"]) == (device.id, device.name, [])
        granted = await plane.ask("PUT", path, bearer=device.token)
        had.append(granted.json["addresses"])

    for place in (0, 1):
        assert len({ip_interface(addresses[place]) for addresses in had}) == 9
    assert not [one for one, other in itertools.combinations(had, 2) if set(one) & set(other)]
