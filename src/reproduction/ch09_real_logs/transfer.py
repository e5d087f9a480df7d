"""What carries over: the measures of chapters 5 to 7 in the synthetic world and on KuaiRand."""

from __future__ import annotations

from types import ModuleType

import pandas as pd

from reproduction import records, tables
from reproduction.ch05_multi_epoch_overfitting import experiment as overfitting
from reproduction.ch06_frequency_adaptive_rate import experiment as frequency
from reproduction.ch07_fal_versus_meda import experiment as remedies
from reproduction.ch09_real_logs import experiment as logs
from reproduction.findings import above, below, cell

# By measure: its words, its threshold, and the chapter, claim and measures that have it.
MEAN = "%, mean of objectives"
SPARSEST, RARE = "jump of the sparsest label minus click's", "jump of click made rare minus click's"
MEASURES = {
    "jump": ("jump of click, %", 0.5, overfitting, "C3", "jump_click"),
    "order": (SPARSEST, 0, overfitting, "C4", "cart_over_click", "checkout_over_cart"),
    "thinned": (f"{RARE}, both alone", 0, overfitting, "C4", "thinned"),
    "left": (f"part of the jump that FAL leaves, {MEAN}", 50, frequency, "C6", "jump_left"),
    "fal_meda": (f"FAL against MEDA, end of epoch 3, {MEAN}", 0, remedies, "C7", "tuned"),
    "worst_fal": ("tail rewind against FAL, worst point, %", 0, remedies, "C11", "worst_fal"),
    "worst_meda": ("tail rewind against MEDA, worst point, %", 0, remedies, "C11", "worst_meda"),
}


def of_world(chapter: ModuleType, claim: str, *measures: str) -> pd.Series | None:
    """Returns the sum of measures of the synthetic world by seed, from its record if found."""
    kept = records.read(chapter.NAME, "long")
    if kept is None:
        return None
    mine = kept.evidence[kept.evidence["claim"] == claim]
    return mine[mine["measure"].isin(measures)].groupby("seed")["value"].sum()


def of_log(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns the same measures of KuaiRand by seed, those that the rows have the runs for."""
    one_epoch = logs.setting(logs.WITH, logs.ONE_EPOCH)
    plain, fal = (logs.jumps(rows, name, one_epoch) for name in ("plain", "fal"))
    found = {
        "jump": plain["click"],
        "order": plain["like"] - plain["click"],
        "left": 100 * fal.mean(axis=1) / plain.mean(axis=1),
        "fal_meda": logs.end_of_three(rows, logs.WITH, "fal", "meda")[logs.MEAN],
    }
    if logs.has_label_ablations(rows):
        names = (logs.RARE_CLICK, logs.CLICK_ALONE)
        rare, full = (logs.change(rows, "plain", name, 1.25, "click") for name in names)
        found["thinned"] = rare - full
    if "tail_rewind" in logs.ran(rows, logs.setting(logs.WITH, logs.TUNED)):
        found |= {f"worst_{other}": logs.worst(rows, logs.WITH, other) for other in ("fal", "meda")}
    return found


def show(rows: pd.DataFrame) -> None:
    """Displays each measure in both, and whether the two lie on the same side of its threshold."""
    ours, found = of_log(rows), {}
    for name, (words, threshold, *where) in MEASURES.items():
        both = of_world(*where), ours.get(name)
        world, log = ("no record found" if one is None else cell(one) for one in both)
        found[words] = {"threshold": f"{threshold:g}", "AdsWorld": world, "KuaiRand": log}
        found[words]["carries over"] = _verdict(both, threshold)
    tables.show(found, "measure")


def _verdict(both: tuple[pd.Series | None, pd.Series | None], threshold: float) -> str:
    if any(values is None for values in both):
        return "—"
    sides = [(below(values, threshold), above(values, threshold)) for values in both]
    if (False, False) in sides:
        return "not settled"
    return "yes" if sides[0] == sides[1] else "**no**"
