"""What a process asks of the system for itself."""

import os

from exuvia.system import process


def test_whoever_goes_first_can_take_turns_again() -> None:
    """A process that may raise its priority does; whoever it starts goes back to the usual one."""

    def both() -> str:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        process.go_first()
        raised = os.getpriority(os.PRIO_PROCESS, 0)
        process.take_turns()
        return f"{raised < before} {os.getpriority(os.PRIO_PROCESS, 0)}"

    assert process.in_child(both) == ("True 0" if os.geteuid() == 0 else "False 0")


def test_a_process_that_may_not_goes_on_as_it_is() -> None:
    """Without the right to it, nothing is raised and nothing fails."""

    def without() -> str:
        process.give_up_everything(uid=65534, gid=65534)
        process.go_first()
        return str(os.getpriority(os.PRIO_PROCESS, 0))

    assert process.in_child(without) == "0"
