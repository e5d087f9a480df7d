"""Chapter 12, claims C14 and C15: a decay that hides the phenomenon, and what an epoch is worth.

C14 scans the coefficient of an L2 penalty on whole tables under dense Adam, and the steps an epoch.
C15 trains on several amounts of unique data for 1, 2, 4 and 8 epochs, and reads what a repeated
epoch is worth off the losses of one epoch over more data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from multiepoch.runner import resolve_device
from reproduction import tables
from reproduction.ch11_board import experiment as board
from reproduction.ch11_board.remedies.execute import Trial, run_trials
from reproduction.ch11_board.remedies.registry import BOARD
from reproduction.findings import cell
from reproduction.records import Record
from reproduction.runs import Profile
from reproduction.runs.run import default_store

CHAPTER = "12"
NAME = "ch12_when"
WORTH = "ch12_worth"  # the record of C15
SEEDS = (20, 21, 22, 23)

RATE = 10**-1.5
COEFFICIENTS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
LIVE = (0.0, 1e-7, 1e-6, 1e-5)
BATCHES = (1024, 512, 256)
# Held against it, at the same rates: the lazy optimizer, and two decays that say what they do.
AGAINST = (("plain", None), ("adamar", 1e-3), ("adamar", 1e-2), ("adamw", 0.03), ("adamw", 0.3))
EPOCHS = (1, 2, 4, 8)
SHARES = (0.125, 0.25)  # of the largest window, repeated
FRESH = (0.0625, 0.125, 0.25, 0.5, 1.0)  # of the largest window, once
WINDOW = 250_000  # impressions of the largest window in `long`
METHODS = ("plain", "meda", "tail_rewind_blend")


def sizes(profile: Profile) -> Profile:
    """Returns the sizes of C15: the board's world, with four times its impressions a day."""
    one = board.sizes(profile)
    return replace(one, impressions_per_day=4 * one.impressions_per_day)


def scan(seed: int, coefficients=COEFFICIENTS, batches=BATCHES, against=AGAINST) -> list[Trial]:
    """Returns the runs of C14 of one seed. A setting names decay, coefficient and batch."""
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


def worth(seed: int, methods=METHODS) -> list[Trial]:
    """Returns the runs of C15 of one seed: plain over more data once, and each method repeated."""
    rates = {name: board.tuned()["world"][name] for name in methods}
    at = {"evaluate_at": (1.0,)}
    fresh = [
        Trial("plain", "world", seed, **rates["plain"], setting=f"{s:g}", epochs=1, share=s, **at)
        for s in FRESH
    ]
    last = EPOCHS[-1]
    repeated = [
        Trial(
            name,
            "world",
            seed,
            **rates[name],
            setting=f"{s:g}",
            epochs=last,
            evaluate_epochs=tuple(e - 1 for e in EPOCHS),
            share=s,
            **at,
        )
        for s in SHARES
        for name in methods
    ]
    return [*fresh, *repeated]


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Runs C14 and C15; returns the rows of both, with a column `claim`."""
    device, seeds = resolve_device(device), seeds or SEEDS
    store = store or default_store(profile) / NAME
    of_c14 = [trial for seed in seeds for trial in scan(seed)]
    of_c15 = [trial for seed in seeds for trial in worth(seed)]
    c14 = run_trials(of_c14, board.sizes(profile), device, store, log, profile.workers)
    c15 = run_trials(of_c15, sizes(profile), device, store, log, profile.workers)
    return pd.concat([c14.assign(claim="C14"), c15.assign(claim="C15")], ignore_index=True)


def run_scan(profile: Profile, device: str, seeds, store=None, log=print) -> pd.DataFrame:
    """Runs the live part of the chapter: a few coefficients at one batch size."""
    store = store or default_store(profile) / NAME
    trials = [t for seed in seeds for t in scan(seed, LIVE, BATCHES[1:2], AGAINST[:1])]
    rows = run_trials(trials, profile, device, store, log, profile.workers)
    return rows.assign(claim="C14")


def losses(rows: pd.DataFrame, claim: str) -> pd.DataFrame:
    """Returns the losses by (remedy, setting, seed, objective), a column an epoch."""
    mine = rows[(rows["claim"] == claim) & (rows["metric"] == "loss") & (rows["group"] == "all")]
    keys = ["remedy", "setting", "seed", "objective"]
    return mine.pivot_table(index=keys, columns="epoch", values="value")


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns C14's jump, gain and harm in %, mean over objectives, by remedy, setting and seed.

    The jump is a quarter into epoch 2 against the end of epoch 1; the gain, the end of epoch 2
    against that of epoch 1; the harm, the end of epoch 1 against that of dense Adam without decay.
    """
    loss = losses(rows, "C14").reset_index()
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


