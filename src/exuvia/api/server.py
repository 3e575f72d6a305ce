"""`exuvia serve`: listens on the network and beside the database until it is told to stop."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from exuvia.api.control import Control
from exuvia.api.crowd import Crowd
from exuvia.api.failures import Failures
from exuvia.api.protocol import Protocol
from exuvia.api.routes import Application
from exuvia.api.running import ControlPlane, opened
from exuvia.api.upkeep import Upkeep
from exuvia.api.webhooks import Billing, Webhooks
from exuvia.errors import InvalidConfiguration
from exuvia.rules.limits import MOST_CONNECTIONS, MOST_WAITING
from exuvia.rules.overlap import RETIRE_EVERY
from exuvia.rules.possession import UNPROVEN, Unproven
from exuvia.store import files, outbox
from exuvia.store.store import Wanted
from exuvia.system import local, process

_log = logging.getLogger("exuvia.api")

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept."""
_FAREWELL = 3.0
"""Seconds that answers under way may still take when the server stops."""
_BACKLOG = 4096
_OWN_FILES = 200
"""Descriptors that are left for other things than connections: files of the database, its readers."""
_SLOWEST_HANDSHAKE = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve."""

    host: str
    port: int
    database: Path
    wanted: Wanted
    erase_after: float
    retire_every: float = RETIRE_EVERY
    behind_proxy: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    operator_token: str | None = None
    trust_clock: bool = False
    unproven_keys: Unproven = UNPROVEN
    billing: Billing | None = None
    """Who is told of accounts that were cancelled, if anybody is."""

    @property
    def is_https(self) -> bool:
        """Whether browsers and clients see TLS."""
        return self.tls_cert is not None or self.behind_proxy


Front = Callable[[ControlPlane], Application]
"""What answers on the network, for a control plane."""


async def serve(
    settings: Settings, *, ready: Callable[[str], None], front: Front = lambda plane: plane.public
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the URL once requests are answered."""
    context = _tls(settings)
    _require_privacy(settings)
    process.hide()
    _allow_many_connections()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with opened(settings.database, settings.wanted, trust_clock=settings.trust_clock) as plane:
        await _serve(plane, front(plane), settings, context, stop, ready)


async def _serve(
    plane: ControlPlane,
    public: Application,
    settings: Settings,
    context: ssl.SSLContext | None,
    stop: asyncio.Event,
    ready: Callable[[str], None],
) -> None:
    control = plane.control
    control.possession.is_required = settings.unproven_keys == "refuse"
    if settings.operator_token is not None:
        control.operator_hash = control.hasher.operator(settings.operator_token)
    await control.store.renew_generation(control.bits)
    async with contextlib.AsyncExitStack() as stack:
        care = Upkeep(control, erase_after=settings.erase_after, retire_every=settings.retire_every)
        upkeep = _beside(stack, care.run())
        await _look_after_billing(stack, control, settings.billing)
        beside = files.beside(settings.database, ".sock")
        stack.callback(beside.unlink, missing_ok=True)
        await stack.enter_async_context(listening(plane.operators, local.bound(beside), None))
        bound = _bound(settings.host, settings.port)
        await stack.enter_async_context(
            listening(public, bound, context, failures=control.failures, behind_proxy=settings.behind_proxy)
        )
        stack.callback(control.hub.close)  # goes first: streams end, then connections
        ready(_url(settings, bound.getsockname()[1]))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({stopping, upkeep}, return_when=asyncio.FIRST_COMPLETED)
        if upkeep.done():
            upkeep.result()  # it never ends by itself: tell why it did


def _beside(stack: contextlib.AsyncExitStack, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Let something go on until the server stops."""
    task = asyncio.ensure_future(work)
    stack.callback(task.cancel)
    return task


async def _look_after_billing(
    stack: contextlib.AsyncExitStack, control: Control, billing: Billing | None
) -> None:
    """Begin to tell billing, if there is one; if there is none, nothing is kept for it."""
    note = partial(outbox.tell_billing, wanted=billing is not None)
    dropped = await control.store.writer.run(note)
    if dropped:
        _log.warning(
            "no webhook is configured any more: %d events that billing was not told were dropped", dropped
        )
    if billing is not None:
        _beside(stack, Webhooks(control, billing).run())


@contextlib.asynccontextmanager
async def listening(
    application: Application,
    sock: socket.socket,
    context: ssl.SSLContext | None,
    *,
    failures: Failures | None = None,
    behind_proxy: bool = False,
) -> AsyncIterator[None]:
    """
    Answer what comes to a socket; at the end answers under way are finished, for a while.

    `failures`: where credentials that fail are counted by the client's address, None for nowhere.
    """
    config = uvicorn.Config(
        application,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = min(MOST_CONNECTIONS, max(descriptors - _OWN_FILES, descriptors // 2))
    crowd = Crowd(most=most, most_waiting=min(MOST_WAITING, most))

    def protocol() -> Protocol:
        return Protocol(config, state, {}, loop, crowd=crowd, failures=failures, behind_proxy=behind_proxy)

    if sock.family == socket.AF_UNIX:
        listener = await loop.create_unix_server(protocol, sock=sock, backlog=_BACKLOG)
    else:
        listener = await loop.create_server(
            protocol,
            sock=sock,
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_SLOWEST_HANDSHAKE if context else None,
        )
    dating = asyncio.ensure_future(_tell_the_date(state))
    try:
        yield
    finally:
        listener.close()
        await _say_farewell(state)
        dating.cancel()


async def _tell_the_date(state: ServerState) -> None:
    """Keep the Date header that HTTP wants right to the second."""
    while True:
        state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        await asyncio.sleep(1)


async def _say_farewell(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL):
            while state.connections:  # noqa: ASYNC110  uvicorn tells nobody when one goes
                await asyncio.sleep(0.01)
    for connection in list(state.connections):
        connection.transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise InvalidConfiguration(f"can't listen on port {port} of that address: {error.strerror}") from None
    return sock


def _url(settings: Settings, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{port}"


def _require_privacy(settings: Settings) -> None:
    if not (settings.tls_cert or settings.behind_proxy or ip_address(settings.host).is_loopback):
        raise InvalidConfiguration(
            "without TLS every account number could be read on the way: give --tls-cert and --tls-key, "
            "listen on 127.0.0.1, or say --behind-proxy if a proxy does TLS in front of this address"
        )


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise InvalidConfiguration("--tls-cert and --tls-key belong together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a ticket that comes back tells that it is the same client
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError):
        raise InvalidConfiguration(
            "--tls-cert and --tls-key: no certificate with its key can be read"
        ) from None
    return context


def _allow_many_connections() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
