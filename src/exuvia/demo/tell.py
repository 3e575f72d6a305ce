"""How the demonstration speaks: numbered steps, what was seen, and a countdown that lives."""

import sys
import time
from collections.abc import Callable

import click

from exuvia.demo.world import StepFailed


class Teller:
    """Tells a story on a terminal, or as plain lines where there is none."""

    def __init__(self) -> None:
        self._step = 0
        self._live = sys.stdout.isatty()

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._step += 1
        click.echo(f"\n{click.style(f'{self._step}.', bold=True)} {click.style(title, bold=True)}")

    def say(self, text: str) -> None:
        """Say what happens."""
        click.echo(f"   {text}")

    def seen(self, text: str) -> None:
        """Say what was observed."""
        click.echo(f"   {click.style('✓', fg='green')} {text}")

    def show(self, text: str, *, mark: str = "") -> None:
        """Show what a command printed; lines that contain `mark` stand out."""
        for line in text.strip().splitlines():
            click.echo("     │ " + (click.style(line, fg="yellow") if mark and mark in line else line))

    def programs(self, printed: dict[str, str]) -> None:
        """Show the last that each program has printed, after something went wrong."""
        for program, text in printed.items():
            click.echo(f"\n   {program} has printed:")
            self.show("\n".join(text.strip().splitlines()[-20:]) or "(nothing)")

    def wait(self, what: str, until: Callable[[], bool], *, at_most: float, every: float = 0.25) -> float:
        """Wait until something is so, counting seconds; return how many it took, or StepFailed."""
        began, told = time.monotonic(), -1
        while not until():
            passed = time.monotonic() - began
            if passed > at_most:
                self._clear()
                raise StepFailed(f"{what}: not seen within {at_most:.0f} s")
            if int(passed) != told:
                told = int(passed)
                self._tick(what, told)
            time.sleep(every)
        self._clear()
        return time.monotonic() - began

    def _tick(self, what: str, seconds: int) -> None:
        if self._live:
            click.echo(f"\r   … {what}: {seconds} s ", nl=False)
        elif seconds and seconds % 30 == 0:
            click.echo(f"   … {what}: {seconds} s")

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\033[K", nl=False)
