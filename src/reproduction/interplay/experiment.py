"""Claim C18: what a repeated epoch is worth follows from the interplay of ids.

The additive model has a bias for each id and no interplay. Its loss over the full model's, both
after one epoch, is the *share of interplay* of a label. On AdsWorld, `taste_scale` sets how strong
the interplay is, with the biases as they are; on a real log it is what it is. Beside it stands what
remedies gain by more epochs, all under one rule (row-wise Adagrad on the tables; leave-one-out rows
are a rule of their own) and one search, tuned for the end of epoch 4, on AdsWorld at the default
scale.
"""

from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multiepoch_lab.data.ads_world import TASTE_SCALE
from reproduction import style
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import intervals, losses, relative
from reproduction.records import Record
from reproduction.remedies.board import BASELINES
from reproduction.runs import NEW_IDS, Profile, Run, over_seeds, run_all
from reproduction.tuning import chosen, under_production_rule

NAME = "interplay"
SEEDS = tuple(range(40, 48))  # no pilot and no search of this record has seen them
DEFAULT = TASTE_SCALE
TASTES = (0.25, 0.5, 1.0, DEFAULT, 2.0, 3.0, 4.0)  # logits
FEW = (0.5, 1.5, 3.0)
# The divisor of the profile's size, its tastes and how many seeds it has.
SIZES = {"an eighth": (8, TASTES, 8), "a half": (2, FEW, 4), "whole": (1, FEW, 4)}
REAL = {"kuairand": "KuaiRand", "retailrocket": "RetailRocket", "tmall": "Tmall"}
LOOKS = {"kuairand": ("#D55E00", "o"), "retailrocket": ("#00835F", "s"), "tmall": ("#8822EE", "D")}
OWN = "leave_one_out_votes"
REPEATED = {"meda": "MEDA", "tail_rewind": "tail rewind", OWN: "leave-one-out rows"}
EPOCHS = (2, 4, 8)
JUDGED = 4
MAIN = "an eighth"


def runs(data: str, about: dict, world: dict | None = None) -> list[Run]:
    """Returns the runs of one seed in one world or on one real log."""
    found = []
    for method in (*BASELINES, "plain", *REPEATED):
        candidate = under_production_rule(method, data)
        epochs = 1 if method in BASELINES else EPOCHS[-1]
        ends = tuple(epoch - 1 for epoch in (1, *EPOCHS) if epoch <= epochs)
        best = asdict(chosen(candidate))
        how = {"rule": candidate.rule, "data": data, "world": world or {}, "about": about}
        how |= {"epochs": epochs, "evaluate_epochs": ends, "evaluate_at": (0.25, 1.0)}
        found.append(Run(method, 0, **best, **how, group_by=NEW_IDS))
    return found


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Returns rows of runs.COLUMNS, with `data`, `size` and `taste` (0 for a real log)."""
    seeds, found = tuple(seeds or SEEDS), []
    for data in REAL:
        one = runs(data, {"data": data, "size": "", "taste": 0.0})
        found.append(run_all(over_seeds(seeds, one), profile, device))
    for size, (divisor, tastes, n) in SIZES.items():
        world = profile.smaller(divisor) if profile.divides else profile
        for taste in tastes:
            about = {"data": "world", "size": size, "taste": taste}
            one = runs("world", about, {"taste_scale": taste})
            found.append(run_all(over_seeds(seeds[:n], one), world, device))
    rows = pd.concat(found, ignore_index=True)
    kept = rows["metric"].isin(["logloss", "expected_logloss", "auc", "calibration", "cpu_seconds"])
    of_new = (rows["group"] != "all") & ~rows["metric"].isin(["logloss", "expected_logloss"])
    return rows[kept & ~of_new].reset_index(drop=True)


def _loss(rows: pd.DataFrame, method: str, epoch: float) -> pd.Series:
    """Returns losses by data, size, taste, objective and seed."""
    return losses(rows, None, method=method, epoch=epoch)


def share(rows: pd.DataFrame, ours: str = "additive", theirs: str = "plain") -> pd.Series:
    """Returns the share of interplay in %: the additive model's loss over the full one's."""
    return relative(_loss(rows, ours, 1.0), _loss(rows, theirs, 1.0))


def gain(rows: pd.DataFrame, method: str, epoch: float = JUDGED) -> pd.Series:
    """Returns the loss after so many epochs against one plain epoch in %."""
    return relative(_loss(rows, method, epoch), _loss(rows, "plain", 1.0))


def worlds(values: pd.Series, size: str = MAIN) -> pd.DataFrame:
    """Returns the mean over objectives on AdsWorld: a row a seed, a column a taste scale."""
    mine = values.xs(("world", size), level=["data", "size"])
    return mine.groupby(["seed", "taste"]).mean().unstack("taste")


def labels(values: pd.Series) -> pd.DataFrame:
    """Returns the values of real logs: a row a seed, a column a label (log, objective)."""
    mine = values[values.index.get_level_values("data").isin(list(REAL))]
    return mine.droplevel(["size", "taste"]).unstack(["data", "objective"])


def rank(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.Series:
    """Returns Spearman's rank correlation over columns, by seed."""
    return ours.corrwith(theirs[ours.columns], axis=1, method="spearman")


