"""How a gateway is told what the operator wants."""

import pytest

from exuvia.errors import InvalidConfiguration
from exuvia.gateway.settings import Settings

LEAST = Settings(control="https://control.example", token_file="/t", interface="wg0")
ALL = Settings(
    control="https://control.example/a=b",
    token_file="/etc/with space/token",
    interface="wg0",
    listen_port=51820,
    nat="eth0.7",
    private_key_file="/k",
    ca_file="/ca=x",
    accept_snapshot=True,
    lease=90.5,
    forget_flows=True,
)


@pytest.mark.parametrize("settings", [LEAST, ALL])
def test_settings_travel_as_words(settings: Settings) -> None:
    """The processes that are started are told exactly what the command was told."""
    assert Settings.from_words(settings.words()) == settings
    settings.check()


def test_what_is_as_by_default_is_left_out() -> None:
    """The list of processes stays readable."""
    assert LEAST.words() == ["control=https://control.example", "token-file=/t", "interface=wg0"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"interface": ""},
        {"interface": "-j"},
        {"interface": "wg0; drop"},
        {"interface": 'wg"0'},
        {"interface": "sixteen-letters-"},
        {"nat": "eth 0"},
        {"nat": "wg0"},
        {"lease": 59.0},
    ],
)
def test_what_can_not_be_meant_is_refused(wrong: dict[str, object]) -> None:
    """A name that would be read as something else by `ip` or `nft`, or a lease that ends at once."""
    known = {name: getattr(LEAST, name) for name in LEAST.__dataclass_fields__}
    with pytest.raises(InvalidConfiguration):
        Settings(**{**known, **wrong}).check()  # type: ignore[arg-type]
