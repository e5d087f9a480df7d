"""The searches behind C21 to C24: each with tuning seeds of its own, on what no result uses.

A line is a way to train and what is searched for it. Each search scores its trials by the drawn
labels of the validation day, as a user would, in AdsWorld as well. Lines of one kind have equally
many trials.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd

from reproduction.runs import Profile, Run, run_all
from reproduction.tuning import chosen, design, for_one_epoch, under_production_rule

DATA = {"world": "AdsWorld", "kuairand": "KuaiRand", "retailrocket": "RetailRocket"}
DATA |= {"tmall": "Tmall"}
# The median over tables of the median squared gradient of a lookup, in one epoch: seed 300, rounded
# to one digit. Epsilon and start are searched as multiples of it.
SQUARE = {"world": 8e-11, "kuairand": 5e-9, "retailrocket": 7e-6, "tmall": 1e-6}
MULTIPLES = (4, 16, 64)
WIDE = (0, 1, *MULTIPLES)  # so that the search may keep zero, or take a smaller epsilon
HALF = 10**0.5  # half a decade
EPS, START = "eps", "initial_accumulator_value"
SCALES = ("log", "threshold 20")  # of FAL
EPOCHS = 4  # of a reset


@dataclass(frozen=True)
class Line:
    """A way to train. small: The field of Run that keeps a row's first step small, or ""."""

    method: str
    epochs: int = 1
    small: str = ""
    multiples: tuple[int, ...] = MULTIPLES  # of `small`, in median squares; 0 is the rule's default
    rule: str = "rowwise_adagrad"
    shared: bool = False  # one rate for the whole network

    @property
    def n_trials(self) -> int:
        return 12 if self.multiples == WIDE else 8 if self.epochs == 1 else 6


LINES = {
    "one": Line("plain"),
    "one, eps": Line("plain", small=EPS),
    "one, start": Line("plain", small=START),
    "fal": Line("fal"),
    "fal, eps": Line("fal", small=EPS),
    "meda": Line("meda", EPOCHS),
    "meda, eps": Line("meda", EPOCHS, EPS),
    "tail_rewind, eps": Line("tail_rewind", EPOCHS, EPS),
}
OWN = "leave_one_out_votes"
HEADLINES = {  # of C24, beside those
    "shared": Line("plain", shared=True),
    "one, any eps": Line("plain", small=EPS, multiples=WIDE),
    "tail_rewind": Line("tail_rewind", EPOCHS),
    "own label out, one": Line(OWN, small=EPS, multiples=(0, 4, 16)),
    "own label out": Line(OWN, EPOCHS, EPS, (0, 4, 16)),
    "adam": Line("plain", rule="adam"),
    "adam, eps": Line("plain", small=EPS, rule="adam"),
}


def axes(line: Line, data: str) -> dict[str, list]:
    """Returns what to try, by field of Run, around what was tuned from zero."""
    log = data.split(",")[0]  # windows of one log have its rates
    best = chosen(under_production_rule("plain" if line.method == "fal" else line.method, log))
    if line.rule != "rowwise_adagrad":
        best = chosen(for_one_epoch("Adam", log, shared=False))
    once, rate = line.epochs == 1, best.embedding_lr
    found: dict[str, list] = {"dense_lr": [1e-3, 1e-3 * HALF] if once else [best.dense_lr]}
    if line.small:
        rates = (1, HALF, 10) if once else (1, HALF)
        powers, default = {EPS: (0.5, 1e-8), START: (1.0, 0.0)}[line.small]
        sizes = [(c * SQUARE[log]) ** powers for c in line.multiples]
        found[line.small] = [size or default for size in sizes]
    else:
        rates = (1 / HALF, 1, HALF, 10) if once else (1 / HALF, 1, HALF)
        found["dense_lr"] = found["dense_lr"] if once else [best.dense_lr / HALF, best.dense_lr]
    found["embedding_lr"] = [rate * factor for factor in rates]
    found["hyperparameter"] = list(SCALES) if line.method == "fal" else [best.hyperparameter]
    if line.shared:
        del found["embedding_lr"]
        found["dense_lr"] = [1e-3 / HALF, 1e-3, 1e-3 * HALF, 1e-2]
    return found


def trials(name: str, data: str, search: int, n: int | None = None) -> list[Run]:
    """Returns the trials of one search of one line, n or as many as its kind has, on its seeds."""
    line = (LINES | HEADLINES)[name]
    tried = axes(line, data)
    seeds = [200 + 2 * search, 201 + 2 * search][: 2 if line.epochs == 1 else 1]
    about = {"line": name, "data": data, "search": search}
    how = {"epochs": line.epochs, "data": data, "rule": line.rule, "on": "validation"}
    how |= {"dense_factor": 1.0 if line.epochs == 1 else 0.1}
    how |= {"evaluate_epochs": (line.epochs - 1,), "evaluate_at": (1.0,), "share": share(data)}
    points = [dict(zip(tried, point)) for point in design(tried, n or line.n_trials)]
    return [
        Run(
            line.method,
            seed,
            **{"embedding_lr": point["dense_lr"]} | point | how,
            about=about | {"trial": trial},
        )
        for trial, point in enumerate(points)
        for seed in seeds
    ]


def share(data: str) -> float:
    """Returns the share of the window that is trained on, so that AdsWorld has twice the data."""
    return 0.5 if data == "world" else 1.0


def search(
    profile: Profile, device: str, data: Iterable[str], searches: int, lines: Iterable[str] = LINES
) -> dict[tuple[str, str, int], Run]:
    """Returns the best trial by line, source and search, as a run on the test day."""
    keys = list(product(lines, data, range(searches)))
    n = profile.trials[0] if profile.trials else None
    runs = [one for key in keys for one in trials(*key, n)]
    rows = run_all(runs, profile, device)
    entropy = rows[(rows["metric"] == "normalized_entropy") & (rows["group"] == "all")]
    # A trial that diverged has none.
    scores = entropy.groupby(["line", "data", "search", "trial"])["value"].mean()
    best = scores.groupby(["line", "data", "search"]).idxmin()
    by_trial = {tuple(one.about.values()): one for one in runs}
    return {key: replace(by_trial[best[key]], on="test", about={}) for key in keys}


def best_small(name: str, settings: pd.DataFrame) -> pd.Series:
    """Returns, by source and search, how many times the median square the chosen one is."""
    mine = settings[settings["line"] == name]
    values = mine.set_index(["data", "search"])[LINES[name].small]
    values = values**2 if LINES[name].small == EPS else values
    return values / values.index.get_level_values("data").map(SQUARE)
