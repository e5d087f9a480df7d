"""The figures and tables of chapter 8."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style, tables
from reproduction.ch08_continual_training import experiment
from reproduction.ch08_continual_training.experiment import (
    CHANGES,
    MEDA,
    MORE_DATA,
    ONE_EPOCH,
    SAME_RATES,
    SPAN,
    TUNED_FROM,
    bytes_at_end,
    first_days,
    gain,
    label,
    last_days,
    mean_by_day,
    slope,
)

PLAIN, FAL, ADAMAR, TAIL = (
    label(name, 2) for name in ("plain", "fal", "adamar", "day_tail_rewind")
)
REDRAWN, RESTORED, GROUPS = (label(name, 2) for name in MEDA)
DOTTED = {"marker": "^", "linestyle": (0, (1, 1))}
# By the setting of its runs: the line's name, whose style it has, and what tells it apart.
LINES: dict[str, tuple[str, str, dict]] = {
    MORE_DATA: ("1 epoch, twice the data", "plain", {"color": "#5B7FA6", "marker": "s"}),
    PLAIN: ("plain, 2 epochs", "plain", {}),
    SAME_RATES: ("plain, 2 epochs, rates for 1", "plain", {"color": "#7A7A7A", "marker": "v"}),
    label("plain", 3): ("plain, 3 epochs", "plain", DOTTED),
    FAL: ("FAL", "FAL", {}),
    REDRAWN: ("MEDA, redrawn", "MEDA", {"color": "#9A7400", "marker": "o"}),
    RESTORED: ("MEDA, restored", "MEDA", {"color": "#8F3A00", "marker": "s"}),
    GROUPS: ("MEDA, groups", "MEDA", {}),
    ADAMAR: ("AdamAR", "AdamAR", {}),
    TAIL: ("tail rewind", "tail rewind", {}),
    label("day_tail_rewind", 3): ("tail rewind, 3 epochs", "tail rewind", DOTTED),
}
NAMES = {setting: name for setting, (name, _, _) in LINES.items()} | {ONE_EPOCH: "1 epoch"}
# What is compared with two plain epochs: everything else that repeats each day once.
REPEATED = (SAME_RATES, FAL, REDRAWN, RESTORED, GROUPS, ADAMAR, TAIL)
CHANGE_LOOKS = {
    change: {"marker": marker, "color": color}
    for change, marker, color in zip(CHANGES, "osD", ("#7FB3D5", "#2E6E9E", "#0B2F4A"))
}
MB = 2**20


@style.shown(
    "fig-eight-leak",
    alt="AUC of a row's mean click by day, a panel for rows of users and one for rows of user and "
    "advertiser: highest on impressions that the mean includes, lower on the next day's.",
    caption="The leak is the distance between the upper two lines. For users it goes from "
    "{user_first:.3f} on the first day to {user_last:.3f} on the last, for user × advertiser from "
    "{user_x_advertiser_first:.3f} to {user_x_advertiser_last:.3f}.",
)
def leak(found: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws what `experiment.leak` measured."""
    lines = {
        "second_epoch": ("second epoch: all days, on today's impressions", "plain", "o"),
        "all_days": ("all days, on tomorrow's impressions", "tail rewind", "s"),
        "today": ("today alone, on tomorrow's impressions", "MEDA", "D"),
    }
    fig, grid = style.figure(2, height=2.4, sharex=True)
    numbers = {}
    for axes, table in zip(grid, experiment.LEAKING):
        mine = found.loc[table]
        for column, (words, look, mark) in lines.items():
            axes.plot(mine.index, mine[column], label=words, marker=mark, **style.line_style(look))
        style.reference(axes, 0.5, "chance")
        axes.set_title(f"rows of {table.replace('_x_', ' × ')}")
        by_day = mine["second_epoch"] - mine["all_days"]
        numbers |= {f"{table}_first": by_day.iloc[0], f"{table}_last": by_day.iloc[-1]}
    _days(axes, mine.index.max())
    fig.supylabel("AUC of the row's mean click", fontsize=12)
    style.legend_outside(fig, axes, columns=1)
    return fig, numbers


