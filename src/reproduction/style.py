"""One style for every figure of the book: one width, one colour a method, intervals as bands."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from reproduction.measure import at, intervals, relative
from reproduction.records import Record

WIDTH = 5.6  # inches: 12 pt text is still readable when the figure is 350 px wide, on a phone

# One colour per method, in the spirit of Okabe and Ito: distinct under the common kinds of colour
# blindness. Each method also has a dash pattern of its own.
METHODS = {
    "plain": ("#000000", "-"),
    "FAL": ("#0072B2", (0, (4, 1, 1, 1))),
    "MEDA": ("#D55E00", (0, (3, 1.5))),
    "AdamAR": ("#B5538F", (0, (1, 1))),
    "tail rewind": ("#00835F", (0, (8, 1.5, 1, 1.5))),
    "FAL + tail rewind": ("#8822EE", (0, (5, 1, 1, 1, 1, 1))),
    "sparse optimizer": ("#6B4400", (0, (6, 1.5))),
}
# From light to dark: the sparser the objective, the darker.
OBJECTIVES = {
    "click": ("#3E97C4", "-"),
    "add_to_cart": ("#7A5FB5", (0, (4, 1.5))),
    "checkout": ("#4A0E4E", (0, (1, 1))),
    "long_view": ("#8A7A2C", (0, (4, 1.5))),
    "like": ("#5A2A0C", (0, (1, 1))),
}
MARKERS = {"click": "o", "add_to_cart": "s", "checkout": "D"}
# One look per kind of table: the rarer its rows, the darker.
TABLES = {
    "user": ("#C0517B", (0, (5, 1.5))),
    "product": ("#E0A100", "-"),
    "video": ("#E0A100", "-"),
    "campaign": ("#5B8C5A", (0, (3, 1, 1, 1))),
    "author": ("#5B8C5A", (0, (3, 1, 1, 1))),
    "advertiser": ("#2F6F9F", (0, (8, 2))),
    "tag": ("#2F6F9F", (0, (8, 2))),
    "tab": ("#9A9A9A", (0, (2, 2))),
    "user_x_advertiser": ("#3B1F6B", (0, (1, 1))),
    "user_x_author": ("#3B1F6B", (0, (1, 1))),
}
REFERENCE = "#6B6B6B"  # for lines that are not a method: the Bayes optimum, a threshold
DASHED = (0, (2, 2))

STYLE = {
    "figure.facecolor": "white",  # opaque, so that a page in dark mode keeps the figure legible
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "legend.handlelength": 2.6,
    "lines.linewidth": 2.0,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}


def figure(rows: int = 1, columns: int = 1, height: float = 3.4, **subplots):
    """Returns a figure of the book's width and its axes, as plt.subplots does.

    Args:
        rows: Panels below each other. On a phone they read better than columns.
        columns: Panels side by side.
        height: Of one row, in inches.
        **subplots: Further arguments of plt.subplots.
    """
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(WIDTH, rows * height), **subplots)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Makes a function draw in the book's style, which titles and legends take when created."""

    @functools.wraps(draw)
    def inside(*arguments, **keywords) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*arguments, **keywords)

    return inside


def spelled(name: str) -> str:
    """Returns an objective, id column or setting as figures and tables write it."""
    return "add-to-cart" if name == "add_to_cart" else name.replace("_x_", " × ").replace("_", " ")


def line_style(name: str) -> dict:
    """Returns the colour and dashes of a method, objective or table, as keywords for Axes.plot.

    A note in brackets is ignored: "FAL (linear)" has the style of "FAL".

    Raises:
        KeyError: If the name has no style. The message lists those that have.
    """
    known = METHODS | OBJECTIVES | TABLES
    base = name.split(" (")[0]
    if base not in known:
        raise KeyError(f"no colour for {name!r}; style.py has one for {', '.join(known)}")
    color, dashes = known[base]
    return {"color": color, "linestyle": dashes}


def band(
    axes: Axes,
    x: Sequence[float],
    mean: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    name: str,
    **keywords,
) -> None:
    """Draws a line with its interval as a band, in the style of `name`.

    Args:
        axes: Where to draw.
        x: Shape (n,), as are `mean`, `low` and `high`.
        mean: The line.
        low: Lower end of the interval. Where it is not finite (one seed), no band is drawn.
        high: Upper end of the interval.
        name: A method, an objective or a table.
        **keywords: For Axes.plot; they override the style.
    """
    own = {"label": name} | line_style(name) | keywords
    axes.plot(x, mean, **own)
    low, high = np.asarray(low, float), np.asarray(high, float)
    known = np.isfinite(low) & np.isfinite(high)
    if known.any():
        axes.fill_between(x, low, high, where=known, color=own["color"], alpha=0.16, linewidth=0)


