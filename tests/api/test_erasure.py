"""P14: after T_erase no byte of what was deleted is in any file, however it might be written."""

import asyncio
import base64
import os
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane import Plane, fresh_key, honest_key, plane_at, server_in
from database_files import Remains
from exuvia.api.upkeep import Upkeep
from exuvia.messages import DeviceRegistered
from exuvia.store import store
from set_clocks import Time, times
from sqlite_pages import PAGE, strays

__all__ = ["times"]

MANY = 2000
AT_ONCE = 32


def secrets_of(key: str, device: DeviceRegistered) -> list[bytes]:
    """Return what may not be left of a device: its key, its token's secret, its preshared key."""
    token = base64.urlsafe_b64decode(device.token + "==")
    return [base64.b64decode(key), base64.b64decode(device.preshared_key), token[32:], token[16:32]]


async def register_many(plane: Plane, numbers: list[str], count: int) -> dict[str, DeviceRegistered]:
    """Register many devices, some at a time."""
    made: dict[str, DeviceRegistered] = {}

    async def one(worker: int) -> None:
        for at in range(worker, count, AT_ONCE):
            key = fresh_key().text()
            made[key] = await plane.register(numbers[at % len(numbers)], key)

    await asyncio.gather(*(one(worker) for worker in range(AT_ONCE)))
    return made


async def log_out_all(plane: Plane, devices: list[DeviceRegistered]) -> None:
    """Log many devices out, some at a time."""

    async def one(worker: int) -> None:
        for device in devices[worker::AT_ONCE]:
            assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 204

    await asyncio.gather(*(one(worker) for worker in range(AT_ONCE)))


def remains_after(folder: Path, secrets: list[bytes]) -> Remains:
    """Wait until none of the secrets is left, for at most half a minute, and return what is there."""
    deadline = time.monotonic() + 30
    while (remains := Remains(folder)).found(secrets) and time.monotonic() < deadline:
        time.sleep(0.5)
    return remains


def hashes(path: Path) -> set[bytes]:
    """Return the hashes that are stored of devices' tokens."""
    connection = sqlite3.connect(path)
    found = {value for (value,) in connection.execute("SELECT token_hash FROM device")}
    connection.close()
    return found


def names(path: Path) -> set[str]:
    """Return the names of devices that are stored."""
    connection = sqlite3.connect(path)
    found = {name for (name,) in connection.execute("SELECT name FROM device")}
    connection.close()
    return found


