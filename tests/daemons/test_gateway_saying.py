"""What a gateway says, and what it never says."""

import sys

import pytest

from exuvia.gateway.saying import REPEAT_AFTER, Alarms, hide_values


def test_an_alarm_is_not_said_again_and_again() -> None:
    """The same thing with other numbers counts as the same; after ten minutes it is said again."""
    now, said = [0.0], list[str]()
    alarms = Alarms(lambda: now[0], tell=said.append)
    alarms.raise_("3 peers do not stay")
    alarms.raise_("4 peers do not stay")
    alarms.raise_("wg0 is gone")
    now[0] = REPEAT_AFTER
    alarms.raise_("5 peers do not stay")

    assert said == ["alarm: 3 peers do not stay", "alarm: wg0 is gone", "alarm: 5 peers do not stay"]


def test_p4_a_mistake_of_ours_shows_its_place_and_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback would print what an exception says, which may be about somebody."""

    def fail() -> None:
        raise KeyError("10.1.2.3")

    for make in (lambda error: error, lambda error: ExceptionGroup("several", [error, error])):
        try:
            try:
                fail()
            except KeyError as error:
                raise make(error) from error
        except (KeyError, ExceptionGroup):
            hide_values(*sys.exc_info())  # type: ignore[arg-type]
        printed = capsys.readouterr().err

        assert "KeyError at test_gateway_saying.py:" in printed
        assert "10.1.2.3" not in printed
