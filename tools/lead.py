"""Draws the figure that the front page opens with: six pictures, one after the other.

The first four are schematic; the curves of the last two come from the default setting's record.
book/index.md has a text for each, and book/_static/lead.js lets them build up in one place as the
reader scrolls. `python -m tools.lead` writes the pictures and the data of the curves.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

import pandas as pd

from multiepoch_lab.methods import METHODS
from reproduction import records, style
from reproduction.ch08_fal_versus_meda.figures import SHOWN
from reproduction.dose_response import production
from reproduction.dose_response.experiment import QUARTER, to_one_epoch
from reproduction.measure import intervals
from tools import figures

NAME = "fig-lead"
WIDTH, HEIGHT = 400, 300
LEFT, RIGHT, TOP, BOTTOM = 42, 392, 26, 256  # of the curves' panel
FROM, LOW, HIGH = 0.5, -9, 83  # the first epoch shown, and the ends of the y axis in %
HELD = 3  # the place of the row that the impression looks up, from the top of the table


def curves(results: Path) -> pd.DataFrame:
    """Returns mean, low and high by method and epoch: the loss against one plain epoch's, in %.

    The mean is over the objectives, at the tables' rate that is best for one epoch.
    """
    rows = records.read(production.NAME, "long", results).rows
    change = to_one_epoch(rows, "AdsWorld").xs(production.BEST, level="rate")
    found = intervals(change, ["method", "epoch"])
    return found[found.index.get_level_values("epoch") >= FROM].sort_index().loc[list(SHOWN)]


def pictures(found: pd.DataFrame) -> list[str]:
    """Returns the six pictures as SVG. found: the curves."""
    return [*_schemes(), _panel(found, ["plain"]), _panel(found, SHOWN)]


def _svg(label: str, *parts: str) -> str:
    about = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"'
    content = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lead-picture" {about}>\n{content}\n</svg>'
    )


def _text(x: float, y: float, text: str, kind: str = "", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="lead-text {kind}" {more}>{escape(text)}</text>'


def _schemes() -> list[str]:
    """Draws an impression, the table it looks up and the dense layers, in four situations."""

    def scene(label, above, impression, clicked, held, trusted, says, below, *more) -> str:
        middle = 60 + 24 * HELD + 12
        parts = [_text(8, 22, above, "lead-title")]
        parts.append('<rect x="8" y="92" width="108" height="104" rx="10" class="lead-box"/>')
        parts.append(_text(62, 118, impression, "lead-centre"))
        parts.append(_text(62, 138, "impression", "lead-centre"))
        outcome = "lead-yes" if clicked else "lead-no"
        parts.append(
            f'<rect x="20" y="154" width="84" height="28" rx="14" class="{outcome}"/>'
            + _text(62, 173, "click" if clicked else "no click", "lead-centre lead-on")
        )
        parts.append(_text(204, 50, "table", "lead-centre"))
        for k in range(7):
            kind = "lead-held" if k == HELD and held else "lead-row"
            y = 60 + 24 * k
            parts.append(f'<rect x="154" y="{y}" width="100" height="24" class="{kind}"/>')
        if held:
            parts.append(_text(204, middle + 5, held, "lead-centre lead-on"))
        parts.append('<rect x="296" y="92" width="96" height="104" rx="10" class="lead-box"/>')
        parts += [_text(344, 140, "dense", "lead-centre"), _text(344, 158, "layers", "lead-centre")]
        parts.append(f'<path class="lead-arrow" d="M116,{middle}H152m-7,-5l7,5l-7,5"/>')
        arrow = f'<path class="lead-arrow" d="M256,{middle}H294m-9,-7l9,7l-9,7"/>'
        thick = f'<path class="lead-trust" d="M256,{middle - 6}h22v-9l16,15l-16,15v-9h-22z"/>'
        parts.append(thick if trusted else arrow)
        parts.append(_text(392, 222, says, "lead-end lead-strong"))
        parts.append(_text(8, 286, below, "lead-quiet"))
        return _svg(label, *parts, *more)

    back = '<path class="lead-arrow lead-back" d="M62,182V240H134V152H152m-7,-5l7,5l-7,5"/>'
    return [
        scene(
            "First epoch. An impression looks up a row that does not know its label. After the "
            "prediction, the label, a click, is written into the row.",
            "First epoch", "an", True, "click", False, "not sure",
            "After the prediction, the row learns the label.", back,
        ),
        scene(
            "Second epoch. The same impression looks up the same row, which already holds its "
            "click.",
            "Second epoch", "the same", True, "click", False, "not sure",
            "The row already holds the label to be predicted.",
        ),
        scene(
            "Second epoch. The dense layers have learned to trust the row: the arrow from the row "
            "to the dense layers is thick, and they are sure of a click.",
            "Second epoch", "the same", True, "click", True, "sure of a click",
            "Right each time, since the answer is in the input.",
        ),
        scene(
            "New data. A fresh impression without a click looks up the row, which holds the old "
            "click. The dense layers trust it and are wrongly sure of a click.",
            "New data", "a fresh", False, "old click", True, "sure of a click",
            "Wrong: the row holds somebody else's label.",
        ),
    ]  # fmt: skip


def _x(epoch: float) -> float:
    return LEFT + (RIGHT - LEFT) * (epoch - FROM) / (3 - FROM)


def _y(percent: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * (percent - LOW) / (HIGH - LOW)


def _panel(found: pd.DataFrame, shown: Iterable[str]) -> str:
    """Draws the measured curves of the methods in `shown`."""
    parts = [_text(0, 12, "loss on new data against one epoch, %", "lead-quiet")]
    for percent in (0, 20, 40, 60, 80):
        parts.append(f'<path class="lead-grid" d="M{LEFT},{_y(percent):.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 6, _y(percent) + 5, f"{percent}", "lead-end lead-quiet"))
    for epoch in (1, 2, 3):
        parts.append(f'<path class="lead-boundary" d="M{_x(epoch):.1f},{TOP}V{BOTTOM}"/>')
        place = "lead-end" if epoch == 3 else "lead-centre"
        parts.append(_text(_x(epoch), BOTTOM + 17, f"{epoch}", f"{place} lead-quiet"))
    parts.append(
        _text((LEFT + RIGHT) / 2, 294, "epochs over the same data", "lead-centre lead-quiet")
    )
    said = []
    for name in shown:
        line, (color, dashes) = found.loc[name], style.LINES[METHODS[name].label]
        points = [f"{_x(epoch):.1f},{_y(mean):.1f}" for epoch, mean in line["mean"].items()]
        ends = [f"{_x(epoch):.1f},{_y(low):.1f}" for epoch, low in line["low"].items()]
        ends += [f"{_x(e):.1f},{_y(high):.1f}" for e, high in line["high"][::-1].items()]
        pattern = "" if dashes == "-" else " ".join(f"{2 * width:g}" for width in dashes[1])
        parts.append(
            f'<g style="--method: {color}"><path class="lead-band" d="M{"L".join(ends)}Z"/>'
            f'<path class="lead-line" stroke-dasharray="{pattern}" d="M{"L".join(points)}"/></g>'
        )
        end = line["mean"].iloc[-1]
        said.append(f"{METHODS[name].label} {end:+.1f} %")
    jump = found.loc[("plain", QUARTER), "mean"]
    if list(shown) == ["plain"]:
        x, y = _x(QUARTER), _y(jump)
        parts.append(f'<circle class="lead-dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        parts.append(_text(x + 10, y + 6, f"+{jump:.1f} %", "lead-strong"))
    else:  # where the curves leave room
        for name, epoch, percent, place in (
            ("plain", 2.1, 66, "lead-end"),
            ("fal", 2.75, 52, "lead-end"),
            ("meda", 1.3, -7, "lead-end"),
            ("tail_rewind", 2.6, -7, "lead-end"),
        ):
            color = style.LINES[METHODS[name].label][0]
            look = f'style="--method: {color}"'
            label = _text(_x(epoch), _y(percent), METHODS[name].label, f"lead-name {place}", look)
            parts.append(label)
    ends = ", ".join(said).replace("-", "−")
    return _svg(
        f"Loss on new data against the end of the first epoch, over three epochs. Plain training a "
        f"quarter into epoch 2: +{jump:.1f} %. At the end of epoch 3: {ends}.",
        *parts,
    )


def generate(results: Path, generated: Path, static: Path) -> None:
    """Writes what book/index.md includes: lead-1.md to lead-6.md, and their files to download.

    Writes nothing without a record.
    """
    if records.read(production.NAME, "long", results) is None:
        return
    found = curves(results)
    for k, picture in enumerate(pictures(found), 1):
        (generated / f"lead-{k}.md").write_text(f"```{{raw}} html\n{picture}\n```\n")
    (generated / f"{NAME}-files.md").write_text(figures.links(f"{NAME}-6", "python -m tools.lead"))
    write(found, static, static / figures.FOLDER)


def write(found: pd.DataFrame, static: Path, folder: Path) -> None:
    """Writes each picture as SVG with its style inside, and the data of the curves as CSV."""
    sheet = (static / "lead.css").read_text()
    data = found.to_csv(float_format="%.4g")
    for k, picture in enumerate(pictures(found), 1):
        alone = picture.replace(">", f"><style>{sheet}</style>", 1)
        figures.write(folder, f"{NAME}-{k}", alone, data)


if __name__ == "__main__":
    target = Path("_build/figures")
    write(curves(records.folder()), Path("book/_static"), target)
    print(f"Wrote {target}/{NAME}-1.svg to -6.svg, and their data as CSV.")
