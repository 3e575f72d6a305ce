"""The website without scripts: devices, their keys, and their end."""

import json
import re
import sqlite3
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import pytest

from control_plane import Server, honest_key
from portal_visitor import Shown, Visitor

NAME = re.compile(r"<h1>(\w+ \w+)</h1>")


class Person(Visitor):
    """Somebody with an account."""

    def __init__(self, server: Server, number: str) -> None:
        super().__init__(server)
        self.number = number

    def keys(self) -> list[str]:
        """Return the account's public keys, as the API has them."""
        devices = self.server.ask("GET", "/v1/devices", bearer=self.number).json
        return sorted(key for device in devices for key in device["public_keys"])


@pytest.fixture
def person(server: Server) -> Person:
    """Somebody who is logged in, with room for two devices."""
    person = Person(server, number=server.account(devices=2))
    assert person.log_in(person.number).path == "/"
    return person


def standings(server: Server, *keys: str) -> list[str | None]:
    """Return how keys stand in the database; None for one that is not there."""
    with sqlite3.connect(server.path) as database:
        found = dict(database.execute("SELECT public_key, standing FROM key"))
    return [found.get(b64decode(key)) for key in keys]


def text_of(shown: Shown) -> str:
    """Return what a page says, without its tags."""
    return unescape(re.sub(r"<[^>]+>", " ", shown.text))


def test_a_device_is_added_and_shown(person: Person) -> None:
    """Its page has its random name, its key, its addresses, and a configuration but for the private key."""
    key = honest_key()
    shown = person.get(person.add(key))
    name = NAME.search(shown.text)

    assert name and key in text_of(shown)
    assert re.search(r"Address = 10\.\d+\.\d+\.\d+/32, fd", shown.text)
    assert "Endpoint = gateway.example:51820" in shown.text
    assert name[1] in person.get("/").text
    assert person.keys() == [key]


def test_a_script_is_answered_in_json(person: Person) -> None:
    """It gets what a configuration needs: addresses, the preshared key, the gateway, revision and epoch."""
    fields = {"csrf": person.csrf(), "public_key": honest_key(), "gateway": "se1"}
    answer = person.post("/devices/new", fields, Accept="application/json").answer
    state = person.server.ask("GET", "/v1/devices", bearer=person.number).json

    assert answer.status == 201
    assert {"id", "name", "addresses", "preshared_key", "gateway", "revision", "epoch"} <= set(answer.json)
    assert {"name", "public_key", "endpoint", "dns"} <= set(answer.json["gateway"])
    assert state[0]["id"] == answer.json["id"]


def test_a_script_is_refused_in_a_problem_document(person: Person) -> None:
    """A bad key, a gateway that is not offered, a session that ended: each says what it is."""
    given = {"csrf": person.csrf(), "public_key": honest_key(), "gateway": "se1"}
    for changed, status in (({"public_key": "x"}, 422), ({"gateway": "nowhere"}, 400), ({"csrf": "x"}, 403)):
        answer = person.post("/devices/new", {**given, **changed}, Accept="application/json").answer
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    person.cookies.clear()
    assert person.post("/devices/new", given, Accept="application/json").status == 401


@pytest.mark.parametrize("key", ["", "x", "A" * 44, "/" * 43 + "=", "é" * 44, "\0", "<script>"])
def test_a_key_that_is_none_is_refused_with_the_form(person: Person, key: str) -> None:
    """422, an error that leads to the field, nothing of what was typed, and nothing is added."""
    page = person.get("/devices/new")
    shown = person.submit(page, "/devices/new", public_key=key)

    assert shown.status == 422
    assert 'href="#public_key"' in shown.text and 'role="alert"' in shown.text
    assert len(key) < 5 or key not in shown.text
    assert person.keys() == []


def test_without_scripts_a_key_can_be_pasted(person: Person) -> None:
    """The form for a key that one made oneself has a visible field, and no script takes it over."""
    page = person.get("/devices/new?own")
    assert 'data-exuvia="new-key"' not in page.text
    assert '<input id="public_key" name="public_key" type="text" required' in page.text

    assert person.submit(page, "/devices/new", public_key=honest_key()).path.startswith("/devices/")


def test_only_gateways_whose_key_lasts_are_offered(person: Person) -> None:
    """One whose key is gone after a restart can't stand in a configuration that somebody keeps."""
    server = person.server
    hello = {"public_key": honest_key(), "lasting": False}
    assert server.ask("PUT", "/v1/gateway", bearer=server.gateway("fleeting"), body=hello).status == 200
    server.gateway("silent")

    for path in ("/gateways", "/devices/new", person.add(honest_key())):
        shown = person.get(path)
        assert "se1" in shown.text
        assert "fleeting" not in shown.text and "silent" not in shown.text


def test_the_configuration_names_the_gateway_that_is_chosen(person: Person) -> None:
    """By a plain form; one that is not offered is not named."""
    server, key = person.server, honest_key()
    hello = {"public_key": key, "lasting": True}
    assert server.ask("PUT", "/v1/gateway", bearer=server.gateway("aa2"), body=hello).status == 200
    device = person.add(honest_key())

    assert f"PublicKey = {key}" in text_of(person.get(f"{device}?gateway=aa2"))
    assert f"PublicKey = {key}" not in text_of(person.get(f"{device}?gateway=se1"))
    assert person.get(f"{device}?gateway=%3Cb%3E").status == 200


