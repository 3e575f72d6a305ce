"""What the Debian package holds."""

import gzip
import re
import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from package import Package, output
from source import ROOT

from exuvia.cli.commands import root

UNITS = sorted(path.name for path in (ROOT / "packaging/systemd").iterdir())
SERVICES = [
    name for name in UNITS if re.match(r"exuvia-(serve|backup|gateway|guard|client|renew)\b.*\.service", name)
]
FILES = ["serve", "backup", "gateway", "guard", "client"]


def commands(path: tuple[str, ...] = ("exuvia",), command: click.Command = root) -> list[str]:
    """Every command that there is, as words."""
    below = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
    found = [" ".join(path)]
    for name in below:
        assert isinstance(command, click.Group)
        one = command.get_command(click.Context(command), name)
        assert one is not None
        found += commands((*path, name), one)
    return found


def test_everything_belongs_to_root_and_nobody_else_may_write_it(package: Package) -> None:
    """No file of the package has another owner, can be written by others, or changes who runs it."""
    odd = [
        name
        for mode, owner, _, _, _, name in package.listing()
        if owner != "root/root" or (mode[0] != "l" and (mode[5] == "w" or mode[8] == "w" or "s" in mode[1:]))
    ]

    assert odd == []


def test_no_file_tells_where_it_was_built(package: Package) -> None:
    """The folder of the checkout stands in no file, compiled ones included."""
    place = str(ROOT).encode()
    found = [path for path in package.tree.rglob("*") if path.is_file() and place in path.read_bytes()]

    assert found == []


def test_it_carries_what_is_needed_to_run_and_no_tool(package: Package) -> None:
    """The private environment has the versions of requirements.txt, and neither pip nor build tools."""
    site = next(package.tree.glob("usr/lib/exuvia/lib/python3.*/site-packages"))
    carried = {p.name.removesuffix(".dist-info").lower().replace("_", "-") for p in site.glob("*.dist-info")}
    pinned = {line.replace("==", "-") for line in (ROOT / "requirements.txt").read_text().split()}

    assert carried - {f"exuvia-{package.control['Version']}"} <= pinned
    assert not [name for name in carried if re.match(r"(pip|setuptools|hatchling|wheel)-", name)]
    assert {"click", "msgspec", "cryptography", "uvicorn"} <= {name.rpartition("-")[0] for name in carried}


def test_a_machine_that_boots_for_the_first_time_starts_nothing(package: Package, tmp_path: Path) -> None:
    """An image's first boot enables what presets say, and everything if none says otherwise."""
    shutil.copytree(package.tree / "lib/systemd", tmp_path / "lib/systemd")
    subprocess.run(["systemctl", "--root", tmp_path, "preset-all"], check=True, capture_output=True)

    assert [path for path in (tmp_path / "etc").rglob("*") if path.is_symlink()] == []


def test_each_command_has_a_manual_page(package: Package) -> None:
    """For every command there is a page, with what its --help says of each option."""
    pages = {path.name for path in (package.tree / "usr/share/man/man1").iterdir()}

    assert pages == {f"{name.replace(' ', '-')}.1.gz" for name in commands()}
    run = gzip.decompress((package.tree / "usr/share/man/man1/exuvia-gateway-run.1.gz").read_bytes()).decode()
    assert ".B \\-\\-listen\\-port N" in run


def test_manual_pages_are_right_roff(package: Package) -> None:
    """groff has nothing to complain of in any page, and shows their text."""
    for path in sorted((package.tree / "usr/share/man/man1").iterdir()):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-K", "utf8", "-z"],
            input=gzip.decompress(path.read_bytes()),
            capture_output=True,
        )
        assert (path.name, done.returncode, done.stderr) == (path.name, 0, b"")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_settings_is_what_the_program_reads(package: Package, name: str, tmp_path: Path) -> None:
    """As it is, and with every line taken out of its comment, the program understands each setting."""
    text = (package.tree / f"etc/exuvia/{name}.toml").read_text()
    whole = tmp_path / "whole.toml"
    whole.write_text(re.sub(r"^#(?=[a-z])", "", text, flags=re.MULTILINE))
    command = import_module(f"exuvia.cli.{name}").command
    words = {"gateway": ["run"], "client": []}.get(name, [])
    arguments = [*words, "--config-file", str(whole), *(["status"] if name == "client" else [])]

    assert len(tomllib.loads(whole.read_text())) >= 1
    done = CliRunner().invoke(command, [*arguments, "--help"])
    assert "unknown setting" not in done.output
    assert done.exit_code == 0, done.output


