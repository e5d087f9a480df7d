"""Builds the book: runs its notebooks, lays out a staging folder, renders it, swaps it in.

Under _build: executed/PROFILE/ keeps the notebooks that were run, source/ is what jupyter-book
reads, html/ the pages. The pages appear whole: a build that fails leaves the earlier ones alone.
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
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from reproduction import checks, claims, records
from reproduction.ch07_fal_versus_meda import interactive_figure as picture
from tools import cost, summary
from tools.colab import with_badge
from tools.notebooks import PROFILES, NotebookFailed, Run, execute, files_under

RENDERERS = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "pydata-sphinx-theme")
FIGURE = "multiepoch_figure"  # the output metadata that style.show writes
CAPTION = "multiepoch_caption"


class BookFailed(RuntimeError):
    """The book could not be built: which page, and why."""


def build(root: Path, profile: str, html: Path | None = None) -> Path:
    """Runs the notebooks in `profile`, renders the book into `html` (_build/html), returns it.

    Raises NotebookFailed or BookFailed; the pages that were there before are then still there.
    """
    html = html or root / "_build" / "html"
    work = html.with_name(f"{html.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    runs = run_notebooks(root, profile)
    stage(root, work / "source", profile, runs)
    key = _key(work / "source", root)
    stamp = html.with_name(f"{html.name}.key")
    if html.is_dir() and stamp.exists() and stamp.read_text() == key:
        print("Nothing changed; the pages are kept.")
    else:
        start = time.perf_counter()
        rendered = render(work)
        _swap(rendered, html)
        stamp.write_text(key)
        print(f"Rendered {len(pages(root))} pages in {time.perf_counter() - start:.0f} s.")
    shutil.rmtree(work, ignore_errors=True)
    return html


def pages(root: Path) -> list[str]:
    """Every page of _toc.yml in order, as it is named there: without an ending."""

    def walk(node: dict | list) -> Iterator[str]:
        if isinstance(node, list):
            for one in node:
                yield from walk(one)
            return
        for name, value in node.items():
            if name in ("root", "file"):
                yield str(value).removesuffix(".ipynb").removesuffix(".md")
            elif name in ("parts", "chapters", "sections"):
                yield from walk(value)

    return list(walk(yaml.safe_load((root / "_toc.yml").read_text())))


def run_notebooks(root: Path, profile: str) -> dict[str, Run]:
    """Runs the notebooks of the book in order, one progress line each. By page name."""
    runs = {}
    for page in pages(root):
        notebook = root / f"{page}.ipynb"
        if not notebook.exists():
            if not (root / f"{page}.md").exists():
                raise BookFailed(
                    f"_toc.yml names {page}; there is no {page}.ipynb and no {page}.md."
                )
            continue
        print(f"{notebook.stem} ... ", end="", flush=True)
        try:
            run = execute(
                notebook, root, root / "_build" / "executed" / profile, {"profile": profile}
            )
        except NotebookFailed:
            print("failed", flush=True)
            raise
        print("kept" if run.kept else f"{run.seconds:.1f} s", flush=True)
        runs[page] = run
    return runs


def stage(root: Path, source: Path, profile: str, runs: dict[str, Run]) -> None:
    """Lays out what jupyter-book reads: pages, executed notebooks, and what is generated."""
    source.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, source / name)
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "book", source / "book", ignore=without_caches)
    extensions = "tools/sphinx_ext"
    shutil.copytree(root / extensions, source / extensions, ignore=without_caches)
    for record in sorted(root.glob("results/*/compare_*")):  # what pages include as it is
        target = source / record.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record, target)
    results = root / "results"
    documents = {page: nbformat.read(run.path, as_version=4) for page, run in runs.items()}
    ledger = _with_this_run(records.ledger(results), profile, documents.values())
    run_times = _run_times(profile, documents)
    for page, document in documents.items():
        target = source / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(with_badge(for_pages(document, page)), target)
    generated = source / "book" / "_generated"
    generated.mkdir()
    (generated / "claims.md").write_text(_claims(root, ledger))
    (generated / "runs.md").write_text(run_times)
    cost.generate(results, generated)
    picture.generate(results, generated, source / "book" / "_static")
    summary.generate(results, ledger, generated)


def for_pages(document: nbformat.NotebookNode, page: str) -> nbformat.NotebookNode:
    """An executed notebook as its page needs it.

    The parameters cell shows the values of this run, so papermill's own cell after it goes. What
    style.show said of a figure (alt text, caption, name) moves to where myst-nb looks for it. The
    picture that can be touched gets its script.
    """
    parameters = document.metadata.get("papermill", {}).get("parameters", {})
    for cell in document.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for name, value in parameters.items():
                line = rf"^{name} = \S+"
                cell.source = re.sub(line, f"{name} = {json.dumps(value)}", cell.source, flags=re.M)
    document.cells = [
        cell for cell in document.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]  # fmt: skip
    shown = []
    for cell in document.cells:
        outputs = cell.get("outputs", [])
        figures = [o.metadata[FIGURE] for o in outputs if FIGURE in o.get("metadata", {})]
        if len(figures) > 1:
            raise BookFailed(f"{page}: a cell shows {len(figures)} figures; show one a cell.")
        for figure in figures:
            cell.metadata["mystnb"] = {
                "image": {"alt": figure["alt"]},
                "figure": {"caption": figure["caption"], "name": figure["name"]},
            }
        if "outputs" in cell:
            cell.outputs = [o for o in outputs if CAPTION not in o.get("metadata", {})]
        shown.append(cell)
        if any(figure["name"] == picture.CHAPTER for figure in figures):
            script = nbformat.v4.new_markdown_cell(picture.SCRIPT, id=f"{picture.CHAPTER}-script")
            shown.append(script)
    document.cells = shown
    return document


def _with_this_run(
    ledger: dict[str, pd.DataFrame], profile: str, documents: Iterable[nbformat.NotebookNode]
) -> dict[str, pd.DataFrame]:
    """The ledger, with what the notebooks have just measured in place of the profile's record."""
    if profile not in ledger:
        return ledger
    found = [pd.DataFrame(one["evidence"], columns=records.EVIDENCE)
             for document in documents for one in checks.recorded(document)]  # fmt: skip
    live, record = pd.concat([*found, ledger[profile].head(0)]), ledger[profile]
    said = set(zip(live["claim"], live["measure"]))
    rest = [key not in said for key in zip(record["claim"], record["measure"])]
    return ledger | {profile: pd.concat([live, record[rest]], ignore_index=True)}


