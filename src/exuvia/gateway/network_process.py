"""
The gateway's network process: it talks to the control plane, may do nothing else, and knows no peer.

It gives up everything before it opens a connection. What it hears it passes on as records; what
is made of them is decided by the kernel process, at whose end it ends, too.
"""

import asyncio
import concurrent.futures.thread  # noqa: F401  asyncio would import it later, when nobody may read it
import encodings.idna  # noqa: F401  likewise, for names of hosts
import os
import pwd
import signal
import sys
from pathlib import Path

from exuvia import log
from exuvia.errors import ExuviaError, InvalidConfiguration, NotPermitted
from exuvia.gateway.pipes import Pipes
from exuvia.gateway.saying import say
from exuvia.gateway.settings import Settings
from exuvia.gateway.streaming import Conversation
from exuvia.system import process
from exuvia.system.http import Connection

LONGEST_TOKEN = 512


def main() -> None:
    """Talk to the control plane until the kernel process ends; pipes are standard input and output."""
    log.hide_values(say)
    # Ctrl-C is meant for the kernel process, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(sys.argv[1:])
    except ExuviaError as error:
        say(str(error))
        sys.exit(1)


def run(words: list[str]) -> None:
    """Give up everything, then talk."""
    process.take_turns()
    told = dict(word.split("=", 1) for word in words)
    settings = Settings.from_words(words)
    incoming, outgoing = _pipes()
    token = _token(int(told["token"]))
    ca_file = None if settings.ca_file is None else Path(settings.ca_file)
    # Before anything is given up: nobody else may be able to read the certificates.
    feed = Connection(settings.control, ca_file=ca_file)
    requests = Connection(settings.control, ca_file=ca_file)
    process.end_with_parent(signal.SIGKILL)
    process.give_up_everything(**_nobody())
    asyncio.run(Conversation(feed, requests, token, tell=say).run(Pipes(incoming, outgoing)))


def _pipes() -> tuple[int, int]:
    """Take the pipes away from standard input and output, where anything might be printed."""
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    return incoming, outgoing


def _token(descriptor: int) -> str:
    """Read the gateway's token; the file stays open elsewhere, so nothing is moved in it."""
    raw = os.pread(descriptor, LONGEST_TOKEN, 0)
    os.close(descriptor)
    token = raw.decode("ascii", "replace").strip()
    if not token or not token.isprintable() or len(raw) == LONGEST_TOKEN:
        raise InvalidConfiguration("the token file holds no token of `exuvia gateway enroll`")
    return token


def _nobody() -> dict[str, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise NotPermitted("there is no user `nobody` for the network process to become") from None
    return {"uid": nobody.pw_uid, "gid": nobody.pw_gid}


if __name__ == "__main__":
    main()
