"""Draws what the front page says of the size of the window."""

from __future__ import annotations

from pathlib import Path

from reproduction import records, style
from reproduction.ch11_new_data_every_day import figures as chapter
from reproduction.ch11_new_data_every_day import scale
from tools import figures

NAME = "gain-by-size"  # the generated file, and the figure


def generate(results: Path, generated: Path, static: Path) -> None:
    """Writes the figure for the page."""
    record = records.read(scale.NAME, "long", results)
    with style.plt.rc_context(style.STYLE):
        fig = chapter.by_size(record.rows)
        text = figures.on_page(fig, NAME, chapter.__file__, generated, static)
    (generated / f"{NAME}.md").write_text(text + "\n", encoding="utf-8")
