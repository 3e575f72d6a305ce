"""P14 for all that is stored beside keys, in a large database, and by a server that is killed meanwhile."""

import asyncio
import base64
import os
import signal
import sqlite3
import time
from datetime import timedelta
from pathlib import Path

from control_plane import Plane, Server, honest_key, plane_at, server_in, spellings
from database_files import Remains
from exuvia.api.upkeep import Upkeep
from exuvia.store import accounts, factors, outbox, store
from exuvia.store.factors import Factor
from exuvia.store.wiping import unused
from set_clocks import Time, times
from sqlite_pages import PAGE

__all__ = ["times"]

NAME = "zyzzyva quokka"
RUBBISH = b"a row that was moved"


async def a_quarter_of_an_hour(plane: Plane, times: Time) -> None:
    """Let upkeep run for T_erase."""
    care = Upkeep(plane.inner.control, erase_after=900)
    for _ in range(16):
        await care.look_after(now=times.passes(timedelta(minutes=1)))
    assert plane.inner.control.alarms.are_on() == set()


async def test_p14_second_factors_and_what_billing_was_told_leave_nothing(
    times: Time, tmp_path: Path
) -> None:
    """What checked a factor is gone when it is removed; an account's id when billing knows of its end."""
    async with plane_at(tmp_path / "control.db") as plane:
        control, writer = plane.inner.control, plane.inner.control.store.writer
        await writer.run(lambda transaction: outbox.tell_billing(transaction, wanted=True))
        number = await plane.account()
        number_hash = control.hasher.account(number)
        assert number_hash is not None
        made = [Factor(os.urandom(16), "passkey", os.urandom(200)) for _ in range(4)]
        for one in made:
            await writer.run(lambda t, f=one: factors.add(t, number_hash, f, today=control.today))
        account = await control.store.reader.run(
            lambda connection: accounts.by_number(connection, number_hash, today=control.today).id
        )
        removed = [part for one in made[:2] for part in (one.id, one.sealed)]
        kept = [part for one in made[2:] for part in (one.id, one.sealed)]
        assert len(Remains(tmp_path).found(removed + kept)) == 8
        for one in made[:2]:
            await writer.run(lambda t, f=one: factors.remove(t, number_hash, f.id, today=control.today))
        await a_quarter_of_an_hour(plane, times)
        assert Remains(tmp_path).found(removed) == []
        assert len(Remains(tmp_path).found(kept)) == 4

        assert (await plane.act(number, "cancel")).status == 204
        await a_quarter_of_an_hour(plane, times)
        (event,) = await control.store.reader.run(lambda connection: outbox.some(connection, limit=9))
        assert Remains(tmp_path).found([*kept, number_hash]) == []
        assert Remains(tmp_path).found([account, event.id]) == [account, event.id]
        await writer.run(lambda transaction: outbox.forget(transaction, event.id))
        await a_quarter_of_an_hour(plane, times)
        assert Remains(tmp_path).found([account, event.id]) == []


FILL = """
PRAGMA synchronous = OFF;
PRAGMA cache_size = -100000;
BEGIN;
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 60000)
    INSERT INTO account SELECT randomblob(16), randomblob(32), 'active', '2199-12-31', 5 FROM n ORDER BY 1;
INSERT INTO device SELECT id, randomblob(16), 'quiet otter', randomblob(32) FROM account, (VALUES (1), (2));
INSERT OR IGNORE INTO key SELECT randomblob(32), account_id, id, randomblob(4), randomblob(16),
    randomblob(32), 'current', NULL FROM device ORDER BY 1;
COMMIT;
"""
"""What fills more than 32 MiB."""


async def test_p14_nothing_is_left_in_a_database_that_is_cleared_in_steps(
    times: Time, tmp_path: Path
) -> None:
    """In one of more than 32 MiB, of devices that came and went among many: no key, token's hash or name."""
    path = tmp_path / "control.db"
    async with plane_at(path):
        pass
    connection = sqlite3.connect(path)
    connection.executescript(FILL)
    connection.close()
    plant(path)
    async with plane_at(path) as plane:
        assert path.stat().st_size > store.SMALL
        numbers = [await plane.account(devices=100) for _ in range(4)]
        keys = [honest_key() for _ in range(200)]
        made = [await plane.register(numbers[at % 4], key) for at, key in enumerate(keys)]
        connection = sqlite3.connect(path)
        token = base64.urlsafe_b64decode(made[0].token + "==")
        connection.execute("UPDATE device SET name = ? WHERE id = ?", (NAME, token[16:32]))
        connection.commit()
        hashes = [
            row[0]
            for one in made[::10]
            for row in connection.execute(
                "SELECT token_hash FROM device WHERE id = ?",
                (base64.urlsafe_b64decode(one.token + "==")[16:32],),
            )
        ]
        connection.close()
        await asyncio.gather(*(plane.ask("DELETE", "/v1/device", bearer=one.token) for one in made))
        secrets = [base64.b64decode(key) for key in keys[::10]]
        secrets += [base64.b64decode(one.preshared_key) for one in made[::10]] + hashes
        before = files_of(tmp_path)
        await a_quarter_of_an_hour(plane, times)
        after = files_of(tmp_path)

    assert len(secrets) == 60
    assert any(secret in before for secret in secrets)
    assert [secret for secret in secrets if secret in after] == []
    assert not [way for secret in secrets[::20] for way in spellings(secret) if way in after]
    assert NAME.encode() in before
    assert NAME.encode() not in after
    assert before.count(RUBBISH) >= 50
    assert after.count(RUBBISH) == 0


def plant(path: Path) -> None:
    """Leave something in unused parts of pages, as SQLite does when rows move."""
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 100 * PAGE):
        begin, end = unused(data, at, PAGE, 100 if at == 0 else 0)
        if end - begin > len(RUBBISH):
            data[begin : begin + len(RUBBISH)] = RUBBISH
    path.write_bytes(data)


def files_of(folder: Path) -> bytes:
    """Return all that is in the database's files."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("control.db*")))


def test_p14_a_server_that_is_killed_erases_what_it_had_left(tmp_path: Path) -> None:
    """Killed after deletions, and again while it erases: in the end nothing is left, and all works."""
    with server_in(tmp_path, "--erase-after", "1") as server:
        number = server.account(devices=1000)
        kept = server.register(number)
        secrets, unfinished = list[bytes](), 0
        for seconds in (0.0, 0.1, 0.7, 1.1):
            secrets += _come_and_go(server, number, 20)
            time.sleep(seconds)
            server.stop(signal.SIGKILL)
            unfinished += bool(Remains(tmp_path).found(secrets))
            server.start()
        assert unfinished
        deadline = time.monotonic() + 30
        while Remains(tmp_path).found(secrets) and time.monotonic() < deadline:
            time.sleep(0.5)

        assert Remains(tmp_path).found(secrets) == []
        state = server.ask("GET", "/v1/device", bearer=kept.token).json
        assert state["keys"][0]["addresses"] == kept.addresses


def _come_and_go(server: Server, number: str, count: int) -> list[bytes]:
    """Register devices and log them out; return what may not be left of them."""
    secrets = []
    for _ in range(count):
        key = honest_key()
        device = server.register(number, key)
        assert server.ask("DELETE", "/v1/device", bearer=device.token).status == 204
        token = base64.urlsafe_b64decode(device.token + "==")
        secrets += [base64.b64decode(key), base64.b64decode(device.preshared_key), token[16:32]]
    return secrets
