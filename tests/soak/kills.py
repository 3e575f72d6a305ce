"""10,000 kill -9 of a gateway's processes on the real kernel, with peers coming and going meanwhile."""

import argparse
import os
import subprocess
import sys
import time

KILLS = 10_000
AT_A_STRETCH = 500
TESTS = "tests/kernel/test_gateway_kills.py"


def main() -> int:
    """Kill and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    kills = parser.parse_args().kills
    started, status, done = time.monotonic(), 0, 0
    while done < kills and not status:
        count = min(AT_A_STRETCH, kills - done)
        # What kills both processes as they really run takes long, and is done once.
        chosen = ["-k", "killed_at_any_instant"] if done else []
        status = passes(count, chosen)
        done += count
        print(f"{done} of {kills} kills, {time.monotonic() - started:.0f} s", flush=True)
    outcome = "something broke" if status else "no peer lost, none without its addresses, no revoked one back"
    print(f"kills: {done} kills in {time.monotonic() - started:.0f} s: {outcome}")
    return status


def passes(kills: int, chosen: list[str]) -> int:
    """Run the test with so many kills; return its exit status."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, TESTS]
    environment = {**os.environ, "EXUVIA_KILLS": str(kills)}
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
