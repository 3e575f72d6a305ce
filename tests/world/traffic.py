"""What clients send, and strangers who recorded it: sessions, half a handshake, replays."""

from model import REJECT_AFTER_TIME, C, G, Session
from place import Site
from scene import SOMEWHERE, Scene

REKEY_AFTER_TIME = 120.0
INITIATION, DATA = 148, 32


class Traffic(Scene):
    """Packets, as the kernel would count them."""

    def chat(self) -> None:
        """A client connects, sends packets for a while, and falls silent."""
        place = self._somewhere_held()
        if place is None:
            return
        site, key = place
        self.tell(f"{self._name_of(key)} connects: to {site.name}")
        self._shake_hands(site, key)
        every = self.chance.choice((1.0, 10.0, 25.0, 100.0, 170.0, 179.0))
        self._go_on_talking(site, key, every, self.chance.randrange(1, 8))

    def _go_on_talking(self, site: Site, key: bytes, every: float, left: int) -> None:
        if left:
            self.later(every, lambda: self._talk(site, key, every, left))

    def _talk(self, site: Site, key: bytes, every: float, left: int) -> None:
        session = self._session(site, key)
        if session is None:
            return
        if self.clocks.now - (session.lives_until - REJECT_AFTER_TIME) >= REKEY_AFTER_TIME:
            if self.clocks.now < session.lives_until:
                self._receive(site, session, DATA)
            self._shake_hands(site, key)
        elif self.clocks.now < session.lives_until:
            self._receive(site, session, DATA)
        self._go_on_talking(site, key, every, left - 1)

    def half_open(self) -> None:
        """A first message arrives, from a client that then hears nothing."""
        place = self._somewhere_held()
        if place is not None:
            site, key = place
            self.tell(f"{self._name_of(key)} begins a handshake: with {site.name}")
            self._first_message(site, key)

    def replay(self) -> None:
        """Somebody sends recorded first messages, again and again."""
        place = self._somewhere_held()
        if place is None:
            return
        site, key = place
        every, times = self.chance.choice(((5.0, 60), (10.0, 40), (19.0, 25))), 0
        self.tell(f"a stranger replays first messages: of {self._name_of(key)} at {site.name}")
        for times in range(every[1]):
            self.later(every[0] * times, lambda: self._first_message(site, key))

    def _shake_hands(self, site: Site, key: bytes) -> None:
        self._first_message(site, key)
        self.later(
            self.chance.choice((0.0, 0.05, 0.3, 4.0)),
            lambda: self._first_data(site, key, began=self.clocks.now),
        )

    def _first_message(self, site: Site, key: bytes) -> None:
        kernel, now = site.machine.kernel, self.clocks.now
        peer = None if kernel is None else kernel.peers.get(key)
        if peer is None:
            return
        sessions = self.model.stations[site.name].sessions
        session = sessions.get(key)
        if session is None or session.peer is not peer:
            session = sessions[key] = Session(peer, now, now)
        self._receive(site, session, INITIATION)
        peer.endpoint = SOMEWHERE
        peer.tx += 92
        session.calling_until = min(now + G, session.stale_at + C)

    def _first_data(self, site: Site, key: bytes, *, began: float) -> None:
        session = self._session(site, key)
        if session is None or session.packet > self.clocks.now:
            return
        self._receive(site, session, DATA)
        session.peer.handshake = max(1, int(self.clocks.wall().timestamp() * 1e9))
        session.handshake = self.clocks.now
        session.lives_until = self.clocks.now - 4.0 + REJECT_AFTER_TIME

    def _receive(self, site: Site, session: Session, octets: int) -> None:
        session.peer.rx += octets
        session.packet = self.clocks.now
        site.touched()

    def _session(self, site: Site, key: bytes) -> Session | None:
        """Return what a client has with a gateway, if the kernel still knows of it."""
        session = self.model.stations[site.name].sessions.get(key)
        kernel = site.machine.kernel
        if session is None or kernel is None or kernel.peers.get(key) is not session.peer:
            return None
        return session
