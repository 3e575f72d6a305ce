"""P17: whatever is sent to the website, it answers, with no fault of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from control_plane import Plane, honest_key, plane
from exuvia.portal.app import Portal
from exuvia.portal.asking import MOST_FIELDS
from exuvia.portal.site import Site
from exuvia.portal.state import State
from exuvia.portal.table import PAGES
from exuvia.system import clock

__all__ = ["plane"]
FIELDS = ("account", "public_key", "proof", "gateway", "code", "credential", "own", "ended")
JUNK = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "0" * 28,
            "A" * 43 + "=",
            "../../etc/passwd",
            "{}",
            "\0",
            "\udcff".encode("utf-8", "replace").decode(),
        ]
    ),
)
PATHS = st.one_of(
    st.sampled_from([page.path for page in PAGES]),
    st.builds(
        lambda page, junk: page.path.replace("{id}", junk).replace("{name}", junk),
        st.sampled_from(PAGES),
        JUNK,
    ),
    JUNK.map(lambda junk: f"/{junk}"),
)
BODIES = st.one_of(
    st.binary(max_size=300),
    st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=8).map(
        lambda f: urlencode(f, errors="replace").encode()
    ),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["cookie", "host", "origin", "accept", "content-length", "sec-fetch-site", "accept-encoding"]
    ),
    st.binary(max_size=60),
    max_size=4,
)


class Asked:
    """A website in this process, and somebody who is logged in there."""

    def __init__(self, plane: Plane, number_hash: bytes) -> None:
        self.state = State(plane.inner.control, Site(is_https=False))
        self.portal = Portal(self.state)
        self.number_hash = number_hash

    async def status(
        self, method: str, path: str, query: bytes, headers: dict[str, bytes], body: bytes
    ) -> int:
        """Send a request, and return the status."""
        id, session = self.state.sessions.begin(
            self.number_hash, is_complete=True, asked=frozenset(), now=clock.boottime()
        )
        token = f"&csrf={session.csrf}".encode()
        given = {
            "cookie": f"exuvia={id}".encode(),
            "sec-fetch-site": b"same-origin",
            "content-type": b"application/x-www-form-urlencoded",
            **headers,
        }
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(name.encode(), value) for name, value in given.items()],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body + token, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.portal(scope, receive, send)
        return int(sent[0]["status"])


@pytest.fixture
async def asked(plane: Plane) -> AsyncIterator[Asked]:
    """Somebody who is logged in."""
    number = await plane.account(devices=3)
    await plane.register(number, honest_key())
    yield Asked(plane, plane.inner.control.hasher.account(number) or b"")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST", "HEAD", "PUT"]), PATHS, st.binary(max_size=60), HEADERS, BODIES
        ),
        max_size=4,
    )
)
@example([("POST", "/account/second-factor/passkey/options", b"", {"host": b""}, b"")])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_p17_anything_is_answered(
    asked: Asked, requests: list[tuple[str, str, bytes, dict[str, bytes], bytes]]
) -> None:
    """P17: 2xx, 3xx or 4xx for any method, path, query, headers and form, logged in or not."""
    for request in requests:
        assert 200 <= await asked.status(*request) < 500


async def test_p17_a_form_may_have_so_many_fields(asked: Asked) -> None:
    """P17: 50; of more, none is looked at."""
    few, many = b"&".join([b"a=1"] * (MOST_FIELDS - 1)), b"&".join([b"a=1"] * MOST_FIELDS)

    assert await asked.status("POST", "/devices/new", b"", {}, few) == 422
    assert await asked.status("POST", "/devices/new", b"", {}, many) == 400
    assert await asked.status("GET", "/", many + b"&b=2", {}, b"") == 400


async def test_p17_a_request_that_is_cut_short_is_no_fault(asked: Asked) -> None:
    """P17: somebody hangs up in the midst of a form."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"sec-fetch-site", b"same-origin")]
    scope = {"type": "http", "method": "POST", "path": "/login", "query_string": b"", "headers": headers}
    await asyncio.wait_for(asked.portal(scope, receive, send), 10)

    assert sent[0]["status"] == 400
