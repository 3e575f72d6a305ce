"""The kernel in virtual time: what the other tests in this folder stand on."""

import asyncio
import os
import select
import time


def test_sleeps_are_exact() -> None:
    """An hour of sleep takes an hour of CLOCK_BOOTTIME to the hundredth of a second, and is over at once."""
    assert os.environ["EXUVIA_KERNEL"] == "virtual"
    started = time.clock_gettime(time.CLOCK_BOOTTIME)

    time.sleep(3600)

    assert 3600 <= time.clock_gettime(time.CLOCK_BOOTTIME) - started < 3600.01


def test_poll_waits_as_long() -> None:
    """What waits with poll() sees the same clock; the kernel may let it wait 0.1 s longer (fs/select.c)."""
    started = time.clock_gettime(time.CLOCK_BOOTTIME)

    assert select.poll().poll(180_000) == []

    assert 180 <= time.clock_gettime(time.CLOCK_BOOTTIME) - started <= 180.11


async def test_asyncio_waits_as_long() -> None:
    """An event loop, which waits with epoll, sees the same clock too."""
    started = time.clock_gettime(time.CLOCK_BOOTTIME)

    await asyncio.sleep(900)

    assert 900 <= time.clock_gettime(time.CLOCK_BOOTTIME) - started < 901
