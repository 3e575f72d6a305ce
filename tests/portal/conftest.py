"""A server for the tests of a module, which share it: each has accounts of its own."""

from collections.abc import Iterator

import pytest

from control_plane import Server, honest_key, server_in


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane in a process of its own, with one gateway, whose key lasts."""
    with server_in(tmp_path_factory.mktemp("server"), "--unproven-keys", "allow") as running:
        hello = {"public_key": honest_key(), "lasting": True}
        assert running.ask("PUT", "/v1/gateway", bearer=running.gateway(), body=hello).status == 200
        yield running
