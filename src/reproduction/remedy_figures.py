"""Figures that compare remedies: curves, dots, maps and sweeps, for chapters 6 and 7.

Each returns a figure for `style.show`. Intervals are over seeds; with one seed there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reproduction import style
from reproduction.measure import intervals

# FAL's scales, told apart like methods: a colour and a dash pattern each.
SCALES = {
    "no FAL": style.line_style("plain"),
    "log": style.line_style("FAL"),
    "linear": {"color": "#DD7711", "linestyle": (0, (3, 1.5))},
    "square root": {"color": "#886655", "linestyle": (0, (6, 1.5))},
    "threshold 20": {"color": "#7700EE", "linestyle": (0, (1, 1))},
    "threshold 100": {"color": "#AA1100", "linestyle": (0, (8, 1.5, 1, 1.5))},
    "log of steps": {"color": "#00835F", "linestyle": (0, (2, 1))},
    "log, gap decay 0.5": {"color": "#550055", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
}
# Of two methods compared: violet where the first has the lower loss, orange where the second has.
DIVERGING = "PuOr_r"


def by_epoch(
    points: pd.DataFrame,
    styles: Mapping[str, dict],
    ylabel: str,
    ylim: tuple[float, float] | None = None,
    height: float = 2.0,
) -> Figure:
    """Values against epochs, a panel for each objective, a line for each name in `styles`.

    points: columns line, seed, objective, epoch, value.
    """
    objectives = list(points["objective"].unique())
    fig, axes = style.figure(len(objectives), 1, height=height, sharex=True, squeeze=False)
    summary = intervals(points, ["line", "objective", "epoch"]).reset_index()
    for ax, objective in zip(axes[:, 0], objectives):
        mine = summary[summary["objective"] == objective]
        for name, line_keywords in styles.items():
            line = mine[mine["line"] == name].sort_values("epoch")
            _line(ax, line, name, line_keywords)
        for boundary in range(1, int(np.ceil(points["epoch"].max()))):
            ax.axvline(boundary, color=style.REFERENCE, linewidth=0.8, zorder=0)
        ax.set_title(objective.replace("_", "-"))
        if ylim:
            ax.set_ylim(*ylim)
    axes[-1, 0].set_xlabel("epochs over the training window")
    fig.supylabel(ylabel, fontsize=12)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)),
               frameon=False, fontsize=11)  # fmt: skip
    return fig


def _line(ax: Axes, line: pd.DataFrame, name: str, line_keywords: dict) -> None:
    """One line and its band. line: columns epoch, mean, low, high."""
    ax.plot(line["epoch"], line["mean"], label=name, **line_keywords)
    if np.isfinite(line["low"]).all():
        ax.fill_between(line["epoch"], line["low"], line["high"], color=line_keywords["color"], alpha=0.16,
                        linewidth=0)  # fmt: skip


def dots(
    panels: Mapping[str, pd.DataFrame],
    styles: Mapping[str, dict],
    references: Mapping[str, Sequence[tuple[float, str]]] | None = None,
    height: float = 2.9,
) -> Figure:
    """Means with intervals, one row a name, one panel a measure, one above the other.

    panels: by the label of its x axis, a frame indexed by name, columns mean, low, high.
    references: by the same label, places on the x axis that are no measurement, and their names.
    """
    fig, axes = style.figure(len(panels), 1, height=height, squeeze=False)
    for ax, (label, frame) in zip(axes[:, 0], panels.items()):
        for y, (name, row) in enumerate(frame.iterrows()):
            color = styles[name]["color"]
            if np.isfinite(row["low"]):
                ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=3, alpha=0.5)
            ax.plot(row["mean"], y, "o", color=color, markersize=7)
        ax.set_yticks(range(len(frame)), frame.index)
        ax.set_ylim(len(frame) - 0.5, -0.9)
        ax.set_xlabel(label)
        for x, text in (references or {}).get(label, ()):
            ax.axvline(x, color=style.REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
            right = x > np.mean(ax.get_xlim())
            ax.annotate(text, (x, -0.85), xytext=(-3 if right else 3, 0), va="top",
                        textcoords="offset points", ha="right" if right else "left",
                        color=style.REFERENCE, fontsize=10)  # fmt: skip
    return fig


def against(differences: Mapping[str, pd.DataFrame], zero: str, ylabel: str) -> Figure:
    """Paired differences in % by point of training, each method against one, which is the zero.

    differences: by method's label, a frame of seeds by epochs. The axis is linear up to 1 % and
    logarithmic beyond, so that tenths of a percent and a collapse fit on one picture.
    """
    fig, ax = style.figure(height=4.2)
    for name, frame in differences.items():
        long = frame.rename_axis(columns="epoch").stack().rename("value").reset_index()
        _line(ax, intervals(long, ["epoch"]).reset_index(), name, style.line_style(name))
    style.reference(ax, 0, zero)
    percent_axis(ax)
    last = max(frame.columns.max() for frame in differences.values())
    for boundary in range(1, int(last)):
        ax.axvline(boundary, color=style.REFERENCE, linewidth=0.8, zorder=0)
    ax.set(xlabel="epochs over the training window", ylabel=ylabel)
    fig.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=11)
    return fig


def heat_maps(cells: pd.DataFrame, limit: float = 10.0) -> Figure:
    """Small maps of one method against another: a row a point of training, a column an objective.

    cells: columns rate, scale, objective, epoch, mean, low, high; the difference in %.
    A number in bold has an interval that leaves zero out. Colours end at +-limit %.
    """
    fig, axes, panels = _maps(cells)
    norm = SymLogNorm(linthresh=1, vmin=-limit, vmax=limit)
    for ax, here, rates, scales in panels:
        shown = here.pivot(index="scale", columns="rate", values="mean").loc[scales, rates]
        image = ax.imshow(shown.clip(-limit, limit), cmap=DIVERGING, norm=norm, aspect="auto")
        for cell in here.itertuples():
            far = abs(norm(np.clip(cell.mean, -limit, limit)) - 0.5) > 0.36
            clear = np.isfinite(cell.low) and (cell.low > 0 or cell.high < 0)
            ax.text(rates.index(cell.rate), scales.index(cell.scale), _short(cell.mean),
                    ha="center", va="center", fontsize=9, color="white" if far else "black",
                    weight="bold" if clear else "normal")  # fmt: skip
    bar = fig.colorbar(image, ax=axes, location="top", aspect=45, pad=0.02, shrink=0.9)
    ticks = [-limit, -1, 0, 1, limit]
    bar.set_ticks(ticks, labels=[f"{_minus(f'{tick:+g}')} %" if tick else "0" for tick in ticks])
    bar.ax.tick_params(labelsize=10)
    bar.minorticks_off()
    return fig


def winner_maps(cells: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Which method is best in each cell: a row a point of training, a column an objective.

    cells: columns rate, scale, objective, epoch, method, clear. A pale cell is not clear: the
    interval of the difference to the second best reaches across zero.
    labels: by method, its name in style.METHODS; its first letter stands in the cell.
    """
    fig, _, panels = _maps(cells)
    for ax, here, rates, scales in panels:
        for cell in here.itertuples():
            x, y, name = rates.index(cell.rate), scales.index(cell.scale), labels[cell.method]
            alpha = 0.9 if cell.clear else 0.3
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, edgecolor="white", alpha=alpha,
                                   facecolor=style.line_style(name)["color"]))  # fmt: skip
            ax.text(x, y, name[0].upper(), ha="center", va="center", fontsize=10, weight="bold",
                    color="white" if cell.clear else "black")  # fmt: skip
        ax.set(xlim=(-0.5, len(rates) - 0.5), ylim=(len(scales) - 0.5, -0.5))
    handles = [Rectangle((0, 0), 1, 1, facecolor=style.line_style(name)["color"], alpha=0.9)
               for name in labels.values()]  # fmt: skip
    fig.legend(handles, [f"{name[0].upper()}: {name}" for name in labels.values()],
               loc="outside upper center", ncols=4, frameon=False, fontsize=11,
               handlelength=1)  # fmt: skip
    return fig


