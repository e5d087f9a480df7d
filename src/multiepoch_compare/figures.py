"""The pictures of the report, as SVG that stands alone."""

from __future__ import annotations

import io
import re
import zlib

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from multiepoch.stats import interval
from reproduction import style

# Light to dark: the rarer the row, the darker.
_SHADES = ("#7A1E3A", "#B5538F", "#D9A0C0", "#C9D6DF", "#9FB4C3")


def curves(found: dict, objective: str, metric: str = "logloss") -> str:
    """Test logloss or AUC over epochs, one line a method, intervals over seeds as bands."""
    figure, axes = style.figure(height=3.6)
    for method in found["methods"]:
        points = method["curves"].get(metric, {}).get(objective, [])
        if points:
            x = [epoch for epoch, *_ in points]
            mean, low, high = zip(*(interval(values) for _, *values in points))
            dashes = {"linestyle": (0, (1, 1.5))} if "retuned" in method["label"] else {}
            style.band(axes, x, mean, low, high, method["label"], **dashes)
    lows, highs = _view(found, objective, metric)
    axes.set_ylim(lows, highs)
    axes.set_xticks(range(found["epochs"] + 1))
    axes.set_xlim(0.2, found["epochs"] + 0.05)
    axes.set_xlabel("epochs over the training days")
    name = "logloss, nats" if metric == "logloss" else "AUC"
    axes.set_ylabel(f"test {name}")
    for boundary in range(1, found["epochs"]):
        axes.axvline(boundary, color=style.REFERENCE, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    return svg(figure, f"Test {name} of {objective} by epoch, one line a method.")


def _view(found: dict, objective: str, metric: str) -> tuple[float, float]:
    """Limits that show all of it, the first quarter of the first epoch aside."""
    values = [value for method in found["methods"]
              for epoch, *values in method["curves"][metric][objective] if epoch > 0.25
              for value in values]  # fmt: skip
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.01
    return low - margin, high + margin


def groups(found: dict, label: str, objective: int) -> str:
    """Where a method's loss rises: by how often a row was trained on, first and last epoch."""
    method = next(m for m in found["methods"] if m["label"] == label)
    losses = np.array(method["groups"])[:, objective]  # (epochs, groups)
    there = [k for k, n in enumerate(found["group_sizes"]) if n > 0]
    rise = 100 * (losses[-1][there] / losses[0][there] - 1)
    figure, axes = style.figure(height=3.0)
    axes.bar(range(len(there)), rise, color=style.line_style(label)["color"], width=0.65)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(there)), [found["group_names"][k] for k in there])
    axes.set_xlabel(f"times the row of {found['group_column']} was trained on")
    axes.set_ylabel(f"logloss, epoch {found['epochs']}\nagainst epoch 1, %")
    words = ", ".join(f"{found['group_names'][k]}: {r:+.1f} %" for k, r in zip(there, rise))
    return svg(figure, f"Change of {label}'s test logloss by row frequency. {words}.")


def frequencies(found: dict) -> str:
    """For each id column, how often the rows of the test impressions were trained on."""
    shares = found["frequencies"]
    height = 0.9 + 0.42 * len(shares)
    figure, axes = style.figure(height=height + 0.9)
    left = np.zeros(len(shares))
    for k, (name, shade) in enumerate(zip(found["group_names"], _SHADES)):
        width = 100 * np.array([share[k] for share in shares.values()])
        axes.barh(range(len(shares)), width, left=left, color=shade, label=name, height=0.7)
        left += width
    axes.set_yticks(range(len(shares)), [_short(name) for name in shares])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("test impressions, %")
    axes.grid(axis="y", visible=False)
    axes.legend(title="times trained on", loc="lower center", bbox_to_anchor=(0.35, 1.0), ncols=3,
                frameon=False, handlelength=1.0)  # fmt: skip
    alt = "; ".join(f"{name}: {100 * s[0]:.0f} % never, {100 * (s[1]):.0f} % once or twice"
                    for name, s in shares.items())  # fmt: skip
    return svg(figure, f"Training frequency of the rows of the test impressions. {alt}.")


def _short(name: str) -> str:
    return name if len(name) <= 18 else name.replace("_x_", "\n× ")


def svg(figure: Figure, alt: str) -> str:
    """An SVG element as wide as the page lets it be; its text is shapes and needs no font."""
    text = io.StringIO()
    with plt.rc_context(style.STYLE | {"svg.hashsalt": "multiepoch"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    # Several of them share a page, so the names inside each are made its own.
    unique = f"f{zlib.crc32(body.encode()):08x}-"
    body = re.sub(r'\bid="', f'id="{unique}', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{unique}", body)
    alt = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return body.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
