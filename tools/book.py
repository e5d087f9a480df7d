"""Builds the book: runs its notebooks, stages the sources, renders them, swaps the pages in.

Under _build, executed/PROFILE/ keeps the executed notebooks and html/ holds the pages. If a build
fails, the pages of the previous one remain.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
import torch
import yaml
from nbformat import NotebookNode

from multiepoch_lab.runner import Runner
from reproduction import sentences
from tools import (
    about,
    advice,
    cost,
    distributed,
    figures,
    first_step,
    front,
    interactive_figure,
    ledger,
    real_logs,
    recipes,
    settings,
    summary,
)
from tools.colab import with_badge
from tools.notebooks import (
    PROFILES,
    NotebookFailed,
    Run,
    execute_on_one_core,
    kept_run,
)
from tools.reads import files_under
from tools.toc import pages

RENDERERS = (
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
)
CAPTION = "multiepoch_caption"
AT_A_TIME = 4  # notebooks, each of which takes up to 2.4 GB of memory


class BookFailed(RuntimeError):
    """The book could not be built; the message names the page and the reason."""


def build(root: Path, profile: str, html: Path | None = None, links: bool = False) -> Path:
    """Runs the notebooks in `profile`, renders the book and returns the folder of its pages.

    With `links`, first follows the links to other sites.

    Raises NotebookFailed or BookFailed if that cannot be done; the previous pages remain.
    """
    html = html or root / "_build" / "html"
    work = html.with_name(f"{html.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    runs = run_notebooks(root, profile)
    stage(root, work / "source", profile, runs)
    if links:
        render(work, "--builder", "linkcheck")
    key = _key(work / "source", root)
    stamp = html.with_name(f"{html.name}.key")
    if html.is_dir() and stamp.exists() and stamp.read_text() == key:
        print("Nothing has changed; the pages are up to date.")
    else:
        start = time.perf_counter()
        _swap(render(work), html)
        stamp.write_text(key)
        print(f"Rendered {len(pages(root))} pages in {time.perf_counter() - start:.0f} s.")
    shutil.rmtree(work, ignore_errors=True)
    return html


def run_notebooks(root: Path, profile: str) -> dict[str, Run]:
    """Runs the notebooks of the book, a progress line for each; returns them by page, in order.

    On a CPU each notebook has one core, and up to AT_A_TIME run side by side: parts of every
    chapter use one core alone. The last chapters start first, since the first are short and leave
    no core idle for long at the end.
    """
    notebooks = {}
    for page in pages(root):
        notebook = root / f"{page}.ipynb"
        if notebook.exists():
            notebooks[notebook] = page
        elif not (root / f"{page}.md").exists():
            raise BookFailed(f"_toc.yml lists {page}, but no {page}.ipynb or {page}.md exists.")
    folder, parameters = root / "_build" / "executed" / profile, {"profile": profile}
    runs: dict[Path, Run] = {}

    def add(notebook: Path, run: Run) -> None:
        took = "kept" if run.kept else f"{run.seconds:.1f} s"
        print(f"{notebook.stem} ... {took}", flush=True)
        runs[notebook] = run

    for notebook in notebooks:
        if kept := kept_run(notebook, root, folder, parameters):
            add(notebook, kept)
    at_a_time = 1 if torch.cuda.is_available() else min(AT_A_TIME, os.cpu_count() or 1)
    work = partial(execute_on_one_core, root=root, folder=folder, parameters=parameters)
    with Runner(work, at_a_time) as runner:
        for notebook, run in runner.map([one for one in reversed(notebooks) if one not in runs]):
            add(notebook, run)
    return {page: runs[notebook] for notebook, page in notebooks.items()}


def stage(root: Path, source: Path, profile: str, runs: dict[str, Run]) -> None:
    """Writes what jupyter-book reads: pages, executed notebooks, generated parts and numbers."""
    source.mkdir(parents=True)
    without_caches = shutil.ignore_patterns("__pycache__")
    for name in ("book", "tools/sphinx_ext"):
        shutil.copytree(root / name, source / name, ignore=without_caches)
    shutil.copy(root / "_toc.yml", source)
    for record in sorted(root.glob("results/*/compare_*")):  # included by book/your-logs.md
        target = source / record.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record, target)
    for page in (source / "book").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(sentences.on_a_page(text, sentences.values(root / "results")), "utf-8")
    documents = {page: nbformat.read(run.path, as_version=4) for page, run in runs.items()}
    results, generated = root / "results", source / "book" / "_generated"
    static = source / "book" / "_static"
    generated.mkdir()
    about.generate(root, profile, documents, generated)
    config = yaml.safe_load((root / "_config.yml").read_text())
    if results.is_dir():
        for part in (recipes, distributed, advice, summary, ledger, settings):
            part.generate(results, generated)
        for part in (cost, front, interactive_figure, real_logs, first_step):
            part.generate(results, generated, static)
        config["parse"]["myst_substitutions"] = cost.numbers(results)
    (source / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True))
    for page, document in documents.items():
        target = source / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        for one in figures.shown_in(document.cells):
            figures.write(static / figures.FOLDER, one["name"], one["svg"], one["csv"])
        nbformat.write(with_badge(for_pages(document, page)), target)


def for_pages(document: NotebookNode, page: str) -> NotebookNode:
    """Prepares an executed notebook for its page.

    The parameters cell shows the values of this run, so papermill's own cell is dropped. The alt
    text, caption and name that style.show recorded move to where myst-nb looks for them. Below
    each figure come its files; the interactive figure gets its script. A number keeps its percent
    sign at the end of a line and gets a minus in place of a hyphen.
    """
    parameters = document.metadata.get("papermill", {}).get("parameters", {})
    cells = []
    for cell in document.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            continue
        if "parameters" in tags:
            for name, value in parameters.items():
                line = rf"^{name} = \S+"
                cell.source = re.sub(line, f"{name} = {json.dumps(value)}", cell.source, flags=re.M)
        cells.append(cell)
        if "outputs" not in cell:
            cell.source = with_its_number(cell.source)
            continue
        for data in (output["data"] for output in cell.outputs if "data" in output):
            for kind in ("text/markdown", "text/html"):
                if kind in data:
                    data[kind] = with_its_number(with_minus(data[kind]))
        shown = list(figures.shown_in([cell]))
        cell.outputs = [o for o in cell.outputs if CAPTION not in o.get("metadata", {})]
        if len(shown) > 1:
            raise BookFailed(f"{page}: a cell shows {len(shown)} figures; show one a cell.")
        for figure in shown:
            name = figure["name"]
            below = {"caption": with_its_number(with_minus(figure["caption"])), "name": name}
            cell.metadata["mystnb"] = {"image": {"alt": figure["alt"]}, "figure": below}
            more = figures.links(name)
            if name == interactive_figure.CHAPTER:
                more += f"\n{interactive_figure.SCRIPT}"
            cells.append(nbformat.v4.new_markdown_cell(more, id=f"{name}-files"))
            for kind in ("svg", "csv"):  # in files of their own
                figure.pop(kind, None)
    document.cells = cells
    return document


def with_minus(text: str) -> str:
    """Returns a text with a minus before negative numbers, and none before zero."""
    return re.sub(
        r"(?<![\w./−-])-(?=\d)", "−", re.sub(r"(?<![\w./−-])-(?=0(\.0+)?(?![\d.]))", "", text)
    )


def with_its_number(text: str) -> str:
    """Returns a text whose percent signs stay on their number's line."""
    return sentences.PERCENT.sub(f"{sentences.NBSP}%", text)


