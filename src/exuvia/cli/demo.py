"""exuvia demo."""

import click

from exuvia.demo.story import tell_story


@click.command("demo")
def command() -> None:
    """
    See everything work on this machine, step by step.

    A control plane, two gateways and three people, in network namespaces of their own, on
    real WireGuard: the kernel's, or wireguard-go where the kernel has none. Needs root,
    takes about five minutes (most of them the 180 seconds after which a session is over),
    sends nothing out and leaves nothing behind. Exit status 0 only if each step was
    observed.
    """
    tell_story()
