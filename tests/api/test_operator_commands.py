"""`exuvia account` and `exuvia gateway enroll`: through the running server, or without one."""

import contextlib
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import COMMAND, Server, honest_key, server_in


@pytest.fixture(params=["running", "stopped"])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A database that is being served, and one that is not: commands do the same."""
    with server_in(tmp_path) as server:
        if request.param == "stopped":
            server.stop()
        yield server


def run(server: Server, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run an operator command."""
    command = [*COMMAND, *words, "--database", server.database]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)


def said(server: Server, *words: str, stdin: str = "") -> str:
    """Run an operator command that must succeed, and return what it prints."""
    done = run(server, *words, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_account_from_the_first_day_to_the_last(control: Server) -> None:
    """Created, found by number and by id, suspended, resumed, cancelled; only the first prints the number."""
    number = said(control, "account", "create", "--devices", "3", "--expires", "2199-12-31").strip()
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}", number)
    shown = json.loads(said(control, "account", "show", "--json", stdin=f"{number}\n"))
    assert shown == {
        "id": shown["id"],
        "state": "active",
        "expires": "2199-12-31",
        "devices": 0,
        "device_limit": 3,
        "second_factor": False,
    }
    assert json.loads(said(control, "account", "list", "--json")) == [shown]
    assert said(control, "account", "suspend", shown["id"]) == ""
    table = said(control, "account", "list")
    assert re.search(rf"{shown['id']}\s+suspended\s+2199-12-31\s+0 of 3", table)
    assert said(control, "account", "resume", stdin=number.lower()) == ""
    assert json.loads(said(control, "account", "show", shown["id"], "--json"))["state"] == "active"
    assert said(control, "account", "cancel", shown["id"]) == ""
    assert json.loads(said(control, "account", "list", "--json")) == []
    gone = run(control, "account", "show", shown["id"])
    assert (gone.returncode, gone.stderr) == (1, "exuvia: there is no such account\n")


def test_many_accounts_are_printed_a_line_each(control: Server) -> None:
    """Numbers alone, or with --json ids as well; `list` finds them by state."""
    numbers = said(control, "account", "create", "--count", "3").split()
    told = json.loads(said(control, "account", "create", "--count", "2", "--devices", "7", "--json"))
    single = json.loads(said(control, "account", "create", "--json"))

    assert len(set(numbers)) == 3
    assert [set(one) for one in told] == [{"id", "account"}] * 2
    assert set(single) == {"id", "account"}
    assert json.loads(said(control, "account", "show", told[0]["id"], "--json"))["device_limit"] == 7
    suspended = json.loads(said(control, "account", "suspend", "--json", stdin=numbers[0]))
    assert suspended["state"] == "suspended"
    assert json.loads(said(control, "account", "list", "--state", "suspended", "--json")) == [suspended]
    assert len(json.loads(said(control, "account", "list", "--state", "active", "--json"))) == 5
    assert json.loads(said(control, "account", "cancel", "--json", stdin=numbers[0]))["state"] == "cancelled"


def test_last_day_and_limit_are_changed(control: Server) -> None:
    """By id or by number; what is said wrongly is wrong usage, and changes nothing."""
    made = json.loads(said(control, "account", "create", "--expires", "2199-01-01", "--json"))
    id, number = made["id"], made["account"]
    assert (
        json.loads(said(control, "account", "extend", id, "--days", "2", "--json"))["expires"] == "2199-01-03"
    )
    assert said(control, "account", "extend", "--expires", "2199-05-05", stdin=number) == ""
    assert said(control, "account", "device-limit", "9", stdin=number) == ""
    shown = json.loads(said(control, "account", "device-limit", id, "8", "--json"))
    assert (shown["expires"], shown["device_limit"]) == ("2199-05-05", 8)
    assert json.loads(said(control, "account", "extend", id, "--never", "--json"))["expires"] is None
    assert run(control, "account", "device-limit", id, "many").returncode == 2
    assert run(control, "account", "device-limit", id, "0").returncode == 1
    assert run(control, "account", "extend", id).returncode == 1


