"""
P15: a whole life of a control plane, with all that goes wrong; then everything that was written is searched.

The server speaks TLS and runs as a programmer runs it who looks for a mistake: Python's development
mode, asyncio's debug mode, the fault handler.
"""

import base64
import contextlib
import http.client
import io
import logging
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from billing_system import SECRET_TEXT, BillingSystem, Send, Told, billing_system
from control_plane import COMMAND, Answer, Plane, Server, fresh_key, honest_key, server_in, spellings
from database_files import locked
from exuvia.api import devices as handlers
from exuvia.api.alarms import Alarms
from exuvia.client.state import StateFolder
from exuvia.log import RedactingFormatter
from exuvia.messages import DeviceRegistered
from exuvia.rules import totp
from exuvia.store.credentials import new_account_number
from exuvia.system import entropy
from exuvia.wg.keys import PrivateKey, PublicKey
from portal_visitor import Visitor

HOME = "127.66.77.88"
"""Where people of this test come from; loopback addresses are all ours."""
TOKEN = "operator-canary-0123456789abcdefghijklmnop"
PART = 14
"""Letters of something private that are as bad as all of it."""
DEBUGGING = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONFAULTHANDLER": "1"}


@dataclass
class Story:
    """What there was that nobody may write down, and what was written."""

    folder: Path
    server: Server
    texts: set[str] = field(default_factory=set)
    octets: set[bytes] = field(default_factory=set)
    written: dict[str, bytes] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)

    def ask(self, method: str, target: str, *, bearer: str | None = None, **given: Any) -> Answer:
        """Send a request from the people's address; the body of a refusal is searched as well."""
        answer = from_home(self.server, method, target, bearer, **given)
        self.statuses.add(answer.status)
        if answer.status >= 400:
            self.write("refusals", answer.body + repr(answer.headers).encode())
        return answer

    def write(self, where: str, data: bytes) -> None:
        """Note what was written somewhere."""
        self.written[where] = self.written.get(where, b"") + data + b"\n"

    def run(self, *words: str, text: str = "", may_print: bool = False) -> str:
        """Run a command; what it writes is searched, but for what it is meant to print."""
        done = subprocess.run([*COMMAND, *words], input=text, capture_output=True, text=True, timeout=60)
        self.write(f"standard error of {words[0]}", done.stderr.encode())
        if not may_print:
            self.write(f"standard output of {words[0]}", done.stdout.encode())
        return done.stdout

    def account(self) -> str:
        """Create an account by the operator's command."""
        number = self.run("account", "create", "--database", self.server.database, may_print=True).strip()
        self.texts |= {number, number.replace("-", ""), number.lower()}
        return number

    def is_private(self, device: DeviceRegistered, *keys: str) -> DeviceRegistered:
        """Note what belongs to a device."""
        self.texts |= {device.token, device.id, *(one.partition("/")[0] for one in device.addresses)}
        self.texts |= {device.name, device.name.replace(" ", "-")}
        self.octets |= {raw(device.preshared_key), *map(raw, keys)}
        return device

    def found(self) -> list[tuple[str, str]]:
        """Return where something stands that may not, and what."""
        needles = {text: [*spellings(text.encode())] for text in self.texts}
        needles |= {octets.hex(): [*spellings(octets)] for octets in self.octets}
        return [
            (where, name)
            for where, data in self.written.items()
            for name, ways in needles.items()
            if any(_has(data, way) for way in ways)
        ]


def _has(data: bytes, needle: bytes) -> bool:
    """Return whether this stands there, or as much of it as nobody writes by chance."""
    return any(needle[at : at + PART] in data for at in range(max(1, len(needle) - PART + 1)))


def raw(key: str) -> bytes:
    """Return the bytes of a key of any kind."""
    return base64.b64decode(key, validate=True)


