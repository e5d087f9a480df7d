"""The figures and tables of training day by day."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style, tables
from reproduction.ch11_new_data_every_day import experiment as days
from reproduction.ch11_new_data_every_day import worth
from reproduction.findings import estimate
from reproduction.measure import ran

# By setting: whose style its line has, and what tells it apart.
LINES: dict[str, tuple[str, dict]] = {
    days.MORE_DATA: ("plain", {"color": "#5B7FA6", "marker": "s"}),
    days.PLAIN: ("plain", {}),
    days.SAME_RATES: ("plain", {"color": "#7A7A7A", "marker": "v"}),
    days.FAL: ("FAL", {}),
    days.REDRAWN: ("MEDA", {"color": "#9A7400", "marker": "o"}),
    days.RESTORED: ("MEDA", {"color": "#8F3A00", "marker": "s"}),
    days.GROUPS: ("MEDA", {}),
    days.TAIL: ("tail rewind", {}),
    days.BLENDED: ("tail rewind", {"linestyle": "-"}),
}
MB = 2**20


@style.shown("fig-eleven-leak")
def leak(found: pd.DataFrame) -> tuple[Figure, dict]:
    """Draws what `experiment.leak` measured."""
    lines = {
        "second_epoch": ("second epoch: all days, on today's impressions", "plain", "o"),
        "all_days": ("all days, on tomorrow's impressions", "tail rewind", "s"),
        "today": ("today alone, on tomorrow's impressions", "MEDA", "D"),
    }
    fig, grid = style.figure(2, height=2.4, sharex=True)
    numbers = {}
    for axes, table in zip(grid, days.LEAKING):
        mine = found.loc[table]
        style.columns(axes, mine, lines)
        style.reference(axes, 0.5, "chance")
        axes.set_title(f"rows of {style.spelled(table)}")
        by_day = mine["second_epoch"] - mine["all_days"]
        numbers |= {f"{table}_first": by_day.iloc[0], f"{table}_last": by_day.iloc[-1]}
    _days(axes, mine.index.max())
    fig.supylabel("AUC of the row's mean click", fontsize=12)
    style.legend_outside(fig, axes, columns=1)
    return fig, numbers


@style.shown("fig-eleven-epochs")
def epochs_or_data(rows: pd.DataFrame) -> Figure:
    """Draws more epochs and more data against one epoch a day, as far as they were run."""
    return _by_day(rows, [days.PLAIN, days.SAME_RATES, days.MORE_DATA])


@style.shown("fig-eleven-meanings")
def meanings(rows: pd.DataFrame) -> Figure:
    """Draws the three meanings of MEDA against one epoch a day."""
    return _by_day(rows, [days.PLAIN, *days.MEDA])


@style.shown("fig-eleven-remedies")
def remedies(rows: pd.DataFrame) -> Figure:
    """Draws each remedy that was run once against one epoch a day."""
    return _by_day(rows, [days.PLAIN, days.FAL, days.best_meda(rows), days.TAIL, days.MORE_DATA])


@style.shown("fig-eleven-growth")
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
        mine = grown[grown["table"] == table].set_index("day")[list(lines)] / 1e3
        style.columns(axes, mine, lines, markersize=4)
        axes.set_title(style.spelled(table))
        axes.set_ylim(bottom=0)
    _days(axes, grown["day"].max())
    fig.supylabel("thousand rows", fontsize=12)
    style.legend_outside(fig, axes, columns=2)
    by_day = grown.groupby("day")[["rows", "touched", "infrequent"]].sum()
    numbers = {"first": by_day["rows"].iloc[0], "last": by_day["rows"].iloc[-1]}
    return fig, numbers | by_day.iloc[-1].to_dict() | {"below": below}


@style.shown("fig-eleven-from-three")
def from_day_three_on(rows: pd.DataFrame) -> Figure:
    """Draws the methods' loss by day at both sets of rates, against one epoch a day."""
    fig, grid = style.figure(2, height=2.9, sharex=True)
    panels = {
        "two epochs": {"plain": days.PLAIN, "FAL": days.FAL, "MEDA": days.GROUPS},
        "one epoch": {"plain": days.SAME_RATES, "FAL": days.FAL_SAME, "MEDA": days.GROUPS_SAME},
    }
    for axes, (epochs, settings) in zip(grid, panels.items()):
        for name, setting in settings.items():
            by_day = days.gain(rows, setting)
            style.line(axes, by_day.stack(), "day", name, marker="o", markersize=4)
        style.reference(axes)
        style.percent_axis(axes)
        axes.set_title(f"rates tuned for {epochs} a day")
    axes.axvline(days.FIRST_DAY - 0.5, color=style.REFERENCE, linewidth=1)
    _days(axes, by_day.index.max())
    fig.supylabel("two epochs against one, %", fontsize=12)
    style.legend_outside(fig, grid[0])
    return fig


