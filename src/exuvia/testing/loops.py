"""An event loop beside a test, for the fakes that answer it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


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
