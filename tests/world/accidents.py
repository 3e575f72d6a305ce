"""What goes wrong: networks, processes, databases, clocks, and hands on the interface."""

from copy import deepcopy

from model import LEASE, Broken, peer_of
from place import Site
from scene import DAY, SOMEWHERE, Scene

from exuvia.errors import (
    DatabaseRewound,
)
from exuvia.testing.interface import KernelPeer
from exuvia.wg.attributes import AF_INET

YEAR = 365.25 * DAY
FAULTS = ("double", "drop", "hold", "garble", "html", "cut", "cut in snapshot", "drop row")


class Accidents(Scene):
    """Everything that nobody wishes for."""

    def cut(self) -> None:
        site = self._site()
        self.tell(f"{site.name} is cut off")
        site.weather.up = False
        self.later(self.chance.choice((0.5, 20.0, 600.0, 7200.0, 30 * 3600.0)), lambda: self._reconnect(site))

    def _reconnect(self, site: Site) -> None:
        if not site.weather.up:
            self.tell(f"{site.name} is connected again")
            site.weather.up = True

    def disturb(self) -> None:
        site = self._site()
        site.weather.fault = self.chance.choice(FAULTS)
        self.tell(f"the feed is disturbed: of {site.name}, {site.weather.fault}")

    def kill_soon(self) -> None:
        """The kernel process is killed at one of the next things that it asks of the system."""
        site = self._site()
        site.machine.kill_after = self.chance.randrange(60)
        self.tell(f"the gateway is killed: {site.name}, {site.machine.kill_after} edges from now")

    def kill_now(self) -> None:
        site = self._site()
        self.tell(f"the gateway is killed: {site.name}, at once")
        site.kill()

    def kill_network_process(self) -> None:
        site = self._site()
        if site.talker is not None:
            self.tell(f"the network process is killed: of {site.name}")
            site.talker.end()

    def hang_network_process(self) -> None:
        site = self._site()
        if site.talker is not None and site.talker.hung_since is None:
            self.tell(f"the network process hangs: of {site.name}")
            site.talker.hung_since = self.clocks.now

    def restart_control(self) -> None:
        if self._plane is None or self.rewound:
            return
        self.tell("the control plane is restarted")
        self._stop_control()
        self._start_control()

    def stop_control(self) -> None:
        if self._plane is None or self.rewound:
            return
        self.tell("the control plane is stopped")
        self._stop_control()
        # Nor does one know that was off, and starts with a wrong clock.
        self.clocks.step = 0.0
        self.later(self.chance.choice((1.0, 60.0, 3600.0, 30 * 3600.0)), self._start_control)

    def _stop_control(self) -> None:
        if self._plane is not None:
            self._plane.stop()
            self._plane = None

    def _start_control(self, *, new_epoch: bool = False) -> None:
        if self._plane is not None:
            return
        # A clock that is less than a month ahead can't be told from a month of rest.
        if -3 * 3600 < self.clocks.step < 31 * DAY:
            self.clocks.step = 0.0
        self.plane.start(new_epoch=new_epoch)
        self._plane = self.plane
        self._tick_at = self.clocks.now
        if new_epoch:
            # Put back with all beside it, a copy of an earlier epoch is one that nobody has heard of.
            self.rewound, self.backup_epoch = False, -1
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        served: dict[str, dict[bytes, bytes]] = {}
        for name, site in self.sites.items():
            kernel, foreign = site.machine.kernel, self.model.stations[name].foreign
            found = {} if kernel is None else kernel.peers
            peers = {key: peer_of(peer) for key, peer in found.items() if key not in foreign}
            served[name] = {key: peer for key, peer in peers.items() if peer is not None}
        self.model.began_epoch(served, self.came_back, now=self.believed_now())
        self.came_back = set()

    def new_epoch(self) -> None:
        if self._plane is None:
            return
        self.tell("the control plane begins a new epoch")
        self._stop_control()
        self._start_control(new_epoch=True)

    def back_up(self) -> None:
        if self._plane is not None and not self.rewound:
            self.tell("the database is copied")
            self.backup_epoch = 0
            self.backup = (self._plane.back_up(), deepcopy(self.model.people))

    def put_back(self) -> None:
        """The database file is put back alone: it is refused, and a new epoch begins."""
        self._put_back(whole=False)

    def put_back_whole(self) -> None:
        """The whole folder is put back, as by a snapshot of the machine: nobody can tell at the start."""
        self._put_back(whole=True)

    def _put_back(self, *, whole: bool) -> None:
        if self.backup is None or self._plane is None or self.rewound or (whole and self.backup_epoch < 0):
            return
        content, people = self.backup
        newer = self._plane.control.hub.at
        self.tell(f"an earlier database is put back: {'with all beside it' if whole else 'the file alone'}")
        self._stop_control()
        # An earlier database does not know what time it was when it was put back (docs/known-limits.md).
        self.clocks.step = 0.0
        self.plane.put_back(content, whole=whole)
        known = self.model.people
        self.model.people = deepcopy(people)
        self.came_back |= people.peers.keys() - known.peers.keys()
        for station in self.model.stations.values():
            # Whether they still may or must be there depends on what each gateway had been told.
            for key in (*station.held, *known.peers, *self.model.people.peers):
                station.limbo.setdefault(key, station.confirmed + LEASE)
            station.held = {}
        if not whole:
            try:
                self._start_control()
            except DatabaseRewound:
                self._start_control(new_epoch=True)
                return
            if newer != self._plane_at():
                raise Broken("P9: an older database was served as if nothing had happened")
            return
        self.rewound = True
        for name, site in self.sites.items():
            if not site.machine.alias:
                # It has never been told anything, or that went with the interface.
                self.model.stations[name].gone.clear()
        self._start_control()
        self.later(self.chance.choice((3600.0, 10 * 3600.0, 30 * 3600.0)), self._end_rewind)

    def _end_rewind(self) -> None:
        if self.rewound:
            self.new_epoch()

    def _plane_at(self) -> object:
        return None if self._plane is None else self._plane.control.hub.at

    def step_clock(self) -> None:
        if self._plane is None:
            # A control plane that was off and starts with a wrong clock does not know for how long
            # it was off (docs/known-limits.md).
            return
        by = self.chance.choice((-10 * YEAR, 10 * YEAR, -YEAR, 3 * 3600.0, -5 * 3600.0, 40 * DAY))
        self.clocks.step = 0.0 if self.clocks.step else by
        self.tell(f"the wall clock is wrong: by {self.clocks.step / 3600:.0f} hours")

    # Hands on the interface.

    def delete_interface(self) -> None:
        site = self._site()
        if site.machine.kernel is None:
            return
        self.tell(f"the interface is deleted: on {site.name}")
        site.machine.delete()
        station = self.model.stations[site.name]
        station.held, station.foreign, station.sessions = {}, {}, {}
        station.kept, station.before, station.served = {}, {}, 0
        if self.rewound:
            # With the interface, what it was told went, too.
            station.gone.clear()
        site.changes_by_hand += 1
        if self.chance.random() < 0.3:
            self.later(2.0, lambda: self._make_by_hand(site))

    def _make_by_hand(self, site: Site) -> None:
        if site.machine.kernel is None:
            self.tell(f"somebody makes the interface: on {site.name}")
            site.machine.create(key=self.chance.randbytes(32))

    def add_foreign(self) -> None:
        site = self._site()
        kernel, station = site.machine.kernel, self.model.stations[site.name]
        if kernel is None:
            return
        self.tell(f"somebody adds a peer of their own: on {site.name}")
        key, number = self._new_key(), self.chance.randrange(1, 250)
        kernel._places += 1
        peer = kernel.peers[key] = KernelPeer(key, kernel._places)
        kernel._give(peer, (AF_INET, bytes((192, 168, 7, number)), 32))
        if self.chance.random() < 0.5:
            peer.endpoint, peer.rx, peer.handshake = SOMEWHERE, 148, 1
        kernel.touch()
        station.foreign[key] = peer
        site.changes_by_hand += 1

    def remove_foreign(self) -> None:
        site = self._site()
        station, kernel = self.model.stations[site.name], site.machine.kernel
        key = self._some(station.foreign)
        if key is not None and kernel is not None:
            self.tell(f"somebody removes their peer: on {site.name}")
            del station.foreign[key]
            kernel._remove(key)
            kernel.touch()
            site.changes_by_hand += 1

    def meddle(self) -> None:
        """Somebody changes a peer of ours by hand; it is mended within a minute."""
        site = self._site()
        station, kernel = self.model.stations[site.name], site.machine.kernel
        key = self._some(station.held)
        if key is None or kernel is None or key not in kernel.peers:
            return
        how = self.chance.choice(("removes", "changes the preshared key of", "takes the addresses of"))
        self.tell(f"somebody {how}: {self._name_of(key)} on {site.name}")
        del station.held[key]
        station.tampered.add(key)
        if how == "removes":
            kernel._remove(key)
        elif how.startswith("changes"):
            kernel.peers[key].preshared_key = self.chance.randbytes(32)
        else:
            kernel._strip(kernel.peers[key])
        kernel.touch()
        site.changes_by_hand += 1
        self.pass_time(61)
