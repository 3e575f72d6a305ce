"""`exuvia serve` as a process: how it starts, what it refuses, how it stops, and what survives."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path

import pytest
import trustme

from control_plane import COMMAND, Server, feed_message, honest_key, server_in
from exuvia.errors import ControlPlaneUnreachable
from exuvia.messages import Snapshot, SnapshotEnd
from exuvia.system.http import Connection


def refusal(*options: str, **environment: str) -> str:
    """Run `exuvia serve`, which must refuse, and return the one line that it says."""
    done = subprocess.run(
        [*COMMAND, "serve", *options],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("exuvia: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def names(folder: Path) -> set[str]:
    """Return what the database consists of."""
    return {path.name for path in folder.glob("control.db*")}


def test_it_says_one_line_when_it_is_ready(server: Server) -> None:
    """Then /healthz answers 200, and nothing was written to standard error."""
    answer = server.ask("GET", "/healthz")

    assert (answer.status, answer.json["status"]) == (200, "ok")
    assert server.log.read_text() == ""
    assert server.stop() == 0


def test_nobody_else_reads_what_it_keeps(server: Server) -> None:
    """All files beside the database, and the socket, are their owner's alone."""
    server.account()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.folder.glob("control.db*")}

    assert set(modes) == {
        f"control.db{end}" for end in ("", "-shm", "-wal", ".generation", ".key", ".lock", ".sock")
    }
    assert set(modes.values()) == {0o600}


def test_a_second_server_on_the_same_database_is_refused(server: Server) -> None:
    """It says why, and the first one goes on."""
    said = refusal("--database", server.database, "--listen", "127.0.0.1:0")

    assert "another exuvia process looks after this database" in said
    assert server.ask("GET", "/healthz").status == 200


def test_a_port_that_is_taken_is_refused(server: Server, tmp_path: Path) -> None:
    """In words, and the database is left in order."""
    port = server.url.rpartition(":")[2]
    said = refusal("--database", f"sqlite:///{tmp_path / 'other.db'}", "--listen", f"127.0.0.1:{port}")

    assert "can't listen" in said
    assert not (tmp_path / "other.db-wal").exists()
    assert not (tmp_path / "other.db.sock").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "0.0.0.0:0"], "--tls-cert"),
        (["--listen", "[::]:0"], "--behind-proxy"),
        (["--listen", "example:80"], "--listen is ADDRESS:PORT"),
        (["--listen", "127.0.0.1"], "--listen is ADDRESS:PORT"),
        (["--tls-cert", "/nowhere/cert"], "belong together"),
        (["--tls-cert", "/nowhere/cert", "--tls-key", "/nowhere/key"], "no certificate"),
        (["--operator-token-file", "/nowhere/token"], "can't be read"),
        (["--pool4", "10.0.0.1/8"], "a pool must be a network"),
        (["--pool6", "fd00::/48"], "must be a /64"),
        (["--database", "postgresql://host/name"], "not built yet"),
        (["--database", "mysql://x"], "sqlite:///PATH"),
        (["--database", "sqlite:///"], "sqlite:///PATH"),
    ],
)
def test_what_can_not_be_served_is_refused_in_words(tmp_path: Path, options: list[str], words: str) -> None:
    """One line that says what to do, and exit status 1."""
    assert words in refusal(
        "--database", f"sqlite:///{tmp_path / 'x.db'}", "--listen", "127.0.0.1:0", *options
    )


def test_a_short_operator_token_is_refused(tmp_path: Path) -> None:
    """It could be guessed."""
    (tmp_path / "token").write_text("secret\n")
    options = [
        "--database",
        f"sqlite:///{tmp_path / 'x.db'}",
        "--operator-token-file",
        str(tmp_path / "token"),
    ]

    assert "32 characters" in refusal(*options, "--listen", "127.0.0.1:0")


