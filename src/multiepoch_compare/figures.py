"""The figure of the report, as self-contained SVG."""

from __future__ import annotations

import io
import re
import textwrap
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup, escape

from multiepoch_lab.stats import interval

_WIDTH = 5.6  # inches: 12 pt text stays readable when the figure is 350 px wide, on a phone
_GRAY = "#6B6B6B"
# In the order of the lines; no two share a colour, and lines of one model look alike otherwise.
_COLORS = "#000000 #8A8A8A #B07D00 #E0B400 #7A3E9D #D55E00 #00835F #56B4E9 #A3262C #F08FB0"
_COLORS += " #0072B2 #6B4400 #5DBB3F"
_DASHES = "-", (0, (1, 1.5)), (0, (3, 1.5)), (0, (8, 1.5, 1, 1.5))
_styled = plt.style.context(str(Path(__file__).with_suffix(".mplstyle")), after_reset=True)


@_styled
def curves(found: dict, objective: str, metric: str = "logloss") -> Markup:
    """Draws test logloss over epochs, with intervals over seeds; a line of one epoch is a point."""
    figure, axes = plt.subplots(figsize=(_WIDTH, 3.9))
    seen = []
    for k, (method, color) in enumerate(zip(found["methods"], _COLORS.split())):
        points = method["curves"].get(metric, {}).get(objective, [])
        x = np.array([epoch for epoch, *_ in points])
        mean, low, high = np.array([interval(values) for _, *values in points]).T
        late = x >= 1  # before, all lines of a rate are one
        style = {"color": color, "label": textwrap.fill(method["label"], 24)}
        if late.sum() == 1:
            axes.plot(x[late], mean[late], "o", markersize=7 - k % 3, **style)
        else:
            axes.plot(x[late], mean[late], linestyle=_DASHES[k % len(_DASHES)], **style)
        if np.isfinite(low).all() and late.sum() > 1:  # more than one seed
            axes.fill_between(x[late], low[late], high[late], color=color, alpha=0.16, linewidth=0)
        seen += [v for bound in (mean, low, high) for v in bound[late] if np.isfinite(v)]
    margin = 0.06 * (max(seen) - min(seen)) or 0.01
    axes.set_ylim(min(seen) - margin, max(seen) + margin)
    axes.set_xticks(range(1, found["epochs"] + 1))
    axes.set_xlim(0.95, found["epochs"] + 0.05)
    axes.set_xlabel("epochs over the training days")
    name = "logloss, nats" if metric == "logloss" else "AUC"
    axes.set_ylabel(f"test {name}")
    for boundary in range(1, found["epochs"]):
        axes.axvline(boundary, color=_GRAY, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return _svg(figure, f"Test {name} of {objective} by epoch, one line per line of the table.")


def _svg(figure, alt: str) -> Markup:
    """Renders an SVG element without a fixed width; its text is shapes, so it needs no font."""
    text = io.StringIO()
    figure.savefig(
        text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
    )
    plt.close(figure)
    body = text.getvalue()
    body = body[body.index("<svg") :]
    for size in ("width", "height"):
        body = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", body, count=1)
    # Several figures share a page, so each needs names of its own.
    unique = f"f{zlib.crc32(body.encode()):08x}-"
    body = re.sub(r'\bid="', f'id="{unique}', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{unique}", body)
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))
