"""
The reference model: who is authorised, which sessions live, and what is promised of them.

Plain dictionaries, written from docs/promises.md and from nothing else. Keys are bytes here, and
never stand in a message: people and gateways have names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from exuvia.testing.interface import FakeKernel, KernelPeer

REJECT_AFTER_TIME = 180.0
G = 20.0
C = 180.0
S = 1.0
LEASE = 86_400.0
REST = 24 * 3600.0
TOLERANCE = 0.01


class Broken(Exception):
    """A promise is broken."""


@dataclass
class Account:
    """Somebody who may register devices."""

    device_limit: int
    expires: float | None
    """When its last day is over, in seconds of simulated time."""
    suspended: bool = False


@dataclass
class Device:
    """Somebody's machine; it has no key while its account may not have one."""

    account: str
    key: bytes | None
    token: str
    last_key: bytes


@dataclass
class People:
    """What the control plane has been asked to know; it goes back with the database."""

    accounts: dict[str, Account] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    peers: dict[bytes, bytes] = field(default_factory=dict)
    """Public key → the whole peer, as it was answered."""
    resting: dict[bytes, float] = field(default_factory=dict)
    """Address → when it was given back."""


@dataclass
class Session:
    """What a client and a gateway have to do with each other; times are of the last accepted packet."""

    peer: KernelPeer
    began: float
    packet: float
    handshake: float | None = None
    """When the latest handshake was completed, if any was."""
    lives_until: float = 0.0
    """Until when the client's session keys are good."""
    calling_until: float = 0.0
    """Until when an honest handshake is on its way."""

    @property
    def stale_at(self) -> float:
        """When no session key of it can be good any more."""
        return self.began if self.handshake is None else self.handshake + REJECT_AFTER_TIME


@dataclass
class Station:
    """What must hold on one gateway."""

    name: str
    held: dict[bytes, bytes] = field(default_factory=dict)
    """Peers that must be on the interface at every instant, exactly so."""
    gone: set[bytes] = field(default_factory=set)
    """Keys of which this gateway knows that they were revoked."""
    limbo: dict[bytes, float] = field(default_factory=dict)
    """Keys of earlier epochs that it may still serve, and when their first lease ends."""
    before: dict[bytes, bytes] = field(default_factory=dict)
    """Those that it served when the epoch changed and who must not go, until it has heard of that."""
    served: int = 0
    """How many it served then, also of those who may go: revoked ones that it could not tell apart."""
    first_ends: dict[bytes, float] = field(default_factory=dict)
    """When the first lease of a key in an earlier epoch ends, until this gateway hears that it is back."""
    kept: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)
    """Peers of an earlier epoch that it must still serve, and until when."""
    limbo_ends: float = 0.0
    unheard: set[bytes] = field(default_factory=set)
    """Keys that were revoked while it keeps peers of an earlier epoch, until it surely knows of that."""
    foreign: dict[bytes, KernelPeer] = field(default_factory=dict)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    watching_since: float = 0.0
    """Since when a daemon that knows its pools runs without a break."""
    fresh: bool = True
    """Whether nothing is written on its interface, so that whoever is started knows of nothing before."""
    confirmed: float = 0.0
    """When the control plane last confirmed its table."""
    tampered: set[bytes] = field(default_factory=set)
    """Keys that somebody else has changed by hand since it was last compared."""

    def mistake_the_unheard(self) -> None:
        """
        Note that a daemon that begins anew takes who was revoked for peers that it keeps.

        All that it finds is the interface, on which these look alike (docs/known-limits.md).
        """
        self.limbo.update(dict.fromkeys(self.unheard, self.limbo_ends))


POOL4, POOL6 = IPv4Network("10.20.30.0/26"), IPv6Network("fd20:30::/64")


def peer_of(found: KernelPeer) -> bytes | None:
    """Return a peer of the kernel in the form of the peer table, if it has that form."""
    addresses = sorted(found.allowed_ips, key=lambda allowed: allowed[2])
    if [length for _, _, length in addresses] != [32, 128] or found.persistent_keepalive:
        return None
    return found.public_key + addresses[0][1] + addresses[1][1] + found.preshared_key


def is_clean(found: KernelPeer) -> bool:
    """Say whether nothing tells of a peer's traffic."""
    return not (found.endpoint or found.handshake or found.rx or found.tx)


