"""Chapter 12, claim C14: an L2 penalty on whole tables under dense Adam hides the phenomenon.

Scans the coefficient of the penalty and the steps an epoch.
"""

import pandas as pd

from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import as_losses
from reproduction.records import Record
from reproduction.runs import Profile, Run, run_all

NAME = "ch12_penalty"
SEEDS = tuple(range(20, 28))

RATE = 10**-1.5
COEFFICIENTS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
LIVE = (0.0, 1e-7, 1e-6, 1e-5)
BATCHES = (1024, 512, 256)
# Held against it, at the same rates: the lazy optimizer, and two decays that say what they do.
AGAINST = (("plain", None), ("adamar", 1e-3), ("adamar", 1e-2), ("adamw", 0.03), ("adamw", 0.3))


def scan(seed: int, coefficients=COEFFICIENTS, batches=BATCHES, against=AGAINST) -> list[Run]:
    """Returns the runs of one seed."""
    trials = [("whole_l2", value) for value in coefficients] + list(against)
    return [
        Run(
            name,
            seed,
            1e-3,
            RATE,
            value,
            about={"coefficient": value or 0.0, "batch": batch},
            epochs=2,
            evaluate_at=(0.25, 1.0),
            batch_size=batch,
        )
        for batch in batches
        for name, value in trials
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns the losses of the scan."""
    trials = [trial for seed in seeds or SEEDS for trial in scan(seed)]
    return as_losses(run_all(trials, profile.board(), device, store, log))


def run_scan(profile: Profile, device: str, seeds, store=None, log=print) -> pd.DataFrame:
    """Runs the live part of the chapter: a few coefficients at one batch size."""
    trials = [t for seed in seeds for t in scan(seed, LIVE, BATCHES[1:2], AGAINST[:1])]
    return as_losses(run_all(trials, profile, device, store, log))


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns jump, gain and harm in %, by remedy, coefficient, batch and seed.

    They are means over objectives. The jump is a quarter into epoch 2 against the end of epoch 1;
    the gain, the end of epoch 2 against that of epoch 1; the harm, the end of epoch 1 against that
    of dense Adam without decay.
    """
    mine = rows[(rows["metric"] == "loss") & (rows["group"] == "all")]
    keys = ["remedy", "coefficient", "batch", "seed", "objective"]
    loss = mine.pivot_table(index=keys, columns="epoch", values="value").reset_index()
    loss["jump"] = 100 * (loss[1.25] / loss[1.0] - 1)
    loss["gain"] = 100 * (loss[2.0] / loss[1.0] - 1)
    base = loss[(loss["remedy"] == "whole_l2") & (loss["coefficient"] == 0)]
    base = base.set_index(["batch", "seed", "objective"])[1.0].rename("base")
    loss = loss.join(base, on=["batch", "seed", "objective"])
    loss["harm"] = 100 * (loss[1.0] / loss["base"] - 1)
    keys = ["remedy", "coefficient", "batch", "seed"]
    return loss.groupby(keys)[["jump", "gain", "harm"]].mean()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C14."""
    return evidence(_measures(changes(rows).xs("whole_l2", level="remedy")))


def _measures(found: pd.DataFrame):
    for (value, batch), of in found.groupby(["coefficient", "batch"]):
        of = of.droplevel(["coefficient", "batch"])
        point = f"coefficient {value:g}, batch {batch}"
        if value <= 1e-8:
            yield "C14", "jump_small", point, of["jump"]
        if value >= 1e-5:
            yield "C14", "jump_large", point, of["jump"]
        if value == 1e-5:
            yield "C14", "gain", point, of["gain"]
            yield "C14", "harm", point, of["harm"]
    jump = found["jump"].unstack("batch")
    if 1e-6 in jump.index.unique("coefficient"):
        mine = jump.xs(1e-6, level="coefficient")
        yield "C14", "steps", "coefficient 1e-06", mine[max(mine)] - mine[min(mine)]


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    found = changes(record.rows)
    scanned = found.xs("whole_l2")
    gain = scanned["gain"]
    return by_name(
        scan=scanned.groupby(["coefficient", "seed"]).mean(),
        taken=100 * (1 - gain.xs(1e-6) / gain.xs(0.0)),
        jump=scanned["jump"],
        at_256=found.xs(256, level="batch"),
    )
