"""Second factors: what they keep out, how they are set up and lost."""

import base64
import re
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from authenticator import PRESENT, Authenticator

from control_plane import COMMAND, Server, honest_key, server_in, spellings
from exuvia.portal.asking import Who
from exuvia.portal.codes import MOST_WRONG
from exuvia.portal.setting_up import place
from exuvia.portal.table import PAGES
from exuvia.rules import totp
from portal_visitor import Shown, Visitor

LOGIN = "/login/second-factor"
CODE = "/account/second-factor/code"


def step_now() -> int:
    """Return the present step, of which enough is left for a test."""
    while time.time() % totp.STEP > totp.STEP - 4:
        time.sleep(0.5)
    return totp.step_at(time.time())


class Person(Visitor):
    """Somebody with an account, and perhaps with an authenticator app or a passkey."""

    def __init__(self, server: Server, number: str = "") -> None:
        super().__init__(server)
        self.number = number or server.account()
        self.secret = b""
        port = urlsplit(server.url).port
        self.passkey = Authenticator(f"http://localhost:{port}")
        self.host = {"Host": f"localhost:{port}"}

    def set_up_app(self, off: int = -1) -> Shown:
        """Let the account ask for codes, with the code of a step near the present one."""
        page = self.get(CODE)
        shown = re.search(r'Secret: <code class="key">([A-Z2-7 ]+)<', page.text)
        assert shown
        self.secret = base64.b32decode(shown[1].replace(" ", ""))
        return self.submit(page, CODE, code=self.code(off))

    def code(self, off: int = 0) -> str:
        """Return the code that the app shows, or one of another step."""
        return totp.code(self.secret, step_now() + off)

    def ask_script(self, path: str, **fields: str) -> Any:
        """Send what a script sends, to the host that passkeys are for."""
        given = {"csrf": self.token, **fields}
        return self.post(path, given, Accept="application/json", **self.host).answer

    def set_up_passkey(self) -> Any:
        """Let the account ask for a passkey."""
        self.token = self.csrf()
        options = self.ask_script("/account/second-factor/passkey/options").json
        credential = self.passkey.register(options)
        return self.ask_script("/account/second-factor/passkey/verify", credential=credential)

    def show_passkey(self) -> Any:
        """Give the passkey that a login asks for."""
        self.token = self.get(LOGIN).form("/logout").fields["csrf"]
        options = self.ask_script("/login/passkey/options").json
        return self.ask_script("/login/passkey/verify", credential=self.passkey.show(options))


@pytest.fixture
def person(server: Server) -> Person:
    """Somebody who is logged in, with no second factor."""
    person = Person(server)
    assert person.log_in(person.number).path == "/"
    return person


def again(person: Person) -> Person:
    """Return the same person with another browser, who has given the number only."""
    other = Person(person.server, person.number)
    other.secret, other.passkey = person.secret, person.passkey
    assert other.log_in(person.number).path == LOGIN
    return other


def test_with_a_code_one_comes_in(person: Person) -> None:
    """Number, then code: and the session that saw only the number has become another one."""
    assert person.set_up_app().status == 200
    other = again(person)
    half = other.cookies["exuvia"]
    shown = other.submit(other.get(LOGIN), LOGIN, code=other.code())

    assert shown.path == "/" and other.get("/account").status == 200
    assert other.cookies["exuvia"] != half
    other.cookies["exuvia"] = half
    assert other.get("/account").path == "/login?ended"


@pytest.mark.parametrize("page", [p for p in PAGES if p.who is Who.HOLDER], ids=lambda p: p.path)
def test_no_page_can_be_seen_with_the_number_alone(server: Server, page: Any) -> None:
    """Going straight to any page leads back to the second factor, also with the right form token."""
    person = guarded(server)
    token = person.get(LOGIN).form("/logout").fields["csrf"]
    path = page.path.replace("{id}", "a" * 25 + "q")
    answer = person.send(page.method, path, f"csrf={token}".encode() if page.method == "POST" else None)

    assert (answer.status, answer.headers["location"], answer.body) == (303, LOGIN, b"")


_GUARDED: dict[str, Person] = {}


