"""
Changing the key in a configuration file of wg-quick(8), and nothing else of it.

Comments in [Interface] of the form `# exuvia-control = …` say where the key is registered: other
programs pass over them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from exuvia.errors import InvalidConfiguration
from exuvia.wg.keys import PresharedKey, PrivateKey

_NOTE = re.compile(r"\s*#\s*exuvia-([a-z-]+)\s*=\s*(\S+)\s*")
_SECTION = re.compile(r"\s*\[(\w+)\]", re.IGNORECASE)
_SETTING = re.compile(r"\s*(\w+)\s*=", re.IGNORECASE)


def notes(text: str) -> dict[str, str]:
    """Return what the comments of a file say of exuvia, without that word."""
    found = (_NOTE.fullmatch(line) for line in text.splitlines())
    return {note[1]: note[2] for note in found if note is not None}


def noted(text: str, wanted: Mapping[str, str]) -> str:
    """Return the file with these comments, and no others of ours, at the head of [Interface]."""
    for value in wanted.values():
        if not re.fullmatch(r"\S+", value):
            raise InvalidConfiguration("what is to be noted in the configuration has a space in it")
    lines: list[str] = []
    for line in text.splitlines():
        if _NOTE.fullmatch(line):
            continue
        lines.append(line)
        if _is_section(line, "interface"):
            lines += (f"# exuvia-{name} = {value}" for name, value in wanted.items())
    return "\n".join(lines) + "\n"


def rekeyed(text: str, key: PrivateKey, addresses: Iterable[object], preshared: PresharedKey) -> str:
    """Return the file with another private key, tunnel addresses, and preshared key of every peer."""
    return "\n".join(_rekeyed(text.splitlines(), key, list(addresses), preshared)) + "\n"


def is_saved_by_wg_quick(text: str) -> bool:
    """Say whether wg-quick writes the file anew when the interface goes down, without any comment."""
    return re.search(r"^\s*SaveConfig\s*=\s*true\b", text, re.IGNORECASE | re.MULTILINE) is not None


def _rekeyed(
    lines: list[str], key: PrivateKey, addresses: list[object], preshared: PresharedKey
) -> Iterator[str]:
    section = ""
    for line in lines:
        found, setting = _SECTION.match(line), _SETTING.match(line)
        name = "" if setting is None else setting[1].lower()
        if found is not None:
            section = found[1].lower()
        if section == "interface" and name == "privatekey":
            yield f"PrivateKey = {key.text()}"
            yield f"Address = {', '.join(map(str, addresses))}"
        elif section == "peer" and name == "publickey":
            yield line
            yield f"PresharedKey = {preshared.text()}"
        elif (section, name) not in (("interface", "address"), ("peer", "presharedkey")):
            yield line


def _is_section(line: str, name: str) -> bool:
    found = _SECTION.match(line)
    return found is not None and found[1].lower() == name