def test_a_replaced_key_goes_with_the_next_batch(person: Person) -> None:
    """P13: the new key is the only one of the device; the old one stays in the table, retired, until then."""
    old, new = honest_key(), honest_key()
    device = person.add(old)
    shown = person.submit(person.get(f"{device}/replace?own"), f"{device}/replace", public_key=new)

    assert "within ten minutes" in text_of(shown) and person.keys() == [new]
    assert standings(person.server, old, new) == ["retired", "current"]
    assert (
        person.submit(person.get(f"{device}/replace?own"), f"{device}/replace", public_key=old).status == 422
    )


def test_a_device_is_deleted_once_that_is_confirmed(person: Person) -> None:
    """Asking to does nothing; the form of the page that asks does it at once, and the key is free again."""
    key = honest_key()
    device = person.add(key)
    page = person.get(f"{device}/delete")
    assert person.keys() == [key]

    assert person.submit(page, f"{device}/delete").path == "/"
    assert person.keys() == [] and person.get(device).status == 404
    assert standings(person.server, key) == [None]


def test_all_devices_are_deleted_once_that_is_confirmed(person: Person) -> None:
    """One form deletes all of them, and those of nobody else."""
    other = Person(person.server, number=person.server.account())
    other.log_in(other.number)
    other.add(honest_key())
    for _ in range(2):
        person.add(honest_key())

    assert person.submit(person.get("/devices/delete-all"), "/devices/delete-all").path == "/"
    assert person.keys() == [] and len(other.keys()) == 1


def test_nobody_sees_or_touches_devices_of_others(person: Person) -> None:
    """Another account's device is 404 by whatever path, and stays as it is."""
    other = Person(person.server, number=person.server.account())
    other.log_in(other.number)
    key = honest_key()
    device = other.add(key)
    token = person.csrf()

    for path in (device, f"{device}/replace", f"{device}/delete"):
        assert person.get(path).status == 404
    for what in ("replace", "delete"):
        assert person.post(f"{device}/{what}", {"csrf": token, "public_key": honest_key()}).status == 404
    assert other.keys() == [key]


def test_at_the_limit_it_is_said_what_to_do(person: Person) -> None:
    """The page lists the devices with a way to delete each; a device that goes makes room."""
    devices = [person.add(honest_key()) for _ in range(2)]
    page = person.get("/devices/new")
    assert "No room" in page.text and all(f"{device}/delete" in page.text for device in devices)
    assert 'href="/devices/new"' not in person.get("/").text

    late = person.post("/devices/new", {"csrf": person.csrf(), "public_key": honest_key()})
    assert (late.status, "No room" in late.text) == (409, True)
    person.submit(person.get(f"{devices[0]}/delete"))
    person.add(honest_key())


def test_of_100_at_once_exactly_the_limit_succeed(person: Person) -> None:
    """Requests that come together can't pass the limit."""
    token = person.csrf()

    def add(_: int) -> int:
        fields = {"csrf": token, "public_key": honest_key()}
        return person.post("/devices/new", fields, Accept="application/json").status

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(add, range(100)))

    assert (answers.count(201), answers.count(409)) == (2, 98)
    assert len(person.keys()) == 2


def test_the_export_has_every_column_that_is_about_the_account(person: Person) -> None:
    """Every column of every table that leads to an account is in the file, with what is stored there."""
    key = honest_key()
    person.add(key)
    shown = person.get("/account/export.json")
    told = json.loads(shown.text)
    with sqlite3.connect(person.server.path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = {
            table: {row[1] for row in database.execute(f"PRAGMA table_info({table})")} for table in tables
        }
    about = {"account"} | {table for table, names in columns.items() if "account_id" in names}
    about -= {"outbox"}  # of accounts that were cancelled, whose holder can no longer ask

    assert "attachment" in shown.headers["content-disposition"]
    assert about == set(told) - {"sessions", "change"}
    assert set(told["account"]) == columns["account"]
    assert set(told["device"][0]) == columns["device"] and set(told["key"][0]) == columns["key"]
    assert told["key"][0]["public_key"] == key and told["sessions"] == 1
    assert [change["public_key"] for change in told["change"]] == [key]


def test_the_export_page_says_the_same_in_words(person: Person) -> None:
    """Whatever the file has stands on the page too."""
    person.add(honest_key())
    told = json.loads(person.get("/account/export.json").text)
    page = text_of(person.get("/account/export"))

    for row in (told["account"], *told["device"], *told["key"]):
        for name, value in row.items():
            assert value is None or str(value) in page or name in ("account_id",), name


def test_cancelling_takes_the_account_number(person: Person) -> None:
    """Another number cancels nothing; the right one leaves nothing, and the session is over."""
    key = honest_key()
    person.add(key)
    page = person.get("/account/cancel")
    wrong = person.submit(page, "/account/cancel", account=person.server.account())
    assert (wrong.status, len(person.keys())) == (422, 1)

    shown = person.submit(page, "/account/cancel", account=person.number.lower())
    assert (shown.path, person.cookies) == ("/login?cancelled", {})
    assert person.log_in(person.number).status == 403
    assert standings(person.server, key) == [None]
