"""One style for every figure of the book: one width, one colour a method, intervals as bands."""

import base64
import functools
import io
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from PIL import Image

from reproduction import figure_files, findings, tables
from reproduction.measure import intervals, jump, to_start
from reproduction.records import Record

WIDTH = 5.6  # inches
SMALLEST = 11  # pt of text: 9 px where a phone shows the figure 342 px wide

# The colour and dashes of each method, by label: distinct under common colour blindness.
LINES = {
    "plain": ("#000000", "-"),
    "FAL": ("#0072B2", (0, (4, 1, 1, 1))),
    "MEDA": ("#D55E00", (0, (3, 1.5))),
    "AdamAR": ("#B5538F", (0, (1, 1))),
    "tail rewind": ("#00835F", (0, (8, 1.5, 1, 1.5))),
    "leave-one-out rows": ("#6B4400", (0, (6, 1.5))),
}
SPARE = ("#AA1100", "#6B4400", "#5A6B00", "#00707A", "#7A005C")
# From light to dark: the sparser the objective, the darker.
OBJECTIVES = {
    "click": ("#3E97C4", "-"),
    "add_to_cart": ("#7A5FB5", (0, (4, 1.5))),
    "checkout": ("#4A0E4E", (0, (1, 1))),
    "long_view": ("#8A7A2C", (0, (4, 1.5))),
    "like": ("#5A2A0C", (0, (1, 1))),
}
MARKERS = {"click": "o", "add_to_cart": "s", "checkout": "D", "long_view": "s", "like": "D"}
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

_SHEET = Path(__file__).with_name("book.mplstyle")
STYLE = dict(rc_params_from_file(_SHEET, use_default_template=False))


def figure(rows: int = 1, columns: int = 1, height: float = 3.4, **subplots):
    """Returns a figure of the book's width and its axes, as plt.subplots does.

    The height, in inches, is that of one row. On a phone, rows read better than columns.
    """
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(WIDTH, rows * height), **subplots)


def spelled(name: str) -> str:
    """Returns an objective, id column or setting as figures and tables write it."""
    return "add-to-cart" if name == "add_to_cart" else name.replace("_x_", " × ").replace("_", " ")


def line_style(name: str) -> dict:
    """Returns the colour and dashes of a method, objective or table, as keywords for Axes.plot.

    A note in brackets is ignored: "FAL (linear)" has the style of "FAL". A blended remedy has the
    colour of the remedy, and a line without gaps. A name without a style gets a spare colour, the
    same each time.
    """
    base, blended, _ = name.split(" (")[0].partition(", blended")
    spare = SPARE[zlib.crc32(base.encode()) % len(SPARE)], (0, (2, 1))
    color, dashes = (LINES | OBJECTIVES | TABLES).get(base, spare)
    return {"color": color, "linestyle": "-" if blended else dashes}


def band(axes: Axes, found: pd.DataFrame, name: str, **keywords) -> None:
    """Draws a line with its interval as a band, in the style of `name`.

    Args:
        axes: The panel to draw in.
        found: Columns mean, low and high by x, as `intervals` returns them. If an interval is not
            finite (one seed), it has no band.
        name: A method, an objective or a table.
        **keywords: For Axes.plot; they override the style.
    """
    found = found.sort_index()
    own = {"label": spelled(name)} | line_style(name) | keywords
    axes.plot(found.index, found["mean"], **own)
    known = np.isfinite(found["low"]) & np.isfinite(found["high"])
    if known.any():
        ends = {"where": known, "color": own["color"], "alpha": 0.16, "linewidth": 0}
        axes.fill_between(found.index, found["low"], found["high"], **ends)


def line(
    axes: Axes, values: pd.DataFrame | pd.Series, x: str, name: str, label: str = "", **kind
) -> None:
    """Draws the mean over seeds along the column or level `x`, as `band` does."""
    band(axes, intervals(values, [x]), name, label=label or spelled(name), **kind)


