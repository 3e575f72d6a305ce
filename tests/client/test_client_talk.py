"""What commands and the running client say to each other, and what they make of silence and nonsense."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from exuvia.client.listening import Listener
from exuvia.client.talk import Progress, Question, Status, ask, follow
from exuvia.errors import AlreadyRunning


async def answer(question: Question) -> AsyncGenerator[Status | Progress, None]:
    """Answer as a connected client would."""
    if question.asked == "interval":
        yield Progress(f"every {question.days} days")
        yield Progress("that is all", done=True)
    else:
        yield Status("connected", device="quiet heron", reason=question.asked)


async def test_a_question_is_answered(tmp_path: Path) -> None:
    """What a command asks is answered, as long as the client listens and no longer."""
    path = tmp_path / "control"
    async with Listener(path, answer):
        told = await asyncio.to_thread(ask, path, "status")
    assert told == Status("connected", device="quiet heron", reason="status")

    assert ask(path, "status") is None
    assert not path.exists()


async def test_what_takes_its_time_is_told_bit_by_bit(tmp_path: Path) -> None:
    """Whoever asks for something hears everything that is said of it; nothing if nobody is there."""
    path = tmp_path / "control"
    async with Listener(path, answer):
        told = await asyncio.to_thread(lambda: list(follow(path, Question("interval", 3))))
    assert [progress.said for progress in told] == ["every 3 days", "that is all"]
    assert [progress.done for progress in told] == [False, True]

    assert list(follow(path, Question("interval", 3))) == []


async def test_a_long_path(tmp_path: Path) -> None:
    """A state folder may have a longer name than the address of a socket."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    async with Listener(folder / "control", answer):
        assert await asyncio.to_thread(ask, folder / "control", "status")


async def test_a_leftover_socket(tmp_path: Path) -> None:
    """What a killed client left behind is nobody, and does not keep the next one from listening."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert ask(path, "status") is None
    async with Listener(path, answer):
        assert await asyncio.to_thread(ask, path, "status")


async def test_nonsense_is_not_answered(tmp_path: Path) -> None:
    """Who says something else than our commands is hung up on, and others are still answered."""
    path = tmp_path / "control"
    async with Listener(path, answer):
        for nonsense in (b"hello\n", b"{}\n", b'{"asked":"reboot"}\n', b"x" * 200_000 + b"\n", b""):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(nonsense)
            writer.write_eof()
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert await asyncio.to_thread(ask, path, "status")


async def test_everybody_hears_of_the_end(tmp_path: Path) -> None:
    """Whoever waits for the client to go down is answered before it is gone."""
    gone = asyncio.Event()

    async def down(question: Question) -> AsyncGenerator[Status | Progress, None]:
        await gone.wait()
        yield Status("down")

    async with Listener(tmp_path / "control", down):
        asking = asyncio.create_task(asyncio.to_thread(ask, tmp_path / "control", "down"))
        await asyncio.sleep(0.2)
        gone.set()

    assert await asking == Status("down")


def test_a_client_that_does_not_answer(tmp_path: Path) -> None:
    """A client that is stopped or stuck is named by its process, so that one can end it."""
    with _silent(tmp_path / "control"), pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        ask(tmp_path / "control", "down", patience=0.1)


@contextmanager
def _silent(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.append(sock.accept()[0]))
        thread.start()
        yield
        thread.join()
        held[0].close()