def test_behind_a_proxy_it_listens_beyond_loopback(tmp_path: Path) -> None:
    """With --behind-proxy plain HTTP is somebody else's to protect."""
    process = subprocess.Popen(
        [
            *COMMAND,
            "serve",
            "--database",
            f"sqlite:///{tmp_path / 'x.db'}",
            "--listen",
            "0.0.0.0:0",
            "--behind-proxy",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    process.communicate(timeout=20)

    assert line.startswith("exuvia serve: ready at http://0.0.0.0:")
    assert process.returncode == 0


def test_options_come_from_the_environment_and_a_file_too(tmp_path: Path) -> None:
    """Each option is also EXUVIA_… and a key of a TOML file."""
    (tmp_path / "serve.toml").write_text(
        f'database = "sqlite:///{tmp_path / "x.db"}"\npool4 = "10.9.0.0/33"\n'
    )

    said = refusal("--config-file", str(tmp_path / "serve.toml"), EXUVIA_LISTEN="127.0.0.1:0")
    assert "a pool must be a network" in said


async def test_it_speaks_tls(tmp_path: Path) -> None:
    """TLS 1.3, without tickets that would tell a client again; older versions are refused."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    options = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with server_in(tmp_path, *options) as server:
        assert server.url.startswith("https://")
        connection = Connection(server.url, ca_file=tmp_path / "ca.pem")
        assert (await connection.request("GET", "/healthz")).status == 200
        await connection.close()
        assert await asyncio.to_thread(_tls_version, server.url, tmp_path / "ca.pem") == ("TLSv1.3", False)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(_tls_version, server.url, tmp_path / "ca.pem", ssl.TLSVersion.TLSv1_2)


def _tls_version(
    url: str, ca: Path, at_most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[str | None, bool]:
    context = ssl.create_default_context(cafile=str(ca))
    context.maximum_version = at_most
    with (
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while wrapped.recv(4096):
            pass
        session = wrapped.session
        return wrapped.version(), bool(session and session.has_ticket)


async def test_stopping_is_tidy(tmp_path: Path) -> None:
    """Feeds end, answers under way are given, the WAL is empty, the socket is gone, the exit status is 0."""
    with server_in(tmp_path) as server:
        gateway, number = server.gateway(), server.account()
        device = server.register(number)
        feed = Connection(server.url)
        lines = feed.lines("/v1/feed", bearer=gateway, idle_timeout=20)
        first = [feed_message(await anext(lines)) for _ in range(3)]
        target = f"/v1/applied?epoch={device.epoch}&revision={device.revision}&wait=1"
        waiting = asyncio.ensure_future(Connection(server.url).request("GET", target, bearer=device.token))
        await asyncio.sleep(0.2)
        status = await asyncio.to_thread(server.stop)
        with pytest.raises(ControlPlaneUnreachable):
            await anext(lines)

        assert (isinstance(first[0], Snapshot), isinstance(first[2], SnapshotEnd)) == (True, True)
        assert status == 0
        assert (await waiting).status == 200
        left = {f"control.db{end}" for end in ("", ".key", ".lock", ".generation")}
        assert names(tmp_path) == left
        assert server.log.read_text() == ""


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """Accounts, devices, tokens, gateways, epoch and revision are what they were."""
    with server_in(tmp_path) as server:
        number, gateway, key = server.account(), server.gateway(), honest_key()
        before = server.register(number, key)
        server.stop()
        server.start()
        hello = server.ask(
            "PUT", "/v1/gateway", bearer=gateway, body={"public_key": honest_key(), "lasting": False}
        )
        after = server.register(number, key)
        more = server.register(number)

    assert hello.status == 200
    assert (after.id, after.addresses, after.epoch) == (before.id, before.addresses, before.epoch)
    assert more.revision == before.revision + 1


def test_after_a_kill_it_starts_again(tmp_path: Path) -> None:
    """Locks and sockets that a killed server left behind hold nobody up."""
    with server_in(tmp_path) as server:
        number = server.account()
        device = server.register(number)
        server.stop(signal.SIGKILL)
        assert (tmp_path / "control.db.sock").exists()
        server.start()

        assert server.ask("GET", "/v1/device", bearer=device.token).status == 200
        assert server.account() != number


def test_yesterdays_database_is_refused_until_a_new_epoch_begins(tmp_path: Path) -> None:
    """The refusal names the way out; after it nothing revoked comes back, and devices register anew."""
    with server_in(tmp_path) as server:
        number, key = server.account(), honest_key()
        revoked = server.register(number, key)
        server.stop()
        shutil.copy(server.path, tmp_path / "yesterday")
        server.start()
        assert server.ask("DELETE", "/v1/device", bearer=revoked.token).status == 204
        server.stop()
        shutil.copy(tmp_path / "yesterday", server.path)
        said = refusal("--database", server.database, "--listen", "127.0.0.1:0")
        operator = subprocess.run(
            [*COMMAND, "account", "list", "--database", server.database], capture_output=True, text=True
        )
        server.options = ["--new-epoch"]
        server.start()
        gateway = server.gateway()
        first = asyncio.run(_first_lines(server.url, gateway))
        again = server.register(number, key)

    assert "--new-epoch" in said
    assert (operator.returncode, "--new-epoch" in operator.stderr) == (1, True)
    assert isinstance(first[0], Snapshot) and first[0].count == 0
    assert again.epoch != revoked.epoch
    assert not set(again.addresses) & set(revoked.addresses)


async def _first_lines(url: str, gateway: str) -> list[object]:
    found = []
    async with contextlib.aclosing(
        Connection(url).lines("/v1/feed", bearer=gateway, idle_timeout=20)  # type: ignore[type-var]
    ) as lines:
        async for line in lines:
            found.append(feed_message(line))
            if isinstance(found[-1], SnapshotEnd):
                break
    return found


def test_a_database_that_can_not_be_written_is_refused_at_start(tmp_path: Path) -> None:
    """In words that say what has to be writable."""
    with server_in(tmp_path) as server:
        server.stop()
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    for path in tmp_path.glob("control.db*"):
        shutil.move(path, sealed)
    serve = [*COMMAND, "serve", "--database", f"sqlite:///{sealed / 'control.db'}", "--listen", "127.0.0.1:0"]
    seal = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", seal, str(sealed), *serve],
        capture_output=True,
        text=True,
        timeout=30,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("needs the right to mount")

    assert done.returncode == 1
    assert "writable" in done.stderr


def test_metrics_are_counts_and_for_the_operator(tmp_path: Path) -> None:
    """Peers, gateways, answers, alarms: no label says anything of a person."""
    (tmp_path / "token").write_text("t" * 40)
    with server_in(
        tmp_path, "--operator-token-file", str(tmp_path / "token"), "--erase-after", "1"
    ) as server:
        server.register(server.account())
        server.gateway()
        text = ""
        for _ in range(100):
            answer = server.ask("GET", "/metrics", bearer="t" * 40)
            text = answer.body.decode()
            if "exuvia_peers 1.0" in text:
                break
            time.sleep(0.1)
        assert server.ask("GET", "/metrics").status == 401

    samples = {line.split()[0] for line in text.splitlines() if not line.startswith("#")}
    assert answer.headers["content-type"].startswith("text/plain")
    assert {"exuvia_peers", "exuvia_pool_used_ratio", "exuvia_gateways_enrolled", "exuvia_feeds"} <= samples
    labels = {name.split("{")[1] for name in samples if "{" in name}
    assert all(label.startswith(("status=", "alarm=")) for label in labels)


def test_the_api_describes_itself(server: Server) -> None:
    """OpenAPI 3.1, with each path of the table."""
    described = json.loads(server.ask("GET", "/openapi.json").body)

    assert described["openapi"].startswith("3.1")
    assert {"/v1/devices", "/v1/device", "/v1/feed", "/v1/applied", "/v1/admin/accounts/{id}/cancel"} <= set(
        described["paths"]
    )
