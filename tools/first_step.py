"""Writes what the pages on a row's first step and on ensembles show of their records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reproduction import findings, judge, records, style
from reproduction.first_step import compute, experiment
from reproduction.first_step import figures as chapter
from tools import figures

STEP, SAME = "first-step", "same-compute"  # the generated files
SENTENCES = ("first-step", "counted-from-the-better-epoch", "mean-of-ends", "same-compute")
MEANS = "Means over the ends of epochs 2 to 4, of weights or predictions, against the last end:"


def generate(results: Path, generated: Path, static: Path) -> None:
    """Writes what both pages show."""
    step, same = (records.read(one.NAME, "long", results) for one in (experiment, compute))
    with style.plt.rc_context(style.STYLE):
        pictures = {
            name: figures.on_page(fig, name, chapter.__file__, generated, static)
            for name, fig in chapter.drawn(step.rows, same.rows).items()
        }
    evidence = pd.concat([experiment.judge(step.rows), compute.judge(same.rows)])
    gains, facts = compute.gains(same.rows), chapter.facts(step.rows, same.rows)
    said = {name: findings.sentence(chapter, name, facts) for name in SENTENCES}
    of_step, of_means = chapter.of_step(step.rows), chapter.of_means(step.rows)
    pages = {
        STEP: [
            chapter.STEP,
            said["first-step"],
            said["counted-from-the-better-epoch"],
            chapter.table(of_step),
            judge.table(evidence, ["C21"]),
        ],
        SAME: [
            chapter.SAME,
            said["mean-of-ends"],
            said["same-compute"],
            chapter.table(gains),
            MEANS,
            chapter.table(of_means),
            judge.table(evidence, ["C22", "C23"]),
        ],
    }
    for name, (drawn, *parts) in pages.items():
        text = "\n\n".join([pictures[drawn], *parts, f"*Records: {step}; {same}.*"])
        (generated / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")
