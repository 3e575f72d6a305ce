"""A log that was about to tell something of somebody tells that it was."""

import io
import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import honest_key
from exuvia.log import RedactingFormatter, redacted
from exuvia.store.credentials import device_token, new_account_number, new_secret, token
from exuvia.system import entropy
from exuvia.wg.keys import PublicKey


def everything_private() -> dict[str, str]:
    """Return one of each kind of thing that no log may hold."""
    key, number = honest_key(), new_account_number(entropy.bits)
    secret = new_secret(entropy.bits)
    return {
        "key": key,
        "key in a path": PublicKey.from_text(key).path(),
        "key in hexadecimal": bytes(PublicKey.from_text(key)).hex(),
        "account number": number,
        "account number with spaces": number.replace("-", " ").lower(),
        "bare account number": number.replace("-", ""),
        "token": token(secret),
        "device's token": device_token(os.urandom(16), os.urandom(16), secret),
        "identifier": "nhkm6s36quppl525rrvmnnaghy",
        "IPv4 endpoint": "198.51.100.7:51820",
        "IPv4 address": "10.43.173.197",
        "IPv4 tunnel address": "10.43.173.197/32",
        "IPv6 endpoint": "[2001:db8::7]:51820",
        "IPv6 address": "2001:db8:1:2:3:4:5:6",
        "IPv6 tunnel address": "fd53:cdce:ff4c:2a59:d4:95a:f417:4bd4/128",
        "IPv6 address with zeros": "fd53::1",
        "mapped address": "::ffff:198.51.100.7",
        "scoped address": "fe80::1%eth0",
    }


@pytest.mark.parametrize("kind", everything_private())
@pytest.mark.parametrize(
    "sentence",
    ["{}", "peer {} went", "({})", "'{}'", 'key="{}",', "at {}: gone.", "b'{}'", "x={};y", "{}\n", "/{}/"],
)
def test_p15_whatever_looks_private_is_replaced(kind: str, sentence: str) -> None:
    """Keys, tokens, numbers, identifiers and addresses, wherever they stand in a sentence."""
    private = everything_private()[kind]
    text = redacted(sentence.format(private))

    assert private not in text
    assert "<redacted>" in text
    for part in private.replace("[", "").replace("]", "").split(":"):
        assert len(part) < 5 or part not in text.replace("redacted", "")


@pytest.mark.parametrize(
    "harmless",
    [
        "clock: the wall clock stepped by over an hour: no account expires until it is right again",
        "store: the database can't be used at the moment (SQLITE_FULL); requests are answered with 503",
        "/var/lib/exuvia/exuvia.db: not usable as a database (SQLITE_NOTADB)",
        "exuvia 0.1.0 with Python 3.11.7 at 12:34:56, took 1.5 s",
        'Traceback (most recent call last): File "/usr/lib/python3/exuvia/api/app.py", line 52',
        "exuvia.errors.StoreUnavailable: too much is waiting to be written",
        "GET /v1/devices answered 503",
    ],
)
def test_what_operators_need_is_left_alone(harmless: str) -> None:
    """Errors stay readable."""
    assert redacted(harmless) == harmless


@given(st.binary(min_size=32, max_size=32))
def test_p15_every_key_is_recognised(raw: bytes) -> None:
    """Whatever its bytes are, in base64 or hexadecimal."""
    key = PublicKey(raw)
    for text in (key.text(), key.path(), raw.hex()):
        assert text not in redacted(f"the key {text} is wrong")


@given(st.ip_addresses().map(str))
def test_p15_every_address_is_recognised(address: str) -> None:
    """IPv4 and IPv6, with and without a port."""
    for text in (address, f"[{address}]:51820" if ":" in address else f"{address}:51820"):
        assert address not in redacted(f"from {text}, it seems")


def test_p15_tracebacks_are_redacted_too() -> None:
    """What an exception says, and what its traceback quotes, goes through the same sieve."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    private = everything_private()
    try:
        raise ValueError(f"cannot use {private['key']} of {private['IPv4 endpoint']}")
    except ValueError:
        log.exception("failed for %s", private["account number"])

    assert "ValueError: cannot use <redacted> of <redacted>" in written.getvalue()
    assert "failed for <redacted>" in written.getvalue()
    assert not [value for value in private.values() if value in written.getvalue()]
