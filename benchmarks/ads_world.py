"""How fast AdsWorld makes impressions, and with how much memory.

    python -m benchmarks.ads_world [--days 10]

Prints the time to build a world and its first day, impressions per second over whole days at the
defaults, and the peak of traced memory per impression above the world's own constants (bytes; the
log that is returned is part of it).
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

from multiepoch_lab.data import AdsWorld


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=10, help="days to make (default: 10)")
    days = parser.parse_args().days

    start = time.perf_counter()
    world = AdsWorld()
    world.day(0, n=1)
    print(f"build a world and its first impression: {time.perf_counter() - start:.2f} s")

    start = time.perf_counter()
    n = sum(len(world.day(day)) for day in range(days))
    rate = n / (time.perf_counter() - start)
    print(f"day by day, {days} days of {world.impressions_per_day}: {rate:,.0f} impressions/s")

    for last in sorted({0, days - 1}):
        tracemalloc.start()
        log = world.days(0, last)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"peak for {last + 1} day(s) in one log: {peak / len(log):.0f} bytes/impression")
        del log


if __name__ == "__main__":
    main()
