"""The figures and tables of C21 to C24."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tabulate import tabulate

from reproduction import style
from reproduction.first_step import compute, experiment, headlines
from reproduction.first_step.experiment import RESETS, by_source
from reproduction.first_step.search import DATA

STEP, SAME = "fig-first-step", "fig-same-compute"
# Of `experiment.comparisons`; the first six are drawn, too.
SHOWN = {
    "one": "one epoch, epsilon",
    "start": "one epoch, start",
    "fal_zero": "one epoch, FAL",
    "meda": "MEDA, epsilon against zero",
    "meda_net": "MEDA against one epoch, both with epsilon",
    "tail_net": "tail rewind against one epoch, both with epsilon",
    "start_eps": "start against epsilon, one epoch",
    "fal": "FAL and epsilon against epsilon, one epoch",
    "meda_zero": "MEDA against one epoch, both from zero",
    "jump": "plain with epsilon, a quarter into epoch 2",
    "plain_twice": "the same, end of epoch 2",
    "fal_twice": "FAL and epsilon, end of epoch 2",
}
N_DRAWN = 6
LINES = {  # of `headlines.comparisons`
    "own_rate": "one epoch, the tables' own rate against one rate",
    "any": "one epoch, any epsilon against zero",
    "meda": "MEDA, four epochs",
    "tail": "tail rewind, four epochs",
    "own_one": "leave-one-out rows, one epoch",
    "own_repeats": "the same, four epochs against their own one",
    "own_meda": "MEDA, four epochs, against one of leave-one-out rows",
    "meda_zero": "MEDA from zero against one epoch from zero",
    "tail_zero": "tail rewind from zero against one epoch from zero",
    "adam": "one epoch by Adam, epsilon against its default",
}
COLOURS = dict(zip(DATA, ("#000000", "#D55E00", "#00835F", "#8822EE")))
MARKERS = dict(zip(DATA, "oDs^"))


def of_step(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns what C21's table shows, by its label."""
    found = experiment.comparisons(rows)
    return {words: found[name] for name, words in SHOWN.items()}


def of_means(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns what C22's table shows, by its label."""
    found = experiment.means(rows)
    return {f"{RESETS[name]}, {kind}": values for (kind, name), values in found.items()}


def of_lines(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns what C24's table shows, by its label."""
    found = headlines.comparisons(rows)
    return {words: found[name] for name, words in LINES.items()}


def in_words(found: tuple[float, float, float]) -> str:
    """Formats a mean and its interval, such as "−1.20 % [−1.50, −0.90]"."""
    mean, low, high = (round(value, 2) + 0.0 for value in found)
    return style.signed(f"{mean:.2f} % [{low:.2f}, {high:.2f}]")


def table(values: Mapping[str, pd.Series]) -> str:
    """Returns a table with a line for each quantity and a column for each source."""
    lines = []
    for name, of in values.items():
        found = by_source(of)
        lines.append([name, *(in_words(found[d]) if d in found else "–" for d in DATA)])
    return tabulate(lines, ["", *DATA.values()], tablefmt="pipe", disable_numparse=True)


def facts(
    step: pd.DataFrame, same: pd.DataFrame, lines: pd.DataFrame | None = None
) -> dict[str, str | float]:
    """Returns what the sentences are about, such as one.kuairand, one.kuairand.low and .high.

    The first is in words; the interval is over searches and seeds. Those of the headline lines
    begin with "line_".
    """
    named = dict(experiment.comparisons(step))
    named |= {f"{line}_{kind}": of for (kind, line), of in experiment.means(step).items()}
    named |= compute.gains(same)
    if lines is not None:
        named |= {f"line_{name}": of for name, of in headlines.comparisons(lines).items()}
    found: dict[str, str | float] = {}
    for name, values in named.items():
        for data, of in by_source(values).items():
            key = f"{name.replace(', eps', '').replace(' ', '_')}.{data.replace(', ', '_')}"
            found |= {key: in_words(of), f"{key}.low": of[1], f"{key}.high": of[2]}
    return found


def drawn(step: pd.DataFrame, same: pd.DataFrame) -> dict[str, Figure]:
    """Returns the figure of C21, and that of C22 and C23, by name."""
    first = dict(list(of_step(step).items())[:N_DRAWN])
    return {name: _draw(of) for name, of in {STEP: first, SAME: compute.gains(same)}.items()}


def _draw(values: Mapping[str, pd.Series]) -> Figure:
    """Draws a row for each quantity, with a dot and its interval for each source."""
    fig, axes = style.figure(height=0.62 * len(values) + 0.6)
    for k, of in enumerate(values.values()):
        for j, (data, (mean, low, high)) in enumerate(by_source(of).items()):
            y = k + (j - 1.5) * 0.17
            axes.plot([low, high], [y, y], color=COLOURS[data], linewidth=1.2)
            label = DATA[data] if k == 0 else None
            axes.plot(mean, y, MARKERS[data], color=COLOURS[data], markersize=5, label=label)
    style.reference(axes, 0, vertical=True)
    axes.set_yticks(np.arange(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlabel("change of the loss, %")
    style.legend_outside(fig, axes, columns=2)
    return fig
