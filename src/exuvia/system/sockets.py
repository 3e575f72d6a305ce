"""TCP connections whose packets can be marked before the first one leaves."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any

from exuvia.errors import AlreadyRunning

_IP_MTU, _IPV6_MTU = 14, 24
"""Of linux/in.h and linux/in6.h."""

Found = tuple[socket.AddressFamily, socket.SocketKind, int, tuple[Any, ...]]
"""Family, kind, protocol and address of a place to connect to."""


async def connected(
    host: str, port: int, *, mark: int | None = None, addresses: Sequence[str] = ()
) -> socket.socket:
    """
    Return a socket connected to the host; each of its addresses is tried in turn.

    `mark` is set before the first packet (SO_MARK, needs CAP_NET_ADMIN). If `addresses` are
    given, the host's name is not looked up.
    """
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("no address")
    found = [entry for name in addresses or (host,) for entry in await look_up(name, port)]
    for family, kind, protocol, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if mark is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            async with asyncio.timeout(5):
                await loop.sock_connect(sock, address)
        except (OSError, TimeoutError) as error:
            sock.close()
            failure = error if isinstance(error, OSError) else TimeoutError()
            continue
        except BaseException:
            sock.close()
            raise
        return sock
    raise failure


async def look_up(host: str, port: int) -> list[Found]:
    """
    Return the addresses of a host, best first; OSError if it has none.

    The thread that waits for the resolver is left behind when nobody waits any more: asyncio's
    own would keep the program from ending, for as long as a resolver stays silent.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Found]] = loop.create_future()

    def tell(result: list[Found] | None) -> None:
        if found.done():
            return
        if result is None:
            found.set_exception(OSError("no address"))
        else:
            found.set_result(result)

    def ask() -> None:
        result: list[Found] | None = None
        with contextlib.suppress(OSError, UnicodeError):
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            result = [(family, kind, protocol, address) for family, kind, protocol, _, address in entries]
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=ask, daemon=True).start()
    return await found


def mtu_towards(address: str, port: int, *, mark: int) -> int | None:
    """Return the longest packet that the way there carries, for packets with this mark; None if unknown."""
    six = ":" in address
    level, name = (socket.IPPROTO_IPV6, _IPV6_MTU) if six else (socket.IPPROTO_IP, _IP_MTU)
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sock.connect((address, port))  # of datagrams: nothing is sent
            return sock.getsockopt(level, name)
        except OSError:
            return None


def claim(name: str) -> socket.socket:
    """
    Hold a name that only one process of this network namespace can hold; AlreadyRunning if one does.

    It is free again when the socket is closed or the process ends, however that happens.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0{name}")
    except OSError:
        held.close()
        raise AlreadyRunning(f"another {name} is running in this network namespace") from None
    return held
