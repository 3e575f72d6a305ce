"""wireguard-go keeps the contract."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from exuvia.errors import InterfaceInUse, InterfaceUnavailable
from exuvia.system import userspace
from exuvia.system.interface import WireGuardInterface, open_interface
from exuvia.system.uapi import UserspaceInterface
from exuvia.testing.namespaces import Namespace, unique
from interface_contract import PORT, Meet, RealInterfaceContract, client, configured, really_meet, seen
from own_memory import copies_of, masked
from wireguard_samples import peer, private_key, table


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace of its own, in which this thread is."""
    namespace = Namespace("uapi")
    try:
        with namespace.inside():
            yield namespace
    finally:
        namespace.close()


@pytest.fixture
def running(namespace: Namespace) -> Iterator[tuple[str, userspace.Process]]:
    """An interface that wireguard-go runs, and its process."""
    name = f"exu{unique()}"
    process = userspace.start(name)
    yield name, process
    process.stop()


@pytest.fixture
def opened(running: tuple[str, userspace.Process], namespace: Namespace) -> Iterator[WireGuardInterface]:
    """The same, opened, up, with key and port."""
    interface = open_interface(running[0])
    namespace.ip(f"link set {running[0]} up")
    interface.configure(private_key=private_key(0), listen_port=PORT)
    yield interface
    interface.close()


@pytest.fixture
def meet() -> Meet:
    """Shake hands for real."""
    return really_meet


class TestUserspaceInterface(RealInterfaceContract):
    """The contract, kept by wireguard-go."""


def test_it_is_chosen_when_the_kernel_does_not_run_the_interface(opened: WireGuardInterface) -> None:
    """The name alone is enough to find out who runs an interface."""
    assert isinstance(opened, UserspaceInterface)


def test_a_second_daemon_is_refused(opened: WireGuardInterface) -> None:
    """The lock is the same as for the kernel's interfaces."""
    with pytest.raises(InterfaceInUse):
        open_interface(opened.name)
    opened.close()
    open_interface(opened.name).close()


def test_a_program_that_has_ended_is_unavailable(
    opened: WireGuardInterface, running: tuple[str, userspace.Process]
) -> None:
    """Every question ends in the same kind of error."""
    seen(opened)
    running[1].stop()
    for ask in (
        opened.facts,
        lambda: seen(opened),
        lambda: opened.compare({}),
        lambda: opened.purge([client(1)]),
        lambda: opened.configure(listen_port=1),
    ):
        with pytest.raises(InterfaceUnavailable):
            ask()


def test_a_peer_that_is_refused_is_told_by_key(opened: WireGuardInterface) -> None:
    """wireguard-go does not say which line it refused: so each peer of that operation is tried again."""
    wanted = table(100)
    impossible = peer(500, "10.200.0.0/16", keepalive=70_000)

    assert opened.apply([*wanted.values(), impossible]) == [impossible.public_key]
    assert opened.compare(wanted).equal == 100
    assert opened.purge([impossible, client(1)]) == [impossible.public_key]
    assert client(1)[:32] in configured(opened)


def test_an_endpoint_is_nowhere_in_our_memory_after_a_look(
    opened: WireGuardInterface, namespace: Namespace
) -> None:
    """Looking, comparing and reading leave no copy of the text of a client's address and port behind."""
    wanted = table(300)
    opened.apply(wanted.values())
    endpoint = ":".join([".".join("1234"), "49320"])  # so that this file, run below, does not hold it itself
    for one in list(wanted.values())[::7]:
        namespace.run("wg", "set", opened.name, "peer", one.public_key.text(), "endpoint", endpoint)
    opened.close()
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = namespace.command(sys.executable, __file__, opened.name)
    done = subprocess.run(command, check=True, capture_output=True, env=environment)

    assert done.stdout.split() == [b"0", b"0", b"0", b"1", b"13", b"43"]


MASK = bytes(255 - ord(letter) for letter in (*"1.2.", *"3.4:", *"49320"))
"""The endpoint's text, masked."""


def look_for_endpoints(name: str) -> None:
    """Print how many copies of an endpoint there are after each kind of reading, and with one on purpose."""
    interface = open_interface(name)
    endpoints = 0

    def see(sightings: list) -> None:  # type: ignore[type-arg]
        nonlocal endpoints
        endpoints += sum(sighting.endpoint for sighting in sightings)

    for reading in (
        lambda: interface.look(see),
        lambda: interface.compare(table(300)),
        lambda: interface.configurations(None, lambda found: None),
    ):
        reading()
        print(copies_of(MASK))
    kept = masked(MASK)
    print(copies_of(MASK), len(kept), endpoints)


if __name__ == "__main__":
    with contextlib.suppress(IndexError):
        look_for_endpoints(sys.argv[1])
