"""Claim C19: what repeated epochs gain as the window grows, everything tuned at each size.

Twice: in worlds that grow with their window, so that a row is looked up as often as before, and in
one world, whose rows are looked up more often. The default setting. Rates are searched for each
method at each size, with as many trials, on a world that no result uses; thresholds are that of the
board's search, as it is and in proportion to the window. The prediction has seen two seeds at the
sizes of quick, up to 80,000 impressions.
"""

import re
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from multiepoch_lab.methods import Hyperparameter
from multiepoch_lab.stats import interval
from reproduction import tables
from reproduction.findings import by_name, estimate
from reproduction.judge import evidence
from reproduction.measure import as_losses, losses, over_objectives, relative
from reproduction.records import Record, replaced
from reproduction.remedies.board import BOARD
from reproduction.runs import Profile, Run, mapped, over_seeds, run_all
from reproduction.tuning import BOARD_EPOCHS, Candidate, chosen, on_board, tune

NAME = "scale"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
TIMES = (0.25, 0.5, 1, 2, 4, 8, 16)  # the profile's window; 500,000 impressions in long
FEW_SEEDS: dict[float, int] = {16: 4}
LOOKUPS, IDS = "as many lookups a row", "the same ids"
GROWS = {LOOKUPS: True, IDS: False}  # whether the world does
TAIL, OWN, FIXED = "tail_rewind", "leave_one_out_votes", "tail_rewind, same threshold"
LABELS = {name: BOARD[name].label for name in ("plain", "meda", TAIL, OWN)}
LABELS[TAIL], LABELS[FIXED] = "tail rewind, threshold in proportion", "tail rewind, same threshold"


def sized(profile: Profile, kind: str, times: float) -> Profile:
    """Returns the world and the window of that size; at 1, both kinds are the profile's own."""
    held_out, seeds = profile.held_out or profile.impressions_per_day, profile.tuning_seeds[:1]
    sizes = profile.of_world()
    grow = sizes if GROWS[kind] else ("impressions_per_day",)
    sizes |= {name: round(times * sizes[name]) for name in grow}
    return replace(profile, **sizes, held_out=held_out, tuning_seeds=seeds)


@dataclass(frozen=True)
class Sized(Candidate):
    """A candidate with a given threshold, tuned for the end of its last epoch by few trials."""

    threshold: Hyperparameter = None

    @property
    def n_trials(self) -> tuple[int, int]:
        """How many trials the design has, and how many there are at most."""
        return 6, 8

    def axes(self) -> dict[str, tuple]:
        """Returns what to try, by field of Run."""
        rates = {"dense_lr": (1e-3, 10**-2.5), "embedding_lr": (0.1, 10**-0.5, 1.0)}
        factor = 1.0 if self.epochs == 1 else 0.1
        return rates | {"hyperparameter": (self.threshold,), "dense_factor": (factor,)}


def candidate(name: str, times: float) -> Sized:
    """Returns the candidate of one of LABELS at a size."""
    method, epochs = name.split(",")[0], 1 if name == "plain" else BOARD_EPOCHS[-1]
    threshold = chosen(on_board(method)).hyperparameter
    if isinstance(threshold, int) and name != FIXED:
        threshold = max(1, round(times * threshold))
    return Sized(method, epochs, rule="rowwise_adagrad", threshold=threshold)


def run(profile: Profile, device: str = "auto", seeds=None, only: str = "") -> pd.DataFrame:
    """Searches and measures at the sizes in whose name the regular expression `only` is found.

    Their names are as "4, the same ids", by the window in multiples of the profile's.

    Returns:
        Losses by kind, unique (impressions), remedy, objective, seed and epoch, and the rates of
        each search, as metrics of its remedy.

    Raises:
        ValueError: If it is found in none.
    """
    seeds, found = tuple(seeds or SEEDS), []
    sizes = [times for times in TIMES if times <= profile.largest]
    names = [(times, kind) for times in sizes for kind in GROWS]
    names = [(times, kind) for times, kind in names if re.search(only, f"{times:g}, {kind}")]
    if not names:
        raise ValueError(f'no size\'s name has {only!r}; they are as "4, {IDS}".')
    for times, kind in names:  # at 1 both kinds have the same runs, which are kept
        with mapped(sized(profile, kind, times)) as sizes:
            found += _measure(kind, times, sizes, seeds[: FEW_SEEDS.get(times)], device)
    return pd.concat(found, ignore_index=True)


def _measure(
    kind: str, times: float, sizes: Profile, seeds: tuple[int, ...], device: str
) -> list[pd.DataFrame]:
    about = {"kind": kind, "unique": sizes.impressions_per_day * sizes.train_days}
    found, runs = [], []
    for name in LABELS:
        one = candidate(name, times)
        trials = tune(one, sizes, device)
        best = trials[trials["best"]].iloc[0]
        rates = {key: float(best[key]) for key in ("dense_lr", "embedding_lr")}
        searched = rates | {"at_edge": float(bool(best["edge"]))}
        rows = pd.DataFrame(searched.items(), columns=["metric", "value"])
        found.append(rows.assign(**about, remedy=name, group="all"))
        ends = tuple(epoch - 1 for epoch in (1, *BOARD_EPOCHS) if epoch <= one.epochs)
        how = {"epochs": one.epochs, "evaluate_epochs": ends, "evaluate_at": (1.0,)}
        how |= {"rule": one.rule, "dense_factor": float(best["dense_factor"])}
        how["about"] = about | {"method": name}
        runs.append(Run(one.method, 0, **rates, hyperparameter=one.threshold, **how))
    return [*found, as_losses(run_all(over_seeds(seeds, runs), sizes, device))]


