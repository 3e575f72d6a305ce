"""nftables, by `nft`: each load is one transaction, done whole or not at all."""

import subprocess

from exuvia.errors import InterfaceUnavailable, NotPermitted

_PATIENCE = 30


def load(ruleset: str) -> None:
    """Do what the ruleset says, whole or not at all; raises NotPermitted or InterfaceUnavailable."""
    _nft("-f", "-", text=ruleset)


def shown(table: str) -> str | None:
    """Return the text of a table such as "inet exuvia", or None if there is none."""
    if table not in (line.removeprefix("table ") for line in _nft("list", "tables").splitlines()):
        return None
    return _nft("list", "table", *table.split())


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
