"""Chapter 12, claim C10: the collapse and its remedies on KuaiRand, with and without the cross."""

from dataclasses import asdict, replace

import pandas as pd
import torch

from multiepoch.data import PACKAGED_SPLIT, Log, load_kuairand, split_by_day
from multiepoch.methods import METHODS
from multiepoch.model import ConversionModel
from multiepoch.runner import resolve_device
from multiepoch.train import train
from reproduction import records
from reproduction.findings import by_name
from reproduction.measure import against, jump, losses, relative
from reproduction.runs import COLUMNS, SOURCES, Profile, Run, over_seeds, run_all
from reproduction.tuning import Tuned, tuned

NAME = "ch12_real_logs"
WITH, WITHOUT = "with the cross", "without the cross"
TUNED, ONE_EPOCH = "tuned for three epochs", "rates for one epoch"
CROSS = "user_x_author"
# The methods that the claims speak of; the others are tuned and run with the cross alone.
COMPARED = ("plain", "fal", "meda", "tail_rewind")
TRAINED_ON = ("never", "once", "more often")  # how often a row of the cross was, in the window
MEAN = "mean of the three"
# What tells a label's own part in the jump from that of the labels that it shares its rows with.
CLICK_ALONE, LIKE_ALONE, RARE_CLICK = "click alone", "like alone", "click alone, as rare as like"
HEAVY_LIKE, SLOW_TABLES = "like weighs more", "a tenth of the tables' rate"
LIKE_WEIGHT = 20.0  # of the loss: then p (1 - p) times the weight is of the size of click's
LABEL_ABLATIONS = (CLICK_ALONE, LIKE_ALONE, RARE_CLICK, HEAVY_LIKE, SLOW_TABLES)


def setting(cross: str, rates: str) -> str:
    """Returns how rows name a choice of cross and rates."""
    return f"{cross}, {rates}"


def runs(epochs: int) -> list[Run]:
    """Returns each method at its own best rates, and some at the best for one plain epoch.

    Rates and hyperparameters are tuned with the cross, on the validation day. At the rates for
    one epoch FAL has the logarithm, as claim C6 has it, and tail rewind the tau that was tuned
    for its own rates.
    """

    def run(name: str, cross: str, rates: str, best: Tuned) -> Run:
        by_rows = CROSS if (name, cross, rates) == ("plain", WITH, ONE_EPOCH) else ""
        more = dict(epochs=epochs, data="kuairand", cross=cross == WITH, group_by=by_rows)
        return Run(name, 0, **asdict(best), setting=setting(cross, rates), **more)

    found, one_epoch = [], tuned("plain", 1, data="kuairand")
    best = {name: tuned(name, 3, data="kuairand") for name in METHODS}
    for cross in (WITH, WITHOUT):
        for name in METHODS if cross == WITH else COMPARED:
            found.append(run(name, cross, TUNED, best[name]))
        for name in COMPARED if cross == WITH else ("plain", "fal"):
            hyperparameter = "log" if name == "fal" else best[name].hyperparameter
            slow = replace(one_epoch, hyperparameter=hyperparameter)
            found.append(run(name, cross, ONE_EPOCH, slow))
    return found


def live_runs(epochs: int) -> list[Run]:
    """Returns `runs` without AdamAR, FAL + tail rewind, and tuned methods without the cross."""
    later = setting(WITHOUT, TUNED)
    return [one for one in runs(epochs) if one.method in COMPARED and one.setting != later]


def quick_runs() -> list[Run]:
    """Returns what C10 needs and no more: the log has one size, so only fewer runs are quicker."""
    found = []
    for one in runs(epochs=3):
        if one.setting == setting(WITH, ONE_EPOCH) and one.method in ("plain", "fal"):
            found.append(replace(one, epochs=2, evaluate_at=(0.25, 1.0)))
        if one.setting == setting(WITH, TUNED) and one.method in ("fal", "meda"):
            found.append(replace(one, evaluate_at=(1.0,)))
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """Trains on KuaiRand and returns rows of `runs.COLUMNS`.

    A seed draws first weights and the order of batches, not the log. What belongs to no claim is
    left to the profiles long and gpu: some of `runs`, and those of LABEL_ABLATIONS.
    """
    device, seeds = resolve_device(device), seeds or profile.seeds
    everything = profile.name in ("long", "gpu")
    if profile.name == "quick":
        todo = quick_runs()
    else:
        todo = runs(profile.epochs) if everything else live_runs(profile.epochs)
    found = [run_all(over_seeds(seeds, todo), profile, device, store, log)]
    for seed in seeds if everything else ():
        found += [label_ablation(name, profile, device, seed, log) for name in LABEL_ABLATIONS]
    return pd.concat(found, ignore_index=True)