def test_a_wrong_setting_would_be_seen(package: Package, tmp_path: Path) -> None:
    """The test above would notice a setting that the program does not know."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("whatever = 1\n")
    command = import_module("exuvia.cli.serve").command

    done = CliRunner().invoke(command, ["--config-file", str(wrong), "--help"])

    assert "unknown setting whatever" in done.output


def test_settings_are_kept_over_upgrades(package: Package) -> None:
    """dpkg knows every file of /etc as one that belongs to the operator."""
    known = (package.tree / "DEBIAN/conffiles").read_text().split()
    there = [f"/{p.relative_to(package.tree)}" for p in (package.tree / "etc").rglob("*") if p.is_file()]

    assert sorted(known) == sorted(there)
    assert {f"/etc/exuvia/{name}.toml" for name in FILES} == set(known)


def test_bash_completes_commands_and_options(package: Package, tmp_path: Path) -> None:
    """TAB after `exuvia gateway run --li` gives --listen-port."""
    script = package.tree / "usr/share/bash-completion/completions/exuvia"
    program = tmp_path / "exuvia"
    program.symlink_to(ROOT / ".venv/bin/exuvia")
    done = output(
        "bash",
        "-c",
        f"PATH={tmp_path}:$PATH; . {script}; COMP_WORDS=(exuvia gateway run --li); COMP_CWORD=3; "
        "_exuvia_completion exuvia; echo ${COMPREPLY[@]}",
    )

    assert done.split() == ["--listen-port"]


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_maintainer_scripts_do_nothing_but_what_they_are_for(package: Package, script: str) -> None:
    """The scripts are right for a POSIX shell, and none starts or enables a service."""
    path = package.tree / "DEBIAN" / script
    text = re.sub(r"^\s*#.*", "", path.read_text(), flags=re.MULTILINE)

    assert output("sh", "-n", str(path)) == ""
    assert not re.search(r"(?<!try-)\b(enable|preset|start|restart)\b", text)


def test_verified_by_systemd(package: Package, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of any unit."""
    # With programs that exist here, for those of the package do not.
    for unit in UNITS:
        text = (package.tree / "lib/systemd/system" / unit).read_text()
        text = text.replace("/usr/bin/exuvia", "/bin/true").replace(
            "Documentation=man:", "Documentation=info:"
        )
        (tmp_path / unit.replace("@.", "@wg0.")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)

    assert (done.returncode, _ours(done.stderr)) == (0, [])


def _ours(complaints: str) -> list[str]:
    """What is said of our units, rather than of others on this machine."""
    return [line for line in complaints.splitlines() if "exuvia" in line]


@pytest.mark.parametrize("unit", SERVICES)
def test_hardened(package: Package, unit: str) -> None:
    """`systemd-analyze security` gives each service 2.0 or less."""
    assert len(SERVICES) == 6
    path = package.tree / "lib/systemd/system" / unit
    output("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(path))


@pytest.mark.parametrize("unit", [name for name in UNITS if name.endswith(".service")])
def test_a_service_calls_a_command_that_there_is(package: Package, unit: str) -> None:
    """What a unit starts is a command with options that exuvia has."""
    text = (package.tree / "lib/systemd/system" / unit).read_text()
    line = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert line is not None
    words = line[1].replace("%i", "wg0").split()

    assert words.pop(0) == "/usr/bin/exuvia"
    settings = [word.replace("/etc", str(package.tree / "etc")) for word in words]
    done = CliRunner().invoke(root, [*settings, "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "unit", ["exuvia-client.service", "exuvia-gateway@.service", "exuvia-renew@.service"]
)
def test_what_a_service_calls_is_not_stopped_under_it(package: Package, unit: str) -> None:
    """
    SIGTERM goes to the daemon alone.

    An nft that is stopped halfway fails, and the client would end with its kill switch closed.
    """
    assert "\nKillMode=mixed\n" in (package.tree / "lib/systemd/system" / unit).read_text()
