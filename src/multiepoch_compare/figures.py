"""The figures of the report, as self-contained SVG."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from multiepoch_lab.stats import interval

_WIDTH = 5.6  # inches: 12 pt text stays readable when the figure is 350 px wide, on a phone
_GRAY = "#6B6B6B"
# Rows from rare to frequent, from dark to light.
_SHADES = ("#7A1E3A", "#B5538F", "#D9A0C0", "#C9D6DF", "#9FB4C3")
_LINES = {
    "plain": ("#000000", "-"),
    "FAL": ("#0072B2", (0, (4, 1, 1, 1))),
    "MEDA": ("#D55E00", (0, (3, 1.5))),
    "AdamAR": ("#B5538F", (0, (1, 1))),
    "tail rewind": ("#00835F", (0, (8, 1.5, 1, 1.5))),
    "sparse optimizer": ("#6B4400", (0, (6, 1.5))),
    "plain (retuned)": ("#000000", (0, (1, 1.5))),  # of older records
    "plain, repeated": ("#4D4D4D", (0, (1, 1.5))),
    "row-wise Adagrad": ("#8C6D00", (0, (2, 1))),
    "row-wise Adagrad, repeated": ("#C7A000", (0, (2, 1, 1, 1))),
    "mean of ends": ("#56B4E9", "-"),
    "sparsest dropped": ("#6B6B6B", (0, (5, 1, 1, 1, 1, 1))),
    "additive": ("#9A9A9A", "-"),
}
_styled = plt.style.context(str(Path(__file__).with_suffix(".mplstyle")), after_reset=True)


@_styled
def curves(found: dict, objective: str, metric: str = "logloss") -> Markup:
    """Draws test logloss or AUC over epochs, one line per method, with intervals over seeds."""
    figure, axes = plt.subplots(figsize=(_WIDTH, 3.6))
    seen = []
    for method in found["methods"]:
        points = method["curves"].get(metric, {}).get(objective, [])
        x = [epoch for epoch, *_ in points]
        mean, low, high = np.array([interval(values) for _, *values in points]).T
        color, dashes = _LINES[method["label"]]
        axes.plot(x, mean, color=color, linestyle=dashes, label=method["label"])
        if np.isfinite(low).all():  # more than one seed
            axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
        # The first quarter of the first epoch may leave the figure; bands are whole after it.
        late = np.array(x) > 0.25
        seen += [v for bound in (mean, low, high) for v in bound[late] if np.isfinite(v)]
    margin = 0.06 * (max(seen) - min(seen)) or 0.01
    axes.set_ylim(min(seen) - margin, max(seen) + margin)
    axes.set_xticks(range(found["epochs"] + 1))
    axes.set_xlim(0.2, found["epochs"] + 0.05)
    axes.set_xlabel("epochs over the training days")
    name = "logloss, nats" if metric == "logloss" else "AUC"
    axes.set_ylabel(f"test {name}")
    for boundary in range(1, found["epochs"]):
        axes.axvline(boundary, color=_GRAY, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return _svg(figure, f"Test {name} of {objective} by epoch, one line per method.")


@_styled
def groups(found: dict, label: str, objective: int) -> Markup:
    """Draws a method's change of loss from the first to the last epoch, by row frequency."""
    method = next(m for m in found["methods"] if m["label"] == label)
    losses = np.array(method["groups"])[:, objective]  # (epochs, groups)
    present = [k for k, n in enumerate(found["group_sizes"]) if n > 0]
    names = [found["group_names"][k] for k in present]
    rise = 100 * (losses[-1][present] / losses[0][present] - 1)
    figure, axes = plt.subplots(figsize=(_WIDTH, 3.0))
    axes.bar(range(len(names)), rise, color=_LINES[label][0], width=0.65)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel(f"times the row of {found['group_column']} was trained on")
    axes.set_ylabel(f"logloss, epoch {method['trained']}\nvs epoch 1, %")
    words = ", ".join(f"{name}: {r:+.1f} %" for name, r in zip(names, rise))
    return _svg(figure, f"Change in {label}'s test logloss by row frequency. {words}.")


@_styled
def frequencies(found: dict) -> Markup:
    """Draws, for each id column, how often the rows of the test impressions were trained on."""
    shares = found["frequencies"]
    figure, axes = plt.subplots(figsize=(_WIDTH, 1.8 + 0.42 * len(shares)))
    left = np.zeros(len(shares))
    for k, (name, shade) in enumerate(zip(found["group_names"], _SHADES)):
        width = 100 * np.array([share[k] for share in shares.values()])
        axes.barh(range(len(shares)), width, left=left, color=shade, label=name, height=0.7)
        left += width
    short = [name if len(name) <= 18 else name.replace("_x_", "\n× ") for name in shares]
    axes.set_yticks(range(len(shares)), short)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("lookups of the test day, %")
    axes.grid(axis="y", visible=False)
    place = {"loc": "lower center", "bbox_to_anchor": (0.35, 1.0), "ncols": 3}
    axes.legend(title="times trained on", handlelength=1.0, **place)
    words = "; ".join(
        f"{name}: {100 * never:.0f} % never, {100 * few:.0f} % once or twice"
        for name, (never, few, *_) in shares.items()
    )
    return _svg(figure, f"Training frequency of the rows of the test impressions. {words}.")


def _svg(figure: Figure, alt: str) -> Markup:
    """Renders an SVG element without a fixed width; its text is shapes, so it needs no font."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
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
