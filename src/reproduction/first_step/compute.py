"""Claim C23: what else the compute of a repeat buys.

For the training compute of two epochs or four: models of one epoch whose predictions are averaged,
rows or dense layers twice as wide, in AdsWorld twice the data; beside repeats whose rows are reset,
and means of their ends. All from the best epsilon for one epoch, or for the repeat, of each search.
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
    trials,
)
from reproduction.first_step.search import DATA, EPOCHS, search
from reproduction.judge import evidence
from reproduction.runs import Profile

NAME = "same_compute"
WIDER = {  # options of the model; the default has rows of 16 and layers of 128, 64 and 32
    "rows twice as wide": {"embedding_dim": 32},
    "dense layers twice as wide": {"hidden": (256, 128), "tower": (64,)},
}
MORE = "twice the data"
COMPARED = ("one", "one, eps", *RESETS)


def run(
    profile: Profile, device: str = "auto", seeds=None, data=tuple(DATA), searches=0
) -> pd.DataFrame:
    """Returns the losses of what the compute buys; shares its searches and runs with C21."""
    profile, device = sizes(profile), resolve_device(device)
    best = search(profile, device, data, searches or profile.searches)
    found = {key: one for key, one in trials(best).items() if key[0] in COMPARED}
    for (line, source, k), one in best.items():
        if line == "one, eps":
            for name, options in WIDER.items():
                found[name, source, k] = Trial(replace(one, network=options))
            if source == "world":
                found[MORE, source, k] = Trial(replace(one, share=1.0))
    return run_trials(found, seeds or SEEDS, profile, device)


def gains(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns each way to spend the compute against one epoch in %, by source, search and seed."""
    one = loss(rows, "one, eps")
    found = {f"{n} models": loss(rows, "one, eps", "models", n) for n in (2, 4)}
    found |= {name: loss(rows, name) for name in (*WIDER, MORE) if name in set(rows["line"])}
    for name, label in RESETS.items():
        found[label] = loss(rows, name, epoch=EPOCHS)
        for kind in ("weights", "predictions"):
            found[f"{label}, mean of {kind}"] = loss(rows, name, kind, EPOCHS)
    return {name: change(values, one) for name, values in found.items()}


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C23; a point is a source and a search."""
    gain = gains(rows)
    measures = {
        "two": gain["2 models"],
        "four_meda": gain["4 models"] - gain["MEDA"],
        "four_tail": gain["4 models"] - gain["tail rewind"],
        "wide_rows": gain["rows twice as wide"],
        "wide_dense": gain["dense layers twice as wide"],
    }
    # Nothing is predicted elsewhere.
    measures["two"] = measures["two"].drop("retailrocket", level="data", errors="ignore")
    unknown = ["retailrocket", "tmall"]
    measures["four_meda"] = measures["four_meda"].drop(unknown, level="data", errors="ignore")
    if MORE in gain:
        measures["data"] = (gain[MORE] - gain["2 models"]).dropna()  # in AdsWorld alone
    return evidence(
        ("C23", measure, point, values)
        for measure, of in measures.items()
        for point, values in points(of)
    )
