"""What protects people who are logged in, and their browsers."""

import contextlib
import re
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from control_plane import Server, honest_key, server_in
from exuvia.api import identifiers
from exuvia.messages import AccountSummary
from exuvia.portal.asking import Page, Who
from exuvia.portal.entry import NOT_ACCEPTED
from exuvia.portal.table import PAGES
from exuvia.rules.failing import Credential
from exuvia.rules.limits import LONGEST_BODY
from portal_visitor import Visitor

CANARY = "c4n4ry-s3nt-by-somebody"
ANY_ID = "a" * 25 + "q"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'"
    "; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    "; require-trusted-types-for 'script'; trusted-types 'none'"
)


def concrete(path: str) -> str:
    """Return a path of the table with something in its places."""
    return path.replace("{id}", ANY_ID).replace("{name}", "x")


def named(page: Page) -> str:
    """Return what a page of the table is called in tests."""
    return f"{page.method} {page.path}"


def logged_in(server: Server) -> Visitor:
    """Return somebody who has just logged in."""
    visitor = Visitor(server)
    assert visitor.log_in(server.account()).path == "/"
    return visitor


def act(server: Server, what: str, number: str) -> None:
    """Do something to an account as its operator."""
    found = server.operator.ask("POST", "/v1/admin/accounts/find", {"account": number}, gives=AccountSummary)
    server.operator.ask("POST", f"/v1/admin/accounts/{found.id}/{what}", gives=object)


@pytest.mark.parametrize("written", ["as told", "small", "spaces", "bare", "alike"])
def test_a_number_is_recognised_however_it_is_typed(server: Server, written: str) -> None:
    """In small letters, with spaces or without any, with O for 0 and I or l for 1."""
    number = server.account()
    typed = {
        "as told": number,
        "small": number.lower(),
        "spaces": f"  {number.replace('-', ' ')} ",
        "bare": number.replace("-", ""),
        "alike": number.replace("0", "O").replace("1", "l"),
    }[written]

    assert Visitor(server).log_in(typed).path == "/"


def test_one_refusal_whatever_is_wrong(server: Server) -> None:
    """Unknown, mistyped, suspended, cancelled: the same page to the byte, which says what may be wrong."""
    suspended, cancelled = server.account(), server.account()
    act(server, "suspend", suspended)
    act(server, "cancel", cancelled)
    shown = [Visitor(server).log_in(n) for n in ("", "x", "0" * 28, "é" * 28, CANARY, suspended, cancelled)]

    assert {page.status for page in shown} == {403}
    assert len({page.text for page in shown}) == 1
    assert NOT_ACCEPTED in shown[0].text and CANARY not in shown[0].text
    assert not any(page.answer.headers.get("set-cookie") for page in shown)


@pytest.mark.parametrize("page", [p for p in PAGES if p.who is not Who.ANYBODY], ids=named)
def test_nobody_sees_a_page_without_logging_in(server: Server, page: Page) -> None:
    """Every page of the table but those for anybody leads to the login, whatever is sent."""
    path = concrete(page.path)
    answer = Visitor(server).send(page.method, path, b"csrf=x" if page.method == "POST" else None)

    assert (answer.status, answer.headers["location"], answer.body) == (303, "/login", b"")


def test_every_form_is_refused_without_its_token(server: Server) -> None:
    """CSRF: without the session's token, or with another session's, no form does anything."""
    visitor, other = logged_in(server), logged_in(server)
    device = visitor.add(honest_key())
    theirs = other.csrf()
    paths = [p.path for p in PAGES if p.method == "POST" and p.who is Who.HOLDER]
    assert len(paths) > 5
    for path in paths:
        for token in ("", "x", theirs):
            shown = visitor.post(path.replace("{id}", device.split("/")[2]), {"csrf": token})
            assert shown.status == 403, path
    assert visitor.get(device).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "own"},
        {"Sec_Fetch_Site": "", "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "", "Origin": "null"},
        {"Sec_Fetch_Site": "", "Origin": ""},
    ],
    ids=str,
)
def test_forms_of_other_sites_are_refused(server: Server, headers: dict[str, str]) -> None:
    """CSRF: not even a login or a logout, and not even with the right token."""
    visitor, number = logged_in(server), server.account()
    token = visitor.csrf()
    given = {name: server.url if value == "own" else value for name, value in headers.items()}
    for path, fields in (
        ("/login", {"account": number}),
        ("/logout", {"csrf": token}),
        ("/devices/new", {"csrf": token, "public_key": honest_key()}),
    ):
        answer = visitor.post(path, fields, **given).answer
        assert (answer.status, answer.headers.get("set-cookie")) == (403, None)
    assert "There are none yet" in visitor.get("/").text


