"""The API as it describes itself, and as docs/api.md does: both are what is answered."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane import Server, server_in
from exuvia.api.table import ROUTES

OPERATOR = "o" * 40
DOCUMENT = Path(__file__).parents[2] / "docs/api.md"
PARTS = {
    "account": "^/v1/(devices|gateways)",
    "device": "^/v1/(device$|device/keys/|gateways$)",
    "gateway": "^/v1/gateway",
    "operator": "^/(v1/admin|metrics|healthz|openapi)",
}
LEFT_OUT = "ignored_auth,positive_data_acceptance"
"""Everybody's token is that of somebody, and keys and names follow stricter rules than a schema can say."""


@pytest.mark.parametrize("who", PARTS)
def test_p17_schemathesis_finds_nothing(tmp_path: Path, who: str) -> None:
    """Generated requests, right and wrong, get answers as described; none is a 5xx."""
    (tmp_path / "token").write_text(OPERATOR)
    with server_in(tmp_path, "--operator-token-file", str(tmp_path / "token")) as server:
        options = {
            "--header": f"Authorization: Bearer {_credential(server, who)}",
            "--include-path-regex": PARTS[who],
            "--exclude-operation-id": "delete_device",
            "--phases": "coverage,fuzzing",
            "--max-examples": "15",
            "--exclude-checks": LEFT_OUT,
            "--seed": "1",
        }
        done = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"]
            + [word for option in options.items() for word in option],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

        assert done.returncode == 0, done.stdout[-3000:]
        assert re.search(r"(\d+) generated, \1 passed", done.stdout)
        assert server.log.read_text() == ""


def _credential(server: Server, who: str) -> str:
    """Return the credential of somebody."""
    number = server.account(devices=1000)
    device = server.register(number)
    return {"account": number, "device": device.token, "gateway": server.gateway(), "operator": OPERATOR}[who]


def test_the_document_names_every_route() -> None:
    """docs/api.md has each method and path of the table, and no other."""
    rows = re.findall(r"^\| `(\w+) (/\S*?)(?:\?\S*)?` \|", DOCUMENT.read_text(), flags=re.MULTILINE)

    assert sorted(rows) == sorted(
        [(route.method, route.path) for route in ROUTES] + [("GET", "/openapi.json")]
    )