def line(axes: Axes, values: pd.DataFrame, x: str, name: str, label: str = "", **kind) -> None:
    """Draws the mean over seeds of the column `value` along the column `x`, as `band` does."""
    mean = intervals(values, [x]).sort_index()
    label = label or spelled(name)
    band(axes, mean.index, mean["mean"], mean["low"], mean["high"], name, label=label, **kind)


def boundaries(axes: Axes, last: float) -> None:
    """Draws a grey line at each whole epoch before `last`, where the data begin again."""
    for boundary in range(1, int(np.ceil(last))):
        axes.axvline(boundary, color=REFERENCE, linewidth=1.2, zorder=1)


def zero(axes: Axes, vertical: bool = False) -> None:
    """Draws a dashed line at zero."""
    draw = axes.axvline if vertical else axes.axhline
    draw(0, color=REFERENCE, linewidth=1.2, linestyle=DASHED)


def by_objective(axes: Axes, rows: pd.DataFrame, last: float = np.inf) -> None:
    """Draws each objective's test logloss against the end of its own first epoch, in %."""
    points = relative(rows, at(rows, 1.0))
    points = points[points["epoch"].between(0.5, last)]
    for objective, mine in points.groupby("objective", sort=False):
        line(axes, mine, "epoch", objective)
    boundaries(axes, points["epoch"].max())
    zero(axes)


