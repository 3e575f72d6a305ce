"""A log that was about to tell something of somebody tells that it was."""

import asyncio
import gc
import io
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import honest_key
from exuvia.log import RedactingFormatter, places, redacted
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


def test_p15_of_an_exception_only_its_place_is_told() -> None:
    """Neither what it says, in whatever words, nor what it came from; what the message says is redacted."""
    written = io.StringIO()
    log = logging.Logger("test")
    log.addHandler(writing_to(written))
    private = everything_private()
    try:
        try:
            raise KeyError("amber otter")
        except KeyError:
            raise ExceptionGroup("brisk heron", [ValueError(private["key"]), OSError("calm ibis")]) from None
    except ExceptionGroup:
        log.exception("failed for %s", private["account number"])

    lines = written.getvalue().splitlines()
    assert lines[0] == "ERROR failed for <redacted>"
    assert [line.split(" at ")[0] for line in lines[1:]] == ["ExceptionGroup", "ValueError", "OSError"]
    said = ("otter", "heron", "ibis", *private.values())
    assert not [value for value in said if value in written.getvalue()]


def test_p15_what_another_formatter_wrote_is_not_taken_over() -> None:
    """A record keeps the traceback that was first made of it; ours is made anew."""
    plain, written = logging.StreamHandler(io.StringIO()), io.StringIO()
    log = logging.Logger("test")
    log.addHandler(plain)
    log.addHandler(writing_to(written))
    try:
        raise KeyError("amber otter")
    except KeyError:
        log.exception("failed")

    assert "KeyError at test_redaction.py:" in written.getvalue()
    assert "otter" not in written.getvalue()


def test_p15_what_led_to_an_exception_is_told_by_its_place() -> None:
    """One line for each, so that a mistake can be found."""

    def fail() -> None:
        raise KeyError("amber otter")

    try:
        try:
            fail()
        except KeyError as error:
            raise ValueError("brisk heron") from error
    except ValueError as error:
        lines = list(places(error))

    assert [line.split(":")[0] for line in lines] == [
        "ValueError at test_redaction.py",
        "KeyError at test_redaction.py",
    ]


async def test_p15_a_task_that_fails_tells_nothing() -> None:
    """Event loops quote what they were doing when something failed; we don't."""
    written = io.StringIO()
    handler, log = writing_to(written), logging.getLogger("asyncio")
    log.addHandler(handler)
    asyncio.get_running_loop().call_soon(lambda otter: 1 // otter, 0)
    task = asyncio.ensure_future(_fail("amber otter"))
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    log.removeHandler(handler)

    assert written.getvalue().count("something failed that nobody waited for") == 2
    assert "KeyError at test_redaction.py:" in written.getvalue()
    assert "ZeroDivisionError at test_redaction.py:" in written.getvalue()
    assert "otter" not in written.getvalue()


async def _fail(name: str) -> None:
    raise KeyError(name)


ENDS = {
    "a program": "raise KeyError('otter')",
    "a thread": "import threading; t = threading.Thread(target=lambda: {}['otter']); t.start(); t.join()",
    "a finalizer": "type('otter', (), {'__del__': lambda self: {}['otter']})()",
    "an event loop": "import asyncio as a; l = a.new_event_loop(); l.call_soon({}.pop, 'otter'); "
    "l.call_soon(l.stop); l.run_forever()",
    "a group": "raise ExceptionGroup('otter', [KeyError('otter')])",
}


@pytest.mark.parametrize("way", ENDS)
def test_p15_what_ends_a_program_tells_nothing(way: str) -> None:
    """However an exception comes to the top, standard error has its place and no value."""
    script = f"import sys; from exuvia.log import hide_values; hide_values(sys.stderr.write)\n{ENDS[way]}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert "KeyError at " in done.stderr
    assert "otter" not in done.stderr + done.stdout


def writing_to(written: io.StringIO) -> logging.Handler:
    """Return a handler as programs have it."""
    handler = logging.StreamHandler(written)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(message)s"))
    return handler