def calibrated(shares: pd.Series, gains: pd.Series) -> pd.DataFrame:
    """Returns AdsWorld's gain where its share is that of the real labels, and theirs, by seed.

    The share of a seed is the mean over real labels; the gain is linear between taste scales.
    """
    of_world, of_real = worlds(shares), labels(shares).mean(axis=1)
    gained, real = worlds(gains), labels(gains).mean(axis=1)
    found = {}
    for seed in of_world.index:
        x, y = of_world.loc[seed].to_numpy(), gained.loc[seed].to_numpy()
        order = np.argsort(x)
        at = float(np.interp(of_real[seed], x[order], y[order]))
        scale = float(np.interp(of_real[seed], x[order], of_world.columns.to_numpy()[order]))
        found[seed] = {"world": at, "real": real[seed], "taste": scale}
    return pd.DataFrame(found).T.rename_axis("seed")


def slope(on_world: pd.DataFrame) -> pd.Series:
    """Returns how many points a doubling of the taste scale adds to the gain, by seed."""
    doublings = np.log2(on_world.columns.to_numpy())
    return pd.Series(np.polyfit(doublings, on_world.to_numpy().T, 1)[0], on_world.index)


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C18."""
    found, shares = [], share(rows)
    gains = {method: gain(rows, method) for method in (OWN, "tail_rewind")}
    for method, values in gains.items():
        name, on_world = REPEATED[method], worlds(values)
        for size in SIZES:
            found.append(("C18", "slope", f"{name}, {size}", slope(worlds(values, size))))
        found += [("C18", "weak", f"{name}, taste {x:g}", on_world[x]) for x in (0.25, 0.5)]
        found.append(("C18", "rank", name, rank(labels(shares), labels(values))))
        at = calibrated(shares, values)
        found.append(("C18", "calibrated", name, (at["world"] - at["real"]).abs()))
    loo, tail = gains.values()
    apart = worlds(loo) - worlds(tail)
    found.append(("C18", "level", "taste 0.5", apart[0.5]))
    found.append(("C18", "apart", "taste 3", apart[3.0]))
    found.append(("C18", "real", REPEATED[OWN], labels(loo).mean(axis=1)))
    return evidence(found)


def calibration(rows: pd.DataFrame, method: str, epoch: float = JUDGED) -> pd.Series:
    """Returns the predictions' sum over the positives', mean over real labels, by seed."""
    return labels(losses(rows, "calibration", method=method, epoch=epoch)).mean(axis=1)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    additive = share(rows)
    gains = {method: {epoch: gain(rows, method, epoch) for epoch in EPOCHS} for method in REPEATED}
    interplay = labels(additive)
    behind = labels(relative(_loss(rows, "tail_rewind", JUDGED), _loss(rows, "meda", JUDGED)))
    return by_name(
        share=interplay,
        share_world=worlds(additive),
        world={m: {e: worlds(of) for e, of in each.items()} for m, each in gains.items()},
        real={m: {e: labels(of) for e, of in each.items()} for m, each in gains.items()},
        mean_real={
            (m, e): labels(of).mean(axis=1) for m, each in gains.items() for e, of in each.items()
        },
        mean_share=interplay.mean(axis=1),
        rank={m: rank(interplay, labels(gains[m][JUDGED])) for m in REPEATED},
        calibrated={m: dict(calibrated(additive, gains[m][JUDGED]).items()) for m in REPEATED},
        slope={(m, k): slope(worlds(gains[m][JUDGED], k)) for m in REPEATED for k in SIZES},
        ahead=worlds(gains[OWN][JUDGED]) - worlds(gains["tail_rewind"][JUDGED]),
        calibration={m: calibration(rows, m) for m in REPEATED},
        calibration_once=calibration(rows, "plain", 1.0),
        threshold={n: chosen(under_production_rule("tail_rewind", n)).hyperparameter for n in REAL},
        behind={
            "all": behind.mean(axis=1),
            "without RetailRocket": behind.drop(columns="retailrocket").mean(axis=1),
        },
    )


@style.shown("fig-interplay")
def worth(rows: pd.DataFrame) -> Figure:
    """Draws what four epochs gain against the share of interplay: a panel for each remedy."""
    additive = share(rows)
    of_world, of_real = worlds(additive).mean(), labels(additive)
    fig, grid = style.figure(2, height=3.2, sharex=True, sharey=True)
    for axes, method in zip(grid, ("tail_rewind", OWN)):
        gained = gain(rows, method)
        world, real = worlds(gained), labels(gained)
        look = {"color": "#000000", "markersize": 4, "label": "AdsWorld"}
        _points(axes, of_world, world, fmt="-o", **look)
        for taste, x in of_world.items():
            if taste in (TASTES[0], DEFAULT, TASTES[-1]):
                at = (x, world[taste].mean())
                axes.annotate(f"{taste:g}", at, (3, 5), textcoords="offset points", fontsize=11)
        for data, (shade, marker) in LOOKS.items():
            mine, x = real[data], of_real[data].mean()
            _points(axes, x, mine, fmt=marker, color=shade, label=REAL[data])
            if "like" in mine:
                at = (x["like"], mine["like"].mean())
                axes.annotate("like", at, (-26, -4), textcoords="offset points", fontsize=11)
        style.reference(axes)
        axes.set_title(REPEATED[method])
    grid[1].set_xlabel("share of interplay: additive over full, one epoch, %")
    fig.supylabel("loss after four epochs against one, %", fontsize=12)
    style.legend_outside(fig, grid[0], columns=2)
    return fig


def _points(axes: Axes, x: pd.Series, values: pd.DataFrame, **look) -> None:
    """Draws the mean of each column of values, a row a seed, with its interval."""
    found = intervals(values.unstack(), [values.columns.name])
    errors = [found["mean"] - found["low"], found["high"] - found["mean"]]
    axes.errorbar(x.loc[found.index], found["mean"], errors, capsize=2, **look)
