"""
How operator commands reach the control plane: through the socket beside the database if it
is being served, and by opening the database themselves if it is not. The same API answers.
"""

import asyncio
import http.client
import socket
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from exuvia.cli.options import option
from exuvia.errors import InvalidConfiguration, Refused, Unavailable
from exuvia.messages import Problem
from exuvia.store import files
from exuvia.system import local, process

T = TypeVar("T")
SERVED = Path("/etc/exuvia/serve.toml")
"""What `exuvia serve` reads by default."""
_PATIENCE = 30.0


def database_option(command: Any) -> Any:
    """Return a command with the option --database; what `exuvia serve` is told in its file counts too."""
    return option(
        "--database",
        callback=_named,
        metavar="sqlite:///PATH",
        help=f"Where the control plane keeps what it has to remember (what {SERVED} says).",
    )(command)


def _named(ctx: click.Context, parameter: click.Parameter, given: str | None) -> str:
    found = given or served()
    if found is None:
        raise click.MissingParameter(ctx=ctx, param=parameter)
    return found


def served() -> str | None:
    """Return the database that the server's settings name, or None."""
    try:
        named = tomllib.loads(SERVED.read_text()).get("database")
    except (OSError, ValueError):
        return None
    return named if isinstance(named, str) else None


def database_path(url: str) -> Path:
    """Return the path in a database URL; InvalidConfiguration if it is not one we have."""
    if url.startswith("postgresql://"):
        raise InvalidConfiguration("PostgreSQL is not built yet: use sqlite:///PATH")
    path = url.removeprefix("sqlite:///")
    if path == url or not path or "?" in path:
        raise InvalidConfiguration(
            "the database is given as sqlite:///PATH, such as sqlite:////var/lib/exuvia/exuvia.db"
        )
    return Path(path).absolute()


class Operator:
    """Asks the control plane of one database."""

    def __init__(self, database: str) -> None:
        self._path = database_path(database)

    def ask(self, method: str, path: str, body: object | None = None, *, gives: type[T]) -> T:
        """Return the answer; what is refused or can't be done now is raised with the words of the answer."""
        status, answer = self._exchange(method, path, b"" if body is None else msgspec.json.encode(body))
        if status >= 400:
            problem = msgspec.json.decode(answer, type=Problem)
            kind = Unavailable if status >= 500 else Refused
            raise kind(problem.detail or problem.title)
        return msgspec.json.decode(answer or b"null", type=gives)

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        try:
            sock = local.connected(files.beside(self._path, ".sock"))
        except OSError:
            return asyncio.run(_in_process(self._path, method, path, body))
        with sock:
            return _over(sock, method, path, body)


def _over(sock: socket.socket, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    sock.settimeout(_PATIENCE)
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        raise Unavailable("exuvia serve did not answer: try again") from None


async def _in_process(database: Path, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    from exuvia.api.running import opened  # only where no server does it for us
    from exuvia.store.store import Wanted

    if not database.parent.is_dir():
        raise InvalidConfiguration(f"{database.parent}: there is no such folder")
    # What root made there, a server that is not root could not open.
    process.become_owner_of(database.parent)
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": []}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    async with opened(database, Wanted()) as plane:
        await plane.operators(scope, receive, send)
    return sent[0]["status"], sent[1].get("body", b"")


def print_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
