"""A gateway's end of the feed over real HTTP: what it is told, in the order in which it is told."""

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

from control_plane import Server, feed_message, honest_key
from exuvia.messages import Change, FeedMessage, SnapshotPeers
from exuvia.wg.keys import PublicKey


class Follower:
    """Follows the feed in a thread of its own, with the peer table that comes of it."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._connection.request("GET", "/v1/feed", headers={"Authorization": f"Bearer {token}"})
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.table: dict[bytes, bytes] = {}
        self.steps: list[tuple[str, bytes]] = []
        """"put" or "remove" and the key, one after the other."""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            assert self._connection.sock is not None
            self._connection.sock.shutdown(2)
        self._thread.join()
        self._connection.close()

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is true of what was told."""
        with self._news:
            assert self._news.wait_for(is_so, 60)

    def wait_gone(self, keys: Iterable[bytes]) -> None:
        """Wait until the table has none of these keys."""
        gone = set(keys)
        self.wait(lambda: not gone & set(self.table))

    def place(self, what: str, key: bytes) -> int:
        """Return when a step came, counted from the first."""
        return self.steps.index((what, key))

    def _follow(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self._response.readline():
                with self._news:
                    self._take(feed_message(line))
                    self._news.notify_all()

    def _take(self, message: FeedMessage) -> None:
        put: list[bytes] = []
        match message:
            case SnapshotPeers(part):
                put = part
            case Change(_, _, _, put, remove):
                for key in remove:
                    self.table.pop(key, None)
                    self.steps.append(("remove", key))
        for peer in put:
            self.table[peer[:32]] = peer
            self.steps.append(("put", peer[:32]))


@contextlib.contextmanager
def followers(server: Server, count: int = 2) -> Iterator[list[Follower]]:
    """Have so many gateways enrolled that follow the feed for as long as the block lasts."""
    found: list[Follower] = []
    try:
        for number in range(count):
            token = server.gateway(f"gw{number}")
            hello = {"public_key": honest_key(), "lasting": True}
            assert server.ask("PUT", "/v1/gateway", bearer=token, body=hello).status == 200
            found.append(Follower(server.url, token))
        yield found
    finally:
        for follower in found:
            follower.close()


def raw(key: str) -> bytes:
    """Return the bytes of a public key that is given as text."""
    return bytes(PublicKey.from_text(key))
