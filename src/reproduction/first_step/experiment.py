"""Claims C21 and C22: a row's first step, and the noise of the order that a mean of ends removes.

Row-wise Adagrad from zero moves a row by the full rate at its first lookup, whatever the gradient.
An epsilon or a start of the accumulator as large as the gradients makes that step small. Every line
is searched anew, several times with other tuning seeds, and judged from each search's choice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from multiepoch_lab.methods import Around
from multiepoch_lab.runner import resolve_device, run_key
from multiepoch_lab.stats import two_level
from multiepoch_lab.train import predict, train
from multiepoch_lab.train.evaluation import measure
from reproduction.findings import by_name
from reproduction.first_step.search import DATA, EPOCHS, LINES, START, best_small, search
from reproduction.judge import evidence
from reproduction.measure import losses, over_objectives, relative
from reproduction.records import Record
from reproduction.runs import Profile, Run
from reproduction.runs.run import CODE, build, kept, logs
from reproduction.runs.sources import SOURCES, version

NAME = "first_step"
SEEDS = tuple(range(40, 48))  # no pilot and no tuning has seen them
PREDICTED = 3  # searches that C21 to C23 are judged on; intervals are over all that were run
REPEATS = {"plain": "one, eps", "fal, repeated": "fal, eps"}  # two epochs as tuned for one
RESETS = {"meda, eps": "MEDA", "tail_rewind, eps": "tail rewind"}
METRICS = ("logloss", "expected_logloss", "auc")
COLUMNS = ["seed", "kind", "epoch", "group", "objective", "metric", "value"]
KEYS = ("line", "data", "search")
BY = ("data", "search", "objective", "seed")


@dataclass(frozen=True)
class Trial:
    """A run of which every end is kept, or so many of them that differ in weights and order."""

    run: Run
    members: int = 1

    def describe(self) -> str:
        return self.run.describe()

    def key(self, profile: Profile, device: str) -> str:
        run = asdict(replace(self.run, about={}))
        what = [run, self.members, profile.sizes(), device, version(self.run.data)]
        return run_key(what, *CODE, "reproduction.first_step")


class Ends(Around):
    """Keeps the weights and the predictions at the end of each epoch; call `see` after the last."""

    def __init__(self, inner, model, held_out) -> None:
        super().__init__(inner)
        self.model, self.held_out = model, held_out
        self.weights: list[list[Tensor]] = []
        self.predictions: list[Tensor] = []

    def before_epoch(self, index: int) -> None:
        if index:
            self.see()
        super().before_epoch(index)

    @torch.no_grad()
    def see(self) -> None:
        self.weights.append([p.clone() for p in self.model.parameters()])
        self.predictions.append(predict(self.model, self.held_out).double().sigmoid())

    @torch.no_grad()
    def of_mean_weights(self, ends: slice) -> Tensor:
        """Returns the predictions of the mean of the weights at some ends."""
        for parameter, *values in zip(self.model.parameters(), *self.weights[ends]):
            parameter.copy_(torch.stack(values).mean(dim=0))
        return predict(self.model, self.held_out).double().sigmoid()


def execute(trial: Trial, profile: Profile, device: str = "cpu") -> pd.DataFrame:
    """Returns losses at each end, of means over ends and of means over members; epoch counts them.

    The means are over the ends of epochs 2 to `epoch`.
    """
    run, found, first = trial.run, [], []
    log, held_out, _ = logs(run, profile)
    log, held_out = log.to(device), held_out.to(device)
    batch_size = SOURCES[run.data].batch_size or profile.batch_size

    def add(kind: str, epoch: float, probability: Tensor) -> None:
        rows = measure(torch.logit(probability), held_out, None)
        found.extend((run.seed, kind, float(epoch), *row) for row in rows if row[2] in METRICS)

    for member in range(trial.members):
        one = replace(run, seed=run.seed + 1000 * member)
        model, optimizers, every_epoch = build(one, log.schema, device)
        ends = Ends(every_epoch, model, held_out)
        how = {"epochs": run.epochs, "batch_size": batch_size, "seed": one.seed}
        if quarter := run.epochs > 1:
            how |= {"evaluate": held_out, "evaluate_at": (0.25,), "evaluate_epochs": (1,)}
        rows = train(model, optimizers, log, between_epochs=ends, progress=None, **how)
        ends.see()
        first.append(ends.predictions[0])
        if member:
            continue
        for epoch, prediction in enumerate(ends.predictions, 1):
            add("end", epoch, prediction)
        for last in range(3, run.epochs + 1):
            add("weights", last, ends.of_mean_weights(slice(1, last)))
            add("predictions", last, torch.stack(ends.predictions[1:last]).mean(dim=0))
        if quarter:
            at = rows[(rows["split"] == "test") & rows["metric"].isin(METRICS)]
            at = at.assign(seed=run.seed, kind="end")[COLUMNS]
            found.extend(at.itertuples(index=False, name=None))
    for n in (2, 4)[: trial.members // 2]:
        add("models", n, torch.stack(first[:n]).mean(dim=0))
    return pd.DataFrame(found, columns=COLUMNS)


def sizes(profile: Profile) -> Profile:
    """Returns the board's world with twice the data, and more held out since labels are drawn."""
    board = profile.board()
    per_day = 2 * board.impressions_per_day
    return replace(board, impressions_per_day=per_day, held_out=per_day)


def trials(best: dict[tuple[str, str, int], Run]) -> dict[tuple[str, str, int], Trial]:
    """Returns what is judged, by line, source and search; "one, eps" by four models."""
    found = {}
    for (name, data, k), run in best.items():
        found[name, data, k] = Trial(run, 4 if name == "one, eps" else 1)
        for repeated, once in REPEATS.items():
            if once == name:
                found[repeated, data, k] = Trial(replace(run, epochs=2))
    return found


