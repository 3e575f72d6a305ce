"""Logging in and out, against a control plane that answers, refuses, loses answers or is not there."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from exuvia.client.control import ControlPlane
from exuvia.client.gateways import Known
from exuvia.client.login import log_in, log_out
from exuvia.client.state import StateFolder
from exuvia.errors import (
    AlreadyLoggedIn,
    AlreadyRunning,
    ControlPlaneUnreachable,
    InvalidConfiguration,
    KeyRefused,
    StateNotSaved,
    Unavailable,
    UnknownCredential,
)
from exuvia.messages import GatewayListing
from exuvia.system import files
from exuvia.system.http import Connection
from exuvia.testing.control import ACCOUNT, FakeControlPlane
from exuvia.wg.keys import PrivateKey

REGISTER = ("POST", "/v1/devices")
GATEWAYS = ("GET", "/v1/gateways")
LOG_OUT = ("DELETE", "/v1/device")


class Place:
    """A control plane, a state folder, and what was said."""

    def __init__(self, folder: Path, control: FakeControlPlane, port: int) -> None:
        self.folder = StateFolder(folder / "client")
        self.control = control
        self.url = f"http://127.0.0.1:{port}"
        self.said: list[str] = []

    async def log_in(self, account: str = ACCOUNT, url: str | None = None) -> None:
        """Log in."""
        await log_in(
            self.folder, url or self.url, ca_file=None, account=lambda: account, say=self.said.append
        )

    async def log_out(self, *, offline: bool = False) -> None:
        """Log out."""
        await log_out(self.folder, offline=offline, say=self.said.append)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A control plane on a free port of loopback."""
    control = FakeControlPlane()
    with socket.create_server(("127.0.0.1", 0)) as sock, control.serving(sock):
        yield Place(tmp_path, control, sock.getsockname()[1])


async def test_login_makes_a_device(place: Place) -> None:
    """After a login the state holds the device's token and the key that was registered."""
    key = PrivateKey(os.urandom(32)).public_key().text()
    place.control.gateways = [GatewayListing("se1", key, "192.0.2.1:51820", "SE", None, "10.0.0.1")]
    await place.log_in()

    _, device, current, grant = place.folder.require()
    (registered,) = place.control.devices
    assert current.private_key.public_key().text() == registered.public_key
    assert device.token == registered.token
    assert [f"{grant.address4}/32", f"{grant.address6}/128"] == registered.addresses
    known = Known.decode(place.folder.known.read_bytes())
    assert [gateway.name for gateway in known.gateways] == ["se1"]
    assert [str(address) for address in known.control] == ["127.0.0.1"]


async def test_the_account_number_is_not_kept(place: Place) -> None:
    """No file of the client has the account number in it."""
    await place.log_in()

    assert all(ACCOUNT.encode() not in path.read_bytes() for path in place.folder.folder.iterdir())


async def test_a_lost_answer_leads_to_the_same_key(place: Place) -> None:
    """If the answer to a registration is lost, the next login registers the same key: one device."""
    place.control.lose = {REGISTER}
    with pytest.raises(ControlPlaneUnreachable):
        await place.log_in()
    place.control.lose = set()
    await place.log_in()

    assert len(place.control.devices) == 1