def from_home(
    server: Server,
    method: str,
    target: str,
    bearer: str | None,
    *,
    body: str | bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request over TLS from the people's own address, with headers that name it."""
    parts, given = urlsplit(server.url), {"X-Forwarded-For": HOME, "Forwarded": f"for={HOME}"}
    given |= {"Content-Type": "application/json", **(headers or {})}
    if bearer is not None:
        given["Authorization"] = f"Bearer {bearer}"
    connection = http.client.HTTPSConnection(
        "127.0.0.1", parts.port, timeout=20, source_address=(HOME, 0), context=server.trusted
    )
    with contextlib.closing(connection):
        connection.request(method, target, body, given)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


def test_p15_nothing_private_is_in_anything_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in logs nor refusals, metrics, temporary files and crash output, in no spelling of it."""
    story = begun(tmp_path, monkeypatch)
    with billing_system() as billing, served(story, billing) as server:
        number = story.account()
        people(story, number)
        website(story, number)
        client(story, story.account())
        gateways(story)
        wrong_requests(story, number)
        operators(story)
        out_of_order(story, number)
        cancelled_while_billing_fails(story, billing)
        guesses(story)
        metrics = server.ask("GET", "/metrics", bearer=TOKEN)
        story.write("metrics", metrics.body)
        story.write("health", server.ask("GET", "/healthz").body)
        crashed(story)
    assert {200, 201, 204, 400, 401, 404, 405, 409, 413, 415, 422, 429, 503} <= story.statuses
    read_files(story)

    assert b"exuvia.alarm" in story.written["serve.log"]  # something was written
    assert b"Fatal Python error" in story.written["serve.log"]  # by the fault handler too
    assert len(story.octets) > 10 and len(story.texts) > 20
    assert story.found() == []
    assert_counts_only(metrics.body.decode())


def test_p15_behind_a_proxy_nobodys_address_is_written(tmp_path: Path) -> None:
    """Whatever a proxy, or somebody who poses as one, says of where a request comes from."""
    said = ["198.51.100.77", "2001:db8:66:77::88", f"{HOME}, 203.0.113.99", "canary-of-a-proxy", "1" * 5000]
    with server_in(tmp_path, "--behind-proxy") as server:
        number = server.account()
        for address in said:
            headers = {"X-Forwarded-For": address, "Forwarded": f'for="{address}"', "X-Real-IP": address}
            assert server.ask("GET", "/v1/devices", bearer=number, headers=headers).status == 200
            statuses = {
                server.ask("GET", "/v1/devices", bearer=f"{number}x", headers=headers).status
                for _ in range(30)
            }
            assert statuses <= {401, 429}
        assert server.stop() == 0

    parts = {part for address in said for part in address.split(", ")}
    assert not [part for part in parts if part[:60] in server.log.read_text()]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Each kind of thing, in every spelling; else the story above would prove nothing."""
    key = PublicKey.from_text(honest_key())
    for way in spellings(key):
        story = Story(tmp_path, Server(tmp_path), octets={bytes(key)})
        story.write("log", b"the key " + way + b" is wrong")
        assert story.found() == [("log", key.hex())]
    story.write("log", key.text()[20:40].encode())
    assert len(story.found()) == 1
    story = Story(tmp_path, Server(tmp_path), texts={HOME})
    story.write("log", f"from {HOME}:4711".encode())
    assert story.found() == [("log", HOME)]


def begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Prepare certificates and files, and have temporary files of all programs come here."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "token").write_text(TOKEN)
    (folder / "webhook-secret").write_text(SECRET_TEXT)
    (folder / "tmp").mkdir()
    for name, value in {**DEBUGGING, "TMPDIR": str(folder / "tmp")}.items():
        monkeypatch.setenv(name, value)
    return Story(folder, Server(folder), texts={HOME, TOKEN, SECRET_TEXT, "billing-canary"})


@contextlib.contextmanager
def served(story: Story, billing: BillingSystem) -> Iterator[Server]:
    """Run the server of the story."""
    folder = story.folder
    options = ["--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.pem")]
    options += ["--operator-token-file", str(folder / "token"), "--erase-after", "2", "--retire-every", "2"]
    options += ["--webhook-url", billing.url(path="/x?key=billing-canary"), "--webhook-every", "1"]
    options += ["--webhook-secret-file", str(folder / "webhook-secret")]
    with server_in(folder, *options) as server:
        server.trusted = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        story.server = server
        yield server


def people(story: Story, number: str) -> None:
    """Devices are registered, rotate, and log out."""
    for _ in range(2):
        key = honest_key()
        made = story.ask("POST", "/v1/devices", bearer=number, body=f'{{"public_key": "{key}"}}')
        device = story.is_private(made.as_(DeviceRegistered), key)
        fresh = fresh_key()
        story.octets.add(bytes(fresh))
        for method, what in (("PUT", ""), ("POST", "/confirm"), ("DELETE", "")):
            story.ask(method, f"/v1/device/keys/{fresh.path()}{what}", bearer=device.token)
        story.ask("GET", f"/v1/device?token={device.token}", bearer=device.token)
    story.ask("DELETE", "/v1/device", bearer=device.token)
    story.ask("GET", "/v1/device", bearer=device.token)
    story.ask("GET", f"/v1/device/{device.token}", bearer=device.token)


