"""The figures of appendix A2. findings.toml has their texts."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import style
from reproduction.a2_past_one_machine import paper
from reproduction.a2_past_one_machine.experiment import ADAGRAD, ADAM, LABELS, ONE, TWO
from reproduction.measure import intervals

TITLES = {
    ADAM: "Adam, tables data-parallel",
    ADAGRAD: "row-wise Adagrad, tables sharded by rows",
}


@style.shown("fig-a2-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws the loss against the end of plain's epoch 1, in one process and in two."""
    fig, grid = style.figure(2, height=2.7, sharex=True)
    loss = rows.set_index(["source", "rule", "method", "seed", "objective", "epoch"])["value"]
    for axes, (rule, title) in zip(grid, TITLES.items()):
        of_rule = loss.xs(rule, level="rule")
        first = of_rule.xs(ONE, level="source").xs("plain", level="method").xs(1.0, level="epoch")
        change = (100 * (of_rule / first - 1)).groupby(["source", "method", "seed", "epoch"]).mean()
        for method, label in LABELS.items():
            for source in change.index.unique("source").intersection([ONE, TWO]):
                found = change.xs(source, level="source").xs(method, level="method")
                points = intervals(found.rename("value").reset_index(), ["epoch"])
                points = points[points.index >= 0.75]
                if source == ONE:
                    style.band(axes, points, label)
                else:
                    look = {"linestyle": "none", "marker": "o", "markersize": 4}
                    color = style.line_style(label)["color"]
                    axes.plot(points.index, points["mean"], color=color, **look)
        style.reference(axes)
        style.boundaries(axes, 2.0)
        axes.set_title(title)
        axes.set_ylabel("logloss, % above the\nend of plain's epoch 1")
    grid[1].set_xlabel("epochs over the training window")
    style.legend_outside(fig, grid[0])
    return fig


@style.shown("fig-a2-memory")
def memory(job: paper.Job) -> Figure:
    """Draws the memory of a host against the share of the rows that an epoch looks up."""
    fig, axes = style.figure(height=3.2)
    shares = np.linspace(0.02, 1, 50)
    jobs = [paper.Job(job.hosts, job.rows, job.dim, touched=share) for share in shares]
    held = paper.plain(job)["memory"] / 1e9
    extra = pd.DataFrame([paper.added(one)["memory"] for one in jobs], index=shares) / 1e9
    lines = {
        "FAL": (extra["FAL"], "FAL"),
        "tail rewind, undo log": (extra["tail rewind, undo log"], "tail rewind"),
        "with blended serving": (
            extra["tail rewind, undo log"] + extra["blended serving, besides"],
            "FAL + tail rewind",
        ),
    }
    style.reference(axes, held, "no remedy")
    for label, (values, look) in lines.items():
        axes.plot(100 * shares, held + values, label=label, **style.line_style(look))
    axes.set(xlabel="rows that an epoch looks up, %", ylabel="memory of a host, GB")
    axes.set_ylim(0)
    axes.legend()
    return fig
