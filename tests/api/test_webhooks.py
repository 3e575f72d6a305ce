"""What billing is told: which account was cancelled, until it has heard it, and nothing else."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import trustme

from billing_system import (
    OK,
    SECRET,
    SECRET_TEXT,
    BillingSystem,
    Send,
    Told,
    always,
    billing_system,
    with_status,
)
from control_plane import COMMAND, Plane, Server, honest_key, plane_at, server_in
from database_files import Remains, locked
from exuvia.api import identifiers
from exuvia.api.alarms import UNTOLD, WEBHOOK
from exuvia.api.upkeep import Upkeep
from exuvia.api.webhooks import Billing, Webhooks
from exuvia.errors import InvalidConfiguration, StoreUnavailable
from exuvia.rules.webhooks import secrets_from_text
from exuvia.store import outbox
from exuvia.system.posting import Receiver
from set_clocks import Time, times

__all__ = ["times"]


async def telling(plane: Plane, url: str, *, patience: float = 10, ca_file: Path | None = None) -> Webhooks:
    """Have billing told at this URL."""
    note = partial(outbox.tell_billing, wanted=True)
    await plane.inner.control.store.writer.run(note)
    receiver = Receiver(url, ca_file=ca_file, timeout=patience)
    return Webhooks(plane.inner.control, Billing(receiver, secrets_from_text(SECRET_TEXT)))


async def waiting(plane: Plane) -> list[str]:
    """Return the ids of the accounts that billing was not told of yet."""
    events = await plane.inner.control.store.reader.run(partial(outbox.some, limit=1000))
    return [identifiers.text(event.account_id) for event in events]


async def cancelled(plane: Plane) -> str:
    """Create and cancel an account, and return its id."""
    number = await plane.account()
    await plane.register(number)
    id = await plane.account_id(number)
    assert (await plane.act(number, "cancel")).status == 204
    return id


async def test_billing_is_told_which_account_was_cancelled(plane: Plane) -> None:
    """Once and signed: the event's id, what it is, the account's id. Then it is forgotten."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url(path="/exuvia?key=1"))
        id = await cancelled(plane)
        await hooks.tell_all()
        await hooks.tell_all()
        (told,) = billing.told

    assert told.line == "POST /exuvia?key=1 HTTP/1.1"
    assert told.event == {"type": "account.cancelled", "id": told.headers["webhook-id"], "account_id": id}
    assert told.is_signed(SECRET) and not told.is_signed(b"x")
    assert set(told.headers) == {
        "host",
        "accept",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "content-type",
        "content-length",
    }
    assert await waiting(plane) == []


async def test_nothing_but_a_cancellation_is_told(plane: Plane) -> None:
    """No account that is made, suspended, resumed, extended or limited, no device, no rotation, no logout."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        number = await plane.account(expires="2199-01-01")
        device = await plane.register(number)
        id = await plane.account_id(number)
        for what, body in (
            ("suspend", None),
            ("resume", None),
            ("extend", {"days": 3}),
            ("device-limit", {"devices": 2}),
        ):
            target = f"/v1/admin/accounts/{id}/{what}"
            assert (await plane.ask("POST", target, body=body, as_operator=True)).status == 200
        assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 204
        await hooks.tell_all()

    assert billing.told == []
    assert await waiting(plane) == []


async def test_without_a_webhook_nothing_is_kept_for_one(plane: Plane) -> None:
    """Of a cancelled account no byte goes to the outbox."""
    await cancelled(plane)

    assert await waiting(plane) == []


def refuses(billing: BillingSystem) -> None:
    """Answer that something is wrong."""
    billing.answer = with_status(500)


def leads_astray(billing: BillingSystem) -> None:
    """Answer with a redirect to a place that would accept it."""
    billing.answer = lambda told, send: send(
        OK
        if "/there" in told.line
        else b"HTTP/1.1 307 There\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    )


def talks_nonsense(billing: BillingSystem) -> None:
    """Answer with what is no HTTP."""
    billing.answer = always(b"220 mail.example ESMTP\r\n")


def hangs_up(billing: BillingSystem) -> None:
    """Close the connection without a word."""
    billing.answer = always(b"")


def has_no_end(billing: BillingSystem) -> None:
    """Send headers without an end."""

    def answer(_told: Told, send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\n")
        while True:
            send(b"X: %s\r\n" % (b"x" * 10_000))

    billing.answer = answer


@pytest.mark.parametrize(
    "misbehaves", [refuses, leads_astray, talks_nonsense, hangs_up, has_no_end], ids=lambda one: one.__name__
)
async def test_what_was_not_heard_is_told_again(plane: Plane, misbehaves: object) -> None:
    """As the same event, under an alarm, until it was heard; and no redirect is followed."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        id = await cancelled(plane)
        misbehaves(billing)  # type: ignore[operator]
        for _ in range(2):
            await hooks.tell_all()
            assert (await waiting(plane), plane.inner.control.alarms.are_on()) == ([id], {WEBHOOK})
        billing.answer = always(OK)
        await hooks.tell_all()

    assert (await waiting(plane), plane.inner.control.alarms.are_on()) == ([], set())
    assert len(billing.told) == 3
    assert len({told.headers["webhook-id"] for told in billing.told}) == 1
    assert all(told.is_signed() and "/there" not in told.line for told in billing.told)


