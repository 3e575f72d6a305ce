"""P15: everything that the control plane wrote is searched for what it must never write."""

import base64
import http.client
import re
import socket
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from control_plane import Server, fresh_key, honest_key, server_in, spellings
from database_files import Remains, locked

HOME = "127.66.77.88"
"""Where the client of this test comes from; loopback addresses are all ours."""


def from_home(server: Server, method: str, target: str, bearer: str, body: str | None = None) -> int:
    """Send a request from the client's own address, and return the status."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20, source_address=(HOME, 0))
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    headers |= {"X-Forwarded-For": HOME, "Forwarded": f"for={HOME}"}
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def nonsense_from_home(server: Server, data: bytes) -> None:
    """Send what is no HTTP, and hang up in the midst of it."""
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), 20, (HOME, 0)) as sock:
        sock.sendall(data)


def live(server: Server, number: str, gateway: str) -> list[str]:
    """Do everything that people do, rightly and wrongly; return the tokens, keys and addresses there were."""
    keys = [honest_key() for _ in range(4)]
    made = [server.register(number, key) for key in keys]
    answers = [from_home(server, "POST", "/v1/devices", number, f'{{"public_key": "{keys[0]}x"}}')]
    answers += [from_home(server, "POST", "/v1/devices", number, f'{{"{keys[0]}": "{number}"')]
    answers += [from_home(server, "GET", f"/v1/devices/{keys[0]}?token={made[0].token}", number)]
    answers += [from_home(server, "GET", "/v1/device", device.token) for device in made]
    answers += [from_home(server, "DELETE", "/v1/device", made[1].token)]
    answers += [from_home(server, "GET", "/v1/device", made[1].token)]
    rotations = [fresh_key() for _ in range(2)]
    answers += [
        from_home(server, method, f"/v1/device/keys/{key}{what}", made[0].token)
        for key in (*(key.path() for key in rotations), keys[0])
        for method, what in (("PUT", ""), ("POST", "/confirm"), ("PUT", "?x=1"), ("DELETE", ""))
    ]
    hello = f'{{"public_key": "{keys[2]}", "lasting": true}}'
    answers += [from_home(server, "PUT", "/v1/gateway", gateway, hello)]
    answers += [from_home(server, "GET", f"/v1/feed?epoch={made[0].epoch}&revision=999", gateway)]
    with locked(server.path):
        answers += [from_home(server, "POST", "/v1/devices", number, f'{{"public_key": "{honest_key()}"}}')]
    nonsense_from_home(server, f"GET /{number} HTTP/1.1\r\nAuth{made[0].token}\r\n\r\n".encode())
    nonsense_from_home(server, f"POST /v1/devices HTTP/1.1\r\nAuthorization: Bearer {number}\r\n".encode())
    assert {200, 204, 401, 409, 422, 503} <= set(answers)
    told = [text for device in made for text in (device.token, device.preshared_key, *device.addresses)]
    return [*told, *keys, *(text for key in rotations for text in (key.text(), key.path()))]


def test_p15_nothing_private_is_in_any_log(tmp_path: Path) -> None:
    """No key, token, number, tunnel address or client address was written to standard error or output."""
    with server_in(tmp_path) as server:
        number, gateway = server.account(), server.gateway()
        private = [*live(server, number, gateway), number, gateway, HOME, "127.0.0.1"]
        assert server.process is not None and server.process.stdout is not None
        output = server.process.stdout
        server.process.terminate()
        log = server.log.read_text() + output.read()

    assert "exuvia.alarm" in log  # something was written
    spelled = {re.sub(r"/(32|128)$", "", text) for text in private} | {number.replace("-", "")}
    assert [text for text in spelled if text in log] == []
    assert Remains(tmp_path).found_texts([HOME]) == []


def test_p15_secrets_are_in_no_file_not_even_in_the_database(tmp_path: Path) -> None:
    """Account numbers and tokens are kept as hashes only; a client's address is kept nowhere."""
    with server_in(tmp_path) as server:
        numbers, gateway = [server.account() for _ in range(3)], server.gateway()
        private = [text for number in numbers for text in live(server, number, gateway)]
        tokens = [base64.urlsafe_b64decode(text + "==")[32:] for text in private if len(text) == 86]
        bare = [number.replace("-", "") for number in numbers]
        remains = Remains(tmp_path)
        connection = sqlite3.connect(server.path)
        (hashes,) = connection.execute("SELECT count(*) FROM account").fetchone()
        connection.close()

    assert len(tokens) == 12
    assert remains.found(tokens) == []
    assert remains.found([base64.urlsafe_b64decode(gateway + "=")]) == []
    assert remains.found_texts([*numbers, *bare, *map(str.lower, bare), gateway, HOME]) == []
    assert hashes == 3
    assert not any(way in remains._parts for text in bare for way in spellings(text.encode()))