class Model:
    """Everything that should be true."""

    def __init__(self, gateways: Iterable[str]) -> None:
        self.people = People()
        self.stations = {name: Station(name) for name in gateways}

    # What people do.

    def active(self, account: Account, *, now: float) -> bool:
        """Say whether an account may do anything."""
        return not account.suspended and (account.expires is None or now < account.expires)

    def registered(self, device: str, account: str, peer: bytes, token: str, *, now: float) -> None:
        """Note a registration that was granted, and check the addresses that it was given."""
        people, key = self.people, peer[:32]
        if key in people.peers:
            if people.peers[key] != peer:
                raise Broken("the same key of the same account was given something else")
            people.devices[device].token = token
            return
        for address in (peer[32:36], peer[36:52]):
            self._check_address(address, now=now)
        people.devices[device] = Device(account, key, token, key)
        people.peers[key] = peer
        for station in self.stations.values():
            station.gone.discard(key)
            station.unheard.discard(key)
            station.limbo.pop(key, None)
            station.kept.pop(key, None)
            station.before.pop(key, None)
            station.held.pop(key, None)
            station.tampered.discard(key)
            # Whoever had one of these addresses in an earlier epoch gives way.
            addresses = {peer[32:36], peer[36:52]}
            station.before = {
                k: p for k, p in station.before.items() if addresses.isdisjoint((p[32:36], p[36:52]))
            }
            station.kept = {
                k: one
                for k, one in station.kept.items()
                if addresses.isdisjoint((one[0][32:36], one[0][36:52]))
            }

    def _check_address(self, address: bytes, *, now: float) -> None:
        number = int.from_bytes(address, "big")
        pool = POOL4 if len(address) == 4 else POOL6
        first, last = int(pool.network_address), int(pool.broadcast_address)
        if not first + 1 < number < last + (len(address) == 16):
            raise Broken("P10: an address outside the pool, or a reserved one, was given")
        if any(address in (peer[32:36], peer[36:52]) for peer in self.people.peers.values()):
            raise Broken("P7: two keys were given the same address")
        since = self.people.resting.get(address)
        if since is not None and now < since + REST:
            raise Broken(f"P7: an address was given again after {(now - since) / 3600:.1f} hours")

    def revoked(self, keys: Iterable[bytes], *, now: float) -> None:
        """Note that keys are not authorised any more; `now` is what the control plane takes for the time."""
        for key in keys:
            peer = self.people.peers.pop(key)
            self.people.resting[peer[32:36]] = self.people.resting[peer[36:52]] = now
            for device in self.people.devices.values():
                if device.key == key:
                    device.key = None
            for station in self.stations.values():
                station.held.pop(key, None)
                station.sessions.pop(key, None)

    def keys_of(self, account: str) -> list[bytes]:
        """Return the keys of an account."""
        return [d.key for d in self.people.devices.values() if d.account == account and d.key is not None]

    def began_epoch(
        self, served: dict[str, dict[bytes, bytes]], came_back: set[bytes], *, now: float
    ) -> None:
        """
        Note that the control plane has dropped all keys.

        `served` is what each gateway has then; those who came back with an earlier database had
        been revoked before.
        """
        dropped = dict(self.people.peers)
        sessions = {name: dict(station.sessions) for name, station in self.stations.items()}
        self.revoked(list(dropped), now=now)
        for name, station in self.stations.items():
            station.limbo_ends = station.confirmed + LEASE
            for key in (*station.held, *dropped, *served[name]):
                station.limbo.setdefault(key, station.limbo_ends)
                station.first_ends.setdefault(key, station.limbo_ends)
            # What was revoked before may still be there, but nobody needs it to stay.
            entitled = (dropped.keys() - came_back) | station.kept.keys() | station.before.keys()
            station.before = {key: peer for key, peer in served[name].items() if key in entitled}
            station.served, station.held = len(served[name]), {}
            station.sessions = sessions[name]

    # What is true at every instant.

    def at_any_instant(self, name: str, kernel: FakeKernel | None, *, now: float) -> None:
        """Check what must hold even between two messages to the kernel."""
        station = self.stations[name]
        if kernel is None:
            return
        if now >= station.confirmed + LEASE - 120:
            station.held = {}
        for key, wanted in station.held.items():
            found = kernel.peers.get(key)
            if found is None:
                raise Broken(f"P5: an authorised peer is missing on {name}")
            if peer_of(found) != wanted:
                raise Broken(f"P5: an authorised peer on {name} lacks its addresses or its preshared key")
        if not station.gone.isdisjoint(kernel.peers):
            raise Broken(f"P9: a revoked key came back on {name}")
        self._check_foreign(station, kernel)
        self._check_sessions(station, kernel, now)

    def _check_foreign(self, station: Station, kernel: FakeKernel) -> None:
        for key, peer in station.foreign.items():
            if kernel.peers.get(key) is not peer:
                raise Broken(f"P10: a foreign peer on {station.name} was removed or made anew")

    def _check_sessions(self, station: Station, kernel: FakeKernel, now: float) -> None:
        for key, session in list(station.sessions.items()):
            found = kernel.peers.get(key)
            if found is session.peer and not is_clean(found):
                continue
            del station.sessions[key]
            if key not in station.held:
                continue
            if now < session.lives_until - TOLERANCE:
                raise Broken(f"P3: a live session was purged on {station.name}")
            if now < session.calling_until - TOLERANCE:
                raise Broken(f"P3: a client was purged on {station.name} while it was shaking hands")

    def check_traces(self, name: str, kernel: FakeKernel | None, *, now: float) -> None:
        """P1 and P2: nothing tells of a client for longer than was promised."""
        station = self.stations[name]
        if kernel is None or station.watching_since <= 0:
            return
        for key, session in station.sessions.items():
            if key not in station.held or key in station.tampered or is_clean(session.peer):
                continue
            since = station.watching_since
            told = max(session.packet, since) + REJECT_AFTER_TIME + G + S
            told = min(
                told, max(session.stale_at, since + (REJECT_AFTER_TIME if session.handshake else 0)) + C + S
            )
            if now > told + TOLERANCE:
                raise Broken(f"P1: {name} still shows where a client was {now - session.packet:.1f} s ago")

    # What is true once everything has been told.

    def in_agreement(self, name: str, kernel: FakeKernel, known: Iterable[bytes], *, now: float) -> None:
        """Check a gateway that is connected and has been told everything; then hold it to that."""
        station, peers = self.stations[name], self.people.peers
        station.confirmed = now
        ours = {key: peer_of(found) for key, found in kernel.peers.items() if key not in station.foreign}
        missing = [key for key in peers if ours.get(key) != peers[key]]
        if missing:
            raise Broken(f"P18: {len(missing)} authorised peers are not on {name}, or not exactly so")
        surplus = {key for key in ours if key not in peers}
        if not surplus <= set(station.limbo):
            raise Broken(f"P8: {name} still serves a key that is not authorised")
        if surplus and now > station.limbo_ends + S:
            raise Broken(f"P8: {name} serves a key of an earlier epoch beyond its lease")
        if not set(known) <= set(ours):
            raise Broken(f"P9: {name} remembers a key that it does not serve")
        self._check_kept(station, set(ours), now)
        station.unheard.clear()
        station.held = dict(peers)
        for key in peers:
            station.first_ends.pop(key, None)

    def _check_kept(self, station: Station, ours: set[bytes], now: float) -> None:
        """P18: if most peers are missing in a new epoch, none is taken away until the lease ends."""
        before, station.before = station.before, {}
        lost = {key: peer for key, peer in before.items() if key not in self.people.peers}
        served, station.served = station.served, 0
        if 2 * len(lost) > served:
            for key, peer in lost.items():
                station.kept.setdefault(key, (peer, station.first_ends[key]))
        elif served:
            station.kept.clear()
        taken = {address for peer in self.people.peers.values() for address in (peer[32:36], peer[36:52])}
        for key, (peer, until) in list(station.kept.items()):
            if now >= until - S or not taken.isdisjoint((peer[32:36], peer[36:52])):
                del station.kept[key]
            elif key not in ours:
                raise Broken(f"P18: an implausible table took peers away on {station.name}")

    def cut_off(self, name: str, kernel: FakeKernel | None, *, now: float) -> None:
        """Check a gateway that is not told anything: after its lease it serves nobody."""
        station = self.stations[name]
        if kernel is not None and station.watching_since > 0 and now > station.confirmed + LEASE + 120:
            ours = [key for key in kernel.peers if key not in station.foreign and key not in station.tampered]
            if ours:
                raise Broken(
                    f"P8: {name} was cut off for longer than its lease and still serves {len(ours)} peers"
                )