def guarded(server: Server) -> Person:
    """Return somebody who has given the number of an account that asks for a code; the same one each time."""
    if server.url not in _GUARDED:
        person = Person(server)
        person.log_in(person.number)
        person.set_up_app()
        _GUARDED[server.url] = again(person)
    return _GUARDED[server.url]


def test_a_code_is_good_once(person: Person) -> None:
    """Neither the code that set it up nor one that let somebody in lets anybody in again."""
    person.set_up_app(off=-1)
    assert again(person).post(LOGIN, {"csrf": "x", "code": person.code()}).status == 403
    for off, path in ((-1, LOGIN), (0, "/"), (0, LOGIN), (-1, LOGIN), (1, "/")):
        other = again(person)
        assert other.submit(other.get(LOGIN), LOGIN, code=person.code(off)).path == path


def test_of_many_who_give_one_code_at_once_one_comes_in(person: Person) -> None:
    """A code that somebody saw over a shoulder is used up by whoever is first."""
    person.set_up_app()
    others = [again(person) for _ in range(8)]
    pages, code = [other.get(LOGIN) for other in others], person.code()
    with ThreadPoolExecutor(8) as threads:
        shown = list(
            threads.map(
                lambda pair: pair[0].submit(pair[1], LOGIN, code=code), zip(others, pages, strict=True)
            )
        )

    assert sorted(page.path for page in shown) == ["/"] + [LOGIN] * 7


def test_a_restart_makes_no_code_good_again(tmp_path: Path) -> None:
    """What may have been used before the server started is refused after it."""
    with server_in(tmp_path) as server:
        person = Person(server)
        person.log_in(person.number)
        person.set_up_app()
        other = again(person)
        assert other.submit(other.get(LOGIN), LOGIN, code=person.code(0)).path == "/"
        server.stop()
        server.start()
        other = again(person)
        for off in (-1, 0, 1):
            assert other.submit(other.get(LOGIN), LOGIN, code=person.code(off)).status == 403


def test_few_wrong_codes_may_be_tried(person: Person) -> None:
    """After ten, not even the right one is looked at, by whomever; other accounts are not concerned."""
    person.set_up_app()
    for _ in range(MOST_WRONG):
        other = again(person)
        assert other.submit(other.get(LOGIN), LOGIN, code="x").status == 403
    shown = other.submit(other.get(LOGIN), LOGIN, code=person.code())
    assert (shown.status, "Too many wrong codes" in shown.text) == (429, True)

    second = Person(person.server)
    second.log_in(second.number)
    second.set_up_app()
    other = again(second)
    assert other.submit(other.get(LOGIN), LOGIN, code=second.code()).path == "/"


def test_wrong_codes_of_one_address_are_limited(person: Person) -> None:
    """Ten of any accounts; after that none is looked at from there, and from elsewhere it is."""
    person.set_up_app()
    people = [Person(person.server) for _ in range(2)]
    for one in people:
        one.log_in(one.number)
        one.set_up_app()
    guesser = again(people[0])
    for n in range(10):
        other = again(people[n % 2])
        other.address = guesser.address
        assert other.submit(other.get(LOGIN), LOGIN, code="x").status == 403
    other = again(person)
    here = other.address
    other.address = guesser.address
    assert other.submit(other.get(LOGIN), LOGIN, code=person.code()).status == 429
    other.address = here
    assert other.submit(other.get(LOGIN), LOGIN, code=person.code()).path == "/"


@pytest.mark.parametrize("host", ["", "a&secret=x", "a/b", "a%00", "é", "a" * 101, "[::1]", "a?b", "a:b"])
def test_what_an_app_calls_the_website_is_a_host_or_nothing_of_it(host: str) -> None:
    """Whatever was asked for can't change what else the QR code says."""
    assert (place(host), place("control.example")) == ("exuvia", "control.example")


def test_a_wrong_code_sets_nothing_up(person: Person) -> None:
    """The secret stays the same until the app has shown a right code, and only then it is asked for."""
    page = person.get(CODE)
    shown = person.submit(page, CODE, code="000000")
    secret = re.findall(r'class="key">([A-Z2-7 ]+)<', page.text)

    assert shown.status == 422 and re.findall(r'class="key">([A-Z2-7 ]+)<', shown.text) == secret
    assert Person(person.server, person.number).log_in(person.number).path == "/"


