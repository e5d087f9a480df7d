"""Claim C24: the headline lines with their searches, and what was not among C21's choices.

One rate for the whole network, leave-one-out rows, tail rewind from zero, an epsilon that may stay
zero, Adam on the tables, KuaiRand's other windows, and means of up to seven ends.
"""

from dataclasses import replace

import pandas as pd

from multiepoch_lab.runner import resolve_device
from reproduction.first_step.experiment import (
    RESETS,
    SEEDS,
    Trial,
    change,
    loss,
    points,
    run_trials,
    sizes,
)
from reproduction.first_step.search import DATA, EPOCHS, HEADLINES, search
from reproduction.judge import evidence
from reproduction.runs import Profile

NAME = "headlines"
WINDOWS = {"kuairand, early": "KuaiRand, early", "kuairand, late": "KuaiRand, late"}
FEW = ("world", "kuairand")  # where Adam has tuned rates, and the longest means are taken
SEARCHES = 5
LONG = 8  # epochs of those
ONCE = ("one", "one, eps")
FIRST = (*ONCE, "fal", "meda", "meda, eps", "tail_rewind, eps")  # those of C21 that are shown, too


def run(
    profile: Profile, device: str = "auto", seeds=None, data=tuple(DATA), searches=0
) -> pd.DataFrame:
    """Returns the losses of every line from every search's choice; shares what it can with C21."""
    profile, device = sizes(profile), resolve_device(device)
    searches = searches or profile.searches
    adam = tuple(name for name in HEADLINES if name.startswith("adam"))
    lines = (*FIRST, *(name for name in HEADLINES if name not in adam))
    best = search(profile, device, data, searches, lines)
    best |= search(profile, device, [one for one in data if one in FEW], searches, adam)
    windows = WINDOWS if "kuairand" in data else ()
    best |= search(profile, device, windows, searches, ONCE)
    found = {key: Trial(one) for key, one in best.items() if key[0] in (*FIRST, *HEADLINES)}
    for name in RESETS:
        for source in filter(FEW.__contains__, data):  # the first search's choice is enough
            longer = replace(best[name, source, 0], epochs=LONG)
            found[f"{name}, long", source, 0] = Trial(longer)
    return run_trials(found, seeds or SEEDS, profile, device)


def comparisons(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns what C24 is judged on, in % by source, search and seed."""
    logs = rows[~rows["data"].isin(WINDOWS)]
    one, small, free = (loss(logs, name) for name in (*ONCE, "one, any eps"))
    own, repeated = loss(logs, "own label out, one"), loss(logs, "own label out", epoch=EPOCHS)
    meda, tail = (loss(logs, name, epoch=EPOCHS) for name in RESETS)
    adam, adam_eps = (loss(logs, name) for name in ("adam", "adam, eps"))
    found = {
        "own_rate": change(one, loss(logs, "shared")),
        "any": change(free, one),
        "any_eps": change(free, small),
        "fal": change(loss(logs, "fal"), one),
        "meda_zero": change(loss(logs, "meda", epoch=EPOCHS), one),
        "tail_zero": change(loss(logs, "tail_rewind", epoch=EPOCHS), one),
        "meda": change(meda, free),
        "tail": change(tail, free),
        "own_one": change(own, free),
        "own_repeats": change(repeated, own),
        "own_meda": change(meda, own),
        "adam": change(adam_eps, adam),
        "windows": change(*(loss(rows[rows["data"].isin(WINDOWS)], name) for name in ONCE[::-1])),
    }
    for name, label in RESETS.items():
        long = f"{name}, long"
        for kind in ("weights", "predictions"):
            ends = {n: loss(logs, long, kind, n) for n in (EPOCHS, LONG)}
            key = f"{label.split()[0].lower()}_{kind}"
            found[f"{key}_long"] = change(ends[LONG], ends[EPOCHS])
    return {name: values.dropna() for name, values in found.items()}


# The sources that a prediction is about; all for the others.
ABOUT = {
    "own_rate": ("world", "kuairand"),
    "own_one": ("world",),
    "own_repeats": ("world",),
    "tail_predictions_long": ("world", "kuairand"),
}
JUDGED = ("own_rate", "any", "own_one", "own_repeats", "adam", "windows", "tail_predictions_long")


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C24; a point is a source and a search."""
    of = comparisons(rows)
    for name, sources in ABOUT.items():
        of[name] = of[name][of[name].index.get_level_values("data").isin(sources)]
    return evidence(
        ("C24", name, point, values)
        for name in JUDGED
        for point, values in points(of[name], SEARCHES, DATA | WINDOWS)
    )