def _maps(cells: pd.DataFrame):
    """A figure of small maps, its axes, and for each: the axes, its cells, rates and scales."""
    epochs, objectives = sorted(cells["epoch"].unique()), list(cells["objective"].unique())
    rates, scales = sorted(cells["rate"].unique()), sorted(cells["scale"].unique(), reverse=True)
    fig, axes = style.figure(len(epochs), len(objectives), height=0.27 * max(2, len(scales)) + 0.4,
                             sharex=True, sharey=True, squeeze=False)  # fmt: skip
    panels = []
    for row, epoch in enumerate(epochs):
        axes[row, 0].set_ylabel(f"epoch {epoch:g}", fontsize=11)
        for column, objective in enumerate(objectives):
            here = (cells["epoch"] == epoch) & (cells["objective"] == objective)
            panels.append((axes[row, column], cells[here], rates, scales))
            axes[0, column].set_title(objective.replace("_", "-"), fontsize=11)
            axes[row, column].grid(visible=False)
            axes[row, column].tick_params(length=0, labelsize=9)
    axes[0, 0].set_xticks(range(len(rates)), [f"×{rate:.2g}" for rate in rates])
    axes[0, 0].set_yticks(range(len(scales)), [f"×{scale:g}" for scale in scales])
    fig.supxlabel("rate of the tables", fontsize=11)
    fig.supylabel("users and products", fontsize=11)
    return fig, axes, panels


