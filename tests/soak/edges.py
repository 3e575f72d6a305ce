"""The kernel process of a gateway is killed at every single edge of a morning, in several mornings."""

import logging
import sys
import tempfile
import time
from pathlib import Path

WORLD = str(Path(__file__).resolve().parent.parent / "world")


def main() -> int:
    """Kill at each edge and return the exit status."""
    sys.path.insert(0, WORLD)
    from model import Broken
    from test_every_edge import told

    logging.disable()
    started, broken, kills = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="exuvia-soak.") as name:
        (Path(name) / "whole").mkdir()
        edges = told(Path(name) / "whole", kill_after=None).sites["alpha"].machine.edges
        for edge in range(edges):
            folder = Path(name) / str(edge)
            folder.mkdir()
            try:
                kills += told(folder, kill_after=edge).sites["alpha"].kills
            except Broken as story:
                broken += 1
                print(f"killed at edge {edge}: {story}", flush=True)
            if edge % 50 == 49:
                print(f"{edge + 1} of {edges} edges, {broken} broken", flush=True)
    took = time.monotonic() - started
    print(f"edges: {kills} kills at {edges} edges in {took:.0f} s; {broken} in which a promise was broken")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