def by_epoch(
    points: pd.DataFrame,
    looks: Mapping[str, dict],
    ylabel: str,
    panels: str = "objective",
    height: float = 2.0,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Draws values against epochs: a panel for each of `panels`, a line for each of `looks`.

    Args:
        points: Columns line, seed, epoch, value and the one named by `panels`.
        looks: Colour and dashes by the name in the column line.
    """
    fig, grid = figure(points[panels].nunique(), height=height, sharex=True, squeeze=False)
    for axes, (panel, mine) in zip(grid[:, 0], points.groupby(panels, sort=False)):
        for name in [name for name in looks if name in set(mine["line"])]:
            line(axes, mine[mine["line"] == name], "epoch", "plain", name, **looks[name])
        boundaries(axes, points["epoch"].max())
        axes.set_title(spelled(panel))
        if ylim:
            axes.set_ylim(*ylim)
    axes.set_xlabel("epochs over the training window")
    fig.supylabel(ylabel, fontsize=12)
    legend_outside(fig, grid[0, 0])
    return fig


def legend_outside(fig: Figure, axes: Axes, columns: int = 3) -> None:
    """Puts the legend of one of the axes above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(columns, len(labels))
    fig.legend(handles, labels, loc="outside upper center", ncols=columns)


def dots(axes: Axes, values: pd.Series, row: str, kind: str, looks: Mapping[str, dict]) -> None:
    """Draws a row for each value of the level `row`; in it a dot with interval for each `kind`.

    Args:
        values: By `row`, `kind` and seed.
        looks: Colour and marker of each kind, in the order drawn.
    """
    rows = list(values.index.unique(row))
    found = intervals(values.rename("value"), [kind, row])
    for k, (name, look) in enumerate(looks.items()):
        mine = found.loc[name].reindex(rows)
        y = np.arange(len(rows)) + 0.24 * (k - (len(looks) - 1) / 2)
        axes.plot(mine["mean"], y, linestyle="none", markersize=7, label=spelled(name), **look)
        known = np.isfinite(mine["low"].to_numpy())
        axes.hlines(y[known], mine["low"][known], mine["high"][known], look["color"], linewidth=2)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def percent_axis(axes: Axes) -> None:
    """Makes the y axis linear up to 1 % and logarithmic beyond, for tenths and a collapse."""
    low, high = axes.get_ylim()
    axes.set_yscale("symlog", linthresh=1, linscale=0.8)
    ticks = [-30, -10, -3, -1, -0.5, 0, 0.5, 1, 3, 10, 30, 100]
    axes.set_yticks(ticks, [signed(f"{tick:+g}") if tick else "0" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(1.15 * min(low, -0.2), 1.15 * max(high, 0.2))


def signed(number: str) -> str:
    """Returns a number in text with a proper minus."""
    return number.replace("-", "−")


@styled
def by_tenth(values: pd.Series, ylabel: str) -> Figure:
    """Draws one panel per objective along the tenths of the products' frequency.

    Args:
        values: Indexed by group ("0", the rarest, to "9"), seed and objective.
        ylabel: The quantity and its unit.
    """
    frame = values.rename("value").reset_index()
    frame["tenth"] = frame["group"].astype(int) + 1
    objectives = [o for o in OBJECTIVES if o in set(frame["objective"])]
    fig, grid = figure(len(objectives), height=2.0, sharex=True)
    for axes, objective in zip(np.atleast_1d(grid), objectives):
        mine = frame[frame["objective"] == objective]
        line(axes, mine, "tenth", objective, marker=MARKERS[objective], markersize=5)
        zero(axes)
        axes.set_title(spelled(objective))
        axes.set_xticks(range(1, 11))
    fig.supylabel(ylabel, fontsize=12)
    axes.set_xlabel(
        "tenth of the impressions, by how often their product\nwas trained on: 1 rarest"
    )
    return fig


def reference(axes: Axes, y: float, text: str) -> None:
    """Draws a thin horizontal line, named at its right end, for a value that is not a method's."""
    axes.axhline(y, color=REFERENCE, linewidth=1.2, linestyle=DASHED)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    look = {"ha": "right", "va": "bottom", "color": REFERENCE, "fontsize": 10}
    axes.annotate(text, (1, y), xytext=(0, 3), **place, **look)


def show(fig: Figure, alt: str, caption: str, name: str, record: object = None) -> None:
    """Shows a figure in a notebook with its caption below, and closes it.

    The book's builder turns the three texts into a numbered figure. Use one figure per cell.

    Args:
        fig: The figure.
        alt: Its content, for readers who do not see it.
        caption: What to see in it.
        name: The label that pages refer to it by, such as "fig-zipf"; letters, digits and dashes.
        record: The Record it was drawn from, named at the end of the caption.

    Raises:
        ValueError: If a text is empty or the name has other characters.
    """
    from IPython.display import Markdown, display

    for argument, value in (("alt", alt), ("caption", caption), ("name", name)):
        if not value.strip():
            raise ValueError(f"show: {argument} is empty; every figure has one.")
    if not name.replace("-", "").isalnum():
        raise ValueError(f"show: name={name!r}; use letters, digits and dashes.")
    if record is not None:
        caption = f"{caption} Record: {record}."
    about = {"alt": " ".join(alt.split()), "caption": " ".join(caption.split()), "name": name}
    png = io.BytesIO()
    with plt.rc_context(STYLE):
        fig.savefig(png, format="png", dpi=STYLE["figure.dpi"])
    # Lines and bands need no more than 256 colours, and a page then weighs a third.
    image = Image.open(png).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    png = io.BytesIO()
    image.save(png, format="png", optimize=True)
    encoded = base64.b64encode(png.getvalue()).decode()
    bundle = {"image/png": encoded, "text/plain": about["alt"]}
    display(bundle, raw=True, metadata={"multiepoch_figure": about})
    display(Markdown(f"*{about['caption']}*"), metadata={"multiepoch_caption": True})
    plt.close(fig)


def shown(name: str, alt: str, caption: str) -> Callable:
    """Makes a function that draws a figure into one that shows it, for `@shown(...)`.

    The function takes result rows and returns a figure, or a figure and the values that `name`,
    `alt` and `caption` have in braces. Called with a `Record`, it draws the record's rows under
    the name `<name>-record`; called with None, a record that was not found, it shows nothing.
    """

    def decorate(draw: Callable) -> Callable:
        @functools.wraps(draw)
        def inside(source, *arguments, **keywords) -> None:
            if source is None:
                return
            record = source if isinstance(source, Record) else None
            with plt.rc_context(STYLE):
                drawn = draw(record.rows if record else source, *arguments, **keywords)
            fig, numbers = drawn if isinstance(drawn, tuple) else (drawn, {})
            profile = record and record.about["profile"]
            ending = "" if record is None else "-record" if profile == "long" else f"-{profile}"
            texts = [text.format_map(numbers) for text in (alt, caption, name + ending)]
            show(fig, *texts, record)

        return inside

    return decorate