def render(work: Path, *options: str) -> Path:
    """Renders work/source with warnings as errors; returns the folder of the pages."""
    command = "from jupyter_book.cli.main import main; main()"
    options = ("--path-output", ".", "-W", "--keep-going", "-q", *options)
    call = [sys.executable, "-c", command, "build", "source", *options]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    outcome = subprocess.run(call, cwd=work, env=environment, text=True, **streams)
    if outcome.returncode:
        text = re.sub(r"\x1b\[[0-9;]*m", "", outcome.stdout)
        lines = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
        lines = list(dict.fromkeys(line.replace(f"{work}{os.sep}", "") for line in lines))
        raise BookFailed("The pages could not be rendered:\n" + ("\n".join(lines) or text[-4000:]))
    return work / "_build" / "html"


def _swap(rendered: Path, html: Path) -> None:
    """Replaces the old pages by the new ones in two renames."""
    old = html.with_name(f"{html.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        html.rename(old)
    rendered.rename(html)
    shutil.rmtree(old, ignore_errors=True)


def _key(source: Path, root: Path) -> str:
    """Hashes all that the pages depend on: the staged sources, src/ and the renderers."""
    digest = hashlib.sha256(" ".join(version(name) for name in RENDERERS).encode())
    for path in files_under(source) + files_under(root / "src"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def command(arguments: list[str]) -> int:
    purpose = "Runs the notebooks and builds the book in _build/html."
    parser = argparse.ArgumentParser("python -m tools.book", description=purpose)
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--links", action="store_true", help="also follow links to other sites")
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    if not (root / "_toc.yml").exists():
        print(f"{root} has no _toc.yml; run this in the repository.", file=sys.stderr)
        return 1
    try:
        html = build(root, options.profile, links=options.links)
    except (NotebookFailed, BookFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command to resume with this notebook.", file=sys.stderr)
        return 130
    print(f"The book: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
