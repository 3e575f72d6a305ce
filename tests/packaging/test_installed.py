"""
The package installed on a machine of its own, with systemd and real WireGuard: what an operator does
from installing to purging, and what came of it.
"""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from package import Package, shared_folder
from source import ROOT

HERE = Path(__file__).parent
ALL = {"exuvia-gateway@wg0.service", "exuvia-guard@wg7.service", "exuvia-serve.service"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="installing a package needs root")


@pytest.fixture(scope="module")
def told(package: Package, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each step printed, line by line; the story is played once for all test processes."""
    shared = shared_folder(tmp_path_factory)
    folder = shared / "story"
    with (shared / "story.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _play(package, folder)
    parts = re.split(r"^== (.+)$", (folder / "told").read_text(), flags=re.MULTILINE)[1:]
    return {name: text.split("\n")[1:-2] for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _play(package: Package, folder: Path) -> None:
    folder.mkdir()
    shutil.copy(package.file, folder / "exuvia.deb")
    shutil.copy(HERE / "story.sh", folder)
    machine = ["tools/kernel", "--rw", str(folder), "--timeout", "280", "--"]
    machine += ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "/bin/bash", str(HERE / "boot.sh")]
    done = subprocess.run([*machine, str(folder / "story.sh"), str(folder / "told")], cwd=ROOT)
    assert done.returncode == 0
    assert (folder / "told").read_text().rpartition("== ")[2].startswith("said")


def test_apt_installs_it_and_starts_nothing(told: dict[str, list[str]]) -> None:
    """`apt install ./exuvia_….deb` leaves it installed, and no service running."""
    assert told["installs"] == ["install ok installed"]
    assert told["starts-nothing"] == []


def test_what_root_makes_before_the_server_runs_is_the_servers(told: dict[str, list[str]]) -> None:
    """A database that `exuvia account create` makes as root can be served by the user exuvia alone."""
    assert told["owners"] == ["exuvia 700", "exuvia 600", "exuvia 600"]
    assert told["serves"] == ["exuvia-serve.service", "3"]


def test_a_gateway_runs_without_root(told: dict[str, list[str]]) -> None:
    """Hardened as it is, it makes its interface on its port, and its rules; CAP_NET_ADMIN is all it has."""
    assert told["gateway"] == [
        "exuvia-gateway@wg0.service",
        "exuvia-serve.service",
        "51820",
        "table inet exuvia-wg0",
    ]


def test_p4_the_process_on_the_network_has_no_capability(told: dict[str, list[str]]) -> None:
    """As a service too: one process with CAP_NET_ADMIN, one with nothing, both filtered."""
    assert told["privileges"] == [
        "exuvia-gateway CapEff: 0000000000001000 NoNewPrivs: 1 Seccomp: 2",
        "exuvia-gateway CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2",
    ]


def test_a_guard_runs_in_its_sandbox(told: dict[str, list[str]]) -> None:
    """It watches an interface that it did not make."""
    assert set(told["guard"]) == ALL
    assert "wg7: watching; a peer whose session is over is forgotten" in told["said"]


def test_a_client_runs_in_its_sandbox(told: dict[str, list[str]]) -> None:
    """It connects, closes its kill switch and changes resolv.conf; stopped, it puts all of it back."""
    assert told["client"][1:] == [
        "nameserver 192.0.2.53",
        "table inet exuvia_client",
        "exuvia-client.service",
        *sorted(ALL),
    ]
    assert "connected to se1 by exuvia0" in told["said"]
    assert told["client-stops"] == ["nameserver 192.0.2.1"]


def test_the_clients_sandbox_lets_it_use_wireguard_go(told: dict[str, list[str]]) -> None:
    """Where the kernel has no WireGuard, the service makes an interface all the same, which ends with it."""
    assert told["wireguard-go"] == ["it comes up"]


def test_an_upgrade_restarts_what_runs_and_loses_no_peer(told: dict[str, list[str]]) -> None:
    """Server and gateway are new processes; the interface has its peer, its key, and /etc is as it was."""
    lines = [line for line in told["upgrade"] if not line.startswith("Created symlink")]

    assert lines == ["1", *sorted(ALL), "restarted", "1", "same key", 'nat = "out0"']


def test_removing_it_stops_it_and_keeps_what_it_remembers(told: dict[str, list[str]]) -> None:
    """Nothing runs; the interface still has its peer, which is said; accounts and tokens are still there."""
    assert re.search(r"wg0 stays as it is, .*`ip link delete wg0`", told["remove"][0])
    assert told["remove"][1:] == ["1", "/etc/exuvia/gateway-wg0.token", "/var/lib/exuvia/exuvia.db"]


def test_purging_it_leaves_nothing_but_the_users_number(told: dict[str, list[str]]) -> None:
    """No state, no secret, no program and no link to a unit is left; the user is, for its number."""
    assert told["purge"] == ["exuvia"]