def test_the_number_alone_opens_nothing_of_the_api(person: Person) -> None:
    """With a second factor it is refused there like a number that nobody has."""
    server, device = person.server, person.add(honest_key()).split("/")[2]
    person.set_up_app()
    asked = [("GET", "/v1/devices"), ("DELETE", f"/v1/devices/{device}"), ("GET", "/v1/gateways")]
    for method, path in [*asked, ("POST", "/v1/devices")]:
        body = {"public_key": honest_key()} if method == "POST" else None
        with_it = server.ask(method, path, bearer=person.number, body=body)
        unknown = server.ask(method, path, bearer="0" * 28, body=body)
        assert (with_it.status, with_it.body) == (401, unknown.body)
    assert person.get(f"/devices/{device}").status == 200


def test_a_device_code_lets_in_one_device(person: Person) -> None:
    """Instead of the number; the same key may ask again, another one not; a fresh code voids the last."""
    person.set_up_app()
    server, codes = person.server, []
    for _ in range(3):
        shown = person.submit(person.get("/devices/new"), "/devices/code")
        codes += re.findall(r"<code>([0-9A-Z-]{34})</code>", shown.text)
    key, other = honest_key(), honest_key()

    def register(code: str, key: str) -> int:
        return server.ask("POST", "/v1/devices", bearer=code, body={"public_key": key}).status

    assert [register(code, key) for code in codes[:2]] == [401, 401]
    assert [register(codes[2], "x"), register(codes[2], key)] == [422, 201]
    assert [register(codes[2], key), register(codes[2], other)] == [201, 401]
    assert server.ask("GET", "/v1/devices", bearer=codes[2]).status == 401


def test_the_client_takes_a_device_code_for_a_number(person: Person, tmp_path: Path) -> None:
    """`exuvia client login` says what to do when the number is not enough, and logs in with the code."""
    person.set_up_app()
    command = [*COMMAND, "client", "--state", str(tmp_path), "login", "--control", person.server.url]

    def log_in(typed: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, input=f"{typed}\n", text=True, capture_output=True)

    refused = log_in(person.number)
    assert (refused.returncode, "device code" in refused.stderr) == (1, True)
    shown = person.submit(person.get("/devices/new"), "/devices/code")
    code = re.findall(r"<code>([0-9A-Z-]{34})</code>", shown.text)[0]
    done = log_in(code)
    name = done.stdout.partition("called ")[2].split("\n")[0]

    assert (done.returncode, done.stderr) == (0, "")
    assert name and name in person.get("/").text


def test_other_sessions_end_when_a_second_factor_is_set(person: Person) -> None:
    """Whoever came in with the number alone is out; so is everybody when the operator removes it."""
    other = Person(person.server, person.number)
    other.log_in(person.number)
    person.set_up_app()
    assert other.get("/account").path == "/login?ended"
    assert person.get("/account").status == 200

    command = [*COMMAND, "account", "remove-second-factor", "--database", person.server.database]
    subprocess.run(command, input=f"{person.number}\n", text=True, check=True)
    assert person.get("/account").path == "/login?ended"
    assert other.log_in(person.number).path == "/"


def test_a_factor_is_removed_by_whoever_came_in_with_it(person: Person) -> None:
    """After that the number is enough again."""
    person.set_up_app()
    path = re.findall(
        r'href="(/account/second-factor/\w+/remove)"', person.get("/account/second-factor").text
    )
    shown = person.submit(person.get(path[0]), path[0])

    assert shown.path == "/account/second-factor"
    assert Person(person.server, person.number).log_in(person.number).path == "/"


def test_the_secret_is_in_no_file_unsealed(person: Person) -> None:
    """The database, with its log, has the secret of an app in no spelling; sealed it is there."""
    person.set_up_app()
    written = b"".join(file.read_bytes() for file in person.server.folder.iterdir() if file.is_file())
    with sqlite3.connect(person.server.path) as database:
        sealed = [row[0] for row in database.execute("SELECT sealed FROM second_factor")]

    assert not any(spelling in written for spelling in spellings(person.secret))
    assert all(one in written for one in sealed) and sealed


