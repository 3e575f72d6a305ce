"""10,000 kill -9 of a gateway's processes on the real kernel, with peers coming and going meanwhile."""

import argparse
import os
import sys
import time

import pytest

KILLS = 10_000


def main() -> int:
    """Kill and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    kills = parser.parse_args().kills
    os.environ["EXUVIA_KILLS"] = str(kills)
    started = time.monotonic()
    status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "tests/kernel/test_gateway_kills.py"])
    outcome = "no peer lost, none without its addresses, no revoked one back" if status == 0 else "broken"
    print(f"kills: {kills} kills in {time.monotonic() - started:.0f} s: {outcome}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
