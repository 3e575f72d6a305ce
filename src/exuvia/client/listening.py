"""The running client's end of the conversation with the commands: see talk.py."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from exuvia.client.talk import LONGEST_LINE, Progress, Question, Status, short_name


class Listener:
    """Answers questions for as long as it is open."""

    def __init__(
        self, path: Path, answer: Callable[[Question], AsyncGenerator[Status | Progress, None]]
    ) -> None:
        """`answer` yields whatever there is to say to a question."""
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        with short_name(self._path) as path:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=LONGEST_LINE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if waiting := [task for task in self._answering if task is not None]:
            await asyncio.wait(waiting, timeout=1)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._answering.add(task)
        try:
            question = msgspec.json.decode(await reader.readline(), type=Question)
            async with contextlib.aclosing(self._answer(question)) as answers:
                async for answer in answers:
                    writer.write(msgspec.json.encode(answer) + b"\n")
                    await writer.drain()
        except (msgspec.DecodeError, ConnectionError, ValueError):
            return  # whoever asked is gone, or not one of our commands
        finally:
            writer.close()
            self._answering.discard(task)