def test_with_a_passkey_one_comes_in(person: Person) -> None:
    """Registered in one session, shown in another; every challenge is good once."""
    assert person.set_up_passkey().json == {"location": "/account/second-factor"}
    other = again(person)
    answer = other.show_passkey()

    assert answer.json == {"location": "/"} and other.get("/account").status == 200


@pytest.mark.parametrize("wrong", ["key", "origin", "rp_id", "flags", "id", "garbage", "replay"])
def test_a_passkey_that_is_not_right_lets_nobody_in(person: Person, wrong: str) -> None:
    """Another key, another website, nobody verified, another name, nonsense, an answer of before."""
    person.set_up_passkey()
    thief = again(person)
    right = person.passkey
    thief.passkey = Authenticator(right.origin, right.rp_id, right.flags, right.key, right.id)
    if wrong == "key":
        thief.passkey.key = Authenticator(right.origin).key
    elif wrong == "origin":
        thief.passkey.origin = "https://evil.example"
    elif wrong == "rp_id":
        thief.passkey.rp_id = "evil.example"
    elif wrong == "flags":
        thief.passkey.flags = PRESENT
    elif wrong == "id":
        thief.passkey.id = b"x" * 32
    elif wrong == "garbage":
        thief.passkey.show = lambda options: '{"rawId": [], "response": null}'  # type: ignore[method-assign]
    else:
        thief.token = thief.get(LOGIN).form("/logout").fields["csrf"]
        old = right.show(thief.ask_script("/login/passkey/options").json)
        thief.passkey.show = lambda options: old  # type: ignore[method-assign]

    assert thief.show_passkey().status == 400
    assert thief.get("/account").path == LOGIN


@pytest.mark.parametrize("host", ["", "127.0.0.1:8080", "[::1]:8080", "a b", "<b>", "é"])
def test_a_website_without_a_name_has_no_passkeys(person: Person, host: str) -> None:
    """Which browsers would refuse anyway: it is said what to do."""
    given = {"csrf": person.csrf()}
    for what in ("options", "verify"):
        path = f"/account/second-factor/passkey/{what}"
        # An empty Host is sent as a space, which the server strips.
        answer = person.post(path, given, Accept="application/json", Host=host or " ").answer
        assert (answer.status, "by its name" in answer.json["detail"]) == (400, what == "options")


def test_an_answer_without_a_question_is_refused(person: Person) -> None:
    """No challenge was given, or it was answered already."""
    person.set_up_passkey()
    other = again(person)
    other.token = other.get(LOGIN).form("/logout").fields["csrf"]
    options = other.ask_script("/login/passkey/options").json
    shown = other.passkey.show(options)
    assert other.ask_script("/login/passkey/verify", credential="{}").status == 400
    assert other.ask_script("/login/passkey/verify", credential=shown).status == 400


def test_a_passkey_is_only_accepted_with_its_person(person: Person) -> None:
    """One that verified nobody is not registered, nor is one for another website, or nonsense."""
    right = person.passkey
    for passkey in (
        Authenticator(right.origin, flags=PRESENT),
        Authenticator("https://evil.example"),
        Authenticator(right.origin, rp_id="evil.example"),
    ):
        person.passkey = passkey
        assert person.set_up_passkey().status == 400
    for text in ("", "{}", "[" * 9999, "null", '{"rawId": "x", "id": "x", "response": {}}', "\x00"):
        person.ask_script("/account/second-factor/passkey/options")
        answer = person.ask_script("/account/second-factor/passkey/verify", credential=text)
        assert answer.status == 400
    assert Person(person.server, person.number).log_in(person.number).path == "/"


def test_what_is_stored_of_a_passkey(person: Person) -> None:
    """Neither its name nor its public key is in a file; nothing changes when it is used."""
    person.set_up_passkey()
    point = person.passkey.key.public_key().public_numbers().x.to_bytes(32, "big")

    def rows() -> list[tuple[bytes, ...]]:
        with sqlite3.connect(person.server.path) as database:
            return database.execute("SELECT * FROM second_factor ORDER BY id").fetchall()

    before = rows()
    other = again(person)
    assert other.show_passkey().status == 200 and rows() == before
    written = b"".join(file.read_bytes() for file in person.server.folder.iterdir() if file.is_file())
    assert not any(
        spelling in written for secret in (point, person.passkey.id) for spelling in spellings(secret)
    )
