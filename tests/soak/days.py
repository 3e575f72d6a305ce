"""Thousands of simulated days of accidents, story after story; a failure tells its story and its seed."""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

WORLD = str(Path(__file__).resolve().parent.parent / "world")
DAYS_A_STORY = 10
SIMULATED_DAYS = 200
FIRST_SEED = 10_000


def main() -> int:
    """Let the days pass and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=SIMULATED_DAYS)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first story")
    asked = parser.parse_args()
    seeds = range(asked.seed, asked.seed + asked.days // DAYS_A_STORY)
    counts: Counter[str] = Counter()
    broken = 0
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        stories = [pool.submit(told, seed) for seed in seeds]
        for number, story in enumerate(as_completed(stories), 1):
            found, failure = story.result()
            counts.update(found)
            if failure:
                broken += 1
                print(failure, flush=True)
            if number % 10 == 0:
                print(f"{number * DAYS_A_STORY} days, {counts['steps']} steps, {broken} broken", flush=True)
    took = time.monotonic() - started
    print(
        f"days: {len(seeds) * DAYS_A_STORY} simulated days in {took:.0f} s: {counts['steps']} steps, "
        f"{counts['kills']} gateways killed, {counts['epochs']} new epochs, {counts['put back']} databases "
        f"put back, {counts['faults']} faults of the network; {broken} stories in which a promise was broken"
    )
    return int(broken > 0)


def told(seed: int) -> tuple[Counter[str], str]:
    """Let one story happen; return what was counted, and the story if a promise was broken in it."""
    sys.path.insert(0, WORLD)
    from model import Broken
    from story import Story

    logging.disable()
    shm = Path("/dev/shm")
    failure = ""
    with tempfile.TemporaryDirectory(prefix="exuvia-soak.", dir=shm if shm.is_dir() else None) as folder:
        story = Story(seed, Path(folder))
        try:
            story.live(DAYS_A_STORY)
        except Broken as broken:
            failure = str(broken)
        finally:
            story.close()
    return (
        Counter(
            {
                "steps": len(story.steps),
                "kills": sum(site.kills for site in story.sites.values()),
                "epochs": story.counts.get("the control plane begins a new epoch", 0),
                "put back": story.counts.get("an earlier database is put back", 0),
                "faults": story.counts.get("the feed is disturbed", 0),
            }
        ),
        failure,
    )


if __name__ == "__main__":
    sys.exit(main())
