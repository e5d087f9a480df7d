"""Gives readers the data of each figure, itself as SVG, and the command that makes it again.

`python -m tools.figures 05_the_second_epoch` runs a notebook, unless it was run before, and
writes its figures into _build/figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from matplotlib import rc_context
from matplotlib.figure import Figure
from nbformat import NotebookNode

from reproduction import figure_files, style
from tools.notebooks import PROFILES, NotebookFailed, execute

FIGURE = "multiepoch_figure"  # the output metadata that style.show writes
FOLDER = "figures"  # in the static folder of the pages


def shown_in(cells: list[NotebookNode]) -> Iterator[dict]:
    """Yields what style.show recorded of each figure: name, alt, caption, svg and csv."""
    for cell in cells:
        for output in cell.get("outputs", ()):
            if FIGURE in output.get("metadata", {}):
                yield output.metadata[FIGURE]


def write(folder: Path, name: str, svg: str, csv: str) -> None:
    """Writes NAME.svg and NAME.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_text(svg)
    (folder / f"{name}.csv").write_text(csv)


def links(name: str, command: str) -> str:
    """Returns the line below a figure, for a page one folder below the top."""
    address = f"../_static/{FOLDER}/{name}"
    return (
        "```{raw} html\n"
        f'<p class="figure-files"><a href="{address}.csv" download>Data (CSV)</a> '
        f'<a href="{address}.svg" download>Figure (SVG)</a> '
        f"<span>Make it again: <code>{command}</code></span></p>\n"
        "```\n"
    )


def keep(fig: Figure, name: str, command: str, generated: Path, static: Path) -> None:
    """Writes the files of a figure that is in no notebook, and NAME-files.md for its page."""
    style.legible(fig)
    with rc_context(style.STYLE):
        write(static / FOLDER, name, figure_files.svg(fig), figure_files.csv(fig))
    (generated / f"{name}-files.md").write_text(links(name, command))


def command(arguments: list[str]) -> int:
    purpose = "Writes the figures of a notebook into _build/figures, as SVG and CSV."
    parser = argparse.ArgumentParser("python -m tools.figures", description=purpose)
    parser.add_argument("notebook", help="its name, such as 05_the_second_epoch")
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    chosen = parser.parse_args(arguments)
    root, build = Path.cwd(), Path.cwd() / "_build"
    notebook = root / "notebooks" / f"{chosen.notebook}.ipynb"
    executed = build / "executed" / chosen.profile
    try:
        run = execute(notebook, root, executed, {"profile": chosen.profile})
    except NotebookFailed as error:
        print(error, file=sys.stderr)
        return 1
    for about in shown_in(nbformat.read(run.path, as_version=4).cells):
        write(build / "figures", about["name"], about["svg"], about["csv"])
        print(build / "figures" / f"{about['name']}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