class AtHome(Visitor):
    """Somebody with a browser at the people's address."""

    story: Story

    def send(self, method: str, path: str, raw: bytes | None = None, **headers: str) -> Answer:
        """Send a request from there; a refusal is searched, but for what its reader typed himself."""
        given = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
        if raw is not None:
            given |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null"}
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = from_home(self.server, method, path, None, body=raw, headers=given)
        answer.headers = {name.lower(): value for name, value in answer.headers.items()}
        self.story.statuses.add(answer.status)
        self._keep(answer)
        self.story.texts |= set(self.cookies.values())
        return answer


def website(story: Story, number: str) -> None:
    """Somebody logs in, mistypes, adds, replaces and deletes a device, with a wrong form in between."""
    visitor = AtHome(story.server)
    visitor.story = story
    for wrong in (number[:-1], f"{number}x", "' OR 1=1"):
        assert visitor.log_in(wrong).status == 403
    assert visitor.log_in(number).status == 200
    story.texts.add(visitor.csrf())
    keys = [honest_key(), honest_key()]
    story.octets |= set(map(raw, keys))
    path = visitor.add(keys[0])
    page = visitor.get(path).text
    story.texts |= set(re.findall(r"10\.\d+\.\d+\.\d+|fd[0-9a-f:]{10,}", page))
    story.texts |= set(re.findall(r"<h1>(\w+ \w+)</h1>", page))
    visitor.submit(visitor.get(f"{path}/replace"), f"{path}/replace", public_key=keys[1])
    visitor.submit(visitor.get("/devices/new"), "/devices/new", public_key=f"{keys[0]}{number}")
    for fields in ({"csrf": number}, {"csrf": keys[0], "public_key": number}):
        visitor.post("/devices/new", fields)
    visitor.get(f"/devices/{number}")
    second_factor(story, visitor, number)
    assert visitor.log_in(number).path == "/"  # what the operator did ended every session
    visitor.submit(visitor.get(f"{path}/delete"), f"{path}/delete")
    visitor.submit(visitor.get("/account/cancel"), "/account/cancel", account=f"{number[:-1]}!")
    visitor.get("/account")


def client(story: Story, number: str) -> None:
    """The client logs in, is asked this and that, and logs out; wrongly at first."""
    state, ca = str(story.folder / "client"), ["--ca-file", str(story.folder / "ca.pem")]
    words = ["client", "--state", state]
    story.run(*words, "login", "--control", story.server.url, text=number)  # whom it can't trust
    story.run(*words, "login", "--control", story.server.url, *ca, text=f"{number[:-1]}!")
    story.run(*words, "login", "--control", story.server.url, *ca, text=number, may_print=True)
    _, device, key, _ = StateFolder(Path(state)).require()
    assert key.grant is not None
    story.texts |= {device.token, str(key.grant.address4), str(key.grant.address6)}
    story.octets |= {bytes(key.private_key.public_key()), raw(key.private_key.text())}
    story.octets.add(bytes(key.grant.preshared_key))
    for what in ("status", "interval"):
        story.run(*words, what, may_print=what == "status")
    interrupted(story, *words, "rotate")
    story.run(*words, "up", "--interface", "lo")
    story.run(*words, "logout", may_print=True)
    story.run(*words, "logout")


def second_factor(story: Story, visitor: AtHome, number: str) -> None:
    """An authenticator app is set up, with a wrong code first, is asked for at a login, and taken away."""
    path, login = "/account/second-factor/code", "/login/second-factor"
    page = visitor.get(path)
    shown = re.search(r'Secret: <code class="key">([A-Z2-7 ]+)<', page.text)
    assert shown
    secret = base64.b32decode(shown[1].replace(" ", ""))
    story.octets.add(secret)
    story.texts |= {shown[1], shown[1].replace(" ", "")}
    visitor.submit(page, path, code=number)
    # A step before the present one, which is good once: the present one is for the login.
    now = totp.step_at(time.time())
    assert visitor.submit(visitor.get(path), path, code=totp.code(secret, now - 1)).status == 200
    other = AtHome(story.server)
    other.story = story
    assert other.log_in(number).path == login
    other.submit(other.get(login), login, code=number[:6])
    for step in (now, now + 1):
        if other.get("/account").path != "/account":
            other.submit(other.get(login), login, code=totp.code(secret, step))
    assert other.get("/account").status == 200
    story.run("account", "remove-second-factor", "--database", story.server.database, text=number)


def interrupted(story: Story, *words: str) -> None:
    """Run a command that says what it waits for, and don't wait for it."""
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert b"waiting for" in line
    story.write(f"standard output of {words[0]}", line + out)
    story.write(f"standard error of {words[0]}", error)


