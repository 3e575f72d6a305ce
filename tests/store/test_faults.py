"""When the database can't be used: 503, nothing half done, and all well again when the fault ends."""

import contextlib
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import Answer, Server, fresh_key, honest_key, server_in
from database_files import assert_consistent, locked


def attempt(server: Server, number: str) -> Answer:
    """Try to register a device."""
    return server.ask("POST", "/v1/devices", bearer=number, body={"public_key": honest_key()})


def assert_refused(answer: Answer) -> None:
    """Check that the answer is 503, says that later it may work, and tells nothing else."""
    assert answer.status == 503
    assert answer.json["type"] == "urn:exuvia:problem:store-unavailable"
    assert int(answer.headers["retry-after"]) > 0


def assert_recovers(server: Server, number: str, made: int) -> None:
    """Check that nothing was half done, that it works again, and that the alarm was raised and ends."""
    assert len(server.ask("GET", "/v1/devices", bearer=number).json) == made
    device = server.register(number)
    assert server.ask("DELETE", "/v1/device", bearer=device.token).status == 204
    alarms = server.ask("GET", "/healthz").json["alarms"]
    assert alarms["store"] >= 1
    assert_consistent(server.path)


def test_while_another_process_holds_the_lock(server: Server) -> None:
    """Writing is refused, reading goes on; when the lock is released everything works."""
    number, gateway = server.account(), server.gateway()
    device = server.register(number)
    with locked(server.path):
        assert_refused(attempt(server, number))
        assert_refused(server.ask("DELETE", "/v1/device", bearer=device.token))
        for method, what in (("PUT", ""), ("POST", "/confirm"), ("DELETE", "")):
            path = f"/v1/device/keys/{fresh_key().path()}{what}"
            assert_refused(server.ask(method, path, bearer=device.token))
        hello = {"public_key": honest_key(), "lasting": False}
        assert_refused(server.ask("PUT", "/v1/gateway", bearer=gateway, body=hello))
        assert server.ask("GET", "/v1/device", bearer=device.token).status == 200

    assert_recovers(server, number, made=1)


def test_while_files_can_not_grow(server: Server) -> None:
    """A write that the system refuses is nobody's registration."""
    number = server.account(devices=1000)
    assert server.process is not None
    pid, before = server.process.pid, resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    for _ in range(3):
        assert_refused(attempt(server, number))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    assert_recovers(server, number, made=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three mebibytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_while_the_disk_is_full(small_disk: Path) -> None:
    """Registrations are refused, also by hundreds, and work again once there is room; erasure is alarmed."""
    with server_in(small_disk, "--erase-after", "1") as server:
        server.log.unlink()  # what it says goes on to be written to a file without a name
        number = server.account(devices=1000)
        made = len([server.register(number) for _ in range(5)])
        _fill(small_disk / "filler")
        answers = [attempt(server, number) for _ in range(60)]
        made += sum(answer.status == 201 for answer in answers)
        assert_refused(answers[-1])
        assert server.ask("GET", "/v1/devices", bearer=number).status == 200
        deadline = time.monotonic() + 30
        while server.ask("GET", "/healthz").json["alarms"]["erasure"] == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert server.ask("GET", "/healthz").json["alarms"]["erasure"] >= 1
        (small_disk / "filler").unlink()

        assert_recovers(server, number, made)
        server.stop()
        server.start()
        assert len(server.ask("GET", "/v1/devices", bearer=number).json) == made


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"x" * size)