async def test_silence_holds_up_nothing(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    """While billing says nothing devices register, and after a while it is left alone."""
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    with billing_system() as billing:

        def answer(_told: Told, _send: Send) -> None:
            loop.call_soon_threadsafe(heard.set)
            with contextlib.suppress(AssertionError):
                billing.wait(99)

        billing.answer = answer
        hooks = await telling(plane, billing.url(), patience=1)
        id = await cancelled(plane)
        round = asyncio.ensure_future(hooks.tell_all())
        await heard.wait()
        await plane.register(await plane.account())
        assert not round.done()
        await round
        billing.told += [billing.told[0]] * 99
        with billing.news:
            billing.news.notify_all()

    assert (await waiting(plane), plane.inner.control.alarms.are_on()) == ([id], {WEBHOOK})
    assert "nothing was answered in time" in caplog.text


async def test_what_nobody_reads_may_be_endless(plane: Plane) -> None:
    """An answer that begins well is an answer, however it goes on."""

    def answer(_told: Told, send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            send(b"1000\r\n" + bytes(0x1000) + b"\r\n")

    with billing_system() as billing:
        billing.answer = answer
        hooks = await telling(plane, billing.url())
        await cancelled(plane)
        await hooks.tell_all()

    assert await waiting(plane) == []


async def test_one_event_that_is_refused_keeps_no_other(plane: Plane) -> None:
    """The others are told in the same round."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        ids = [await cancelled(plane) for _ in range(5)]
        billing.answer = lambda told, send: send(
            b"HTTP/1.1 400 No\r\n\r\n" if told.event["account_id"] == ids[2] else OK
        )
        await hooks.tell_all()

    assert await waiting(plane) == [ids[2]]


async def test_a_billing_system_that_refuses_everything_is_left_alone(plane: Plane) -> None:
    """After ten refusals the rest waits for the next round."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        for _ in range(15):
            await cancelled(plane)
        billing.answer = with_status(503)
        await hooks.tell_all()

    assert (len(billing.told), len(await waiting(plane))) == (10, 15)


async def test_events_that_are_refused_for_ever_keep_no_other(plane: Plane) -> None:
    """One that is accepted gets its turn, though more than a round's refusals are before it."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        ids = [await cancelled(plane) for _ in range(15)]
        last = identifiers.from_text(ids[0])
        await plane.inner.control.store.writer.run(
            lambda transaction: transaction.execute(
                "UPDATE outbox SET id = ? WHERE account_id = ?", (b"\xff" * 16, last)
            )
        )
        billing.answer = lambda told, send: send(
            OK if told.event["account_id"] == ids[0] else b"HTTP/1.1 400 No\r\n\r\n"
        )
        for _ in range(100):
            await hooks.tell_all()
            if ids[0] not in (left := await waiting(plane)):
                break

    assert sorted(left) == sorted(ids[1:])


async def test_the_order_in_which_accounts_went_is_not_told(plane: Plane) -> None:
    """What was gathered is told in another order."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        ids = [await cancelled(plane) for _ in range(30)]
        await hooks.tell_all()

    told = [told.event["account_id"] for told in billing.told]
    assert sorted(told) == sorted(ids)
    assert told != ids


async def test_a_cancellation_that_fails_tells_nothing(plane: Plane) -> None:
    """What billing is told stands and falls with the cancellation itself."""
    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        number = await plane.account()
        target = f"/v1/admin/accounts/{await plane.account_id(number)}/cancel"
        with locked(plane.inner.control.store.path):
            assert (await plane.ask("POST", target, as_operator=True)).status == 503
        nobody = await plane.ask("POST", f"/v1/admin/accounts/{'a' * 26}/cancel", as_operator=True)
        await hooks.tell_all()

    assert nobody.status == 404
    assert (billing.told, await waiting(plane)) == ([], [])


async def test_what_can_not_be_forgotten_yet_is_told_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database can't be written billing hears twice of one event, by the same id."""

    def refuse(_transaction: object, _id: bytes) -> None:
        raise StoreUnavailable("not now")

    with billing_system() as billing:
        hooks = await telling(plane, billing.url())
        await cancelled(plane)
        with monkeypatch.context() as patched:
            patched.setattr(outbox, "forget", refuse)
            await hooks.tell_all()
        assert plane.inner.control.alarms.are_on() == {WEBHOOK}
        await hooks.tell_all()

    assert len({told.headers["webhook-id"] for told in billing.told}) == 1
    assert (len(billing.told), await waiting(plane)) == (2, [])


async def test_after_three_days_it_is_given_up(times: Time, tmp_path: Path) -> None:
    """Under an alarm of its own, which tells how many, and nothing of it is left."""
    async with plane_at(tmp_path / "x.db") as plane:
        care = Upkeep(plane.inner.control, erase_after=900)
        hooks = await telling(plane, "http://127.0.0.1:1/")
        ids = [await cancelled(plane) for _ in range(2)]
        await care.look_after(now=times.passes(timedelta(days=3)))
        await hooks.tell_all()
        assert (sorted(await waiting(plane)), UNTOLD in plane.inner.control.alarms.are_on()) == (
            sorted(ids),
            False,
        )
        await care.look_after(now=times.passes(timedelta(days=1)))
        await hooks.tell_all()

        assert await waiting(plane) == []
        assert UNTOLD in plane.inner.control.alarms.are_on()
        assert WEBHOOK not in plane.inner.control.alarms.are_on()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1, and that of the authority that issued it."""
    folder, authority = tmp_path_factory.mktemp("certificates"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "right.pem")
    authority.issue_cert("other.example").private_key_and_cert_chain_pem.write_to_path(folder / "other.pem")
    return folder


@pytest.mark.parametrize(
    ("certificate", "ca_file", "is_told"),
    [("right", True, True), ("right", False, False), ("other", True, False)],
)
async def test_who_is_told_proves_who_it_is(
    plane: Plane, certificates: Path, certificate: str, ca_file: bool, is_told: bool
) -> None:
    """A certificate that nobody vouches for, or of another name, hears nothing."""
    with billing_system(certificates / f"{certificate}.pem") as billing:
        ca = certificates / "ca.pem" if ca_file else None
        hooks = await telling(plane, billing.url("https"), ca_file=ca)
        await cancelled(plane)
        await hooks.tell_all()

    assert (len(billing.told), len(await waiting(plane))) == ((1, 0) if is_told else (0, 1))


@pytest.mark.parametrize(
    "url",
    [
        "http://billing.example/x",
        "http://192.0.2.1/",
        "ftp://127.0.0.1/",
        "https://",
        "billing.example",
        "https://name:word@billing.example/",
        "https://billing.example/#x",
        "https://billing.example/a b",
        "https://billing.example/\r\nX: y",
        "https://billing.example:99999/",
        "https://bïlling.example/",
    ],
)
def test_a_url_that_would_show_it_on_the_way_is_refused(url: str) -> None:
    """In words that don't repeat it."""
    with pytest.raises(InvalidConfiguration, match="must look like") as refused:
        Receiver(url)

    assert url not in str(refused.value).replace("https://billing.example/exuvia", "")


def options(folder: Path, url: str, every: float = 1) -> list[str]:
    """Return how a server is started that tells billing at this URL."""
    (folder / "secret").write_text(SECRET_TEXT + "\n")
    secret = str(folder / "secret")
    return ["--webhook-url", url, "--webhook-secret-file", secret, "--webhook-every", str(every)]


def cancel(server: Server, *, register: bool = True) -> str:
    """Create an account and cancel it by the operator's command; return its id."""
    number = server.account()
    if register:
        server.register(number, honest_key())
    words = ["account", "cancel", "--json", "--database", server.database]
    done = subprocess.run([*COMMAND, *words], input=number, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split('"')[3]


def test_a_server_that_is_killed_loses_no_event(tmp_path: Path) -> None:
    """Told after a kill; and so is what an operator cancelled while no server ran."""
    with billing_system() as billing, server_in(tmp_path, *options(tmp_path, billing.url(), 3600)) as server:
        ids = [cancel(server)]
        server.stop(signal.SIGKILL)
        ids.append(cancel(server, register=False))
        server.options = options(tmp_path, billing.url())
        server.start()
        told = {told.event["account_id"] for told in billing.wait(2)}
        assert server.stop() == 0

    assert told == set(ids)


def test_stopping_does_not_wait_for_billing(tmp_path: Path) -> None:
    """A server that is told to stop while billing is silent ends tidily, and tells it when it is back."""
    with billing_system() as billing, server_in(tmp_path, *options(tmp_path, billing.url())) as server:
        billing.answer = lambda told, send: billing.wait(2) and None  # type: ignore[func-returns-value]
        cancel(server)
        billing.wait(1)
        assert server.stop() == 0
        billing.answer = always(OK)
        server.start()
        first, second, *_ = billing.wait(2)
        assert server.stop() == 0

    assert first.event == second.event


def test_who_takes_the_webhook_away_is_told_what_that_drops(tmp_path: Path) -> None:
    """Events that nobody will hear of are not kept, and the log says how many there were."""
    with server_in(tmp_path, *options(tmp_path, "http://127.0.0.1:1/")) as server:
        cancel(server)
        server.stop()
        server.options = []
        server.start()
        connection = sqlite3.connect(server.path)
        rows = connection.execute("SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM billing)")
        assert rows.fetchone() == (0, 0)
        connection.close()
        assert server.stop() == 0

    assert "1 events that billing was not told were dropped" in server.log.read_text()


def test_p14_what_billing_was_told_is_erased(tmp_path: Path) -> None:
    """After T_erase neither the account nor the event is in any file of the database."""
    erase = ["--erase-after", "1"]
    with (
        billing_system() as billing,
        server_in(tmp_path, *options(tmp_path, billing.url()), *erase) as server,
    ):
        id = cancel(server)
        (told,) = billing.wait(1)
        secrets = [identifiers.from_text(one) for one in (id, told.event["id"])]
        for _ in range(300):
            if not (remains := Remains(tmp_path).found(secrets)):
                break
            time.sleep(0.1)

    assert remains == []


def test_what_fails_is_logged_without_secrets(tmp_path: Path) -> None:
    """Neither the URL's path and query, nor the secret, nor whose account it was."""
    url = "http://127.0.0.1:1/from-here?canary=billing-canary"
    with server_in(tmp_path, *options(tmp_path, url)) as server:
        id = cancel(server)
        while "billing can't be told" not in (log := server.log.read_text()):
            pass
        assert server.stop() == 0

    assert not [word for word in (id, "canary", "from-here", SECRET_TEXT) if word in log]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--webhook-url", "https://billing.example/"], "belong together"),
        (["--webhook-secret-file", "/nowhere/secret"], "belong together"),
        (
            ["--webhook-url", "https://billing.example/", "--webhook-secret-file", "/nowhere/secret"],
            "/nowhere/secret: the webhook's secret can't be read",
        ),
    ],
)
def test_half_a_webhook_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    """In one line, before anything is served."""
    database = f"sqlite:///{tmp_path / 'x.db'}"
    command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--database", database, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, said in done.stderr) == (1, "", True)