async def test_a_crash_after_the_answer_leads_to_the_same_key(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the answer arrived but could not be saved, the next login gets the same device again."""
    write = files.write

    def full(path: Path, content: bytes, **how: bool) -> None:
        if b'"settled"' in content:
            raise StateNotSaved(f"{path}: No space left on device")
        write(path, content, **how)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(StateNotSaved):
            await place.log_in()
    await place.log_in()

    assert len(place.control.devices) == 1


async def test_the_key_is_saved_before_it_is_registered(place: Place) -> None:
    """At the moment of the registration the key is on the disk already."""
    found: list[bool] = []

    def look(devices: list[Any]) -> None:
        state = place.folder.load()
        assert state is not None and state.pending is not None
        found.append(state.pending.private_key.public_key().text() == devices[0].public_key)

    place.control.changed = look
    await place.log_in()

    assert found == [True]


async def test_a_wrong_number_is_refused_and_may_be_corrected(place: Place) -> None:
    """A refused account number leaves the machine logged out, and the right one then works."""
    with pytest.raises(UnknownCredential, match="account number"):
        await place.log_in(account="WRONG-NUMBER")
    await place.log_in()

    assert len(place.control.devices) == 1


@pytest.mark.parametrize("account", ["", "two words", "x" * 300, "line\r\nbreak", "é"])
async def test_what_is_no_number_is_never_sent(place: Place, account: str) -> None:
    """What can't be an account number is refused here."""
    with pytest.raises(InvalidConfiguration):
        await place.log_in(account=account)

    assert place.control.asked == []


async def test_a_refused_key_is_not_kept(place: Place) -> None:
    """A key that the control plane refuses is forgotten, so that the next login makes another."""
    place.control.refuse = {REGISTER: (409, "The account has all devices it may have")}
    with pytest.raises(KeyRefused, match="all devices it may have"):
        await place.log_in()

    assert place.folder.load() is None


async def test_a_key_of_another_account_is_replaced(place: Place) -> None:
    """If an earlier login registered the key elsewhere and lost the answer, a new key is made by itself."""
    place.control.lose = {REGISTER}
    with pytest.raises(ControlPlaneUnreachable):
        await place.log_in()
    place.control.lose = set()
    before = place.control.devices[0].public_key
    register = place.control._register
    place.control._register = (  # type: ignore[method-assign]
        lambda account, key, proof: (
            (422, {"type": "x", "title": "no", "status": 422})
            if key == before
            else register(account, key, proof)
        )
    )
    await place.log_in()

    assert place.folder.require()[2].private_key.public_key().text() != before


async def test_a_control_plane_that_knows_no_proofs(place: Place) -> None:
    """An older one is told no proof that it could not read; login and a next key work as ever."""
    place.control.proven = False
    await place.log_in()
    state, device, _, _ = place.folder.require()
    control = ControlPlane(state.control, ca_file=state.ca_file, token=device.token)
    grant = await control.register_key(PrivateKey(bytes(range(32))))
    await control.close()

    assert grant.revision > 0
    assert ("GET", "/v1/possession") in place.control.asked


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_proof_that_can_not_be_made_now_is_made_later(place: Place, status: int) -> None:
    """The key is not registered without it, and stays for the next try."""
    place.control.refuse[("GET", "/v1/possession")] = (status, "not now")
    with pytest.raises(Unavailable):
        await place.log_in()
    assert REGISTER not in place.control.asked
    place.control.refuse.clear()
    await place.log_in()

    assert place.folder.require()[1].name == "quiet heron"


async def test_what_is_no_servers_key_is_no_control_plane(place: Place) -> None:
    """An answer whose key is none, or would give away a secret of zeros, is not worked with."""
    for key in ("x", "A" * 43 + "="):
        place.control._possession = SimpleNamespace(  # type: ignore[assignment]
            server_key=lambda key=key: SimpleNamespace(text=lambda: key), seconds=lambda: 1
        )
        with pytest.raises(ControlPlaneUnreachable, match="not a control plane"):
            await place.log_in()


async def test_logged_in_already(place: Place) -> None:
    """A second login says so, with the device's name, and asks for nothing."""
    await place.log_in()
    asked = len(place.control.asked)
    with pytest.raises(AlreadyLoggedIn, match="quiet heron"):
        await place.log_in()

    assert len(place.control.asked) == asked


async def test_two_logins_at_once(place: Place) -> None:
    """While one login runs, another is refused."""
    place.folder.create()
    with place.folder.lock(), pytest.raises(AlreadyRunning):
        await place.log_in()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 x\r\nContent-Length: 15\r\n\r\n<html>no</html>",
        b"HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
async def test_what_is_no_control_plane(place: Place, answer: bytes) -> None:
    """An answer that no control plane gives is said to be that, and the login can be tried again."""
    place.control.answer = answer
    with pytest.raises(ControlPlaneUnreachable):
        await place.log_in()
    place.control.answer = None
    await place.log_in()

    assert place.folder.require()


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": ["10.0.0.1/24", "fd00::1/128"]},
        {"addresses": ["10.0.0.1/32"]},
        {"addresses": ["fd00::1/128", "fd00::2/128"]},
        {"addresses": ["10.0.0.1/32", "fd00::1/128", "10.0.0.2/32"]},
        {"addresses": ["10.0.0.1/32; reboot", "fd00::1/128"]},
        {"preshared_key": "short"},
        {"epoch": "e&revision=0"},
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused(place: Place, change: dict[str, Any]) -> None:
    """Addresses, keys and epochs that a control plane never gives are not taken over."""
    register = place.control._register

    def changed(*asked: Any) -> tuple[int, Any]:
        status, content = register(*asked)
        return status, content | change

    place.control._register = changed  # type: ignore[method-assign]
    with pytest.raises(ControlPlaneUnreachable, match="not a control plane's"):
        await place.log_in()

    state = place.folder.load()
    assert state is not None and state.device is None


async def test_gateways_that_make_no_sense_are_left_out(place: Place) -> None:
    """One unusable entry in the list of gateways keeps nobody from the others."""
    key = PrivateKey(os.urandom(32)).public_key().text()
    good = GatewayListing("se1", key, "192.0.2.1:51820", None, None, None)
    place.control.gateways = [
        good,
        GatewayListing("a\nb", key, "192.0.2.1:51820", None, None, None),
        GatewayListing("zero", "A" * 43 + "=", "192.0.2.1:51820", None, None, None),
        GatewayListing("port", key, "192.0.2.1:99999", None, None, None),
        GatewayListing("dns", key, "192.0.2.1:51820", None, None, "not an address"),
    ]
    await place.log_in()

    known = Known.decode(place.folder.known.read_bytes())
    assert [gateway.name for gateway in known.gateways] == ["se1"]


async def test_without_a_list_of_gateways_the_login_stands(place: Place) -> None:
    """A device that was registered is logged in, whatever becomes of the rest."""
    place.control.refuse = {GATEWAYS: (503, "not now")}
    await place.log_in()

    assert place.folder.require()
    assert "not now" in place.said[-1]


async def test_logout_deletes_and_erases(place: Place) -> None:
    """After a logout the control plane has no device, and the folder no file about one."""
    await place.log_in()
    await place.log_out()

    assert place.control.devices == []
    assert not place.folder.file.exists()
    assert not place.folder.known.exists()


async def test_logout_of_a_device_that_is_gone(place: Place) -> None:
    """If the control plane does not know the device any more, its state is erased all the same."""
    await place.log_in()
    place.control.devices.clear()
    await place.log_out()

    assert place.folder.load() is None


async def test_logout_without_a_control_plane_erases_nothing(place: Place) -> None:
    """If the control plane can't be reached the state is kept, and --offline forgets it."""
    await place.log_in()
    place.control.refuse = {LOG_OUT: (503, "not now")}
    with pytest.raises(Unavailable, match=r"nothing was erased.*--offline"):
        await place.log_out()
    assert place.folder.require()

    await place.log_out(offline=True)
    assert place.folder.load() is None
    assert len(place.control.devices) == 1


async def test_a_lost_answer_to_a_logout(place: Place) -> None:
    """If the answer to a logout is lost, logging out again ends well."""
    await place.log_in()
    place.control.lose = {LOG_OUT}
    with pytest.raises(ControlPlaneUnreachable):
        await place.log_out()
    assert place.control.devices == []
    place.control.lose = set()
    await place.log_out()

    assert place.folder.load() is None


def run(*arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command itself."""
    return subprocess.run(
        [sys.executable, "-m", "exuvia", "client", *arguments], input=text, capture_output=True, text=True
    )


def test_the_command(place: Place) -> None:
    """The commands as a person types them, and their exit statuses."""
    state = ("--state", str(place.folder.folder))
    assert run(*state, "status").stdout.startswith("not logged in")
    refused = run(*state, "login", "--control", "http://control.example", text=ACCOUNT)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "plain http" in refused.stderr

    logged_in = run(*state, "login", "--control", place.url, text=f"{ACCOUNT}\n")
    assert (logged_in.returncode, logged_in.stderr) == (0, "")
    assert "quiet heron" in logged_in.stdout
    told = json.loads(run(*state, "status", "--json").stdout)
    assert (told["state"], told["device"]) == ("down", "quiet heron")
    again = run(*state, "login", "--control", place.url, text=ACCOUNT)
    assert again.returncode == 1 and "already logged in" in again.stderr

    assert run(*state, "logout").returncode == 0
    twice = run(*state, "logout")
    assert twice.returncode == 1 and "not logged in" in twice.stderr
    assert run(*state, "login").returncode == 2


def test_the_account_number_from_a_file(place: Place, tmp_path: Path) -> None:
    """The number can be read from a file, and spaces in it do not matter."""
    file = tmp_path / "number"
    file.write_text(f" {ACCOUNT} \n")
    state = ("--state", str(place.folder.folder))

    assert run(*state, "login", "--control", place.url, "--account-file", str(file)).returncode == 0


def test_settings_from_a_file(place: Place, tmp_path: Path) -> None:
    """Options of all client commands can stand in one TOML file; an unknown one is refused."""
    file = tmp_path / "client.toml"
    file.write_text(f'state = "{place.folder.folder}"\ncontrol = "{place.url}"\ngateway = "se1"\n')
    done = run("--config-file", str(file), "login", text=ACCOUNT)
    assert (done.returncode, done.stderr) == (0, "")
    assert place.folder.file.exists()

    file.write_text("gatway = 1\n")
    assert run("--config-file", str(file), "status").returncode == 2


class Crashed(BaseException):
    """The machine lost power."""


def crashing_at(step: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let the power go off at this step of a login: before and after each request and each write."""
    made: list[str] = []

    def note(what: str) -> None:
        made.append(what)
        if len(made) == step:
            raise Crashed

    request, write = Connection.request, files.write

    async def requesting(self: Connection, *arguments: Any, **named: Any) -> Any:
        note("request")
        response = await request(self, *arguments, **named)
        note("answer")
        return response

    def writing(path: Path, content: bytes, **how: bool) -> None:
        note("write")
        write(path, content, **how)
        note("written")

    patch.setattr(Connection, "request", requesting)
    patch.setattr(files, "write", writing)
    return made


async def test_a_crash_at_any_step_of_a_login(tmp_path: Path) -> None:
    """Whenever the power goes off, the next login, or the one before it, has made exactly one device."""
    for step in range(1, 50):
        control = FakeControlPlane()
        with socket.create_server(("127.0.0.1", 0)) as sock, control.serving(sock):
            place = Place(tmp_path / str(step), control, sock.getsockname()[1])
            place.folder.folder.parent.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                made = crashing_at(step, patch)
                with contextlib.suppress(Crashed):
                    await place.log_in()
            with contextlib.suppress(AlreadyLoggedIn):
                await place.log_in()
            (registered,) = control.devices
            _, device, key, _ = place.folder.require()
            assert key.private_key.public_key().text() == registered.public_key
            assert device.token == registered.token
        if len(made) < step:
            assert step > 8
            return
    pytest.fail("the login never got to its end")


def test_the_number_is_asked_for_and_not_shown(place: Place) -> None:
    """On a terminal the account number is asked for, and what is typed does not appear."""
    person, terminal = os.openpty()
    command = [sys.executable, "-m", "exuvia", "client", "--state", str(place.folder.folder)]
    with subprocess.Popen(
        [*command, "login", "--control", place.url],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        shown = b""
        while b"Account number" not in shown:
            shown += os.read(person, 1000)
        os.write(person, f"{ACCOUNT}\n".encode())
        with contextlib.suppress(OSError):
            while more := os.read(person, 1000):
                shown += more
        assert process.wait(20) == 0
    os.close(person)

    assert ACCOUNT.encode() not in shown
    assert b"quiet heron" in shown


@pytest.mark.parametrize("fault", ["unknown", "expired", "another name"])
async def test_a_certificate_that_can_not_be_trusted(tmp_path: Path, fault: str) -> None:
    """A certificate that is unknown, too old or somebody else's is refused, with what to look at."""
    authority, another = trustme.CA(), trustme.CA()
    name = "control.example" if fault == "another name" else "127.0.0.1"
    expired = datetime(2020, 1, 1, tzinfo=UTC) if fault == "expired" else None
    certificate = authority.issue_cert(name, not_after=expired)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    (another if fault == "unknown" else authority).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    control = FakeControlPlane()
    with socket.create_server(("127.0.0.1", 0)) as sock, control.serving(sock, context):
        url = f"https://127.0.0.1:{sock.getsockname()[1]}"
        folder = StateFolder(tmp_path / "client")
        with pytest.raises(ControlPlaneUnreachable, match="check this machine's clock, or give --ca-file"):
            await log_in(
                folder, url, ca_file=str(tmp_path / "ca.pem"), account=lambda: ACCOUNT, say=lambda line: None
            )

    assert control.asked == []
