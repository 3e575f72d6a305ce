"""An event loop beside a test, for the fakes that answer it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

_TURNS = 5
"""Of a loop, until a connection that was accepted has a task that reads from it."""


async def end(server: asyncio.Server) -> None:
    """Take no more connections, and cancel whatever else runs in this loop."""
    # A closed server forgets what it has accepted and not begun, without closing it.
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # Connections are only closed a turn of the loop after they were told to.
    await asyncio.sleep(0)


@contextlib.contextmanager
def loop_beside() -> Iterator[asyncio.AbstractEventLoop]:
    """Yield a loop that runs in a thread of its own, which ends with the block whatever happens in it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
