"""Ten thousand days in the lives of clients, with every fault; a broken promise tells its life."""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

LIFE = str(Path(__file__).resolve().parent.parent / "life")
DAYS_A_LIFE = 30
CLIENT_DAYS = 10_000
FIRST_SEED = 100_000
HOURS = (1, 2, 4, 8)
"""Between faults, on average: some lives are harder than others."""


def main() -> int:
    """Let the days pass and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=CLIENT_DAYS)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first life")
    asked = parser.parse_args()
    seeds = range(asked.seed, asked.seed - (-asked.days // DAYS_A_LIFE))
    counts: Counter[str] = Counter()
    broken = 0
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lives = [pool.submit(lived, seed) for seed in seeds]
        for number, life in enumerate(as_completed(lives), 1):
            found, failure = life.result()
            counts.update(found)
            if failure:
                broken += 1
                print(failure, flush=True)
            if number % 20 == 0:
                print(
                    f"{number * DAYS_A_LIFE} days, {counts['switched']} changes, {broken} broken", flush=True
                )
    took = time.monotonic() - started
    print(
        f"life: {len(seeds) * DAYS_A_LIFE} client-days in {took:.0f} s: {counts['switched']} changes of keys "
        f"while connected, {counts['saved']} states saved, {counts['faults']} faults, "
        f"{counts['start']} starts; {broken} lives in which a promise was broken"
    )
    return int(broken > 0)


def lived(seed: int) -> tuple[Counter[str], str]:
    """Let one client live; return what was counted, and its life if a promise was broken in it."""
    sys.path.insert(0, LIFE)
    from biography import Biography, Broken
    from office import HOUR
    from virtual import run

    shm = Path("/dev/shm")
    lives: list[Biography] = []
    failure = ""

    async def live(folder: str) -> None:
        lives.append(Biography(seed, Path(folder)))
        await lives[0].live(DAYS_A_LIFE, every=HOURS[seed % len(HOURS)] * HOUR)

    with tempfile.TemporaryDirectory(prefix="exuvia-soak.", dir=shm if shm.is_dir() else None) as folder:
        try:
            run(live(folder))
        except Broken as broken:
            failure = str(broken)
    (life,) = lives
    counts = Counter({"switched": life.machine.switches, "saved": life.disk.saves, "faults": life.faults})
    counts["start"] = life.counts["start"]
    return counts, failure


if __name__ == "__main__":
    sys.exit(main())
