"""Chapter 9: what each remedy without a dip is worth, beside its memory and time.

Predicted before the run, in % of one plain epoch's loss, mean over the objectives of AdsWorld:
votes in bfloat16 or 8 bits change the loss of leave-one-out rows by less than 0.1 % at every
point; two passes of two-fold tables are within 0.5 % of three at the ends of epochs 2 and 4, and
neither jumps; at the ends of epochs 2 and 4, leave-one-out rows are above tail rewind with blended
serving, and tail rewind under the sum rule is below it. None of the methods here is above plain
training.
"""

import json

import pandas as pd

from reproduction import records
from reproduction.findings import by_name
from reproduction.measure import EXPECTED, POINT, losses, over_objectives, relative
from reproduction.own_label import experiment
from reproduction.remedies.registry import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "remedy_cost"
SEEDS = experiment.SEEDS

# The tables' rates are the middle ones of C12 and C13; rows that are sums need a higher one. The
# other methods' losses, at the same rate and under the same conditions, are in the record of C13.
RATE = experiment.ADAGRAD_RATES[1]
SUM_RATE = 0.3
RATES = {
    "sum_rule": SUM_RATE,
    "leave_one_out": SUM_RATE,
    "leave_one_out_int8": SUM_RATE,
    "two_fold_tail": RATE,
    "leave_one_out_bf16": SUM_RATE,
    "two_fold": RATE,
}
POINTS = (1.25, 2.0, 3.25, 4.0)
BYTES = ("table_bytes", "state_bytes", "rewind_bytes")


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains every method of RATES for four epochs; returns losses and bytes, in runs.COLUMNS."""
    todo = [
        Run(
            method,
            0,
            1e-3,
            rate,
            METHODS[method].grid[0],
            rule="adagrad",
            epochs=4,
            evaluate_at=(0.25, 1.0),
        )
        for method, rate in RATES.items()
    ]
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile, device, store, log)
    return rows[rows["metric"].isin([EXPECTED, *BYTES])]


def against_one_epoch(rows: pd.DataFrame, rewinds: pd.DataFrame) -> pd.DataFrame:
    """Returns the loss in % of one plain epoch's, mean over objectives, at POINTS.

    Args:
        rows: Of `run`.
        rewinds: Of the record of C13, with plain training and the rewinds.

    Returns:
        A row for each method and seed, a column for each of POINTS.
    """
    theirs = losses(rewinds, EXPECTED, stratum="AdsWorld", rate=RATE)
    one_epoch = theirs.xs("plain", level="method").xs(1.0, level="epoch")
    ours = losses(rows, EXPECTED, by=["method", *POINT])
    change = pd.concat([relative(one, one_epoch) for one in (theirs, ours)])
    return over_objectives(change).unstack("epoch")[list(POINTS)]


def votes_against_float32(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rounded votes' loss against float32 votes' in %, mean over objectives, at POINTS."""
    loss = losses(rows, EXPECTED, by=["method", *POINT])
    exact = loss.xs("leave_one_out", level="method")
    rounded = [f"leave_one_out_{kind}" for kind in ("bf16", "int8")]
    return over_objectives(relative(loss[rounded], exact)).unstack("epoch")[list(POINTS)]


def cost() -> pd.DataFrame | None:
    """Returns what benchmarks/remedies.py measured; None if its file is not there.

    A row for each method: `mb`, the memory beside the tables and their optimizer's state per
    million infrequent rows, and `time`, a repeated epoch's time over tail rewind's.
    """
    path = records.folder() / "bench" / "remedies.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    seconds = pd.DataFrame(found["seconds"])
    time = seconds.div(seconds["tail_rewind"], axis=0).median()
    return pd.DataFrame({"mb": pd.Series(found["bytes"]) / found["tail_rows"], "time": time})


def facts(record: records.Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rewinds = records.read(experiment.NAME, "long")
    worth = against_one_epoch(record.rows, rewinds.rows)
    rounded = votes_against_float32(record.rows).abs().max()
    two, three = (worth.xs(name)[4.0] for name in ("two_fold_tail", "two_fold"))
    bits = rounded[[1.25, 2.0]].max()
    return by_name(worth=worth, rounded=rounded, bits=bits, passes=two - three)