def tau_sweep(differences: pd.DataFrame, points: Mapping[float, str]) -> Figure:
    """Tail rewind's threshold against what it gives, in % against putting all rows back.

    A line a point of training.

    differences: columns tau (a number or "all"), epoch, mean, low, high.
    points: the epochs shown and their names.
    """
    taus = [*sorted({tau for tau in differences["tau"] if tau != "all"}), "all"]
    place = {tau: k for k, tau in enumerate(taus)}
    fig, ax = style.figure(height=3.8)
    shades = ["#B5538F", "#00835F", "#0072B2", "#000000"]
    marks = ["o", "s", "^", "D"]
    for (epoch, name), color, mark in zip(points.items(), shades, marks):
        line = differences[np.isclose(differences["epoch"], epoch)].copy()
        line = line.assign(place=line["tau"].map(place)).sort_values("place")
        ax.plot(line["place"], line["mean"], marker=mark, color=color, label=name)
        if np.isfinite(line["low"]).all():
            ax.fill_between(line["place"], line["low"], line["high"], color=color, alpha=0.16,
                            linewidth=0)  # fmt: skip
    style.reference(ax, 0, "all rows put back")
    percent_axis(ax)
    ax.set_xticks(range(len(taus)), [f"{tau:,}" if tau != "all" else "all" for tau in taus])
    ax.set(
        xlabel="tau: rows with fewer lookups are put back",
        ylabel="logloss against\nall rows put back, %",
    )
    fig.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=11)
    return fig


def percent_axis(ax: Axes) -> None:
    """Linear up to 1 %, logarithmic beyond: tenths of a percent and a collapse on one axis."""
    low, high = ax.get_ylim()
    ax.set_yscale("symlog", linthresh=1, linscale=0.8)
    ticks = [-30, -10, -3, -1, -0.5, 0, 0.5, 1, 3, 10, 30, 100]
    ax.set_yticks(ticks, [_minus(f"{tick:+g}") if tick else "0" for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(1.15 * min(low, -0.2), 1.15 * max(high, 0.2))


def _short(value: float) -> str:
    return _minus(f"{value:+.1f}" if abs(value) < 9.95 else f"{value:+.0f}")


def _minus(number: str) -> str:
    return number.replace("-", "−")
