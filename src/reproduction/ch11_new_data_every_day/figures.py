"""The figures and tables of training day by day."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import style
from reproduction.ch11_new_data_every_day import experiment as days
from reproduction.ch11_new_data_every_day import scale
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
SIZES = {
    scale.LOOKUPS: "ids grow with the window",
    scale.IDS: "the same ids, looked up more often",
}


def by_size(rows: pd.DataFrame) -> Figure:
    """Draws what four epochs of each reset gain over one, by the size of the window."""
    fig, grid = style.figure(2, height=2.5, sharex=True, sharey=True)
    for axes, (kind, title) in zip(grid, SIZES.items()):
        for name, marker in {"meda": "s", scale.TAIL: "D"}.items():
            of = scale.gain(rows)[kind, name].rename(lambda n: n / 1e6, level="unique")
            label = scale.LABELS[name].partition(",")[0]
            style.line(axes, of, "unique", label, marker=marker, markersize=5)
        style.reference(axes)
        axes.set(title=title, ylabel="loss against\none epoch, %", xscale="log")
    places = sorted({n / 1e6 for n in scale.gain(rows).index.get_level_values("unique")})
    grid[-1].set_xticks(places, [f"{n:g}" for n in places])
    grid[-1].minorticks_off()
    grid[-1].set_xlabel("millions of impressions in the window")
    grid[0].legend()
    return fig


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


@style.shown("fig-eleven-remedies")
def remedies(rows: pd.DataFrame) -> Figure:
    """Draws each remedy that was run once, and the control, against one epoch a day."""
    fig, axes = style.figure(height=4.4)
    for setting in ran(rows, (days.PLAIN, days.FAL, *days.MEDA, days.TAIL, days.MORE_DATA)):
        method, kind = LINES[setting]
        by_day = days.gain(rows, setting)
        style.line(axes, by_day.stack(), "day", method, setting, **{"markersize": 5, **kind})
    style.reference(axes, 0, days.ONE_EPOCH)
    style.percent_axis(axes)
    _days(axes, by_day.index.max())
    axes.set_ylabel(f"next-day loss\nagainst {days.ONE_EPOCH}, %")
    style.legend_outside(fig, axes, columns=2)
    return fig


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


def _days(axes: Axes, last: float) -> None:
    axes.set_xticks(range(1, int(last) + 1, 1 if last <= 12 else 3))
    axes.set_xlabel("days trained on")