def gateways(story: Story) -> None:
    """Gateways come and go, with wrong tokens, in the midst of the feed, claiming what never was."""
    token = story.run(
        *("gateway", "enroll", "gw1", "--endpoint", "gateway.example:51820"),
        *("--database", story.server.database),
        may_print=True,
    ).strip()
    key = honest_key()
    story.texts.add(token)
    hello = f'{{"public_key": "{key}", "lasting": true}}'
    assert story.ask("PUT", "/v1/gateway", bearer=token, body=hello).status == 200
    for query in ("", "?epoch=x&revision=1", f"?epoch={token}&revision=99999999999999999999", "?revision=x"):
        with contextlib.suppress(TimeoutError, OSError), over_tls(story) as sock:
            sock.sendall(
                f"GET /v1/feed{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
            story.write("the feed's beginning", sock.recv(60).partition(b"\r\n")[0])
    story.ask("GET", "/v1/feed", bearer=f"{token}x")
    story.ask("PUT", "/v1/gateway/applied", bearer=token, body='{"epoch": "x", "revision": -1}')


@contextlib.contextmanager
def over_tls(story: Story) -> Iterator[ssl.SSLSocket]:
    """Connect from the people's address, and hang up without a word."""
    assert story.server.trusted is not None
    address = ("127.0.0.1", urlsplit(story.server.url).port or 0)
    with (
        socket.create_connection(address, 5, (HOME, 0)) as sock,
        story.server.trusted.wrap_socket(sock, server_hostname="127.0.0.1") as wrapped,
    ):
        yield wrapped


def wrong_requests(story: Story, number: str) -> None:
    """Everything in the wrong place: in paths, queries, headers, bodies, and in no HTTP at all."""
    key = honest_key()
    story.octets.add(raw(key))
    body = f'{{"public_key": "{key}"}}'
    story.ask("GET", f"/v1/devices/{number}?key={key}", bearer=number)
    story.ask("POST", f"/v1/devices/{number}", bearer=number, body=body)
    story.ask("DELETE", f"/v1/devices/{number}", bearer=number)
    story.ask("POST", "/v1/devices", bearer=number, body=body[:-3])
    story.ask("POST", "/v1/devices", bearer=number, body=f'{{"{key}": 1}}')
    story.ask("POST", "/v1/devices", bearer=number, body='{"public_key": "' + key.replace("=", "!") + '"}')
    story.ask("POST", "/v1/devices", bearer=number, body=f'{{"public_key": "{key}", "proof": "{number}"}}')
    story.ask("POST", "/v1/devices", bearer=number, body=b"x" * 100_000)
    story.ask("POST", "/v1/devices", bearer=number, body=body, headers={"Content-Type": f"x/{number}"})
    story.ask("POST", "/v1/devices", bearer=f"{number} {number}", body=body)
    story.ask("POST", "/v1/admin/accounts/find", bearer=number, body=f'{{"account": "{number}"}}')
    for _ in range(6):
        other = f'{{"public_key": "{honest_key()}"}}'
        story.ask("POST", "/v1/devices", bearer=number, body=other)  # up to the limit, and beyond
    for data in (
        f"GET /{number} HTTP/1.1\r\nAuthorization {key}\r\n\r\n",
        f"POST /v1/devices HTTP/1.1\r\nAuthorization: Bearer {number}\r\nContent-Length: 99\r\n\r\n{key}",
        f"{number} {key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX: {number * 1000}\r\n\r\n",
    ):
        with contextlib.suppress(OSError), over_tls(story) as sock:
            sock.sendall(data.encode())
        if "Content-Length" in data:
            continue  # it waits for more
        with contextlib.suppress(OSError), over_tls(story) as sock:
            sock.sendall(data.encode())
            story.write("refusals", sock.recv(65536))
    with socket.create_connection(("127.0.0.1", urlsplit(story.server.url).port or 0), 5, (HOME, 0)) as plain:
        plain.sendall(f"GET /{number} HTTP/1.1\r\n\r\n".encode())  # to a server that speaks TLS
        with contextlib.suppress(OSError):
            story.write("refusals", plain.recv(65536))


def operators(story: Story) -> None:
    """Operators look after accounts, by number, and make their mistakes."""
    database, number = ["--database", story.server.database], story.account()
    for words in (
        ("show",),
        ("suspend", "--json"),
        ("resume",),
        ("extend", "--days", "3"),
        ("extend", "--never"),
        ("device-limit", "7"),
        ("device-limit", number, "x"),
        ("show", number),
        ("cancel", f"{number}x"),
    ):
        story.run("account", *words, *database, text=number)
    story.run("account", "show", *database, text=f"{number}!")
    story.run("account", "list", *database)
    story.run("gateway", "retire", number, *database)
    story.run("account", "show", "--database", f"sqlite:///{story.folder}/nowhere/x.db", text=number)


def out_of_order(story: Story, number: str) -> None:
    """The database is locked, and then its files can't grow."""
    body = f'{{"public_key": "{honest_key()}"}}'
    other = story.account()
    with locked(story.server.path):
        assert story.ask("POST", "/v1/devices", bearer=other, body=body).status == 503
    assert story.server.process is not None
    pid = story.server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    answers = [
        story.ask("POST", "/v1/devices", bearer=story_number, body=body) for story_number in (number, other)
    ]
    for _ in range(60):
        if answers[-1].status == 503:
            break
        device = answers[-1].as_(DeviceRegistered)
        story.is_private(device)
        story.ask("DELETE", "/v1/device", bearer=device.token)
        answers.append(story.ask("POST", "/v1/devices", bearer=other, body=body))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert answers[-1].status == 503


def cancelled_while_billing_fails(story: Story, billing: BillingSystem) -> None:
    """Accounts are cancelled on the website and by command, while billing answers this and that."""
    turns = iter(
        [b"HTTP/1.1 500 No\r\nX: billing-canary\r\n\r\nbilling-canary", b"nonsense billing-canary", b""]
    )

    def answer(_told: Told, send: Send) -> None:
        send(next(turns, b"HTTP/1.1 204 Yes\r\n\r\n"))

    billing.answer = answer
    numbers = [story.account(), story.account()]
    story.run("account", "cancel", "--database", story.server.database, text=numbers[0])
    visitor = AtHome(story.server)
    visitor.story = story
    assert visitor.log_in(numbers[1]).status == 200
    visitor.submit(visitor.get("/account/cancel"), "/account/cancel", account=numbers[1])
    told = billing.wait(5)
    story.texts |= {one.event["account_id"] for one in told} | {one.event["id"] for one in told}
    story.texts |= {one.headers["webhook-signature"].partition(",")[2] for one in told}


def guesses(story: Story) -> None:
    """Somebody tries numbers that nobody has, until it is enough."""
    for _ in range(1000):
        number = new_account_number(entropy.bits)
        story.texts.add(number)
        if story.ask("GET", "/v1/devices", bearer=number).status == 429:
            return
    pytest.fail("nobody minded")


def crashed(story: Story) -> None:
    """The server is killed by a fault in the midst of its work, and may leave no core dump."""
    process = story.server.process
    assert process is not None and process.stdout is not None
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    output = process.stdout
    process.send_signal(signal.SIGABRT)
    process.wait(20)
    story.write("standard output of serve", output.read().encode())
    output.close()
    story.server.process = None


def read_files(story: Story) -> None:
    """Take all files that there are but those that are meant to hold what is private."""
    for path in sorted(story.folder.rglob("*")):
        name = str(path.relative_to(story.folder))
        is_meant = name.startswith(("control.db", "client/")) or name in ("token", "webhook-secret")
        if path.is_file() and not is_meant:
            story.write(name, path.read_bytes())


def assert_counts_only(text: str) -> None:
    """Check that metrics have no label but statuses and names of alarms, and no text anywhere."""
    known = {"status": re.compile(r"\d{3}"), "alarm": re.compile("|".join(Alarms().counts))}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert len(samples) > 20
    for sample in samples:
        assert sample.exemplar is None
        for name, value in sample.labels.items():
            assert known[name].fullmatch(value), sample


async def test_p15_a_mistake_of_ours_tells_nobodys_values(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that fails over somebody's key is answered with 500, and logged by its place alone."""
    written, number, key = io.StringIO(), await plane.account(), honest_key()
    handler = logging.StreamHandler(written)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))

    def fail(_body: object) -> None:
        name, private = "amber otter", PrivateKey(os.urandom(32))
        raise KeyError(name, private, key, number, {"account": number})

    monkeypatch.setattr(handlers.PublicKey, "from_text", fail)
    log = logging.getLogger("exuvia.api")
    log.addHandler(handler)
    answer = await plane.ask("POST", "/v1/devices", bearer=number, body={"public_key": key})
    log.removeHandler(handler)

    assert (answer.status, "KeyError at test_everything_written.py:" in written.getvalue()) == (500, True)
    said = written.getvalue().encode() + answer.body
    ways: Iterable[bytes] = (way for text in ("otter", key, number) for way in spellings(text.encode()))
    assert not [way for way in ways if way in said]
    assert not [way for way in spellings(raw(key)) if way in said]
