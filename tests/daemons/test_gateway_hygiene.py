"""The other places where a gateway could remember its clients."""

from pathlib import Path

import pytest

from exuvia.gateway import hygiene
from exuvia.system import process


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system of a machine where everything is as it should be."""
    for name, text in {
        "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
        "proc/dynamic_debug/control": 'drivers/net/wireguard/peer.c:1 [wireguard]kref_release =_ "x"\n',
        "sys/kernel/kexec_crash_loaded": "0\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def warnings(root: Path, *, locked: bool = False) -> list[str]:
    """Return what there is to say of a machine."""
    return list(hygiene._warnings(root, locked=locked))


def test_a_machine_that_keeps_nothing_needs_no_warning(root: Path) -> None:
    """No swap, no debug messages, no crash dumps: nothing to say."""
    assert warnings(root) == []


def test_p4_swap_is_warned_of_unless_memory_is_locked(root: Path) -> None:
    """What is read from the interface must not reach a disk."""
    with (root / "proc/swaps").open("a") as file:
        file.write("/dev/sda2 partition 1 0 -2\n")

    assert "swap" in warnings(root)[0]
    assert warnings(root, locked=True) == []


def test_p4_debug_messages_that_stay_on_are_warned_of(root: Path) -> None:
    """With dynamic debug the kernel itself writes endpoints into its log."""
    (root / "proc/dynamic_debug/control").write_text('drivers/net/wireguard/peer.c:1 [wireguard]f =pf "x"\n')

    assert "dynamic debug" in warnings(root)[0]


def test_debug_messages_of_others_are_not_our_business(root: Path) -> None:
    """Only WireGuard's show where clients are."""
    (root / "proc/dynamic_debug/control").write_text('drivers/usb/x.c:1 [usb]f =p "x =p"\n')

    assert warnings(root) == []


def test_p4_crash_dumps_are_warned_of(root: Path) -> None:
    """A dump of the kernel has every endpoint in it."""
    (root / "sys/kernel/kexec_crash_loaded").write_text("1\n")

    assert "kdump" in warnings(root)[0]


def test_p4_debug_messages_are_turned_off(root: Path) -> None:
    """The daemon turns them off where it may."""
    hygiene.silence_kernel_log(root)

    assert (root / "proc/dynamic_debug/control").read_text() == "module wireguard -p\n"


def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    """Where there is no such file there is nothing to turn off and nothing to warn of."""
    hygiene.silence_kernel_log(tmp_path)

    assert warnings(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups"]
)
def test_privileges_that_are_left_are_seen(name: str) -> None:
    """Each thing that a process may not have any more is noticed if it has it."""
    clean = {
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), "0000000000000000"),
        "NoNewPrivs": "1",
        "Uid": "65534\t65534\t65534\t65534",
        "Gid": "65534\t65534\t65534\t65534",
        "Groups": "",
    }
    dirty = {
        "NoNewPrivs": "0",
        "Uid": "65534\t0\t65534\t65534",
        "Gid": "65534\t65534\t0\t65534",
        "Groups": "4",
    }

    assert process.privileges_left(clean, began_as_root=True) == []
    assert process.privileges_left(
        {**clean, name: dirty.get(name, "0000000000001000")}, began_as_root=True
    ) == [name]
