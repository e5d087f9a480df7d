"""Builds the interactive figure: its data, the static figure in its place, and what loads it.

The record of dose_production holds the curves. The builder writes their means and intervals as a
script, so that the page also works when opened from disk. A browser without scripts shows the
static figure; book/_static/interactive_figure.js replaces it. A slider has the tables' rate.

`python -m tools.interactive_figure` redraws the README's figure.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from multiepoch_lab.stats import interval
from reproduction import records, style
from reproduction.ch08_fal_versus_meda import figures as chapter
from reproduction.ch08_fal_versus_meda.figures import RATE, SHOWN, SOURCE, shown_rows
from reproduction.dose_response import experiment, production
from reproduction.measure import EXPECTED, ran, to_start
from reproduction.records import Record
from reproduction.remedies.board import METHODS
from tools import figures

FRONT, CHAPTER = "fig-interactive", chapter.INTERACTIVE  # what interactive_figure.js looks for
DATA = "interactive_figure_data.js"
README = "interactive_figure.svg"  # beside the record
# The data are whole multiples of these units, which keeps them small.
LOSS_UNIT, CHANGE_UNIT = 1e-5, 1e-2  # of logloss; of %
LINE_WIDTH = 2  # as in interactive_figure.css; Matplotlib measures dashes in line widths

# MyST for a page one folder below the top, as both pages with the figure are.
SCRIPT = f"""```{{raw}} html
<link rel="stylesheet" href="../_static/interactive_figure.css">
<script src="../_static/{DATA}"></script>
<script src="../_static/interactive_figure.js"></script>
```
"""


def content(record: Record) -> dict:
    """Returns all that interactive_figure.js needs, as plain values.

    Each of `sources` has the name of its `loss`, as `doses` plain training's jump by setting, in %,
    and `series`, which hold, by setting, method and objective, `loss` and `change` (against the
    end of epoch 1, in %): the means and the half widths of the 95 % intervals at each of `epochs`,
    in whole units. A half width is None if there is only one seed.
    """
    rows = shown_rows(record)
    names = ran(rows, METHODS, "method")
    methods = [METHODS[name].label for name in SHOWN]
    shown = {"source": SOURCE, "setting": f"{RATE:.2g}", "objective": chapter.OBJECTIVE}
    return {
        "shown": shown | {"methods": methods},
        "units": {"loss": LOSS_UNIT, "change": CHANGE_UNIT},
        "epochs": sorted(rows["epoch"].unique().tolist()),
        "methods": [_line_style(METHODS[name].label) for name in names],
        "sources": {name: _of_source(record, name) for name in sorted(production.STRATA)},
    }


def _of_source(record: Record, source: str) -> dict:
    rows = shown_rows(record, source)
    loss = "expected logloss" if (rows["metric"] == EXPECTED).all() else "logloss"
    rows = rows.replace({"method": {name: method.label for name, method in METHODS.items()}})
    measures = {"loss": (rows, LOSS_UNIT), "change": (to_start(rows, metric=None), CHANGE_UNIT)}
    series: dict = {}
    for measure, (points, unit) in measures.items():
        points = points.sort_values("epoch", kind="stable")
        keys = ["setting", "method", "objective", "epoch"]
        for (setting, method, objective, _), values in points.groupby(keys, sort=False)["value"]:
            of_method = series.setdefault(setting, {}).setdefault(method, {})
            place = of_method.setdefault(objective, {name: ([], []) for name in measures})
            for column, number in zip(place[measure], _rounded(values, unit)):
                column.append(number)
    dose = experiment.mean_dose(record.rows, source)
    doses = {f"{rate:.2g}": round(size, 1) for rate, size in dose.items()}
    return {"loss": loss, "doses": doses, "series": series}


def _rounded(values, unit: float) -> tuple[int, int | None]:
    """Returns the mean and the half width of the interval in whole units."""
    mean, _, high = interval(values)
    return round(mean / unit), round((high - mean) / unit) if np.isfinite(high) else None


def _line_style(label: str) -> dict:
    color, dashes = style.LINES[label]
    widths = [] if dashes == "-" else [LINE_WIDTH * width for width in dashes[1]]
    return {"name": label, "color": color, "dashes": " ".join(f"{width:g}" for width in widths)}


def draw(record: Record, path: Path) -> None:
    """Writes the static figure as an SVG. The same record gives the same bytes."""
    fig = chapter.interactive(record)
    # With a random salt or a date, the file would differ from call to call.
    with style.plt.rc_context(style.STYLE | {"svg.hashsalt": "multiepoch"}):
        fig.savefig(path, metadata={"Date": None})
    style.plt.close(fig)


def readme(results: Path) -> str:
    """Returns the README's line for the figure, with the numbers of the record."""
    alt = chapter.interactive_words(records.read(production.NAME, "long", results))["alt"]
    return f"![{alt}](results/long/{README})"


def generate(results: Path, generated: Path, static: Path) -> None:
    """Writes interactive_figure.md with its SVG, and the data for interactive_figure.js."""
    record = records.read(production.NAME, "long", results)
    about = chapter.interactive_words(record)
    (generated / "interactive_figure.md").write_text(
        f"```{{figure}} _generated/interactive_figure.svg\n:name: {FRONT}\n:width: 100%\n"
        f":alt: {about['alt']}\n\n{about['caption']}\n```\n\n{SCRIPT}"
    )
    draw(record, generated / "interactive_figure.svg")
    figures.keep(chapter.interactive(record), FRONT, generated, static)
    text = json.dumps(content(record), separators=(",", ":"))
    (static / DATA).write_text(f"window.MULTIEPOCH_FIGURE = {text};\n")


if __name__ == "__main__":
    draw(records.read(production.NAME, "long"), records.folder() / "long" / README)
    print(f"Wrote results/long/{README}. The README shows it with this line:\n")
    print(readme(records.folder()))
