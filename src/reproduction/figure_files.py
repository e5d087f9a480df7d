"""What a reader may take away from a figure: itself as SVG, and the data it was drawn from as CSV.

The data are read from the figure, so that every figure has them and none can differ from its own.
"""

import io
from collections.abc import Iterator
from itertools import repeat

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter

POINTS = 500  # of a line; a longer one is thinned evenly
COLUMNS = ["panel", "kind", "name", "x", "y", "x2", "y2", "value"]


def svg(fig: Figure) -> str:
    """Returns the figure as SVG with text that can be selected; the same figure, the same text."""
    target = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "multiepoch"}):
        fig.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def csv(fig: Figure) -> str:
    """Returns what the figure shows as CSV, with columns that are empty throughout left out.

    A row is a point of a line (kind "line": x, y), of a band (x, from y to y2) or of a scatter
    ("points"), an interval or a bar (from x, y to x2, y2), a cell of a matrix (x, y, value), or a
    label of an axis ("x label" and "y label": where in x or y, and its text as the name).
    """
    rows = [row for axes in fig.axes for row in _rows(axes)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame[COLUMNS[3:]] = frame[COLUMNS[3:]].astype(float)
    frame = frame.replace({"": None}).dropna(axis=1, how="all")
    return frame.to_csv(index=False, float_format="%.6g")


def _rows(axes: Axes) -> Iterator[tuple]:
    panel = axes.get_title(loc="left") or axes.get_title()
    names: dict[str, str] = {}  # of lines, by colour, for their bands and intervals

    def row(kind: str, name: str, x=None, y=None, x2=None, y2=None, value=None) -> tuple:
        return (panel, kind, "" if name.startswith("_") else name, x, y, x2, y2, value)

    for line in axes.get_lines():
        if line.get_transform() != axes.transData:
            continue  # a reference line
        name = str(line.get_label())
        if not name.startswith("_"):
            names[to_hex(line.get_color())] = name
        points = np.transpose(line.get_data(orig=False))
        for x, y in points[_at_most(POINTS, len(points))]:
            yield row("line", name, x, y)
    for one in axes.collections:
        name = str(one.get_label())
        colors = one.get_edgecolor() if isinstance(one, LineCollection) else one.get_facecolor()
        if name.startswith("_") and len(colors):
            name = names.get(to_hex(colors[0]), name)
        if isinstance(one, PathCollection):
            values = one.get_array() if one.get_array() is not None else repeat(None)
            for (x, y), value in zip(np.ma.getdata(one.get_offsets()), values):
                yield row("points", name, x, y, value=value)
        elif isinstance(one, LineCollection):
            for start, *_, end in one.get_segments():
                yield row("interval", name, *start, *end)
        elif isinstance(one, PolyCollection):
            for path in one.get_paths():
                corners = path.vertices
                n = (len(corners) - 3) // 2  # a corner, the lower ends, a corner, the upper ends
                upper = corners[n + 2 : 2 * n + 2][::-1]
                for (x, low), (_, high) in zip(corners[1 : n + 1], upper):
                    yield row("band", name, x, low, y2=high)
    for bar in axes.patches:
        if isinstance(bar, Rectangle):
            (x, y), width, height = bar.get_xy(), bar.get_width(), bar.get_height()
            yield row("bar", str(bar.get_label()), x, y, x + width, y + height)
    for image in axes.get_images():
        for (y, x), value in np.ndenumerate(np.ma.filled(image.get_array(), np.nan)):
            yield row("cell", "", x, y, value=value)
    for which, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if isinstance(axis.get_major_formatter(), (FixedFormatter, StrCategoryFormatter)):
            for place, text in zip(axis.get_ticklocs(), axis.get_ticklabels()):
                yield row(f"{which} label", text.get_text(), **{which: place})


def _at_most(n: int, length: int) -> np.ndarray:
    """Returns up to n places of `length`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(n, length)).astype(int))
