"""One style for every figure of the book: one width, one colour a method, intervals as bands."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

WIDTH = 5.6  # inches: 12 pt text is still readable when the figure is 350 px wide, on a phone

# One fixed colour a method, in the spirit of Okabe and Ito: told apart under the common kinds
# of colour blindness; each also has a dash pattern of its own.
METHODS = {
    "plain": ("#000000", "-"),
    "FAL": ("#0072B2", (0, (4, 1, 1, 1))),
    "MEDA": ("#D55E00", (0, (3, 1.5))),
    "AdamAR": ("#B5538F", (0, (1, 1))),
    "tail rewind": ("#00835F", (0, (8, 1.5, 1, 1.5))),
    "FAL + tail rewind": ("#8822EE", (0, (5, 1, 1, 1, 1, 1))),
    "sparse optimizer": ("#6B4400", (0, (6, 1.5))),
}
# Objectives run from light to dark, the sparser the darker.
OBJECTIVES = {
    "click": ("#3E97C4", "-"),
    "add_to_cart": ("#7A5FB5", (0, (4, 1.5))),
    "checkout": ("#4A0E4E", (0, (1, 1))),
    "long_view": ("#8A7A2C", (0, (4, 1.5))),
    "like": ("#5A2A0C", (0, (1, 1))),
}
REFERENCE = "#6B6B6B"  # what is no method: the Bayes optimum, a threshold, the paper's number

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
    """A figure of the book's width and its axes, as plt.subplots returns them.

    height: of one row, in inches. On a phone, rows read better than columns.
    """
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(WIDTH, rows * height), **subplots)


def line_style(name: str) -> dict:
    """Colour and dash pattern of a method or an objective, as keywords for Axes.plot.

    KeyError names those that have one. A note in brackets does not count: "FAL (linear)" is "FAL".
    """
    known = METHODS | OBJECTIVES
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
    **line,
) -> None:
    """A line with its interval as a band, in the look of that method or objective.

    x, mean, low, high: (n,). Where an interval is not finite (one seed), no band is drawn.
    """
    line_keywords = line_style(name)
    axes.plot(x, mean, **{"label": name} | line_keywords | line)
    low, high = np.asarray(low, float), np.asarray(high, float)
    known = np.isfinite(low) & np.isfinite(high)
    if known.any():
        axes.fill_between(
            x, low, high, where=known, color=line_keywords["color"], alpha=0.16, linewidth=0
        )  # fmt: skip


def reference(axes: Axes, y: float, text: str) -> None:
    """A thin horizontal line for what is no method, with its name at the right end."""
    axes.axhline(y, color=REFERENCE, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.annotate(
        text, (1, y), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", ha="right", va="bottom", color=REFERENCE, fontsize=10,
    )  # fmt: skip


def show(fig: Figure, alt: str, caption: str, name: str, record: object = None) -> None:
    """Shows a figure in a notebook with its caption below, and closes it.

    alt: what the figure shows, for those who do not see it.
    caption: what to see in it; may hold measured numbers.
    name: the label that pages refer to it by, such as "fig-zipf"; letters, digits and dashes.
    record: the experiments.records.Record it was drawn from; the caption ends with its origin.

    The book's builder turns the three into a numbered figure. One figure a cell.
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
    bundle = {
        "image/png": base64.b64encode(png.getvalue()).decode(),
        "text/plain": about["alt"],
    }
    display(bundle, raw=True, metadata={"multiepoch_figure": about})
    display(Markdown(f"*{about['caption']}*"), metadata={"multiepoch_caption": True})
    plt.close(fig)
