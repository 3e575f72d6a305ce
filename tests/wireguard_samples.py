"""Peers and dumps for tests; every key is derived from a number, so that failures repeat."""

from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

from exuvia.testing.dumps import DumpWriter
from exuvia.testing.interface import KernelPeer
from exuvia.wg.attributes import AF_INET, AF_INET6
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey
from exuvia.wg.peers import Peer, TunnelPeer

ENDPOINT4 = bytes.fromhex("0200c1a7c0000201") + bytes(8)
ENDPOINT6 = bytes.fromhex("0a00c1a700000000") + bytes.fromhex("20010db8") + bytes(12) + bytes(4)
SEQUENCE = 7


def octets(name: str, count: int = 32) -> bytes:
    """Return bytes that look random and are the same in every run."""
    return blake2b(name.encode(), digest_size=count).digest()


def key(number: int) -> PublicKey:
    """Return a public key of full order, in canonical form."""
    return PublicKey(octets(f"key {number}", 31) + b"\x07")


def private_key(number: int) -> PrivateKey:
    """Return a private key."""
    return PrivateKey(octets(f"private {number}"))


def tunnel_peer(number: int) -> TunnelPeer:
    """Return a peer of the peer table with addresses of its own."""
    return TunnelPeer.pack(
        key(number),
        IPv4Address("10.0.0.0") + 2 + number,
        IPv6Address("fd00::") + (int.from_bytes(octets(f"address {number}", 8)) << 16) + 2 + number,
        octets(f"preshared {number}"),
    )


def table(count: int) -> dict[bytes, TunnelPeer]:
    """Return a peer table."""
    return {bytes(peer[:32]): peer for peer in map(tunnel_peer, range(count))}


def peer(number: int, *networks: str, keepalive: int = 0, preshared: bool = True) -> Peer:
    """Return a peer with these allowed IPs."""
    psk = PresharedKey(octets(f"preshared {number}")) if preshared else None
    return Peer(key(number), tuple(ip_network(network) for network in networks), psk, keepalive)


def kernel_peer(given: TunnelPeer | Peer, place: int = 0, **state: int | bytes) -> KernelPeer:
    """Return a peer as the kernel holds it; `state` is endpoint, handshake, rx and tx."""
    configuration = given.peer() if isinstance(given, TunnelPeer) else given
    allowed_ips = [
        (AF_INET if network.version == 4 else AF_INET6, network.network_address.packed, network.prefixlen)
        for network in configuration.allowed_ips
    ]
    return KernelPeer(
        bytes(configuration.public_key),
        place,
        bytes(configuration.preshared_key or bytes(32)),
        configuration.persistent_keepalive,
        allowed_ips,
        **state,  # type: ignore[arg-type]
    )


def dump(
    peers: list[KernelPeer], *, size: int = 32_424, padded: bool = False, interrupted: int | None = None
) -> list[bytearray]:
    """Return the datagrams in which a kernel tells of these peers; number `interrupted` says so."""
    writer = DumpWriter(SEQUENCE, padded=padded)
    datagrams = []
    waiting, resume = list(peers), None
    while True:
        message = writer.begin(size, interrupted=len(datagrams) == interrupted)
        if not datagrams:
            message.interface(3, private_key(0), 51820, 0)
        while waiting:
            complete, resume = message.peer(waiting[0], resume)
            if not complete:
                break
            waiting.pop(0)
        end = b"" if waiting else writer.done()
        datagrams.append(bytearray(message.finish() + end))
        if not waiting:
            return datagrams


def recorded(name: str) -> list[bytearray]:
    """Return the datagrams of a dump that a real kernel sent, one line of hexadecimal digits each."""
    path = Path(__file__).parent / "wg" / "dumps" / f"{name}.hex"
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [bytearray.fromhex(line) for line in lines]