def columns(axes: Axes, found: pd.DataFrame, lines: Mapping[str, tuple], **kind) -> None:
    """Draws columns along the index. `lines` has the label, the style and the marker of each."""
    for column, (label, name, marker) in lines.items():
        look = line_style(name) | {"marker": marker, "label": label}
        axes.plot(found.index, found[column], **look, **kind)


def boundaries(axes: Axes, last: float) -> None:
    """Draws a grey line at each whole epoch before `last`, where the data begin again."""
    for boundary in range(1, int(np.ceil(last))):
        axes.axvline(boundary, color=REFERENCE, linewidth=1.2, zorder=1)


def reference(axes: Axes, at: float = 0, text: str = "", vertical: bool = False) -> None:
    """Draws a dashed line, named at its right end, for a value that is not a method's."""
    draw = axes.axvline if vertical else axes.axhline
    draw(at, color=REFERENCE, linewidth=1.2, linestyle=DASHED)
    if text:
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        look = {"ha": "right", "va": "bottom", "color": REFERENCE, "fontsize": 11, "zorder": 5}
        look["path_effects"] = [withStroke(linewidth=3, foreground="white")]  # over other lines
        axes.annotate(text, (1, at), xytext=(0, 3), **place, **look)


def objectives(axes: Axes, points: pd.DataFrame, x: str, marked: bool = True) -> None:
    """Draws a line along the column `x` for each objective, as `line` does."""
    for name in [name for name in OBJECTIVES if name in set(points["objective"])]:
        marker = {"marker": MARKERS[name], "markersize": 5} if marked else {}
        line(axes, points[points["objective"] == name], x, name, **marker)


def rises(rows: pd.DataFrame, height: float, last: float = np.inf) -> tuple[Figure, Axes, dict]:
    """Draws each objective's loss against that at the end of its own first epoch, in %.

    Returns the jumps in words, too.
    """
    fig, axes = figure(height=height)
    points = to_start(rows, metric=None)
    points = points[points["epoch"].between(0.5, last)]
    objectives(axes, points, "epoch", marked=False)
    boundaries(axes, points["epoch"].max())
    reference(axes)
    axes.set_xlabel("epochs over the training window")
    axes.set_ylabel("loss on the test day against\nthe end of epoch 1, %")
    jumps = jump(rows, metric=None).groupby("objective", sort=False).mean()
    said = ", ".join(f"{value:.1f} % ({spelled(name)})" for name, value in jumps.items())
    return fig, axes, {"jumps": said}


def by_epoch(
    points: pd.DataFrame,
    looks: Mapping[str, dict],
    ylabel: str,
    panels: str = "objective",
    height: float = 2.0,
) -> Figure:
    """Draws values against epochs: a panel for each of `panels`, a line for each of `looks`.

    The points have a column `line`; `looks` has colour and dashes by the names in it.
    """
    fig, grid = figure(points[panels].nunique(), height=height, sharex=True, squeeze=False)
    for axes, (panel, mine) in zip(grid[:, 0], points.groupby(panels, sort=False)):
        for name in [name for name in looks if name in set(mine["line"])]:
            line(axes, mine[mine["line"] == name], "epoch", "plain", name, **looks[name])
        boundaries(axes, points["epoch"].max())
        axes.set_title(spelled(panel))
    axes.set_xlabel("epochs over the training window")
    fig.supylabel(ylabel, fontsize=12)
    # Long names side by side would run over the edge of the figure.
    legend_outside(fig, grid[0, 0], columns=3 if max(map(len, looks)) < 18 else 2)
    return fig


