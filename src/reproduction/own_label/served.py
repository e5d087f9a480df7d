"""Claim C13 in the default setting: served against trained rows.

Row-wise Adagrad on the tables and Adam elsewhere, at three rates of the tables about the best of
one epoch, at the sizes of the board. Tail rewind has one threshold: the board's searches chose it
for three of their four ends, and 2,000 lookups for epoch 4 of KuaiRand.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.dose_response import experiment as dose
from reproduction.dose_response.experiment import best_against_one_epoch, to_one_epoch
from reproduction.findings import by_name
from reproduction.judge import evidence
from reproduction.measure import DRAWN, EXPECTED, POINT, losses, over_objectives, ran, relative
from reproduction.records import Record
from reproduction.remedies.board import METHODS
from reproduction.runs import Profile, Run, over_seeds, run_all

NAME = "served"
SEEDS = tuple(range(30, 38))  # no pilot and no tuning has seen them
SOURCES = {"KuaiRand": "half of kuairand", "AdsWorld": "world"}
RATES = (0.1, 10**-0.5, 1.0)
TAU = 500

AT = (0.1, 0.25, 0.5, 1.0)
WITHIN = tuple(epoch + part for epoch in (1, 2, 3) for part in AT[:3])
INSIDE = tuple(point for point in WITHIN if point % 1 > 0.2)  # a quarter and half
LAST = 4.0
BLEND = "tail_rewind_blend"
COMPARED = ("plain", "meda", "meda_blend", "tail_rewind", BLEND)


def runs(
    data: str, methods: Sequence[str] = COMPARED, rates: Sequence[float] = RATES, epochs: int = 4
) -> list[Run]:
    """Returns the runs of one seed on one source."""
    how = {"epochs": epochs, "data": SOURCES[data], "rule": "rowwise_adagrad", "evaluate_at": AT}
    found = dose.stratum(data, methods, rates, **how)
    return [replace(one, hyperparameter=one.hyperparameter and TAU) for one in found]


# What the notebook of rows that leave their own label out runs itself.
LIVE_RATE = RATES[1]
LIVE = runs("AdsWorld", ("plain", "meda", "tail_rewind", BLEND), (LIVE_RATE,), epochs=3)


ALL = [one for data in SOURCES for one in runs(data)]


def run(profile: Profile, device: str = "auto", seeds=None, todo=ALL) -> pd.DataFrame:
    """Trains each method and returns losses: columns of runs.COLUMNS, `stratum` and `rate`."""
    rows = run_all(over_seeds(seeds or SEEDS, todo), profile.board(), device)
    return rows[rows["metric"].isin([EXPECTED, DRAWN])]


def held_back(rows: pd.DataFrame, stratum: str) -> pd.DataFrame:
    """Returns blended tail rewind's loss within an epoch against that at the end before, in %.

    The latter is the loss of the last epoch's checkpoint, held back. Mean over objectives, by rate
    and seed, a column for each point of WITHIN.
    """
    loss = losses(rows, None, stratum=stratum, method=BLEND).unstack("epoch")
    return over_objectives(pd.DataFrame({e: 100 * (loss[e] / loss[e // 1] - 1) for e in WITHIN}))


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the evidence for C13, of the sources that the rows have."""
    found = []
    for data in ran(rows, SOURCES, "stratum"):
        held = held_back(rows, data)
        measures = {
            "tail_inside": dose.against(rows, data, BLEND, "tail_rewind"),
            "meda_inside": dose.against(rows, data, BLEND, "meda"),
            "blended_meda": dose.against(rows, data, "meda_blend", "meda"),
            "dip": to_one_epoch(rows, data).xs(BLEND, level="method").unstack("epoch"),
            "held_above": held,
            "held_below": held,
        }
        for name, values in measures.items():
            for rate in values.index.unique("rate"):
                for epoch in WITHIN if name == "dip" else INSIDE:
                    where = f"{data}, {epoch:g} epochs, tables at {rate:.2g}"
                    found.append(("C13", name, where, values.xs(rate, level="rate")[epoch]))
        last = best_against_one_epoch(rows, data, BLEND, LAST)
        found.append(("C13", "one_epoch_last", f"{data}, {LAST:g} epochs", last))
    return evidence(found)


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows = record.rows
    point = {data: to_one_epoch(rows, data) for data in SOURCES}
    by_method = pd.concat(point, names=["data"]).unstack("method")
    inside = by_method[by_method.index.isin(WITHIN, level="epoch")]
    lower = {name: inside[f"{name}_blend"] - inside[name] for name in ("tail_rewind", "meda")}
    means = pd.concat(lower, names=["method"])
    means = means.groupby(["method", "data", "rate", "epoch"]).mean()
    at = {"metric": None, "rate": LIVE_RATE}
    gain = {
        data: relative(
            losses(rows, stratum=data, method=BLEND, epoch=LAST, **at),
            losses(rows, stratum=data, method="plain", epoch=1.0, **at),
        )
        for data in SOURCES
    }
    return by_name(
        point=point,
        lower=lower,
        least=-means.max(),
        most=-means.min(),
        held={data: held_back(rows, data) for data in SOURCES},
        held_quarter={
            data: held_back(rows, data).xs(LIVE_RATE, level="rate")[[1.25, 2.25, 3.25]].mean(axis=1)
            for data in SOURCES
        },
        one={(data, LAST): best_against_one_epoch(rows, data, BLEND, LAST) for data in SOURCES},
        objective=gain,
    )


# Figures ----------------------------------------------------------------------------------------

LABELS = {name: METHODS[name].label for name in COMPARED[1:]}
LOOKS = {label: style.line_style(label) for label in LABELS.values()}


@style.shown("fig-nine-served")
def served(rows: pd.DataFrame, data: str = "AdsWorld") -> tuple[Figure, dict]:
    """Draws what is trained and what is served at one rate, against one plain epoch."""
    here = rows[(rows["stratum"] == data) & (rows["rate"] == LIVE_RATE)]
    first = losses(here, None, by=POINT, method="plain", epoch=1.0)
    points = relative(losses(here, None, by=["method", *POINT]), first).reset_index()
    points = points.assign(line=points["method"].map(LABELS)).dropna()
    points = points[points["epoch"] >= 1]
    points = points.sort_values("objective", key=lambda o: o.map(list(style.OBJECTIVES).index))
    fig = style.by_epoch(points, LOOKS, "loss against one plain epoch's, %")
    return fig, {"data": data, "rate": f"{LIVE_RATE:.2g}"}
