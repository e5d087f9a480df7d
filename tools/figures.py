"""Gives readers the data of each figure, and itself as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from nbformat import NotebookNode

from reproduction import figure_files, findings, style

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


def links(name: str) -> str:
    """Returns the line below a figure, for a page one folder below the top."""
    address = f"../_static/{FOLDER}/{name}"
    return (
        "```{raw} html\n"
        f'<p class="figure-files"><a href="{address}.csv" download>Data (CSV)</a> '
        f'<a href="{address}.svg" download>Figure (SVG)</a></p>\n'
        "```\n"
    )


def keep(fig: Figure, name: str, generated: Path, static: Path) -> None:
    """Writes the files of a figure that is in no notebook, and NAME-files.md for its page."""
    style.legible(fig)
    with rc_context(style.STYLE):
        write(static / FOLDER, name, figure_files.svg(fig), figure_files.csv(fig))
    (generated / f"{name}-files.md").write_text(links(name))


def on_page(fig: Figure, name: str, module_file: str, generated: Path, static: Path) -> str:
    """Returns how a page includes a figure that is in no notebook, and writes its files.

    Its alt text and caption are those of that name in the findings.toml beside a module.
    """
    keep(fig, name, generated, static)
    fig.savefig(generated / f"{name}.png", dpi=style.STYLE["figure.dpi"])
    style.plt.close(fig)
    words = findings.texts(module_file)["figures"][name]
    alt, caption = (" ".join(words[key].split()) for key in ("alt", "caption"))
    head = f"```{{figure}} _generated/{name}.png\n:name: {name}\n:alt: {alt}\n\n{caption}\n```"
    return f"{head}\n\n```{{include}} _generated/{name}-files.md\n```"
