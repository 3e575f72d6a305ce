"""nftables, by `nft`: each load is one transaction, done whole or not at all."""

import socket
import subprocess

from exuvia.errors import InterfaceUnavailable, NotPermitted

_PATIENCE = 30
_NETFILTER = 12
_GROUP_OF_NFTABLES = 1 << 7 - 1
"""NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h."""


def load(ruleset: str) -> None:
    """Do what the ruleset says, whole or not at all; raises NotPermitted or InterfaceUnavailable."""
    _nft("-f", "-", text=ruleset)


def shown(table: str) -> str | None:
    """Return the text of a table such as "inet exuvia", or None if there is none."""
    return _nft("list", "table", *table.split()) if is_there(table) else None


def is_there(table: str) -> bool:
    """Say whether there is a table such as "inet exuvia"."""
    return f"table {table}" in _nft("list", "tables").splitlines()


def changes() -> socket.socket:
    """Return a socket that can be read whenever anybody has changed the rules of this network namespace."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        sock.setblocking(False)
        sock.bind((0, _GROUP_OF_NFTABLES))
    except OSError as error:
        raise InterfaceUnavailable(f"nftables: {error.strerror}") from None
    return sock


def _nft(*arguments: str, text: str = "") -> str:
    try:
        done = subprocess.run(
            ("nft", *arguments), input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise InterfaceUnavailable("the command nft is missing: install nftables") from None
    except subprocess.TimeoutExpired:
        raise InterfaceUnavailable("the command nft does not end") from None
    if done.returncode:
        raise _meaning(done.stderr)
    return done.stdout


def _meaning(complaint: str) -> InterfaceUnavailable | NotPermitted:
    if "Operation not permitted" in complaint:
        return NotPermitted("changing the firewall needs root, or the capability CAP_NET_ADMIN")
    lines = complaint.splitlines()
    return InterfaceUnavailable(f"nft: {lines[0] if lines else 'failed'}")
