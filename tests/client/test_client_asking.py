"""What a running client is asked loads no more than a question takes, and is else like every command."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from exuvia.client.listening import Listener
from exuvia.client.talk import Progress, Question, Status

Answer = AsyncGenerator[Status | Progress, None]
CHANGED = "the key is changed"


async def changes(question: Question) -> Answer:
    """Change the key as a client does, if that is what was asked."""
    yield Progress("registering a new key")
    yield Progress(CHANGED if question.asked == "rotate" else "?", done=True)


async def refuses(question: Question) -> Answer:
    """Say why it can't be done now."""
    yield Progress("the control plane can't be reached", done=True, failed=True)


async def takes_its_time(question: Question) -> Answer:
    """Be slower than people like to wait."""
    yield Progress("registering a new key")
    await asyncio.sleep(2.6)
    yield Progress("waiting until every gateway knows the new key")
    yield Progress(CHANGED, done=True)


async def command(
    *words: str, program: str = "-m exuvia", out: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Begin a command."""
    return await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, *program.split(), *words],
        env={**os.environ, **environment},
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
    )


async def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return how it ended and what it said."""
    out, err = await asyncio.to_thread(process.communicate)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (changes, (0, f"{CHANGED}\n", "")),
        (refuses, (1, "", "exuvia: the control plane can't be reached\n")),
    ],
)
@pytest.mark.parametrize("way", ["at once", "--state=", "EXUVIA_STATE", "file", "usual"])
async def test_it_is_the_same_however_it_is_asked(
    tmp_path: Path, answer: Callable[[Question], Answer], told: tuple[int, str, str], way: str
) -> None:
    """The plainest command has a way of its own; what it says, and where, is what every other says."""
    folder = tmp_path / "exuvia-client"
    folder.mkdir(mode=0o700)
    file = tmp_path / "client.toml"
    file.write_text(f'state = "{folder}"\n')
    async with Listener(folder / "control", answer):
        match way:
            case "at once":
                process = await command("client", "--state", str(folder), "rotate")
            case "--state=":
                process = await command("client", f"--state={folder}", "rotate")
            case "EXUVIA_STATE":
                process = await command("client", "rotate", EXUVIA_STATE=str(folder))
            case "file":
                process = await command("client", "rotate", EXUVIA_CONFIG_FILE=str(file))
            case _:
                # As somebody who is not root.
                script = "import os; os.geteuid = lambda: 7; import sys; from exuvia.cli import main; main()"
                (tmp_path / "nobody.py").write_text(script)
                process = await command(
                    "client", "rotate", program=str(tmp_path / "nobody.py"), XDG_STATE_HOME=str(tmp_path)
                )
        assert await end(process) == told


async def test_a_question_loads_little(tmp_path: Path) -> None:
    """Neither what reads options nor what writes logs is there; whoever waits would wait for it."""
    script = (
        "import sys; sys.argv[1:] = ['client', '--state', sys.argv[1], 'rotate']\n"
        "from exuvia.cli import main\n"
        "main()\n"
        "print(sorted({'click', 'logging', 'msgspec', 'asyncio', 'inspect'} & sys.modules.keys()))\n"
    )
    (tmp_path / "asks.py").write_text(script)
    async with Listener(tmp_path / "control", changes):
        process = await command(str(tmp_path), program=str(tmp_path / "asks.py"))
        assert await end(process) == (0, f"{CHANGED}\n[]\n", "")


async def test_if_no_client_runs_it_is_done_without(tmp_path: Path) -> None:
    """What a killed client left behind answers nothing: the command then looks after it by itself."""
    process = await command("client", "--state", str(tmp_path), "rotate")
    code, out, err = await end(process)
    assert (code, out) == (1, "")
    assert "not logged in" in err


async def test_who_waits_longer_is_told_how_it_goes(tmp_path: Path) -> None:
    """After two seconds what is being done is said, and whatever comes then."""
    async with Listener(tmp_path / "control", takes_its_time):
        process = await command("client", "--state", str(tmp_path), "rotate")
        told = "registering a new key\nwaiting until every gateway knows the new key\n"
        assert await end(process) == (0, f"{told}{CHANGED}\n", "")


async def test_an_impatient_person(tmp_path: Path) -> None:
    """Ctrl-C ends the command without a word of what was going on inside."""
    asked = asyncio.Event()

    async def keeps_silent(question: Question) -> Answer:
        asked.set()
        await asyncio.sleep(60)
        yield Progress(CHANGED, done=True)

    async with Listener(tmp_path / "control", keeps_silent):
        process = await command("client", "--state", str(tmp_path), "rotate")
        await asked.wait()
        process.send_signal(signal.SIGINT)
        assert await end(process) == (130, "", "exuvia: interrupted\n")


async def test_an_outcome_that_nobody_can_hear(tmp_path: Path) -> None:
    """Where standard output can't be written, the outcome is said on standard error, as no error of ours."""
    full = os.open("/dev/full", os.O_WRONLY)
    async with Listener(tmp_path / "control", changes):
        process = await command("client", "--state", str(tmp_path), "rotate", out=full)
        code, _, err = await end(process)
    os.close(full)
    assert code == 1
    assert err.startswith(f"exuvia: {CHANGED}, but this could not be written: No space left")


async def test_of_an_error_of_ours_only_the_place_is_told(tmp_path: Path) -> None:
    """Also before there is a log, what nobody expected may be about somebody in any words."""
    (tmp_path / "fails.py").write_text(
        "import sys\n"
        "from exuvia.cli import asking, main\n"
        "def follow(*_):\n"
        "    raise RuntimeError('account 1234 of somebody')\n"
        "asking.follow = follow\n"
        "main()\n"
    )
    process = await command("client", "rotate", program=str(tmp_path / "fails.py"))
    code, out, err = await end(process)
    assert (code, out) == (1, "")
    assert err.startswith("exuvia: internal error: RuntimeError at fails.py:4 < asking.py:")
    assert "somebody" not in err