@pytest.mark.parametrize("small", [store.SMALL, 0], ids=["written anew", "cleared in steps"])
async def test_p14_nothing_is_left_of_thousands_of_deleted_devices(
    times: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    """Keys, preshared keys, tokens, hashes, ids and names of deleted devices are in no file; others stay."""
    monkeypatch.setattr(store, "SMALL", small)
    async with plane_at(tmp_path / "control.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        numbers = [await plane.account(devices=1000) for _ in range(4)]
        made = await register_many(plane, numbers, MANY)
        kept = {key: made[key] for key in sorted(made)[::10]}
        gone = {key: device for key, device in made.items() if key not in kept}
        all_hashes = hashes(tmp_path / "control.db")
        await log_out_all(plane, list(gone.values()))
        for _ in range(15):
            await care.look_after(now=times.passes(timedelta(minutes=1)))
        left = hashes(tmp_path / "control.db")
        secrets = [secret for key, device in gone.items() for secret in secrets_of(key, device)]
        secrets += all_hashes - left
        remains = Remains(tmp_path)
        lost_names = {device.name for device in gone.values()} - names(tmp_path / "control.db")

        assert plane.inner.control.alarms.are_on() == set()
        assert (len(all_hashes), len(secrets)) == (MANY, 5 * len(gone))
        assert remains.found(secrets) == []
        assert remains.found_texts(lost_names) == []
        assert len(remains.found([base64.b64decode(key) for key in kept])) == len(kept)
        assert len(remains.found_texts({device.name for device in kept.values()})) > 100


@pytest.mark.parametrize("small", [store.SMALL, 0], ids=["written anew", "cleared in steps"])
async def test_p14_an_erasure_clears_what_rows_left_when_they_moved(
    times: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    """Of whole rows nothing is left between those that are stored; once nothing is written, that is all."""
    monkeypatch.setattr(store, "SMALL", small)
    async with plane_at(tmp_path / "control.db") as plane:
        opened, cleared = plane.inner.control.store, 0
        care = Upkeep(plane.inner.control, erase_after=900)
        number = await plane.account(devices=1000)
        made = await register_many(plane, [number], 500)
        await log_out_all(plane, list(made.values())[::2])
        clearing = store.Store.clearing

        def counted(self: store.Store) -> Any:
            nonlocal cleared
            cleared += 1
            return clearing(self)

        monkeypatch.setattr(store.Store, "clearing", counted)
        for _ in range(2):
            await care.look_after(now=times.passes(timedelta(minutes=1)))
        data = os.pread(opened.wiper._descriptor, 1 << 30, 0)

        # SQLite itself leaves offsets of cells, two bytes each, when it writes a file anew: fewer bytes than
        # anything of a row has. There are more where the schema stands, which is of nobody.
        found = {at: stray for at, stray in strays(data).items() if b"CREATE " not in data[at : at + PAGE]}
        harmless = 8 if small else 0
        assert {at: stray for at, stray in found.items() if len(stray) > harmless} == {}
        assert cleared == 1
        await plane.act(number, "cancel")
        await care.look_after(now=times.passes(timedelta(minutes=1)))
        assert cleared == 2


def test_p14_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Right after a deletion the key still stands in the memory of changes: the search would see it."""
    with server_in(tmp_path, "--erase-after", "900") as server:
        key = honest_key()
        device = server.register(server.account(), key)
        before = Remains(tmp_path).found(secrets_of(key, device))
        server.ask("DELETE", "/v1/device", bearer=device.token)
        after = Remains(tmp_path).found([base64.b64decode(key)])

        assert len(before) == 3  # the token's secret was never there
        assert after == [base64.b64decode(key)]


def test_p14_a_cancelled_account_leaves_nothing_and_addresses_stand_bare(tmp_path: Path) -> None:
    """What rests is an address and an hour: nothing in the files leads from it to anybody."""
    with server_in(tmp_path, "--erase-after", "1") as server:
        number = server.account()
        keys = [honest_key() for _ in range(5)]
        devices = [server.register(number, key) for key in keys]
        connection = sqlite3.connect(server.path)
        ids = [
            row[0]
            for row in connection.execute("SELECT id FROM account UNION SELECT number_hash FROM account")
        ]
        id = server.operator.ask("POST", "/v1/admin/accounts/find", {"account": number}, gives=dict)["id"]
        server.operator.ask("POST", f"/v1/admin/accounts/{id}/cancel", gives=object)
        secrets = [
            s for key, device in zip(keys, devices, strict=True) for s in secrets_of(key, device)
        ] + ids
        remains = remains_after(tmp_path, secrets)
        resting = connection.execute("SELECT * FROM resting").fetchall()
        others = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("account", "device", "key", "change")
        ]
        connection.close()

        assert remains.found(secrets) == []
        assert others == [0, 0, 0, 0]
        assert len(resting) == 10
        assert len({hour for _address, hour in resting}) <= 2


def test_p14_accounts_survive_what_is_erased(tmp_path: Path) -> None:
    """Erasing a deleted device's traces leaves the account's other devices as they are."""
    with server_in(tmp_path, "--erase-after", "1") as server:
        number, key = server.account(), honest_key()
        kept, gone = server.register(number), server.register(number, key)
        server.ask("DELETE", "/v1/device", bearer=gone.token)
        remains_after(tmp_path, [base64.b64decode(key)])
        server.stop()
        server.start()

        state = server.ask("GET", "/v1/device", bearer=kept.token).json
        assert state["keys"][0]["addresses"] == kept.addresses
