"""`exuvia backup`, `backup-key` and `restore`, as an operator runs them."""

import base64
import io
import json
import os
import pwd
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane import COMMAND, Server, honest_key, plane_at, server_in
from database_files import Remains
from exuvia.api import alarms, upkeep
from exuvia.cli import backup as command
from exuvia.rules import backups
from exuvia.rules.backups import Term
from exuvia.store import backup, envelope, shelf
from exuvia.store.backup import Rows
from exuvia.store.envelope import BackupKey, Recipient
from exuvia.system import entropy
from set_clocks import Time, times

__all__ = ["times"]


@dataclass
class Desk:
    """An operator with the key in another folder than the control plane's."""

    folder: Path
    server: Server

    @property
    def key(self) -> Path:
        """The private half."""
        return self.folder / "elsewhere/backup.key"

    @property
    def recipient(self) -> Path:
        """The public half."""
        return self.folder / "backup.recipient"

    @property
    def shelf(self) -> Path:
        """The folder of backups."""
        return self.folder / "backups"

    def run(self, *words: object, **popen: object) -> "subprocess.CompletedProcess[str]":
        """Run a command."""
        command = [*COMMAND, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **popen)  # type: ignore

    def back_up(self, *words: object, to: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Make a backup."""
        where = ["--database", self.server.database, "--recipient-file", self.recipient]
        return self.run("backup", *where, "--to", to or self.shelf, *words)

    def restore(self, file: Path, *words: object) -> "subprocess.CompletedProcess[str]":
        """Restore one."""
        return self.run("restore", file, "--key-file", self.key, "--database", self.server.database, *words)

    def read(self, file: Path) -> dict[str, list[list[object]]]:
        """Return the rows in a backup, by table."""
        key, found = BackupKey.from_text(self.key.read_text()), dict[str, list[list[object]]]()
        for part in backup.decoded(envelope.opened(key, io.BytesIO(file.read_bytes()))):
            if isinstance(part, Rows):
                found.setdefault(part.table, []).extend(part.rows)
        return found

    def age(self, file: Path, *, days: int, keep: int = 7) -> None:
        """Put a backup there that was made some days ago."""
        recipient = Recipient.from_text(self.recipient.read_text())
        hour = int(time.time() // 3600) - 24 * days
        pieces = envelope.sealed(recipient, Term(hour, hour + 24 * keep), [b"old"], entropy.bits)
        file.write_bytes(b"".join(pieces))


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    """Have a server, a backup key and a folder for backups."""
    (folder / "control").mkdir()
    with server_in(folder / "control") as server:
        desk = Desk(folder, server)
        desk.key.parent.mkdir()
        desk.shelf.mkdir()
        made = desk.run("backup-key", desk.key)
        assert (made.returncode, made.stderr) == (0, "")
        desk.recipient.write_text(made.stdout)
        yield desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """All of it, with an account, a device and a gateway."""
    with desk_in(tmp_path) as made:
        made.server.register(made.server.account())
        made.server.gateway()
        yield made


@pytest.mark.parametrize("running", [True, False], ids=["served", "not served"])
def test_a_backup_into_a_folder(desk: Desk, running: bool) -> None:
    """One private file, of all that is committed at that moment; the server's own files are as they were."""
    if not running:
        desk.server.stop()
    before = {path.name: path.stat().st_uid for path in desk.server.folder.iterdir()}
    done = desk.back_up()

    (file,) = desk.shelf.iterdir()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: 1 accounts, 1 devices, 0 second factors, 1 gateways\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name: path.stat().st_uid for path in desk.server.folder.iterdir()} == before
    assert [len(rows) for rows in desk.read(file).values()] == [1, 1, 1]


def test_a_backup_made_while_people_come(desk: Desk) -> None:
    """All of it is of one moment: no device without its account, and none in a backup that ended before."""
    number = desk.server.account(devices=1000)
    process = subprocess.Popen(
        [*COMMAND, "backup", "--database", desk.server.database, "--to", desk.folder / "b", "--json"],
        env={**os.environ, "EXUVIA_RECIPIENT_FILE": str(desk.recipient)},
        stdout=subprocess.PIPE,
    )
    while process.poll() is None:
        desk.server.register(number)
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    process.stdout.close()
    held = desk.read(desk.folder / "b")

    assert told["holds"]["device"] == len(held["device"])
    assert {row[0] for row in held["device"]} <= {row[0] for row in held["account"]}