def excess(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns C15's losses, mean over objectives: by remedy, share and seed, a column an epoch."""
    loss = losses(rows, "C15").reset_index("setting")
    loss["share"] = loss.pop("setting").astype(float)
    return loss.set_index("share", append=True).groupby(["remedy", "share", "seed"]).mean()


def in_fresh_data(rows: pd.DataFrame) -> pd.Series:
    """Returns what every run is worth: the fresh data, in epochs of its own, of the same loss.

    Interpolated linearly in the logarithm of the data along plain's one-epoch losses of the same
    seed, and NaN beyond its ends. By remedy, share, seed and epoch.
    """
    loss = excess(rows)
    fresh = loss.xs("plain", level="remedy")[1.0].dropna()
    found = {}
    for (remedy, share, seed), points in loss.iterrows():
        curve = fresh.xs(seed, level="seed").sort_index()
        x, y = np.log(curve.index.to_numpy()), np.minimum.accumulate(curve.to_numpy())
        for epoch, value in points.dropna().items():
            data = np.interp(-value, -y, x, left=np.nan, right=np.nan)
            found[remedy, share, seed, epoch] = np.exp(data) / share
    return pd.Series(found).rename_axis(["remedy", "share", "seed", "epoch"])


def fit(rows: pd.DataFrame, remedy: str, seed: int) -> dict[str, float]:
    """Fits a law of effective data to one seed: Muennighoff et al. 2023, equations 5 and 6.

    L = E + B / D'^beta, where D' = U (1 + R (1 - exp(-(epochs - 1) / R))): a repetition is worth
    exp(-1/R) of the one before, and all together at most R epochs of fresh data. E, B and beta are
    those of one epoch over fresh data. R may be negative: repeated data then do harm.
    """
    loss = excess(rows).xs(seed, level="seed")
    fresh = loss.xs("plain", level="remedy")[1.0].dropna()
    mine = loss.xs(remedy, level="remedy")[[float(e) for e in EPOCHS]].dropna()

    def law(data, p):
        return p[0] + np.exp(p[1]) * data ** -np.exp(p[2])

    def effective(share, epochs, r):
        return share * (1 + r * (1 - np.exp(-(epochs - 1) / max(r, 1e-3))))

    def residuals(p):
        one = law(fresh.index.to_numpy(), p) - fresh.to_numpy()
        u = mine.index.to_numpy()[:, None]
        e = np.array(EPOCHS, dtype=float)[None, :]
        return np.concatenate(
            [one, (law(effective(u, e, np.exp(p[3])), p) - mine).to_numpy().ravel()]
        )

    start = [fresh.min() * 0.95, np.log(fresh.max() - fresh.min()), np.log(0.5), 0.0]
    p = least_squares(residuals, start).x
    return {"E": p[0], "B": np.exp(p[1]), "beta": np.exp(p[2]), "R": np.exp(p[3])}


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C14 and C15: one value for each measure, point and seed."""
    found = []
    there = set(rows["claim"])
    if "C14" in there:
        found += _c14(changes(rows).xs("whole_l2", level="remedy"))
    if "C15" in there:
        found += _c15(in_fresh_data(rows))
    return pd.DataFrame(
        [
            {"claim": claim, "measure": measure, "point": point, "seed": int(seed), "value": value}
            for claim, measure, point, values in found
            for seed, value in values.items()
        ],
        columns=["claim", "measure", "point", "seed", "value"],
    )


def _c14(found: pd.DataFrame):
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


def _c15(worth: pd.Series):
    by_epoch = worth.unstack("epoch")
    for name, measure in (("tail_rewind_blend", "three_repeats"), ("plain", "plain")):
        for share, of in by_epoch.xs(name, level="remedy").groupby("share"):
            if of[4.0].notna().any():
                of = of.droplevel("share")
                point = f"{share:g} of the largest window"
                yield "C15", measure, point, (of[4.0] - of[1.0]).dropna()
                if measure == "three_repeats":
                    second, late = of[2.0] - of[1.0], (of[8.0] - of[4.0]) / 4
                    yield "C15", "falling", point, (second - late).dropna()


def show_worth(record: Record | None) -> None:
    """Displays the fresh data that 2, 4 and 8 epochs are worth, in epochs of fresh data."""
    if record is None:
        return
    worth = in_fresh_data(record.rows)
    cells: dict[str, dict[str, str]] = {}
    for (remedy, share, epoch), values in worth.groupby(["remedy", "share", "epoch"], sort=False):
        if epoch > 1:
            row = f"{BOARD[remedy].label}, {share * WINDOW:,.0f}"
            known = values.dropna()
            words = cell(known) if len(known) == len(values) else "beyond the curve"
            cells.setdefault(row, {})[f"{epoch:.0f} epochs"] = words
    note = "Fresh data of the same loss, in multiples of the unique data; 1 is one epoch's worth:"
    tables.show(cells, "remedy, unique impressions", note)


def show_law(record: Record | None) -> None:
    """Displays the constants of the law of effective data by remedy."""
    if record is None:
        return
    cells = {}
    for remedy in METHODS[1:]:  # the law has no place for the harm of plain repetitions
        fits = [fit(record.rows, remedy, seed) for seed in record.about["seeds"]]
        cells[BOARD[remedy].label] = {
            "R, epochs": cell([one["R"] for one in fits]),
            "β": cell([one["beta"] for one in fits]),
        }
    tables.show(cells, "remedy", "Constants of the law; means over seeds and 95 % intervals:")
