"""Somebody with a browser that runs no scripts: follows links, fills in forms, keeps cookies."""

import os
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from control_plane import Answer, Server


@dataclass
class Form:
    """A form on a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    """Collects the forms of a page; what stands in noscript counts, for no script runs."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given["action"], given.get("method", "get")))
        elif tag == "input" and self.forms and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and self._select not in self.forms[-1].fields:
            self.forms[-1].fields[self._select] = given["value"]


@dataclass
class Shown:
    """A page as it was shown, and where."""

    path: str
    answer: Answer

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self.answer.status

    @property
    def text(self) -> str:
        """Its HTML."""
        return self.answer.body.decode()

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, by lower-case name."""
        return {name.lower(): value for name, value in self.answer.headers.items()}

    def form(self, action: str | None = None) -> Form:
        """Return the form with this action; the last one if none is named."""
        parser = _Forms()
        parser.feed(self.text)
        return [form for form in parser.forms if action in (None, form.action)][-1]


class Visitor:
    """One browser, at one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        # Each from an address of its own: what one gets wrong does not count for the others.
        self.address = f"127.{1 + os.urandom(1)[0] % 254}.{os.urandom(1)[0]}.{1 + os.urandom(1)[0] % 254}"

    def get(self, path: str, **headers: str) -> Shown:
        """Open a page, and follow where it leads."""
        return self._follow(path, self.send("GET", path, **headers))

    def submit(self, page: Shown, action: str | None = None, **filled: str) -> Shown:
        """Fill in a form of a page and send it, and follow where that leads."""
        form = page.form(action)
        return self.post(form.action, {**form.fields, **filled})

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Shown:
        """Send a form as a browser does from a page of the same website."""
        return self._follow(path, self.send("POST", path, urlencode(fields).encode(), **headers))

    def send(self, method: str, path: str, raw: bytes | None = None, **headers: str) -> Answer:
        """Send one request with what a browser adds; a header given as "" is left out."""
        given = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}
        if raw is not None:
            given |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null"}
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.server.ask(
            method,
            path,
            raw=raw,
            headers={name: value for name, value in given.items() if value},
            source=self.address,
        )
        self._keep(answer)
        return answer

    def log_in(self, number: str) -> Shown:
        """Log in with an account number."""
        return self.submit(self.get("/login"), "/login", account=number)

    def add(self, key: str) -> str:
        """Add a device with this key, which must be possible; return its path."""
        shown = self.submit(self.get("/devices/new"), "/devices/new", public_key=key)
        assert shown.status == 200 and shown.path.startswith("/devices/"), shown
        return shown.path.partition("?")[0]

    def csrf(self) -> str:
        """Return the token of this session's forms."""
        return self.get("/account").form("/logout").fields["csrf"]

    def _follow(self, path: str, answer: Answer) -> Shown:
        while answer.status == 303:
            path = answer.headers["location"]
            answer = self.send("GET", path)
        return Shown(path, answer)

    def _keep(self, answer: Answer) -> None:
        told = answer.headers.get("set-cookie")
        if told is not None:
            name, _, value = told.partition(";")[0].partition("=")
            if "Max-Age=0" in told:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
