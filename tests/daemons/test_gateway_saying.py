"""What a gateway says, and what it never says."""

import subprocess
import sys

from exuvia.gateway.saying import REPEAT_AFTER, Alarms


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


def test_p4_a_mistake_of_ours_shows_its_place_and_no_value() -> None:
    """Both processes of a gateway say where it was, and not what the exception says."""
    for name in ("kernel_process", "network_process"):
        script = (
            f"import sys; from exuvia.gateway import {name} as it\n"
            "def fail(*_): raise KeyError('10.1.2.3')\n"
            "it.run = fail; it.Settings = type('', (), {'from_words': lambda words: words})\n"
            "it.main()"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

        assert "exuvia gateway: internal error: KeyError at <string>:" in done.stderr
        assert "10.1.2.3" not in done.stderr + done.stdout