def test_a_browser_that_says_only_its_origin_is_believed(server: Server) -> None:
    """Where Sec-Fetch-Site is not known, Origin has to be ours, with its port."""
    fields = {"account": server.account()}
    own = Visitor(server).post("/login", fields, Sec_Fetch_Site="", Origin=server.url)
    port = Visitor(server).post("/login", fields, Sec_Fetch_Site="", Origin=server.url[:-1])

    assert (own.path, port.status) == ("/", 403)


def test_the_session_is_another_one_after_logging_in(server: Server) -> None:
    """Session fixation: a name that somebody planted, known or not, opens nothing afterwards."""
    attacker = logged_in(server)
    for planted in (attacker.cookies["exuvia"], "x" * 43, ""):
        victim = Visitor(server)
        victim.cookies["exuvia"] = planted
        victim.post("/login", {"account": server.account()})
        assert victim.cookies["exuvia"] != planted
        assert victim.get("/account").status == 200
        fixed = Visitor(server)
        fixed.cookies["exuvia"] = planted
        assert fixed.get("/account").path == "/login?ended"[: 12 if planted else 6]


def test_the_cookie_is_kept_from_scripts_and_other_sites(server: Server, tmp_path: Path) -> None:
    """HttpOnly, SameSite=Strict, for the session only; with TLS in front also Secure and __Host-."""
    answer = Visitor(server).send("POST", "/login", f"account={server.account()}".encode())
    told = answer.headers["set-cookie"]
    assert re.fullmatch(r"exuvia=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict", told)

    (tmp_path / "proxied").mkdir()
    with server_in(tmp_path / "proxied", "--behind-proxy") as proxied:
        answer = Visitor(proxied).send("POST", "/login", f"account={proxied.account()}".encode())
        told = answer.headers["set-cookie"]
        assert re.fullmatch(r"__Host-exuvia=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict; Secure", told)
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        own = {"Sec_Fetch_Site": "", "Host": "control.example", "Origin": "https://control.example"}
        fields = {"account": proxied.account()}
        assert Visitor(proxied).post("/login", fields, **own).path == "/"
        assert (
            Visitor(proxied).post("/login", fields, **own | {"Origin": "http://control.example"}).status
            == 403
        )


def test_guessing_numbers_is_limited_and_locks_nobody_out(server: Server) -> None:
    """After 64 wrong numbers from one address none is looked at; from elsewhere the right one is."""
    guesser, number = Visitor(server), server.account()
    fields = [{"account": f"{n:028}"} for n in range(Credential.ACCOUNT.burst)]
    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(lambda given: guesser.post("/login", given).status, fields * 2))
    late = guesser.log_in(number)

    assert set(statuses) == {403, 429} and statuses.count(403) <= Credential.ACCOUNT.burst + 3
    assert (late.status, "Too many numbers" in late.text) == (429, True)
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert Visitor(server).log_in(number).path == "/"


def test_leaving_ends_the_session_on_the_server(server: Server) -> None:
    """The cookie is taken away, and would open nothing any more."""
    visitor = logged_in(server)
    kept = dict(visitor.cookies)
    assert visitor.submit(visitor.get("/"), "/logout").path == "/login?out"
    assert visitor.cookies == {}
    visitor.cookies = kept

    assert visitor.get("/account").path == "/login?ended"


@pytest.mark.parametrize("what", ["suspend", "cancel"])
def test_a_session_ends_with_its_account(server: Server, what: str) -> None:
    """At the next request; and resuming the account does not bring it back."""
    number = server.account()
    visitor = Visitor(server)
    visitor.log_in(number)
    act(server, what, number)
    kept = dict(visitor.cookies)

    assert visitor.get("/account").path == "/login?ended"
    if what == "suspend":
        act(server, "resume", number)
        visitor.cookies = kept
        assert visitor.get("/account").path == "/login?ended"


def test_a_session_ends_when_the_last_day_is_over(server: Server) -> None:
    """At the next request, as with any account that may do nothing; the number is refused like any other."""
    number = server.account()
    visitor = Visitor(server)
    visitor.log_in(number)
    found = server.operator.ask("POST", "/v1/admin/accounts/find", {"account": number}, gives=AccountSummary)
    with contextlib.closing(sqlite3.connect(server.path)) as database, database:
        gone = ("2000-01-01", identifiers.from_text(found.id))
        assert database.execute("UPDATE account SET expires = ? WHERE id = ?", gone).rowcount == 1

    assert visitor.get("/account").path == "/login?ended"
    assert NOT_ACCEPTED in Visitor(server).log_in(number).text


