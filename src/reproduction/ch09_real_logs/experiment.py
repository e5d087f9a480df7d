"""Chapter 9, claim C10: the collapse and its remedies on KuaiRand, with and without the cross."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch

from multiepoch.data import PACKAGED_SPLIT, Log, load_kuairand, split_by_day
from multiepoch.methods import METHODS
from multiepoch.model import ConversionModel
from multiepoch.train import train
from reproduction.measure import at, evidence, jump, percent_change, pick
from reproduction.runs import (
    COLUMNS,
    KUAIRAND_BATCH,
    Profile,
    Run,
    over_seeds,
    resolve_device,
    run_all,
)
from reproduction.tuning import tuned

CHAPTER = "09"
NAME = "ch09_real_logs"
WITH, WITHOUT = "with the cross", "without the cross"
TUNED, ONE_EPOCH = "tuned for three epochs", "rates for one epoch"
SOURCES = {WITH: "kuairand", WITHOUT: "kuairand without cross"}
CROSS = "user_x_author"
# The methods that the claims speak of; the others are tuned and run with the cross alone.
COMPARED = ("plain", "fal", "meda", "tail_rewind")
TRAINED_ON = ("never", "once", "more often")  # how often a row of the cross was, in the window
# What tells a label's own part in the jump from that of the labels that it shares its rows with.
CLICK_ALONE, LIKE_ALONE, RARE_CLICK = "click alone", "like alone", "click alone, as rare as like"
HEAVY_LIKE, SLOW_TABLES = "like weighs more", "a tenth of the tables' rate"
LIKE_WEIGHT = 20.0  # of the loss: then p (1 - p) times the weight is of the size of click's
LABEL_ABLATIONS = (CLICK_ALONE, LIKE_ALONE, RARE_CLICK, HEAVY_LIKE, SLOW_TABLES)


def setting(cross: str, rates: str) -> str:
    return f"{cross}, {rates}"


def runs(epochs: int) -> list[Run]:
    """Each method at its own best rates, and some at those that are best for one plain epoch.

    Rates and hyperparameters are tuned with the cross, on the validation day. At the rates for one epoch FAL
    has the logarithm, as claim C6 has it, and tail rewind the tau that was tuned for its own rates.
    """
    found = []
    for cross, source in SOURCES.items():
        more = dict(epochs=epochs, data=source)
        for name in METHODS if cross == WITH else COMPARED:
            t = tuned(name, 3, data="kuairand")
            found.append(Run(name, 0, t.dense_lr, t.embedding_lr, t.hyperparameter,
                             setting=setting(cross, TUNED), **more))  # fmt: skip
        rates = tuned("plain", 1, data="kuairand")
        for name in COMPARED if cross == WITH else ("plain", "fal"):
            hyperparameter = (
                "log" if name == "fal" else tuned(name, 3, data="kuairand").hyperparameter
            )
            by_rows = CROSS if (cross, name) == (WITH, "plain") else ""
            found.append(Run(name, 0, rates.dense_lr, rates.embedding_lr, hyperparameter, group_by=by_rows,
                             setting=setting(cross, ONE_EPOCH), **more))  # fmt: skip
    return found


def quick_runs() -> list[Run]:
    """What C10 needs and no more: the log has one size, so only fewer runs are quicker."""
    found = []
    for one in runs(epochs=3):
        if one.setting == setting(WITH, ONE_EPOCH) and one.method in ("plain", "fal"):
            found.append(replace(one, epochs=2, evaluate_at=(0.25, 1.0)))
        if one.setting == setting(WITH, TUNED) and one.method in ("fal", "meda"):
            found.append(replace(one, evaluate_at=(1.0,)))
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Rows of runs.COLUMNS. A seed draws first weights and the order of batches, not the log.

    The runs of LABEL_ABLATIONS, which belong to no claim, are left to the profiles long and gpu.
    """
    device, seeds = resolve_device(device), seeds or profile.seeds
    quick = profile.name == "quick"
    todo = over_seeds(seeds, quick_runs() if quick else runs(profile.epochs))
    found = [run_all(todo, profile, device, store, log)]
    if profile.name in ("long", "gpu"):
        found += [
            label_ablation(name, profile, device, seed, log)
            for seed in seeds
            for name in LABEL_ABLATIONS
        ]
    return pd.concat(found, ignore_index=True)


def label_ablation(name: str, profile: Profile, device: str, seed: int, log=print) -> pd.DataFrame:
    """Two plain epochs of one of LABEL_ABLATIONS, at the rates that suit one epoch of all three labels."""
    window, test = label_ablation_logs(name, seed)
    rates = tuned("plain", 1, data="kuairand")
    embedding_lr = rates.embedding_lr / (10 if name == SLOW_TABLES else 1)
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(device)
    optimizer, _ = METHODS["plain"].build(model, dense_lr=rates.dense_lr, embedding_lr=embedding_lr)
    rows = train(model, optimizer, window, epochs=2, batch_size=KUAIRAND_BATCH, seed=seed,
                 loss_weights={"like": LIKE_WEIGHT} if name == HEAVY_LIKE else None,
                 evaluate=test, progress=None)  # fmt: skip
    log(f"plain {name} seed {seed}: done")
    rows = rows[rows["split"] == "test"]
    return rows.assign(profile=profile.name, device=device, seed=seed, method="plain",
                       setting=name)[COLUMNS]  # fmt: skip


def label_ablation_logs(name: str, seed: int) -> tuple[Log, Log]:
    """Window and test days with the labels of one of LABEL_ABLATIONS.

    RARE_CLICK drops clicks at random, in both, so that the window's rate is that of like.
    """
    if name in (HEAVY_LIKE, SLOW_TABLES):
        log = load_kuairand()
    else:
        log = load_kuairand(objectives=("like",) if name == LIKE_ALONE else ("click",))
    window, _, test = split_by_day(log, **PACKAGED_SPLIT)
    if name != RARE_CLICK:
        return window, test
    likes = split_by_day(load_kuairand(objectives=("like",)), **PACKAGED_SPLIT)[0].labels
    share = likes.mean() / window.labels.mean()
    generator = torch.Generator().manual_seed(seed)
    kept = (torch.rand(len(part), 1, generator=generator) < share for part in (window, test))
    return tuple(part.with_labels(part.labels * keep) for part, keep in zip((window, test), kept))


def jump_by_frequency(rows: pd.DataFrame) -> pd.Series:
    """The plain jump by how often the cross's row was trained on; by group, seed, objective.

    Of the tenths that `frequency_groups` makes, only these three have impressions: most rows were
    never trained on, so the edges between tenths are one lookup or two.
    """
    mine = pick(rows, "plain", setting(WITH, ONE_EPOCH))
    groups = dict(zip(TRAINED_ON, sorted(set(mine["group"]) - {"all"}), strict=True))
    found = {name: jump(mine, group=group).droplevel(["method", "setting"])
             for name, group in groups.items()}  # fmt: skip
    return pd.concat(found, names=["group"])


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C10: jumps at the rates of one epoch, FAL against MEDA both tuned."""

    def click(values: pd.Series) -> pd.Series:
        return values.xs("click", level="objective").groupby("seed").mean()

    one_epoch = setting(WITH, ONE_EPOCH)
    plain, fal = (click(jump(pick(rows, name, one_epoch))) for name in ("plain", "fal"))
    end = {name: at(pick(rows, name, setting(WITH, TUNED)), 3.0) for name in ("fal", "meda")}
    return evidence(
        "C10",
        jump=plain,
        jump_left=100 * fal / plain,
        fal_meda=click(percent_change(end["fal"], end["meda"])),
    )
