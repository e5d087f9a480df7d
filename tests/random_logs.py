"""Trains `compare` on random small logs, and counts advice that its own table contradicts.

    python -m tests.random_logs [--logs 200] [--first 0]

Every log has its own numbers of users, items and days, its own rates of the labels, and its own
strength of what rows have to learn by heart; every call, its own lines, epochs, seeds and batch
size. Prints one line a contradiction, and how many decisions of each kind there were. Takes some
ten minutes on one core; exits with 1 if there is a contradiction. Weekly, not with the other tests.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multiepoch_compare import outlook, plan, record, report, verdict
from multiepoch_compare.__main__ import main as multiepoch
from tests.test_verdict import contradictions


def random_log(rng: np.random.Generator) -> tuple[pa.Table, list[str]]:
    """Returns a log of 600 to 2,000 impressions, and the options of a call on it."""
    n, days = int(rng.integers(600, 2_000)), int(rng.integers(3, 8))
    sizes = [int(n ** rng.uniform(0.3, 1.1)) for _ in range(2)]
    user, item = (rng.integers(0, size, n) for size in sizes)
    strength, bias = rng.uniform(0, 2.5), rng.uniform(-2, 0.5)
    own = rng.uniform(0, 1, 2)
    columns = {"user": user, "item": item}
    labels = ["click", "buy"][: rng.integers(1, 3)]
    for label in labels:
        tastes = (share * rng.normal(size=size) for share, size in zip(own, sizes))
        logit = bias + strength * sum(t[ids] for t, ids in zip(tastes, (user, item)))
        columns[label] = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    columns["day"] = np.sort(rng.integers(0, days, n))
    options = ["--labels", ",".join(labels), "--epochs", str(rng.integers(2, 4))]
    options += ["--seeds", str(rng.integers(2, 4))]
    options += ["--batch-size", str(2 ** int(rng.integers(5, 7)))]
    options += ["--methods", ",".join(rng.choice([*plan.LINES], rng.integers(1, 4), replace=False))]
    if rng.random() < 0.4:
        options += ["--cross", "user,item"]
    return pa.table(columns), options


def compared(seed: int, folder: Path) -> tuple[dict, list[str]] | None:
    """Returns the record of a log and its contradictions; None if the call was refused."""
    rng = np.random.default_rng(seed)
    table, options = random_log(rng)
    plan.DENSE_LR = 10 ** rng.uniform(-2.7, -1.7)  # high, since these logs have few steps
    pq.write_table(table, folder / "log.parquet")
    judged, judge, page = [], verdict.judge, report.page

    def keep(choices, losses, tuning, constant, **more):
        judged.append((losses, tuning, judge(choices, losses, tuning, constant, **more)))
        return judged[-1][-1]

    call = ["compare", str(folder / "log.parquet"), "--ids", "user,item", "--day", "day"]
    verdict.judge, report.page = keep, lambda _: ""  # its figures take longer than all else
    try:
        with redirect_stdout(StringIO()):
            code = multiepoch([*call, *options, "--out", str(folder / "report")])
    finally:
        verdict.judge, report.page = judge, page
    if code:
        return None
    found = record.loads((folder / "report" / "report.json").read_text())
    return found, list(contradictions(*judged[0]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first log (default: 0)")
    options = parser.parse_args()
    # These logs are too small for advice, which is what is tested.
    outlook.COARSEST = outlook.DRIFT = float("inf")
    outlook.LEAST_ONES = dict.fromkeys(plan.PARTS, 1)
    os.cpu_count = lambda: 1  # one process: a log is too small for two
    kinds, contradicted, refused = Counter(), 0, 0
    for seed in range(options.first, options.first + options.logs):
        with tempfile.TemporaryDirectory() as folder:
            result = compared(seed, Path(folder))
        if result is None:
            refused += 1
            continue
        found, wrong = result
        contradicted += bool(wrong)
        for what in wrong:
            print(f"log {seed}: {what}", flush=True)
        kinds[" ".join(found["headline"][0].split()[:4])] += 1
    print(f"{options.logs} logs, {refused} refused, {contradicted} contradicted by their tables")
    print("decisions:", dict(kinds))
    return int(contradicted > 0)


if __name__ == "__main__":
    sys.exit(main())