def legend_outside(fig: Figure, axes: Axes, columns: int = 3) -> None:
    """Puts the legend of one of the axes above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(columns, len(labels))
    with plt.rc_context(STYLE):
        fig.legend(handles, labels, loc="outside upper center", ncols=columns)


def dots(
    axes: Axes, values: pd.Series, row: str, kind: str, looks: Mapping[str, dict] | None = None
) -> None:
    """Draws a row for each value of the level `row`, with a dot and its interval for each `kind`.

    The values are by `row`, `kind` and seed; `looks` has the colour and the marker of each kind,
    by default an objective.
    """
    if looks is None:
        names = [name for name in OBJECTIVES if name in values.index.unique(kind)]
        looks = {name: {"color": OBJECTIVES[name][0], "marker": MARKERS[name]} for name in names}
    rows = list(values.index.unique(row))
    found = intervals(values, [kind, row])
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


class _Plain(LogFormatter):
    """Writes 10k and 0.01 at a logarithmic axis, since exponents would be too small to read."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos):
            return ""  # not all minor ticks have a label
        if abs(x) >= 1e4:
            return f"{x / 1e6:g}M" if abs(x) >= 1e6 else f"{x / 1e3:g}k"
        return np.format_float_positional(x, precision=6, trim="-")


def legible(fig: Figure) -> None:
    """Writes the ticks of logarithmic axes without exponents, and refuses small text.

    Raises:
        ValueError: If some text is below `SMALLEST`.
    """
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                for kind in ("major", "minor"):
                    if isinstance(getattr(axis, f"get_{kind}_formatter")(), LogFormatter):
                        base = axis.get_transform().base
                        getattr(axis, f"set_{kind}_formatter")(_Plain(base))
    small = {
        one.get_text(): one.get_fontsize()
        for one in fig.findobj(Text)
        if one.get_visible() and one.get_text().strip() and one.get_fontsize() < SMALLEST
    }
    if small:
        raise ValueError(f"text below {SMALLEST} pt cannot be read on a phone: {small}")


def show(fig: Figure, alt: str, caption: str, name: str, record: object = None) -> None:
    """Shows a figure in a notebook with its caption below, and closes it.

    The book's builder turns the three texts into a numbered figure, one per cell, and offers its
    data and its SVG below. A record that it was drawn from is named at the end of the caption.

    Raises:
        ValueError: If a text is empty, the name has other characters or some text is too small.
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
    legible(fig)
    png = io.BytesIO()
    with plt.rc_context(STYLE):
        fig.savefig(png, format="png", dpi=STYLE["figure.dpi"])
        about |= {"svg": figure_files.svg(fig), "csv": figure_files.csv(fig)}
    # Lines and bands need no more than 256 colours, and a page then weighs a third.
    image = Image.open(png).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    png = io.BytesIO()
    image.save(png, format="png", optimize=True)
    encoded = base64.b64encode(png.getvalue()).decode()
    bundle = {"image/png": encoded, "text/plain": about["alt"]}
    display(bundle, raw=True, metadata={"multiepoch_figure": about})
    display(Markdown(f"*{about['caption']}*"), metadata={"multiepoch_caption": True})
    plt.close(fig)


def shown(name: str) -> Callable:
    """Makes a function that draws a figure into one that shows it, for `@shown("fig-zipf")`.

    The function returns a figure, or a figure and the values that `name` and its texts have in
    braces. Its texts are `alt` and `caption` of [figures.fig-zipf] in findings.toml beside it.
    Called with a `Record`, it draws the record's rows under the name `fig-zipf-long`, after the
    profile; called with None, a record that was not found, it says so.
    """

    def decorate(draw: Callable) -> Callable:
        written = findings.texts(draw.__globals__["__file__"])["figures"][name]

        @functools.wraps(draw)
        def inside(source, *arguments, **keywords) -> None:
            if source is None:
                tables.absent("A figure")
                return
            record = source if isinstance(source, Record) else None
            with plt.rc_context(STYLE):  # titles and legends take it when created
                drawn = draw(record.rows if record else source, *arguments, **keywords)
            fig, numbers = drawn if isinstance(drawn, tuple) else (drawn, {})
            words = {key: text.format_map(numbers) for key, text in written.items()}
            ending = f"-{record.about['profile']}" if record else ""
            show(fig, name=name.format_map(numbers) + ending, record=record, **words)

        return inside

    return decorate