async def test_p14_what_could_not_be_erased_during_a_backup_is_erased_after_it(
    times: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a backup reads, erasure is put off and an alarm is on; a minute later all is as it should be."""
    monkeypatch.setattr(upkeep, "_PATIENCE", 1)
    async with plane_at(tmp_path / "control.db") as plane:
        care = upkeep.Upkeep(plane.inner.control, erase_after=120)
        key, number = honest_key(), await plane.account()
        device = await plane.register(number, key)
        secret = [base64.b64decode(key)]
        with backup.snapshot(tmp_path / "control.db") as connection:
            assert connection.execute("SELECT count(*) FROM device").fetchone() == (1,)
            assert (await plane.ask("DELETE", "/v1/device", bearer=device.token)).status == 204
            for _ in range(5):
                await care.look_after(now=times.passes(timedelta(minutes=1)))
            assert plane.inner.control.alarms.are_on() == {alarms.ERASURE}
            assert Remains(tmp_path).found(secret) == secret
            assert connection.execute("SELECT count(*) FROM device").fetchone() == (1,)
        await care.look_after(now=times.passes(timedelta(minutes=1)))

        assert plane.inner.control.alarms.are_on() == set()
        assert Remains(tmp_path).found(secret) == []


def test_a_file_may_be_named(desk: Desk) -> None:
    """It is replaced by the next backup of that name, and by nothing else."""
    first = desk.back_up(to=desk.folder / "one")
    size = (desk.folder / "one").stat().st_size
    desk.server.account()
    second = desk.back_up(to=desk.folder / "one")

    assert (first.returncode, second.returncode) == (0, 0)
    assert (desk.folder / "one").stat().st_size > size


def test_nothing_that_is_no_backup_is_overwritten(desk: Desk) -> None:
    """Not the database, nor any other file; and the refusal says so."""
    before = desk.server.path.read_bytes()
    for path in (desk.server.path, desk.key):
        done = desk.back_up(to=path)
        assert (done.returncode, "no backup that exuvia made" in done.stderr) == (1, True)

    assert desk.server.path.read_bytes() == before
    assert BackupKey.from_text(desk.key.read_text())


def test_p14_what_is_too_old_is_removed_from_the_folder(desk: Desk) -> None:
    """Also of another name, or half written by a killed one; not what is younger, or somebody else's."""
    for name, days in (("moved.backup", 7), ("killed.backup.new", 9), ("young.backup", 5)):
        desk.age(desk.shelf / name, days=days)
    (desk.shelf / "other.backup").write_bytes(b"of another program")
    (desk.shelf / "old.txt").write_bytes((desk.shelf / "moved.backup").read_bytes())
    done = desk.back_up("--json")

    told = json.loads(done.stdout)
    assert told["removed"] == 2
    assert {path.name for path in desk.shelf.iterdir()} == {
        Path(told["file"]).name,
        "young.backup",
        "other.backup",
        "old.txt",
    }
    shorter = desk.back_up("--keep", "2", "--json")
    assert json.loads(shorter.stdout)["removed"] == 1
    assert not (desk.shelf / "young.backup").exists()


def test_p14_a_mirror_that_removes_nothing_keeps_nobody_for_longer(tmp_path: Path) -> None:
    """A month of daily backups, copied by name to where nobody tidies: no copy is ever too old."""
    shelves = tmp_path / "here", tmp_path / "there"
    for folder in shelves:
        folder.mkdir()
    recipient = BackupKey.new(entropy.bits).recipient()
    for day in range(30):
        hour = 500_000 + 24 * day
        term = backups.term(hour=hour, keep_days=7)
        path = shelf.place(shelves[0], hour=hour, keep_days=7)
        path.write_bytes(b"".join(envelope.sealed(recipient, term, [b""], entropy.bits)))
        shelf.tidy(shelves[0], hour=hour, keep_days=7, but=path)
        shutil.copytree(shelves[0], shelves[1], dirs_exist_ok=True)
        for folder in shelves:
            made = [envelope.term_of(one.read_bytes()).made for one in folder.iterdir()]
            assert min(made) > hour - 7 * 24
            assert len(made) == min(day + 1, 7 if folder == shelves[1] else 6)


def test_what_was_made_in_the_future_is_told_and_kept(desk: Desk) -> None:
    """With a wrong clock nobody knows how old a backup is; and it is not restored by mistake."""
    desk.age(desk.shelf / "future.backup", days=-40)
    done = desk.back_up()

    assert "made in the future: look at the clock" in done.stderr
    assert (desk.shelf / "future.backup").exists()
    refused = desk.restore(desk.shelf / "future.backup")
    assert (refused.returncode, "in the future" in refused.stderr) == (1, True)


@pytest.mark.parametrize("wrong", ["missing", "private", "nonsense"])
def test_a_recipient_that_is_none(desk: Desk, wrong: str) -> None:
    """One line says what to do; nothing is written. The private key is told to be in the wrong place."""
    recipient = desk.recipient
    words = {"missing": "backup-key", "private": "must not lie", "nonsense": "exuvia-backup-for"}
    if wrong == "missing":
        recipient.unlink()
    else:
        recipient.write_bytes(desk.key.read_bytes() if wrong == "private" else b"\xff\xfe")
    if wrong == "nonsense":
        words["nonsense"] = "no text"
    done = desk.back_up()

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words[wrong] in done.stderr
    assert list(desk.shelf.iterdir()) == []


def test_a_key_is_made_once(desk: Desk) -> None:
    """For its owner only; a second one does not take its place, for what the first opens would be lost."""
    before = desk.key.read_bytes()
    again = desk.run("backup-key", desk.key)

    assert (again.returncode, "would be lost" in again.stderr) == (1, True)
    assert desk.key.read_bytes() == before
    assert desk.key.stat().st_mode & 0o777 == 0o600
    assert desk.key.read_text().split()[1] not in desk.recipient.read_text()


def test_a_full_disk_leaves_nothing_half(desk: Desk) -> None:
    """The backup before it stays whole, the new one is not begun, and one line says why."""
    assert desk.back_up(to=desk.folder / "one").returncode == 0
    before = (desk.folder / "one").read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))

    command = [*COMMAND, "backup", "--database", desk.server.database, "--to", desk.folder / "one"]
    command += ["--recipient-file", desk.recipient]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)

    assert (done.returncode, done.stderr) == (1, f"exuvia: {desk.folder}/one: File too large\n")
    assert (desk.folder / "one").read_bytes() == before
    assert not (desk.folder / "one.new").exists()


