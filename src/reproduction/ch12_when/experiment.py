"""Chapter 12, claim C14: an L2 penalty on whole tables under dense Adam hides the phenomenon.

Scans the coefficient of the penalty and the steps an epoch.
"""

from __future__ import annotations

import pandas as pd

from multiepoch.runner import resolve_device
from reproduction.ch11_board import search
from reproduction.ch11_board.remedies.execute import Trial, run_trials
from reproduction.runs import Profile
from reproduction.runs.run import default_store

NAME = "ch12_when"
SEEDS = tuple(range(20, 28))

RATE = 10**-1.5
COEFFICIENTS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
LIVE = (0.0, 1e-7, 1e-6, 1e-5)
BATCHES = (1024, 512, 256)
# Held against it, at the same rates: the lazy optimizer, and two decays that say what they do.
AGAINST = (("plain", None), ("adamar", 1e-3), ("adamar", 1e-2), ("adamw", 0.03), ("adamw", 0.3))


def scan(seed: int, coefficients=COEFFICIENTS, batches=BATCHES, against=AGAINST) -> list[Trial]:
    """Returns the runs of one seed. A setting names decay, coefficient and batch."""
    trials = [("whole_l2", value) for value in coefficients] + list(against)
    return [
        Trial(
            name,
            "world",
            seed,
            RATE,
            value,
            setting=f"{value or 0:g}@{batch}",
            epochs=2,
            evaluate_at=(0.25, 1.0),
            batch_size=batch,
        )
        for batch in batches
        for name, value in trials
    ]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Returns the losses of the scan."""
    device, store = resolve_device(device), store or default_store(profile) / NAME
    trials = [trial for seed in seeds or SEEDS for trial in scan(seed)]
    return run_trials(trials, search.sizes(profile), device, store, log)


def run_scan(profile: Profile, device: str, seeds, store=None, log=print) -> pd.DataFrame:
    """Runs the live part of the chapter: a few coefficients at one batch size."""
    store = store or default_store(profile) / NAME
    trials = [t for seed in seeds for t in scan(seed, LIVE, BATCHES[1:2], AGAINST[:1])]
    return run_trials(trials, profile, device, store, log)


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns jump, gain and harm in %, mean over objectives, by remedy, setting and seed.

    The jump is a quarter into epoch 2 against the end of epoch 1; the gain, the end of epoch 2
    against that of epoch 1; the harm, the end of epoch 1 against that of dense Adam without decay.
    """
    mine = rows[(rows["metric"] == "loss") & (rows["group"] == "all")]
    keys = ["remedy", "setting", "seed", "objective"]
    loss = mine.pivot_table(index=keys, columns="epoch", values="value").reset_index()
    parts = loss["setting"].str.split("@", expand=True)
    loss = loss.assign(coefficient=parts[0].astype(float), batch=parts[1].astype(int))
    loss["jump"] = 100 * (loss[1.25] / loss[1.0] - 1)
    loss["gain"] = 100 * (loss[2.0] / loss[1.0] - 1)
    base = loss[(loss["remedy"] == "whole_l2") & (loss["coefficient"] == 0)]
    base = base.set_index(["batch", "seed", "objective"])[1.0].rename("base")
    loss = loss.join(base, on=["batch", "seed", "objective"])
    loss["harm"] = 100 * (loss[1.0] / loss["base"] - 1)
    keys = ["remedy", "coefficient", "batch", "seed"]
    return loss.groupby(keys)[["jump", "gain", "harm"]].mean()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C14: one value for each measure, point and seed."""
    return pd.DataFrame(
        [
            ("C14", measure, point, int(seed), value)
            for measure, point, values in _measures(changes(rows).xs("whole_l2", level="remedy"))
            for seed, value in values.items()
        ],
        columns=["claim", "measure", "point", "seed", "value"],
    )


def _measures(found: pd.DataFrame):
    for (value, batch), of in found.groupby(["coefficient", "batch"]):
        of = of.droplevel(["coefficient", "batch"])
        point = f"coefficient {value:g}, batch {batch}"
        if value <= 1e-8:
            yield "jump_small", point, of["jump"]
        if value >= 1e-5:
            yield "jump_large", point, of["jump"]
        if value == 1e-5:
            yield "gain", point, of["gain"]
            yield "harm", point, of["harm"]
    jump = found["jump"].unstack("batch")
    if 1e-6 in jump.index.unique("coefficient"):
        mine = jump.xs(1e-6, level="coefficient")
        yield "steps", "coefficient 1e-06", mine[max(mine)] - mine[min(mine)]