def test_every_answer_holds_browsers_to_the_strictest(server: Server) -> None:
    """Clickjacking, sniffing, referrers, foreign scripts: on pages, refusals, redirects, files, JSON."""
    visitor = logged_in(server)
    static = re.findall(r'(?:href|src)="(/static/[^"]+)"', visitor.get("/").text)
    assert len(static) == 2
    pages = ["/", "/account", "/nowhere", "/account/export.json", "/static/x", *static]
    answers = [visitor.send("GET", path) for path in pages] + [visitor.send("PUT", "/")]
    answers += [visitor.send("POST", "/login", b"account=x"), visitor.send("POST", "/login", b"x", Origin="")]
    answers += [Visitor(server).send("GET", "/account")]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "geolocation=()" in answer.headers["permissions-policy"]
        assert "strict-transport-security" not in answer.headers
    kept = [answer.headers["cache-control"] for answer in answers]
    assert set(kept[:5] + kept[7:]) == {"no-store"}
    assert kept[5:7] == ["public, max-age=31536000, immutable"] * 2


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_nothing_that_is_sent_comes_back(server: Server, page: Page) -> None:
    """XSS: markup in each path, query, header and field of each page is in no answer, escaped or not."""
    visitor = logged_in(server)
    evil = f'"><script>{CANARY}</script>'
    path = page.path.replace("{id}", f"<b>{CANARY}").replace("{name}", CANARY)
    names = ("account", "public_key", "gateway", "code", "credential", "proof", CANARY)
    fields = {"csrf": visitor.csrf(), **dict.fromkeys(names, evil)}
    target = path.replace("<", "%3C") + f"?gateway={CANARY}&own={CANARY}&{CANARY}=1"
    headers = {"X_Y": CANARY, "User_Agent": CANARY, "Accept_Language": CANARY}
    for accept in ("text/html", "application/json"):
        if page.method == "GET":
            shown = visitor.get(target, Accept=accept, **headers)
        else:
            shown = visitor.post(target, fields, Accept=accept, **headers)
        assert shown.status < 500
        assert CANARY not in shown.text + str(shown.headers)


@pytest.mark.parametrize("host", ['x"><script>', "a" * 300, "", "control.example:8443"])
def test_the_host_that_is_asked_for_is_not_written_into_a_page(server: Server, host: str) -> None:
    """What the QR code calls the place is the host only if that looks like one."""
    visitor = logged_in(server)
    assert "<script>" not in visitor.get("/account/second-factor/code", Host=host).text


def test_what_operators_name_things_is_escaped(server: Server) -> None:
    """A gateway whose city is markup is shown as text."""
    wanted = {"name": "evil", "endpoint": "gateway.example:51820", "city": "<script>alert(1)</script>"}
    enrolled = server.operator.ask("POST", "/v1/admin/gateways", wanted, gives=dict)
    hello = {"public_key": honest_key(), "lasting": True}
    assert server.ask("PUT", "/v1/gateway", bearer=enrolled["token"], body=hello).status == 200
    visitor = logged_in(server)

    for path in ("/gateways", "/devices/new", visitor.add(honest_key())):
        text = visitor.get(path).text
        assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text


def test_unknown_paths_are_a_page_for_browsers_and_a_problem_for_programs(server: Server) -> None:
    """/v1 is the API's whatever is below it; elsewhere it is 404 with a page, unless JSON is asked for."""
    visitor = Visitor(server)
    for path in ("/v1", "/v1/nowhere"):
        assert visitor.send("GET", path).headers["content-type"] == "application/problem+json"
    page = visitor.send("GET", f"/{CANARY}")
    program = visitor.send("GET", f"/{CANARY}", Accept="application/json")

    assert (page.status, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (program.status, program.headers["content-type"]) == (404, "application/problem+json")
    assert visitor.send("GET", "/healthz").json["status"] == "ok"
    assert visitor.send("GET", "/openapi.json").status == 200


def test_what_is_no_form_is_refused(server: Server) -> None:
    """Other media types, bodies that are too long, too many fields, no length: 4xx, each for its reason."""
    visitor, json = Visitor(server), {"Content_Type": "application/json"}
    multipart = {"Content_Type": "multipart/form-data; boundary=x"}
    big = b"account=" + b"x" * LONGEST_BODY

    assert visitor.send("POST", "/login", b"{}", **json).status == 415
    assert visitor.send("POST", "/login", b"--x--", **multipart).status == 415
    assert visitor.send("POST", "/login", big).status == 413
    assert visitor.send("POST", "/login", b"&".join([b"a=1"] * 51)).status == 400
    assert visitor.send("POST", "/login", b"account=\xff\xfe").status == 400
    assert visitor.send("POST", "/login", b"account=%ff%fe%00%ed%a0%80").status == 403
    assert visitor.send("DELETE", "/login").status == 405


def test_the_head_of_a_page_is_answered_without_its_body(server: Server) -> None:
    """HEAD is GET, but for the body."""
    parts = urlsplit(server.url)
    with socket.create_connection(("127.0.0.1", parts.port or 0), 20) as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n")


def test_the_website_can_be_left_out(tmp_path: Path) -> None:
    """With --no-portal there is the API and nothing else."""
    with server_in(tmp_path, "--no-portal") as server:
        for path in ("/", "/login", "/static/portal.css"):
            answer = Visitor(server).send("GET", path)
            assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert server.ask("GET", "/healthz").status == 200
