"""Logging in and out at the real control plane."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.client.state import StateFolder


class Place:
    """A running control plane, and commands."""

    def __init__(self, folder: Path, address: str) -> None:
        self.database = f"sqlite:///{folder}/exuvia.db"
        self.state = folder / "client"
        self.url = f"http://{address}"

    def run(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the command exuvia to its end."""
        command = [sys.executable, "-m", "exuvia", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True)

    def client(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a client command to its end."""
        return self.run("client", "--state", str(self.state), *arguments, text=text)

    def account(self, *arguments: str) -> str:
        """Create an account and return its number as it is printed."""
        return self.run("account", "create", "--database", self.database, *arguments).stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A control plane on a free port."""
    command = ["serve", "--listen", "127.0.0.1:0", "--database", f"sqlite:///{tmp_path}/exuvia.db"]
    with subprocess.Popen(
        [sys.executable, "-m", "exuvia", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        yield Place(tmp_path, ready.strip().rpartition("http://")[2])
        process.terminate()


def test_in_and_out(place: Place) -> None:
    """A device is made, known, and deleted; each command says so, and nothing is left."""
    number = place.account()
    done = place.client("login", "--control", place.url, text=number)
    assert (done.returncode, done.stderr) == (0, "")
    _, device, key, _ = StateFolder(place.state).require()
    assert device.name in done.stdout
    assert number.strip() not in "".join(path.read_text() for path in place.state.iterdir())
    told = json.loads(place.client("status", "--json").stdout)
    assert (told["state"], told["device"]) == ("down", device.name)
    assert key.private_key.text() not in json.dumps(told)

    assert place.client("logout").returncode == 0
    assert place.client("logout").returncode == 1
    assert place.client("login", "--control", place.url, text=number).returncode == 0


def test_refusals(place: Place) -> None:
    """An unknown number and a full account are told apart from each other and from success."""
    wrong = place.client("login", "--control", place.url, text="AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA")
    assert (wrong.returncode, "does not accept this account number" in wrong.stderr) == (1, True)
    number = place.account("--devices", "1")
    assert place.client("login", "--control", place.url, text=number).returncode == 0
    other = place.state.with_name("other")
    full = place.run("client", "--state", str(other), "login", "--control", place.url, text=number)

    assert (full.returncode, "devices" in full.stderr) == (1, True), full.stderr
    assert not (other / "state.json").exists()


def test_the_same_key_again_is_the_same_device(place: Place) -> None:
    """A login whose answer was lost leads to the same device, even if the account has no room for another."""
    number = place.account("--devices", "1")
    assert place.client("login", "--control", place.url, text=number).returncode == 0
    state = json.loads((place.state / "state.json").read_bytes())
    key = state["current"]["private_key"]
    state |= {"phase": "registering", "device": None, "current": None, "pending": {"private_key": key}}
    (place.state / "state.json").write_text(json.dumps(state))
    again = place.client("login", "--control", place.url, text=number)

    assert (again.returncode, again.stderr) == (0, "")
    assert StateFolder(place.state).require()[2].private_key.text() == key
