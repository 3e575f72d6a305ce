"""The kernel process is killed at each thing that it asks of the operating system, one after the other."""

from pathlib import Path

import pytest
from story import Story
from test_days import folder

__all__ = ["folder"]

PARTS = 4
EVERY = 5
"""Of so many edges one is tried; `make soak` tries each."""


def morning(story: Story) -> None:
    """Let happen what makes a gateway do all that it can do: put, remove, purge, compare, begin anew."""
    story.open_account()
    for _ in range(4):
        story.register()
    story.pass_time(40)
    story.check()
    story.chat()
    story.half_open()
    story.pass_time(60)
    story.log_out()
    story.pass_time(400)
    story.meddle()
    story.add_foreign()
    story.cut()
    story.register()
    story.pass_time(700)
    story.new_epoch()
    story.pass_time(40)
    story.come_back()
    story.delete_interface()
    for _ in range(4):
        story.pass_time(40)
        story.check()


def told(folder: Path, *, kill_after: int | None) -> Story:
    """Let the morning pass on one gateway whose daemon is killed after so many edges."""
    story = Story(3, folder, gateways=("alpha",))
    machine = story.sites["alpha"].machine
    machine.kill_after = kill_after
    try:
        story.tell_if_broken(lambda: morning(story))
    finally:
        story.close()
    return story


@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_at_any_edge_breaks_no_promise(part: int, folder: Path) -> None:
    """P5 and P9: no peer lost, none without its addresses, no revoked one back, at whichever edge it dies."""
    (folder / "whole").mkdir()
    edges = told(folder / "whole", kill_after=None).sites["alpha"].machine.edges
    kills = 0
    for edge in range(part * EVERY, edges, PARTS * EVERY):
        (folder / str(edge)).mkdir()
        kills += told(folder / str(edge), kill_after=edge).sites["alpha"].kills

    assert edges > 150
    assert kills >= edges // (PARTS * EVERY) - 1