def _claims(root: Path, ledger: dict[str, pd.DataFrame]) -> str:
    """The ledger in Markdown. What is not in the book gets no link."""
    known = {os.path.relpath(page, "book") for page in pages(root)}  # as linked from book/

    def link(match: re.Match) -> str:
        there = os.path.splitext(match[1])[0] in known
        return match[0] if there else "its chapter is not written yet"

    return re.sub(r"\[[^]]*\]\(([^)]*\.(?:ipynb|md))\)", link, claims.table(ledger))


def _run_times(profile: str, documents: dict[str, nbformat.NotebookNode]) -> str:
    if not documents:
        return "No notebook was run for these pages.\n"
    lines = [
        f"Profile `{profile}`.",
        "",
        "| notebook | seconds | date | torch | Python | machine |",
        "|---|---|---|---|---|---|",
    ]
    for page, document in documents.items():
        fact = document.metadata["multiepoch"]
        lines.append(
            f"| [{Path(page).stem}](../{page}.ipynb) | {fact['seconds']:.1f} | {fact['date']} "
            f"| {fact['torch']} | {fact['python']} | {fact['machine']} |"
        )
    return "\n".join(lines) + "\n"


def render(work: Path) -> Path:
    """jupyter-book over work/source, every warning an error. Returns the folder of pages."""
    outcome = subprocess.run(
        [sys.executable, "-c", "from jupyter_book.cli.main import main; main()",
         "build", "source", "--path-output", ".", "-W", "--keep-going", "-q"],
        cwd=work, env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if outcome.returncode:
        text = re.sub(r"\x1b\[[0-9;]*m", "", outcome.stdout)
        said = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
        said = list(dict.fromkeys(line.replace(f"{work}{os.sep}", "") for line in said))
        raise BookFailed("The pages could not be rendered:\n" + ("\n".join(said) or text[-4000:]))
    return work / "_build" / "html"


def _swap(rendered: Path, html: Path) -> None:
    """Puts the new pages in place of the old in two renames."""
    old = html.with_name(f"{html.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        html.rename(old)
    rendered.rename(html)
    shutil.rmtree(old, ignore_errors=True)


def _key(source: Path, root: Path) -> str:
    """A hash of all that the pages depend on: the staging folder, src/ and who renders."""
    digest = hashlib.sha256(" ".join(version(name) for name in RENDERERS).encode())
    for path in files_under(source) + files_under(root / "src"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "multiepoch book", description="Runs the notebooks and builds the book into _build/html."
    )
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--root", type=Path, default=Path("."), help="the repository")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    if not (root / "_toc.yml").exists():
        print(f"{root}: no _toc.yml; run this in the repository.", file=sys.stderr)
        return 1
    try:
        html = build(root, options.profile)
    except (NotebookFailed, BookFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on with this notebook.", file=sys.stderr)
        return 130
    print(f"The book: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