@style.shown("fig-eleven-served")
def served(rows: pd.DataFrame) -> Figure:
    """Draws what is served a quarter into the last epoch over a day, against one epoch a day."""
    return _by_day(rows, [days.RESTORED, days.TAIL, days.BLENDED], at=days.QUARTER)


def gains(rows: pd.DataFrame) -> None:
    """Displays each setting's loss against one epoch a day in %."""
    head = f"mean from day {days.FIRST_DAY} on"
    found = {setting: {head: estimate(days.later(rows, setting))} for setting in ran(rows, LINES)}
    tables.show(found, f"loss against {days.ONE_EPOCH}, %")


def bytes_by_day(grown: pd.DataFrame, dim: int) -> None:
    """Displays the memory on the first, a middle and the last day, for rows of `dim` floats."""
    size = days.memory(grown, dim) / MB
    size.insert(2, "second_group", size["tables"] + size["state"])
    rows = grown.groupby("day")["rows"].sum()
    heads = ["tables", "optimizer's state", "a second group"]
    heads += ["undo log in the first epoch", "undo log in later ones"]
    size.columns = [f"{head}, MB" for head in heads]
    last = size.index[-1]
    found = {}
    for day in sorted({1, (last + 1) // 2, last}):
        found[day] = {"rows seen so far": f"{rows[day]:,}", **size.loc[day].map("{:.1f}".format)}
    tables.show(found, "day")


def bytes_by_method(rows: pd.DataFrame) -> None:
    """Displays the memory that the runs report at their end."""
    metrics = {
        "tables, MB": "table_bytes",
        "optimizer's state, MB": "state_bytes",
        "kept to put rows back, MB": "rewind_bytes",
    }
    found = {}
    for s in ran(rows, (days.PLAIN, days.FAL, *days.MEDA, days.TAIL)):
        sizes = {words: days.bytes_at_end(rows, s, m) / MB for words, m in metrics.items()}
        found[s] = {words: estimate(size, digits=1) for words, size in sizes.items()}
    tables.show(found, "method")


def _by_day(rows: pd.DataFrame, settings: Sequence[str], at: float = days.END) -> Figure:
    fig, axes = style.figure(height=4.4)
    for setting in ran(rows, settings):
        method, kind = LINES[setting]
        by_day = days.gain(rows, setting, at=at)
        style.line(axes, by_day.stack(), "day", method, setting, **{"markersize": 5, **kind})
    style.reference(axes, 0, days.ONE_EPOCH)
    style.percent_axis(axes)
    _days(axes, by_day.index.max())
    axes.set_ylabel(f"next-day loss\nagainst {days.ONE_EPOCH}, %")
    style.legend_outside(fig, axes, columns=2)
    return fig


def _days(axes: Axes, last: float) -> None:
    axes.set_xticks(range(1, int(last) + 1, 1 if last <= 12 else 3))
    axes.set_xlabel("days trained on")


@style.shown("fig-eleven-worth")
def priced(rows: pd.DataFrame) -> Figure:
    """Draws what the epochs after the first are worth: a panel for each of three windows."""
    found = worth.by_epochs(rows).drop(index=worth.FIXED)
    found = found.sub(found[1.0], axis=0).stack().dropna().rename("value").reset_index()
    found = found.sort_values(["unique", "epoch"])
    smallest, _, *others = found["unique"].unique()
    found = found[found["unique"].isin((smallest, *others))]
    found["line"] = found["remedy"].map(worth.LABELS)
    found["unique"] = found["unique"].map(lambda n: f"{n:,} unique impressions")
    label = "worth of the epochs after the first,\nin epochs of fresh data"
    looks = {name: style.line_style(name) for name in worth.LABELS.values()}
    return style.by_epoch(found, looks, label, "unique", 2.2)
