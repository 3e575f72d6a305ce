"""A relay between browsers and a server: whatever a browser sends or gets crosses it, byte for byte."""

import contextlib
import socket
import threading
from dataclasses import dataclass, field

_CHUNK = 65536


@dataclass
class Relay:
    """Passes bytes on to a port of this machine, and keeps those that browsers sent."""

    target: int
    sent: bytearray = field(default_factory=bytearray)
    received: int = 0
    """How many bytes browsers got."""
    is_cut: bool = False
    """Whether connections are refused, as if the network was down."""
    is_deaf: bool = False
    """Whether answers are lost: what the server says ends the connection instead."""
    port: int = 0
    _listener: socket.socket | None = None
    _open: set[socket.socket] = field(default_factory=set)

    def listen(self) -> None:
        """Take a free port of the network namespace that one is in."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def start(self) -> "Relay":
        """Begin to pass on, from the network namespace that one is in."""
        if self._listener is None:
            self.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def forget(self) -> None:
        """Forget what was sent until now."""
        self.sent.clear()
        self.received = 0

    def cut(self) -> None:
        """Break all connections, and refuse others until further notice."""
        self.is_cut = True
        for one in list(self._open):
            _shut(one)

    def mend(self) -> None:
        """Let connections be made again."""
        self.is_cut = self.is_deaf = False

    def close(self) -> None:
        """End it, and all connections."""
        self.cut()
        if self._listener is not None:
            _shut(self._listener)
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                browser, _ = listener.accept()
            except OSError:
                return
            if self.is_cut:
                browser.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self._open |= {browser, server}
            threading.Thread(target=self._pass, args=(browser, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, browser, False), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, from_browser: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if from_browser:
                    self.sent += data
                else:
                    if self.is_deaf:
                        break
                    self.received += len(data)
                to.sendall(data)
        _shut(to)
        if not from_browser:
            for one in (source, to):
                self._open.discard(one)
                one.close()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
