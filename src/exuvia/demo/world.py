"""
A small internet in network namespaces: a router, and hosts that each hang on it by a wire.

Everything is made by `ip` and is gone when the world is closed, whatever happened inside.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exuvia.errors import NotPermitted, Unavailable
from exuvia.system.links import GROUP

ROUTER = "internet"


class StepFailed(Unavailable):
    """Something that the demonstration promised to show could not be observed."""


class World:
    """The namespaces, the processes that run in them and a folder for their files."""

    def __init__(self) -> None:
        self._prefix = f"exuvia-{os.getpid()}-"
        self._made: list[str] = []
        self._running: list[Running] = []
        self.folder = Path(tempfile.mkdtemp(prefix="exuvia-demo-"))

    def router(self) -> None:
        """Make the router that stands for the internet."""
        self._namespace(ROUTER)
        self.run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def host(self, name: str, network: str) -> str:
        """Make a host on a wire of its own, on this /24 (such as "192.0.2"); return its address."""
        self._namespace(name)
        wire, inside, router = f"to-{name}", self._prefix + name, self._prefix + ROUTER
        self._ip(f"link add eth0 netns {inside} type veth peer name {wire} netns {router}")
        self._ip(f"-n {self._prefix}{ROUTER} addr add {network}.1/24 dev {wire}")
        self._ip(f"-n {self._prefix}{ROUTER} link set {wire} up")
        self._ip(f"-n {self._prefix}{name} addr add {network}.2/24 dev eth0")
        self._ip(f"-n {self._prefix}{name} link set eth0 up")
        self._ip(f"-n {self._prefix}{name} route add default via {network}.1")
        return f"{network}.2"

    def wire(self, name: str, *, up: bool) -> None:
        """Plug a host's wire in, or pull it."""
        self._ip(f"-n {self._prefix}{ROUTER} link set to-{name} {'up' if up else 'down'}")

    def run(self, host: str, *command: str, text: str | None = None, timeout: float = 60) -> str:
        """Run a command on a host to its end; return what it printed, or StepFailed."""
        try:
            done = subprocess.run(
                self._inside(host, command), input=text, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise StepFailed(f"{command[0]} on {host} did not end within {timeout:.0f} s") from None
        if done.returncode:
            raise StepFailed(f"{' '.join(command[:4])} on {host} failed:\n{done.stderr.strip()}")
        return done.stdout

    def succeeds(self, host: str, *command: str) -> bool:
        """Run a command on a host and say whether it ended well."""
        return subprocess.run(self._inside(host, command), capture_output=True).returncode == 0

    def write_secret(self, name: str, text: str) -> None:
        """Write a file in the world's folder that only root can read."""
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)

    def exuvia(self, host: str, *arguments: str, text: str | None = None) -> str:
        """Run the command exuvia on a host to its end."""
        return self.run(host, sys.executable, "-m", "exuvia", *arguments, text=text)

    def start(self, host: str, *command: str) -> "Running":
        """Start a command on a host, to run until it is stopped."""
        log = self.folder / f"{len(self._running)}-{host}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._inside(host, command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        running = Running(host, " ".join(command[3:5]), process, log)
        self._running.append(running)
        return running

    def start_exuvia(self, host: str, *arguments: str) -> "Running":
        """Start the command exuvia on a host."""
        return self.start(host, sys.executable, "-m", "exuvia", *arguments)

    def printed(self) -> dict[str, str]:
        """Return what each program that was started has printed."""
        return {f"{running.what} on {running.host}": running.printed for running in self._running}

    def close(self) -> None:
        """End all processes and take everything away."""
        for running in reversed(self._running):
            running.stop()
        for name in reversed(self._made):
            # A gateway's wireguard-go lasts until its interface is deleted; its namespace would last as long.
            interfaces = ("-netns", self._prefix + name, "link", "delete", "group", str(GROUP))
            for words in (interfaces, ("netns", "delete", self._prefix + name)):
                subprocess.run(["ip", *words], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _inside(self, host: str, command: tuple[str, ...]) -> list[str]:
        return ["ip", "netns", "exec", self._prefix + host, *command]

    def _namespace(self, name: str) -> None:
        self._ip(f"netns add {self._prefix}{name}")
        self._made.append(name)
        self._ip(f"-n {self._prefix}{name} link set lo up")

    def _ip(self, words: str) -> None:
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
        if done.returncode:
            raise StepFailed(f"ip {words}: {done.stderr.strip()}")


class Running:
    """A process on a host, and what it has printed so far."""

    def __init__(self, host: str, what: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.host = host
        self.what = what
        self._process = process
        self._log = log

    @property
    def printed(self) -> str:
        """All that it has printed."""
        return self._log.read_text(errors="replace")

    def wait_until_it_says(self, word: str, timeout: float = 30) -> None:
        """Wait until it has printed this word; StepFailed if it ends or does not say so."""
        end = time.monotonic() + timeout
        while word not in self.printed:
            if self._process.poll() is not None or time.monotonic() > end:
                raise StepFailed(f"exuvia {self.what} on {self.host} did not say {word!r}")
            time.sleep(0.02)

    def require_alive(self, what: str) -> None:
        """Raise StepFailed if it has ended."""
        if self._process.poll() is not None:
            raise StepFailed(f"{what} has ended:\n{self.printed.strip()}")

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until it has ended."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)

    def stop(self, timeout: float = 10) -> None:
        """Ask it to end, and end it if it does not; with all that it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout)


@contextmanager
def small_internet() -> Iterator[World]:
    """Yield a world with a router, and take it away afterwards."""
    if os.geteuid() != 0:
        raise NotPermitted("the demonstration makes network namespaces: run it as root")
    for tool in ("ip", "wg", "nft", "ping"):
        if shutil.which(tool) is None:
            raise NotPermitted(
                f"the program `{tool}` is missing: run `make demo`, which installs what is needed"
            )
    world = World()
    try:
        world.router()
        yield world
    finally:
        world.close()