def run_trials(
    found: dict[tuple[str, str, int], Trial], seeds: Iterable[int], profile: Profile, device: str
) -> pd.DataFrame:
    """Returns the rows of every trial on every seed, with its line, source, search and setting."""
    items = [
        replace(one, run=replace(one.run, seed=seed, about=dict(zip(KEYS, key))))
        for key, one in found.items()
        for seed in seeds
    ]
    names = [one.key(profile, device) for one in items]
    work = partial(execute, profile=profile, device=device)
    tables = kept(work, items, names, profile, device, Trial.describe)
    fields = ("dense_lr", "embedding_lr", "eps", START)
    rows = [
        table.assign(**one.run.about, **{name: getattr(one.run, name) for name in fields})
        for table, one in zip(tables, items)
    ]
    return pd.concat(rows, ignore_index=True)


def run(
    profile: Profile, device: str = "auto", seeds=None, data=tuple(DATA), searches=0
) -> pd.DataFrame:
    """Searches, and returns the losses of every line from every search's choice."""
    profile, device = sizes(profile), resolve_device(device)
    best = search(profile, device, data, searches or profile.searches)
    return run_trials(trials(best), seeds or SEEDS, profile, device)


def loss(rows: pd.DataFrame, line: str, kind: str = "end", epoch: float = 1.0) -> pd.Series:
    """Returns losses of a line by source, search, objective and seed."""
    return losses(rows, None, by=BY, line=line, kind=kind, epoch=epoch)


def change(ours: pd.Series, theirs: pd.Series) -> pd.Series:
    """Returns ours against theirs in %, mean over objectives, by source, search and seed."""
    return over_objectives(relative(ours, theirs))


def comparisons(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns what C21 is judged on, in % by source, search and seed."""
    zero, one, start = (loss(rows, name) for name in ("one", "one, eps", "one, start"))
    fal = loss(rows, "fal, eps")
    last = {name: loss(rows, name, epoch=EPOCHS) for name in ("meda", *RESETS)}
    twice = {name: loss(rows, name, epoch=2.0) for name in REPEATS}
    return {
        "one": change(one, zero),
        "start": change(start, zero),
        "start_eps": change(start, one),
        "fal": change(fal, one),
        "fal_zero": change(loss(rows, "fal"), zero),
        "plain_twice": change(twice["plain"], one),
        "fal_twice": change(twice["fal, repeated"], one),
        "jump": change(loss(rows, "plain", epoch=1.25), loss(rows, "plain")),
        "meda": change(last["meda, eps"], last["meda"]),
        "meda_zero": change(last["meda"], zero),
        "meda_net": change(last["meda, eps"], one),
        "tail_net": change(last["tail_rewind, eps"], one),
    }


def sparsest(rows: pd.DataFrame) -> pd.Series:
    """Returns the gain of one epoch in the rarest objective less that in the most frequent."""
    gain = relative(loss(rows, "one, eps"), loss(rows, "one"))
    found = {}
    for data, of in gain.groupby("data"):
        names = of.index.unique("objective")
        rare, frequent = (of.xs(name, level="objective") for name in (names[-1], names[0]))
        found[data] = (rare - frequent).droplevel("data")
    return pd.concat(found, names=["data"])


def means(rows: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Returns means over the ends of epochs 2 to 4 less the last end, in % of it."""
    return {
        (kind, name): change(loss(rows, name, kind, EPOCHS), loss(rows, name, epoch=EPOCHS))
        for name, kind in product(RESETS, ("weights", "predictions"))
    }


def points(
    values: pd.Series, searches: int = PREDICTED, names: Mapping[str, str] = DATA
) -> list[tuple[str, pd.Series]]:
    """Returns the values over seeds, by a point for each source and each of the first searches."""
    return [
        (f"{names[data]}, search {k + 1}", of.droplevel(["data", "search"]))
        for (data, k), of in values.groupby(["data", "search"], sort=False)
        if k < searches
    ]


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C21 and C22; a point is a source and a search."""
    of = comparisons(rows) | {"sparsest": sparsest(rows)}
    # Nothing is predicted elsewhere.
    of["one"] = of["one"].drop("tmall", level="data", errors="ignore")
    for name in ("meda_net", "tail_net"):
        of[name] = of[name].drop("retailrocket", level="data", errors="ignore")
    of["sparsest"] = of["sparsest"].drop(["retailrocket", "tmall"], level="data", errors="ignore")
    judged = ("one", "sparsest", "start_eps", "fal", "jump", "meda", "meda_net", "tail_net")
    limits = {"start_eps": ("start_eps_above", "start_eps_below")}
    found = [
        ("C21", measure, point, values)
        for name in judged
        for measure in limits.get(name, (name,))
        for point, values in points(of[name])
    ]
    for (kind, line), values in means(rows).items():
        found += [
            ("C22", kind, f"{RESETS[line]}, {point}", of_point)
            for point, of_point in points(values)
        ]
    return evidence(found)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    return by_name(one=comparisons(record.rows)["one"].groupby(["data", "seed"]).mean())


def by_source(values: pd.Series) -> dict[str, tuple[float, float, float]]:
    """Returns mean and interval over searches and seeds, by source."""
    return {data: two_level(of.unstack("seed")) for data, of in values.groupby("data", sort=False)}


def multiples(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the chosen epsilon or start over the median square, by line, source and search."""
    settings = rows.drop_duplicates(list(KEYS))
    names = [name for name, line in LINES.items() if line.small]
    return pd.concat({name: best_small(name, settings) for name in names}, names=["line"])