def label_ablation(name: str, profile: Profile, device: str, seed: int, log=print) -> pd.DataFrame:
    """Trains two plain epochs of one of LABEL_ABLATIONS, at the rates that suit one epoch."""
    window, test = label_ablation_logs(name, seed)
    rates = tuned("plain", 1, data="kuairand")
    embedding_lr = rates.embedding_lr / (10 if name == SLOW_TABLES else 1)
    torch.manual_seed(seed)
    model = ConversionModel(window.schema).to(device)
    optimizer, _ = METHODS["plain"].build(model, dense_lr=rates.dense_lr, embedding_lr=embedding_lr)
    weights = {"like": LIKE_WEIGHT} if name == HEAVY_LIKE else None
    more = dict(loss_weights=weights, evaluate=test, progress=None)
    size = SOURCES["kuairand"].batch_size
    rows = train(model, optimizer, window, epochs=2, batch_size=size, seed=seed, **more)
    log(f"plain {name} seed {seed}: done")
    about = dict(profile=profile.name, device=device, seed=seed, method="plain", setting=name)
    return rows[rows["split"] == "test"].assign(**about)[COLUMNS]


def label_ablation_logs(name: str, seed: int) -> tuple[Log, Log]:
    """Returns window and test days with the labels of one of LABEL_ABLATIONS.

    RARE_CLICK drops clicks at random, in both, so that the window's rate is that of like.
    """
    labels = {HEAVY_LIKE: None, SLOW_TABLES: None, LIKE_ALONE: ("like",)}.get(name, ("click",))
    log = load_kuairand(objectives=labels) if labels else load_kuairand()
    window, _, test = split_by_day(log, **PACKAGED_SPLIT)
    if name != RARE_CLICK:
        return window, test
    likes = split_by_day(load_kuairand(objectives=("like",)), **PACKAGED_SPLIT)[0].labels
    share = likes.mean() / window.labels.mean()
    generator = torch.Generator().manual_seed(seed)
    kept = (torch.rand(len(part), 1, generator=generator) < share for part in (window, test))
    return tuple(part.with_labels(part.labels * keep) for part, keep in zip((window, test), kept))


def ran(rows: pd.DataFrame, where: str) -> list[str]:
    """Returns the methods that the rows have in a setting, in the order of METHODS."""
    found = set(rows[rows["setting"] == where]["method"])
    return [name for name in METHODS if name in found]


def has_label_ablations(rows: pd.DataFrame) -> bool:
    """Returns whether the rows have every run of LABEL_ABLATIONS."""
    return set(LABEL_ABLATIONS) <= set(rows["setting"])


def jumps(rows: pd.DataFrame, method: str, where: str) -> pd.DataFrame:
    """Returns a method's jumps in a setting in %: seed by objective."""
    return jump(rows, method=method, setting=where).unstack("objective")


def change(rows: pd.DataFrame, method: str, where: str, epoch: float, objective: str) -> pd.Series:
    """Returns an objective's logloss at a point against the run's end of epoch 1, in % by seed."""
    which = {"method": method, "setting": where, "objective": objective}
    return relative(*(losses(rows, epoch=point, **which) for point in (epoch, 1.0)))


def end_of_three(rows: pd.DataFrame, cross: str, method: str, other: str) -> pd.DataFrame:
    """Returns a tuned method's logloss against another's after epoch 3 in %: seed by objective."""
    which = {"setting": setting(cross, TUNED), "epoch": 3.0}
    found = relative(*(losses(rows, method=name, **which) for name in (method, other)))
    found = found.unstack("objective")
    return found.assign(**{MEAN: found.mean(axis=1)})


def worst(rows: pd.DataFrame, cross: str, other: str) -> pd.Series:
    """Returns tail rewind's logloss against another's at its worst point, in % by seed."""
    found = against(rows, "tail_rewind", other, setting=setting(cross, TUNED))
    return found[[epoch for epoch in found if epoch > 1]].max(axis=1)


def to_one_epoch(rows: pd.DataFrame, cross: str, rates: str) -> pd.DataFrame:
    """Returns logloss points in % of plain's after one epoch at the rates for one."""
    base = losses(rows, method="plain", setting=setting(cross, ONE_EPOCH), epoch=1.0)
    points = relative(losses(rows, setting=setting(cross, rates)), base).reset_index()
    return points[points["epoch"] >= 1]


