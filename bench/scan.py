"""
Looking at an interface, filling it, finding it right, and purging: ours beside wg(8) and pyroute2.

100,000 peers with preshared key, IPv4 and IPv6, on the kernel's own WireGuard. Every ratio is of
two things measured in the same run; what is short is repeated in turn, and the best of each counts.

Runs on the kernel, in real time: tools/kernel --mem 6G -- .venv/bin/python -m bench.scan
"""

import argparse
import base64
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from bench.fleet import print_table, run, strangers
from exuvia.rules.purge import Watch
from exuvia.system.kernel import KernelInterface
from exuvia.wg.attributes import MESSAGE_HEADER, NLMSG_DONE
from exuvia.wg.peers import Sighting, TunnelPeer

INTERFACE, FEWER = "wg-scan", "wg-scan-fewer"
FEWER_BY = 10
"""pyroute2 does not survive 100,000 peers on this kernel: it gets a tenth, and its time is multiplied."""

PURGED = 1_000
ENDPOINT = (IPv4Address("127.0.0.1"), 9)

PYROUTE2 = f"""
import sys, time
from pyroute2 import WireGuard
with WireGuard() as wireguard:
    began = time.perf_counter()
    quiet = 0
    for message in wireguard.info("{FEWER}"):
        for peer in message.get("WGDEVICE_A_PEERS") or ():
            quiet += not peer.get("WGPEER_A_LAST_HANDSHAKE_TIME").get("tv_sec", 0)
    print(time.perf_counter() - began)
"""
"""Reads of each peer nothing but its latest handshake: pyroute2 decodes what is asked for."""

Row = tuple[str, ...]


