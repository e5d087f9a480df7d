"""Writes what the pages on a row's first step and on ensembles show of their records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reproduction import findings, judge, records, style
from reproduction.first_step import compute, experiment, headlines
from reproduction.first_step import figures as chapter
from tools import figures

RECORDED = (experiment, compute, headlines)
STEP, SAME, LINES = "first-step", "same-compute", "headlines"  # the generated files
SENTENCES = ("first-step", "counted-from-the-better-epoch", "mean-of-ends", "same-compute")
SENTENCES += ("headlines", "adam-and-windows", "longer-means")
MEANS = "Means over the ends of epochs 2 to 4, of weights or predictions, against the last end:"


def generate(results: Path, generated: Path, static: Path) -> None:
    """Writes what both pages show."""
    found = [records.read(one.NAME, "long", results) for one in RECORDED]
    step, same, lines = found
    with style.plt.rc_context(style.STYLE):
        pictures = {
            name: figures.on_page(fig, name, chapter.__file__, generated, static)
            for name, fig in chapter.drawn(step.rows, same.rows).items()
        }
    evidence = pd.concat([of.judge(one.rows) for of, one in zip(RECORDED, found)])
    gains, facts = compute.gains(same.rows), chapter.facts(*(one.rows for one in found))
    said = {name: findings.sentence(chapter, name, facts) for name in SENTENCES}
    of_step, of_means = chapter.of_step(step.rows), chapter.of_means(step.rows)
    pages = {
        STEP: [
            pictures[chapter.STEP],
            said["first-step"],
            said["counted-from-the-better-epoch"],
            chapter.table(of_step),
            judge.table(evidence, ["C21"]),
        ],
        LINES: [
            said["headlines"],
            said["adam-and-windows"],
            chapter.table(chapter.of_lines(lines.rows)),
            judge.table(evidence, ["C24"]),
        ],
        SAME: [
            pictures[chapter.SAME],
            said["mean-of-ends"],
            said["same-compute"],
            chapter.table(gains),
            MEANS,
            chapter.table(of_means),
            said["longer-means"],
            judge.table(evidence, ["C22", "C23"]),
        ],
    }
    made_of = f"*Records: {'; '.join(map(str, found))}.*"
    for name, parts in pages.items():
        text = "\n\n".join([*parts, made_of])
        (generated / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")