def pairs_seen(window: Log, test: Log) -> tuple[float, float]:
    """Returns the % of test impressions with a pair of user and author that the window had.

    Also, of those whose row of the cross was trained on, the % with a row of other pairs alone.
    """
    n_authors = window.schema.cardinality["author"]
    pairs, test_pairs = (p.ids["user"] * n_authors + p.ids["author"] for p in (window, test))
    known, seen = (torch.isin(test_pairs, pairs), torch.isin(test.ids[CROSS], window.ids[CROSS]))
    stranger = int((seen & ~known).sum()) / int(seen.sum())
    return 100 * known.float().mean().item(), 100 * stranger


def jump_by_frequency(rows: pd.DataFrame) -> pd.Series:
    """Returns the plain jump by how often the cross's row was trained on (group).

    Of the tenths that `frequency_groups` makes, only these three have impressions: most rows were
    never trained on, so the edges between tenths are one lookup or two.
    """
    mine = rows[(rows["method"] == "plain") & (rows["setting"] == setting(WITH, ONE_EPOCH))]
    groups = dict(zip(TRAINED_ON, sorted(set(mine["group"]) - {"all"}), strict=True))
    found = {name: jump(mine, group=group) for name, group in groups.items()}
    return pd.concat(found, names=["group"]).droplevel(["method", "setting"])


# What carries over from the synthetic world -------------------------------------------------------

# By measure: its words, its threshold, and the record, claim and measures that have it.
CH05, CH06 = "second_epoch", "ch07_frequency_adaptive_rate"
CH07 = "ch08_fal_versus_meda"
RARE, SPARSEST = "jump of click made rare minus click's", "jump of the sparsest label minus click's"
PART = "part of the jump that FAL leaves, %, mean of objectives"
MEASURES = {
    "jump": ("jump of click, %", 0.5, CH05, "C3-first", "jump_click"),
    "order": (SPARSEST, 0, CH05, "C4-first", "cart_over_click", "checkout_over_cart"),
    "thinned": (f"{RARE}, both alone", 0, CH05, "C4-first", "thinned"),
    "left": (PART, 50, CH06, "C6-first", "jump_left"),
    "fal_meda": (
        "FAL against MEDA, end of epoch 3, %, mean of objectives",
        0,
        CH07,
        "C7-first",
        "tuned",
    ),
    "worst_fal": ("tail rewind against FAL, worst point, %", 0, CH07, "C11-first", "worst_fal"),
    "worst_meda": ("tail rewind against MEDA, worst point, %", 0, CH07, "C11-first", "worst_meda"),
}


def of_world(record: str, claim: str, *measures: str) -> pd.Series | None:
    """Returns the sum of measures of the synthetic world by seed, from its record if found."""
    kept = records.read(record, "long")
    if kept is None:
        return None
    mine = kept.evidence[kept.evidence["claim"] == claim]
    return mine[mine["measure"].isin(measures)].groupby("seed")["value"].sum()


def of_log(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns the same measures of KuaiRand by seed, those that the rows have the runs for."""
    one_epoch = setting(WITH, ONE_EPOCH)
    plain, fal = (jumps(rows, name, one_epoch) for name in ("plain", "fal"))
    found = {
        "jump": plain["click"],
        "order": plain["like"] - plain["click"],
        "left": 100 * fal.mean(axis=1) / plain.mean(axis=1),
        "fal_meda": end_of_three(rows, WITH, "fal", "meda")[MEAN],
    }
    if has_label_ablations(rows):
        names = (RARE_CLICK, CLICK_ALONE)
        rare, full = (change(rows, "plain", name, 1.25, "click") for name in names)
        found["thinned"] = rare - full
    if "tail_rewind" in ran(rows, setting(WITH, TUNED)):
        found |= {f"worst_{other}": worst(rows, WITH, other) for other in ("fal", "meda")}
    return found


def facts(record: records.Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, crossed = record.rows, setting(WITH, ONE_EPOCH)
    plain = jumps(rows, "plain", crossed)
    rare, full = (change(rows, "plain", of, 1.25, "click") for of in (RARE_CLICK, CLICK_ALONE))
    return by_name(
        order=plain["like"] - plain["click"],
        together=change(rows, "plain", crossed, 2.0, "like"),
        by_itself=change(rows, "plain", LIKE_ALONE, 2.0, "like"),
        rare=rare - full,
    )
