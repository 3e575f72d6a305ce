"""A virtual month on the real kernel: a connected client changes its key every day, no packet is lost."""

import argparse
import os
import subprocess
import sys
import time

DAYS = 30
TEST = "tests/kernel_virtual/test_client_days.py"


def main() -> int:
    """Live through the days and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument(
        "--awake",
        action="store_true",
        help="let the client's process run also in hours in which nothing is due (it takes hours)",
    )
    asked = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST]
    environment = {**os.environ, "EXUVIA_DAYS": str(asked.days)}
    if asked.awake:
        environment["EXUVIA_AWAKE"] = "1"
    began = time.monotonic()
    status = subprocess.run(command, env=environment).returncode
    outcome = "something broke" if status else "no packet lost, none twice, none outside a tunnel"
    print(f"month: {(time.monotonic() - began) / 86_400:.1f} virtual days: {outcome}")
    return status


if __name__ == "__main__":
    sys.exit(main())