@style.shown(
    "fig-eight-epochs",
    alt="Next-day logloss of two plain epochs at their own rates and at those for one epoch, of "
    "three, and of one epoch over twice the data, against one epoch a day, by day.",
    caption="Next-day logloss of plain epochs and of the control against one epoch a day. The "
    "axis is linear up to 1 % and logarithmic beyond.",
)
def epochs_or_data(rows: pd.DataFrame) -> Figure:
    """Draws more epochs and more data against one epoch a day."""
    return _by_day(rows, [PLAIN, SAME_RATES, label("plain", 3), MORE_DATA], ONE_EPOCH)


@style.shown(
    "fig-eight-meanings",
    alt="Next-day logloss of MEDA in its three meanings and of two plain epochs, against one "
    "epoch a day, by day.",
    caption="Next-day logloss of the three meanings of MEDA against one epoch a day.",
)
def meanings(rows: pd.DataFrame) -> Figure:
    """Draws the three meanings of MEDA against one epoch a day."""
    return _by_day(rows, [PLAIN, REDRAWN, RESTORED, GROUPS], ONE_EPOCH)


@style.shown(
    "fig-eight-remedies",
    alt="Next-day logloss of FAL, MEDA, AdamAR, tail rewind, two plain epochs and one epoch over "
    "twice the data, against one epoch a day, by day.",
    caption="Next-day logloss of the remedies, each tuned, MEDA in its best meaning, against one "
    "epoch a day.",
)
def remedies(rows: pd.DataFrame) -> Figure:
    """Draws each remedy once against one epoch a day."""
    meda = label(experiment.best_meda(rows), 2)
    return _by_day(rows, [PLAIN, FAL, meda, ADAMAR, TAIL, MORE_DATA], ONE_EPOCH)


@style.shown(
    "fig-eight-fading",
    alt="Next-day logloss of FAL, of MEDA in groups and of tail rewind against two plain epochs, "
    "by day.",
    caption="Next-day logloss against two plain epochs. A gain lies below zero and fades if its "
    "line rises. C8 fits a straight line to each seed of FAL and of MEDA in groups.",
)
def fading(rows: pd.DataFrame) -> Figure:
    """Draws the remedies of C8 and tail rewind against two plain epochs."""
    return _by_day(rows, [FAL, GROUPS, TAIL], PLAIN)


@style.shown(
    "fig-eight-changes",
    alt="For FAL, MEDA in groups and tail rewind: logloss against two plain epochs over the last "
    "three days, and its rise by day, in worlds of no, default and strong drift and churn.",
    caption="The same in three worlds. Above, below zero, a remedy is ahead of two plain epochs. "
    "Below, above zero, that gain fades or a lag grows. With 95 % intervals.",
)
def changes(rows: pd.DataFrame) -> Figure:
    """Draws how drift and churn move gains: the last days' mean, and the rise by day."""
    measures = {
        f"logloss against 2 plain epochs,\nlast {SPAN} days, %": last_days,
        "its rise by day, %": slope,
    }
    fig, grid = style.figure(2, height=2.7)
    for axes, (words, measure) in zip(grid, measures.items()):
        values = {
            (NAMES[setting], change): measure(gain(rows, setting, PLAIN, change))
            for setting in (FAL, GROUPS, TAIL)
            for change in CHANGES
        }
        values = pd.concat(values, names=["setting", "change"])
        style.dots(axes, values, "setting", "change", CHANGE_LOOKS)
        style.zero(axes, vertical=True)
        axes.set_xlabel(words)
    style.legend_outside(fig, axes, columns=1)
    return fig


