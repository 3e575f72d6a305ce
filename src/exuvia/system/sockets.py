"""TCP connections whose packets can be marked before the first one leaves."""

import asyncio
import socket
from collections.abc import Sequence

from exuvia.errors import AlreadyRunning


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
    found = [
        entry
        for name in addresses or (host,)
        for entry in await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    ]
    for family, kind, protocol, _name, address in found:
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