def main() -> None:
    """Measure everything with as many peers as asked, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--peers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7, help="how often short things are repeated")
    parser.add_argument("--without-pyroute2", action="store_true")
    arguments = parser.parse_args()
    bench = Bench(arguments.peers, arguments.rounds)
    rows: list[Row] = [("work", "ours", "against", "", "ratio", "goal")]
    with tempfile.TemporaryDirectory() as folder:
        bench.make()
        rows += bench.start(Path(folder))
        rows += bench.scans("no peer has a session", with_pyroute2=not arguments.without_pyroute2)
        rows += bench.purges(Path(folder))
        bench.connect(share=10)
        rows += bench.scans("every tenth peer has an endpoint", with_pyroute2=False)
        bench.interface.close()
        run("ip", "link", "delete", INTERFACE)
    print_table(f"{arguments.peers} peers with preshared key, IPv4 and IPv6; real time, one CPU", rows)


class Bench:
    """One interface and its peer table."""

    def __init__(self, count: int, rounds: int) -> None:
        self.table = {bytes(peer[:32]): peer for peer in strangers(count)}
        self._peers = list(self.table.values())
        self._rounds = rounds
        gc.collect()
        gc.freeze()  # what every daemon does when its table is loaded

    def make(self) -> None:
        """Make the interface anew, with a private key and without peers."""
        make_link(INTERFACE)
        self.interface = KernelInterface.open(INTERFACE)

    def start(self, folder: Path) -> list[Row]:
        """Fill the empty interface, and find it right, beside wg syncconf."""
        configuration = folder / "all.conf"
        configuration.write_text(run("wg", "showconf", INTERFACE) + "".join(map(section, self._peers)))
        sync = ("wg", "syncconf", INTERFACE, str(configuration))
        self._fill()  # the first to use memory has an easier time than all after it
        theirs, ours, theirs_right, ours_right = [], [], [], []
        for turn in (None, "ours", "wg", "wg", "ours", "ours", "wg"):
            if turn:
                self._make_again()
            if turn == "ours":
                ours.append(seconds(self._fill))
            elif turn == "wg":
                theirs.append(seconds(lambda: run(*sync)))
            ours_right += [seconds(self._find_right) for _ in range(self._rounds)]
            theirs_right += [seconds(lambda: run(*sync)) for _ in range(2)]
        return [
            row("start: empty, all peers added", min(ours), "wg syncconf", min(theirs), "1.2"),
            row("start: all is right already", min(ours_right), "wg syncconf", min(theirs_right), "20"),
        ]

    def _make_again(self) -> None:
        self.interface.close()
        run("ip", "link", "delete", INTERFACE)
        settle()
        self.make()

    def scans(self, what: str, *, with_pyroute2: bool) -> list[Row]:
        """Look, and decide, beside receiving alone and those who look otherwise."""
        watch = Watch()
        works: dict[str, Callable[[], None]] = {
            "ours": lambda: self._look(watch),
            "small": lambda: self._look(watch, small=True),
            "receive": self._receive,
            "wg": self._wg_show,
        }
        best = dict.fromkeys(works, float("inf"))
        for _ in range(self._rounds):
            for name, work in works.items():
                best[name] = min(best[name], seconds(work))
        ours = best["ours"]
        rows = [
            row(f"scan: {what}", ours, "receiving alone", best["receive"], "≤ 1.5", of_theirs=True),
            row("", ours, "wg show dump", best["wg"], "5"),
            row("  the same in small messages", best["small"], "wg show dump", best["wg"], ""),
        ]
        if with_pyroute2:
            rows.append(row("", ours, "pyroute2 (a tenth, times 10)", self._pyroute2(), "100"))
        return rows

    def purges(self, folder: Path) -> list[Row]:
        """Purge some quiet peers among all, beside a shell loop; and the longest message."""
        quiet = self._peers[:: len(self._peers) // PURGED][:PURGED]
        script = folder / "purge.sh"
        script.write_text("".join(map(shell_purge, quiet)))
        theirs = seconds(lambda: run("sh", str(script)))
        ours = min(seconds(lambda: self.interface.purge(quiet)) for _ in range(3))
        longest = max(min(seconds(self.interface.purge, [peer]) for _ in range(3)) for peer in quiet)
        assert self.interface.compare(self.table).equal == len(self.table)
        return [
            row(f"purge {PURGED} quiet peers", ours, "a shell loop of wg set", theirs, "30"),
            (
                f"  longest of {PURGED} messages (best of 3 each)",
                f"{longest * 1e3:.2f} ms",
                "",
                "",
                "",
                "≤ 10 ms",
            ),
        ]

    def connect(self, *, share: int) -> None:
        """Give one peer of so many an endpoint."""
        for peer in self._peers[::share]:
            self.interface.put_with_endpoint(peer.peer(), ENDPOINT)

    def _fill(self) -> None:
        missing = self.interface.compare(self.table).missing
        assert self.interface.apply(self.table[key] for key in missing) == []

    def _find_right(self) -> None:
        assert self.interface.compare(self.table).equal == len(self.table)

    def _look(self, watch: Watch, *, small: bool = False) -> None:
        def decide(sightings: list[Sighting]) -> None:
            watch.see(sightings, now=0.0)

        watch.begin()
        look = self.interface.look(decide, small=small)
        watch.end(whole=look.whole)
        assert look.peers == len(self.table)

    def _receive(self) -> None:
        """Receive a dump into the same buffer, and look at nothing but its end."""
        interface = self.interface
        request = interface._requests.dump(interface._next())
        with interface._transport.dumping(request, small=False) as receive:
            kind = 0
            while kind != NLMSG_DONE:
                end = receive()
                _, kind, *_ = MESSAGE_HEADER.unpack_from(interface._transport.buffer, max(0, end - 20))

    def _pyroute2(self) -> float:
        """Return how many seconds pyroute2 takes for one look, without its start."""
        make_link(FEWER)
        interface = KernelInterface.open(FEWER)
        interface.apply(self._peers[::FEWER_BY])
        interface.close()
        found = float(run(sys.executable, "-c", PYROUTE2)) * FEWER_BY
        run("ip", "link", "delete", FEWER)
        return found

    def _wg_show(self) -> None:
        subprocess.run(("wg", "show", INTERFACE, "dump"), stdout=subprocess.DEVNULL, check=True)


def make_link(name: str) -> None:
    """Make an interface with a private key."""
    run("ip", "link", "add", name, "type", "wireguard")
    run("wg", "set", name, "private-key", "/dev/stdin", text=run("wg", "genkey"))
    run("ip", "link", "set", name, "up")


def settle() -> None:
    """Wait until the kernel has freed the peers of an interface that is gone: it does so afterwards."""
    before = -1
    while abs(_free() - before) > 1024:
        before = _free()
        time.sleep(1)


def _free() -> int:
    """Return how much memory is free, in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemFree")).split()[1])


def section(peer: TunnelPeer) -> str:
    """Return a peer as wg(8) reads it."""
    return (
        f"[Peer]\nPublicKey = {text(peer[:32])}\nPresharedKey = {text(peer[52:])}\n"
        f"AllowedIPs = {peer.address4}/32, {peer.address6}/128\n"
    )


def shell_purge(peer: TunnelPeer) -> str:
    """Return the lines of a shell script that purge a peer."""
    return (
        f"wg set {INTERFACE} peer {text(peer[:32])} remove\n"
        f"wg set {INTERFACE} peer {text(peer[:32])} preshared-key /dev/stdin "
        f"allowed-ips {peer.address4}/32,{peer.address6}/128 <<.\n{text(peer[52:])}\n.\n"
    )


def text(key: bytes) -> str:
    """Return a key in base64."""
    return base64.b64encode(key).decode()


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return how long it takes."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def row(work: str, ours: float, name: str, theirs: float, goal: str, *, of_theirs: bool = False) -> Row:
    """Return a row of the table: how many times as fast, or, of_theirs, how many times as long."""
    ratio = ours / theirs if of_theirs else theirs / ours
    return work, milliseconds(ours), name, milliseconds(theirs), f"{ratio:.2f}", goal


def milliseconds(time_taken: float) -> str:
    """Return a time in words."""
    return f"{time_taken * 1e3:,.1f} ms"


if __name__ == "__main__":
    main()
