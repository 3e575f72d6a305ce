"""
What a running client is asked, with nothing loaded that a question does not need.

Loading all that commands can do takes longer than the client takes to change its key
(docs/decisions/0030).
"""

import os
import threading
from types import TracebackType
from typing import Self

from exuvia.client.talk import SOCKET, Progress, Question, follow
from exuvia.errors import Unavailable

CONFIG = "/etc/exuvia/client.toml"


def at_once(arguments: list[str]) -> bool:
    """Do the plainest form of `client rotate`, if that is what is asked for and a client runs."""
    match arguments:
        case ["client", "rotate"]:
            folder = usual_folder()
        case ["client", "--state", folder, "rotate"]:
            pass
        case _:
            return False
    # The folder may be named in many ways, of which only these are known here.
    if {"EXUVIA_STATE", "EXUVIA_CONFIG_FILE"} & os.environ.keys() or os.access(CONFIG, os.F_OK):
        return False
    return rotate(folder)


def usual_folder() -> str:
    """Return where a client's state is if nobody says something else."""
    if os.geteuid() == 0:
        return "/var/lib/exuvia-client"
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return f"{home}/exuvia-client"


def rotate(folder: str) -> bool:
    """Have the client of this folder change its key, and say how that goes; False if none runs."""
    with Patience() as patience:
        outcome = None
        for progress in follow(f"{folder}/{SOCKET}", Question("rotate")):
            outcome = patience.tell(progress)
        return outcome is not None


class Patience:
    """Says how something goes once it takes longer than people like to wait."""

    SHORT = 2.0

    def __init__(self) -> None:
        self._latest = ""
        self._timer = threading.Timer(self.SHORT, self._speak)
        self._speaking = False

    def __enter__(self) -> Self:
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def tell(self, progress: Progress) -> Progress:
        """Take note of how far it has come; say the outcome, or raise it."""
        if progress.failed:
            raise Unavailable(progress.said)
        self._latest = progress.said
        if progress.done or self._speaking:
            _say(progress.said)
        return progress

    def _speak(self) -> None:
        self._speaking = True
        if self._latest:
            _say(self._latest)


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        raise Unavailable(f"{text}, but this could not be written: {error.strerror}") from None