def merge(kept: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of a record, with those of sizes that were measured again replaced."""
    merged = replaced(kept, rows, ["kind", "unique"])
    return merged.sort_values(["unique", "kind"], kind="stable", ignore_index=True)


def gain(rows: pd.DataFrame, epoch: float = BOARD_EPOCHS[-1]) -> pd.Series:
    """Returns the loss after so many epochs against one plain epoch in %.

    By kind, remedy, unique and seed, mean over objectives. All rates are those for four.
    """
    once = losses(rows, "loss", remedy="plain", epoch=1.0)
    return over_objectives(relative(losses(rows, "loss", epoch=epoch), once))


def slope(gains: pd.Series) -> pd.Series:
    """Returns the points that a doubling of the window adds to the loss, by kind, remedy, seed.

    Over the sizes that a seed has; without those that have one.
    """

    def fit(of: pd.Series) -> float:
        if len(of) == 1:
            return np.nan
        return float(np.polyfit(np.log2(of.index.get_level_values("unique")), of, 1)[0])

    return gains.groupby(["kind", "remedy", "seed"]).agg(fit).dropna()


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C19."""
    found, gains = [], gain(rows)
    slopes, most = slope(gains), largest(gains)
    for name in ("meda", TAIL, OWN):
        for measure, kind in {"grows": LOOKUPS, "fades": LOOKUPS, "denser": IDS}.items():
            if (kind, name) in slopes.index:  # not of one size
                found.append(("C19", measure, LABELS[name], slopes[kind, name]))
        found += [("C19", "left", f"{LABELS[name]}, {k}", most[k, name]) for k in GROWS]
    return evidence([*found, ("C19", "in_proportion", "", threshold(most, IDS))])


def largest(gains: pd.Series) -> pd.Series:
    """Returns the gains in the largest window of each kind, by kind, remedy and seed."""
    unique = gains.index.get_level_values("unique").to_series(index=gains.index)
    return gains[unique == unique.groupby("kind").transform("max")].droplevel("unique")


def shown_up_to(gains: pd.Series, name: str) -> dict[str, int]:
    """Returns, by kind, the largest window up to which a remedy is shown to gain in each."""
    found = {}
    for kind, of in gains.xs(name, level="remedy").groupby("kind"):
        shown = of.groupby("unique").agg(lambda values: interval(values)[2]) < 0
        found[kind] = int(shown.index[shown.cummin()].max())
    return found


def chosen_rates(rows: pd.DataFrame) -> dict:
    """Returns the rate that the searches chose for leave-one-out rows, by kind and unique."""
    mine = rows[(rows["remedy"] == OWN) & (rows["metric"] == "embedding_lr")]
    return mine.set_index(["kind", "unique"])["value"].to_dict()


def threshold(most: pd.Series, kind: str) -> pd.Series:
    """Returns the gain with a threshold in proportion minus that with one that stays, by seed."""
    return most[kind, TAIL] - most[kind, FIXED]


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    gains = gain(record.rows)
    most = largest(gains)
    return by_name(
        slope=slope(gains),
        smallest=gains.xs(gains.index.levels[2].min(), level="unique"),
        largest=most,
        millions={kind: gains[kind].index.unique("unique").max() / 1e6 for kind in GROWS},
        shown={  # the largest window, in millions, up to which a gain is shown
            name: {kind: n / 1e6 for kind, n in shown_up_to(gains, name).items()}
            for name in ("meda", OWN)
        },
        at_a_million=gains[LOOKUPS, "meda"].xs(1_000_000, level="unique"),
        in_proportion_world=threshold(most, LOOKUPS),
        four_million={
            name: gains[IDS, name].xs(4_000_000, level="unique") for name in ("meda", OWN)
        },
        own_rate=chosen_rates(record.rows),
        collapsed={kind: int((gains[kind, OWN] > 5).sum()) for kind in GROWS},  # runs
    )


def show(rows: pd.DataFrame) -> None:
    """Displays what two and four epochs gain, by size, and what a doubling of it adds."""
    for epoch, kind in product(reversed(BOARD_EPOCHS), GROWS):
        gains, cells = gain(rows, epoch), {}
        slopes = slope(gains)
        for name in list(LABELS)[1:]:
            by_size = gains[kind, name].groupby("unique")
            cells[LABELS[name]] = {f"{n / 1e6:g}": estimate(of, digits=1) for n, of in by_size}
            cells[LABELS[name]]["a doubling"] = estimate(slopes[kind, name])
        note = f"After {epoch} epochs, by millions of impressions, {kind}:"
        tables.show(cells, "loss against one epoch, %", note)