def test_a_gateway_from_its_enrollment_to_its_end(control: Server) -> None:
    """Listed, given another token, retired; what names no gateway is refused in one line."""
    words = ["--endpoint", "gw.example:51820", "--country", "SE"]
    enrolled = json.loads(said(control, "gateway", "enroll", "se1", *words, "--json"))
    listed = json.loads(said(control, "gateway", "list", "--json"))
    assert [(one["name"], one["live"], one["country"]) for one in listed] == [("se1", False, "SE")]
    assert re.search(r"^se1 +no +SE +gw.example:51820$", said(control, "gateway", "list"), re.MULTILINE)
    fresh = said(control, "gateway", "rotate-token", "se1").strip()
    assert re.fullmatch(r"[\w-]{43}", fresh)
    assert fresh != enrolled["token"]
    assert said(control, "gateway", "retire", "se1") == ""
    assert json.loads(said(control, "gateway", "list", "--json")) == []
    gone = run(control, "gateway", "retire", "se1")
    assert (gone.returncode, gone.stderr) == (1, "exuvia: there is no gateway of this name\n")


def test_an_account_works_whoever_created_it(control: Server) -> None:
    """A number that was printed registers a device, once the control plane runs."""
    number = said(control, "account", "create").strip()
    if control.process is None:
        control.start()

    assert control.register(number).revision == 1


@pytest.mark.parametrize(
    "words", [["--devices", "0"], ["--expires", "2000-01-01"], ["--expires", "tomorrow"]]
)
def test_impossible_accounts_are_refused_in_one_line(control: Server, words: list[str]) -> None:
    """Exit status 1, nothing on standard output, and what would be possible."""
    done = run(control, "account", "create", *words)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_a_gateway_is_enrolled_once(control: Server) -> None:
    """The token alone is printed; a name that exists already is refused."""
    words = [
        "gateway",
        "enroll",
        "se1",
        "--endpoint",
        "gw.example:51820",
        "--country",
        "SE",
        "--city",
        "Malmö",
    ]
    token = said(control, *words).strip()
    again = run(control, *words)
    if control.process is None:
        control.start()
    hello = control.ask(
        "PUT", "/v1/gateway", bearer=token, body={"public_key": honest_key(), "lasting": True}
    )

    assert re.fullmatch(r"[\w-]{43}", token)
    assert (again.returncode, again.stdout) == (1, "")
    assert "enrolled already" in again.stderr
    assert hello.status == 200


def test_a_number_that_nobody_has_is_not_found(control: Server) -> None:
    """Nor is it repeated."""
    for number in ("0000-0000-0000-0000-0000-0000-0000", "nonsense", ""):
        done = run(control, "account", "suspend", stdin=number)
        assert (done.returncode, done.stderr) == (1, "exuvia: there is no such account\n")


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """A typing error in the path makes no second database somewhere."""
    command = [*COMMAND, "account", "create", "--database", f"sqlite:///{tmp_path}/typo/x.db"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, "no such folder" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_suspension_reaches_the_running_server_at_once(server: Server) -> None:
    """When the command is done, the device's token says that the account is suspended."""
    number = server.account()
    device = server.register(number)
    said(server, "account", "suspend", stdin=number)

    assert server.ask("GET", "/v1/device", bearer=device.token).status == 403


def test_at_a_terminal_the_number_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    """Whoever runs a command without an id is asked, and the number does not appear on the screen."""
    database = f"sqlite:///{tmp_path / 'control.db'}"
    command = [*COMMAND, "account", "create", "--database", database]
    number = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    child, terminal = pty.fork()
    if not child:
        os.execv(COMMAND[0], [*COMMAND, "account", "show", "--database", database])
    shown = b""
    while b"not shown): " not in shown:  # the last space comes when nothing is shown any more
        shown += os.read(terminal, 4096)
    os.write(terminal, f"{number}\n".encode())
    with contextlib.suppress(OSError):  # how a terminal ends
        while data := os.read(terminal, 4096):
            shown += data
    _, status = os.waitpid(child, 0)
    os.close(terminal)

    assert (status, b"active" in shown) == (0, True)
    assert number.encode() not in shown