def test_who_waits_is_told_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing within two seconds; after them a line, and every two seconds another."""
    moments = iter([0.0, 1.0, 1.9, 2.1, 3.9, 4.2])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    parts = [Rows("account", ["id"], [[b"x"]] * 700)] * 5

    assert list(command._watched(iter(parts), {})) == parts
    assert capsys.readouterr().err == ("exuvia backup: 2,100 rows so far\nexuvia backup: 3,500 rows so far\n")


def test_a_restore_from_nothing(desk: Desk) -> None:
    """The machine is lost: where nothing is, the backup leads to a control plane that knows everybody."""
    number = desk.server.account(devices=3)
    device = desk.server.register(number)
    assert desk.back_up().returncode == 0
    (file,) = desk.shelf.iterdir()
    desk.server.stop()
    shutil.rmtree(desk.server.folder)
    desk.server.folder.mkdir()
    looked = desk.restore(file, "--check")
    assert (looked.returncode, list(desk.server.folder.iterdir())) == (0, [])
    done = desk.restore(file)

    assert (done.returncode, done.stderr) == (0, "")
    assert "2 accounts, 2 devices, 0 second factors, 1 gateways, as they were on " in done.stdout
    desk.server.start()
    assert desk.server.ask("GET", "/v1/device", bearer=device.token).json["keys"] == []
    assert [one["name"] for one in desk.server.ask("GET", "/v1/devices", bearer=number).json] == [device.name]


def test_p14_an_old_backup_is_not_restored_by_mistake(desk: Desk) -> None:
    """It may hold who was deleted since: the refusal says so, and names the way for whoever means it."""
    assert desk.back_up("--keep", "2").returncode == 0
    (file,) = desk.shelf.iterdir()
    content = file.read_bytes()
    aged = content[:24] + (int(time.time() // 3600) - 49).to_bytes(4, "big")
    desk.server.stop()
    desk.age(file, days=8)
    refused = desk.restore(file, "--replace")
    assert (refused.returncode, "--old" in refused.stderr) == (1, True)
    meant = desk.restore(file, "--replace", "--old")
    assert (meant.returncode, "does not know" in meant.stderr) == (1, True)
    # Who makes it look younger, or older, makes it another file.
    file.write_bytes(aged + content[28:])
    assert "damaged" in desk.restore(file, "--replace", "--old").stderr


def test_a_restore_refuses_what_it_can_not_use(desk: Desk) -> None:
    """A server that runs, a folder that is not there, another key: one line each, and all is as before."""
    assert desk.back_up().returncode == 0
    (file,) = desk.shelf.iterdir()
    other = desk.folder / "other.key"
    desk.run("backup-key", other)
    for words, said in (
        (["--replace"], "another exuvia process looks after this database"),
        ([], "there is a database already"),
        (["--replace", "--key-file", other], "made for another key"),
        (["--key-file", desk.recipient], "which opens nothing"),
        (["--database", f"sqlite:///{desk.folder}/typo/x.db"], "there is no such folder"),
    ):
        done = desk.restore(file, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert said in done.stderr
    assert desk.server.ask("GET", "/healthz").status == 200
    assert not (desk.folder / "typo").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_root_restores_belongs_to_the_server(desk: Desk) -> None:
    """The folder's owner owns the database, though file and key could be read by root alone."""
    nobody = pwd.getpwnam("nobody")
    assert desk.back_up().returncode == 0
    (file,) = desk.shelf.iterdir()
    home = Path("/run") / f"exuvia-restore-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    try:
        done = desk.restore(file, "--database", f"sqlite:///{home}/x.db")
        owners = {path.stat().st_uid for path in home.iterdir()}
    finally:
        shutil.rmtree(home)

    assert (done.returncode, done.stderr, owners) == (0, "", {nobody.pw_uid})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_backup_by_root_leaves_the_server_its_files(desk: Desk) -> None:
    """Whatever SQLite makes beside a database that nobody serves belongs to the database's owner."""
    nobody = pwd.getpwnam("nobody")
    desk.server.stop(9)
    for path in (desk.server.folder, *desk.server.folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    assert desk.back_up().returncode == 0

    assert {path.stat().st_uid for path in desk.server.folder.iterdir()} == {nobody.pw_uid}
