"""Closing the kill switch again whenever another program has removed it."""

import asyncio
import contextlib
from collections.abc import Iterator

from exuvia.client.login import Say
from exuvia.client.network import Network
from exuvia.errors import ExuviaError
from exuvia.system import firewall


@contextlib.contextmanager
def guarding(network: Network, say: Say) -> Iterator[None]:
    """Do so while the block runs."""
    changes, loop = firewall.changes(), asyncio.get_running_loop()

    def look() -> None:
        with contextlib.suppress(OSError):
            while changes.recv(65536):
                pass
        try:
            if network.shut_again():
                say("another program had removed the kill switch: it is closed again")
        except ExuviaError as error:
            say(f"{error}; the kill switch is open, since another program has removed it")

    with changes:
        loop.add_reader(changes, look)
        try:
            yield
        finally:
            loop.remove_reader(changes)
