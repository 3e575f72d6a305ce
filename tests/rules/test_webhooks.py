"""How what billing is told is signed, and for how long it is tried."""

import base64

import pytest

from exuvia.errors import InvalidConfiguration
from exuvia.rules.webhooks import last_day, secrets_from_text, signature


def test_it_is_signed_as_ready_made_libraries_expect() -> None:
    """A published example of the scheme comes out as published."""
    secrets = [base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")]
    body = b'{"event_type":"ping","data":{"success":true}}'

    signed = signature(secrets, "msg_loFOjxBNrRLzqYUf", 1731705121, body)

    assert signed == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_every_secret_signs() -> None:
    """So that the next secret can be brought in before the last one is taken away."""
    old, new = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    both = signature(secrets_from_text(f"{new}\n{old}\n"), "id", 1, b"x").split(" ")

    assert both == [signature(secrets_from_text(one), "id", 1, b"x") for one in (new, old)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(32)).decode() + " nonsense",
        "whsec_ä",
    ],
)
def test_what_is_no_secret_is_refused(text: str) -> None:
    """In words that say how to make one, and never with what was there."""
    with pytest.raises(InvalidConfiguration, match="whsec_\\$\\(head") as refused:
        secrets_from_text(text)

    assert len(text) < 20 or text not in str(refused.value)


def test_it_is_tried_for_three_days() -> None:
    """On the day it happened, and three more."""
    assert last_day(24 * 100) == last_day(24 * 100 + 23) == 103
