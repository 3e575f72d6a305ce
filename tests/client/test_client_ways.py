"""How a new key is put to use: as soon as it can be, and no later."""

import asyncio
from pathlib import Path

import pytest
from biography import Biography
from virtual import run


async def time_to_switch(folder: Path, *, lag: float, noticed: float) -> float:
    """Return the seconds until another key is in use, where gateways take `lag` to learn of it."""
    life = Biography(11, folder)
    async with life.begun():
        await life.pass_time(200)
        life.office.steady = True
        for gateway in life.office.gateways:
            gateway.lag = lag
        began, switches = life.true.now, life.machine.switches
        life.ask_to_rotate()
        while life.machine.switches == switches:
            await asyncio.sleep(0.01)
            assert life.true.now - began < noticed
        return life.true.now - began


@pytest.mark.parametrize("lag", [0.1, 1.0, 3.0, 8.0])
def test_used_when_every_gateway_knows_it(tmp_path: Path, lag: float) -> None:
    """The first handshake is begun when the gateways know the key, not a REKEY_TIMEOUT after a vain one."""
    took = run(time_to_switch(tmp_path, lag=lag, noticed=60))

    assert took < lag + 0.6


def test_tried_anyway_and_begun_anew(tmp_path: Path) -> None:
    """After 15 s it is tried anyway; when the gateways know it at last, that handshake is begun anew."""
    took = run(time_to_switch(tmp_path, lag=17.0, noticed=60))

    assert took < 17.6