@style.shown(
    "fig-eight-growth",
    alt="Thousand rows by day for each table that grows: seen so far, touched on the day, and "
    "touched fewer than tau times.",
    caption="From the first day to the last, the rows seen so far grow from {first:,} to {last:,} "
    "over all tables. The last day touches {touched:,} rows, and {infrequent:,} of them fewer "
    "than {below:g} times. Tables that do not grow are left out.",
)
def growth(grown: pd.DataFrame, below: float) -> tuple[Figure, dict]:
    """Draws the rows by day of each table that grows, from `experiment.growth`."""
    ends = grown.groupby("table", sort=False)["rows"].agg(["first", "last"])
    growing = ends.index[ends["last"] > 1.02 * ends["first"]]
    lines = {
        "rows": ("seen so far", "plain", "o"),
        "touched": ("touched on the day", "FAL", "s"),
        "infrequent": (f"touched fewer than {below:g} times", "tail rewind", "D"),
    }
    fig, grid = style.figure(len(growing), height=2.1, sharex=True, squeeze=False)
    for axes, table in zip(grid[:, 0], growing):
        mine = grown[grown["table"] == table]
        for column, (words, look, mark) in lines.items():
            kind = {"label": words, "marker": mark, "markersize": 4}
            axes.plot(mine["day"], mine[column] / 1e3, **kind, **style.line_style(look))
        axes.set_title(table.replace("_x_", " × "))
        axes.set_ylim(bottom=0)
    _days(axes, grown["day"].max())
    fig.supylabel("thousand rows", fontsize=12)
    style.legend_outside(fig, axes, columns=2)
    by_day = grown.groupby("day")[["rows", "touched", "infrequent"]].sum()
    numbers = {"first": by_day["rows"].iloc[0], "last": by_day["rows"].iloc[-1]}
    return fig, numbers | by_day.iloc[-1].to_dict() | {"below": below}


def gains(rows: pd.DataFrame, settings: Sequence[str], base: str) -> None:
    """Displays each setting's logloss against `base` in %, early, late, and its rise by day."""
    found = {}
    for setting in experiment.ran(rows, settings):
        change = gain(rows, setting, base)
        found[NAMES[setting]] = {
            f"first {SPAN} days": tables.cell(first_days(change)),
            f"last {SPAN} days": tables.cell(last_days(change)),
            "rise by day": tables.cell(slope(change), digits=3),
            f"from day {TUNED_FROM} on": tables.cell(slope(change, TUNED_FROM), digits=3),
        }
    tables.show(found, f"logloss against {NAMES[base]}, %")


def bytes_by_day(grown: pd.DataFrame, dim: int) -> None:
    """Displays the memory on the first, a middle and the last day, for rows of `dim` floats."""
    size = experiment.memory(grown, dim) / MB
    size.insert(2, "second_group", size["tables"] + size["moments"])
    rows = grown.groupby("day")["rows"].sum()
    heads = (
        "tables, MB",
        "Adam's moments, MB",
        "a second group, MB",
        "undo log in the first epoch, MB",
        "undo log in later ones, MB",
    )
    last = size.index[-1]
    found = {}
    for day in sorted({1, (last + 1) // 2, last}):
        found[day] = {"rows seen so far": f"{rows[day]:,}"}
        found[day] |= dict(zip(heads, size.loc[day].map("{:.1f}".format)))
    tables.show(found, "day")


def bytes_by_method(rows: pd.DataFrame) -> None:
    """Displays the memory that the runs report at their end."""
    metrics = {
        "tables, MB": "table_bytes",
        "optimizer's state, MB": "state_bytes",
        "kept to put rows back, MB": "rewind_bytes",
    }
    found = {}
    for s in (PLAIN, FAL, ADAMAR, REDRAWN, RESTORED, GROUPS, TAIL):
        found[NAMES[s]] = {
            words: tables.cell(bytes_at_end(rows, s, metric) / MB, digits=1)
            for words, metric in metrics.items()
        }
    tables.show(found, "method")


def _by_day(rows: pd.DataFrame, settings: Sequence[str], base: str) -> Figure:
    fig, axes = style.figure(height=4.4)
    for setting in settings:
        name, method, kind = LINES[setting]
        found = mean_by_day(gain(rows, setting, base)).stack().rename("value").reset_index()
        style.line(axes, found, "day", method, name, markersize=5, **kind)
    style.reference(axes, 0, NAMES[base])
    style.percent_axis(axes)
    _days(axes, found["day"].max())
    axes.set_ylabel(f"next-day logloss\nagainst {NAMES[base]}, %")
    style.legend_outside(fig, axes, columns=2)
    return fig


def _days(axes: Axes, last: float) -> None:
    axes.set_xticks(range(1, int(last) + 1, 1 if last <= 12 else 3))
    axes.set_xlabel("days trained on")
