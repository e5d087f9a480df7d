"""The builder, on a book of two notebooks that each take a second.

A notebook that imports the project takes some seconds more, so only a few do.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from reproduction.runs import profile as named
from reproduction.runs import workers
from tools import book, notebooks, reads
from tools.colab import Repository

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

FIGURE = """
from reproduction import style
fig, axes = style.figure()
axes.plot([0, 1], [0, 1])
style.show(fig, alt="A rising line.", caption=f"It rises by {1:.2f}.", name="fig-line")
"""


def write_notebook(path: Path, *cells: str) -> None:
    document = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell(
        'profile = "cpu"  # size', metadata={"tags": ["parameters"]}
    )
    document.cells = [nbformat.v4.new_markdown_cell(f"# Chapter {path.stem}"), parameters]
    document.cells += [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    for k, cell in enumerate(document.cells):
        cell.id = f"cell-{k}"
    nbformat.write(document, path)


@pytest.fixture
def root(tmp_path):
    """A book with a front page, the notebooks a and b, and a package of one file."""
    for folder in ("book/_static", "tools", "notebooks", "src"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "_config.yml").write_text((ROOT / "_config.yml").read_text())
    shutil.copytree(ROOT / "tools" / "sphinx_ext", tmp_path / "tools" / "sphinx_ext")
    for name in ("_static/book.css", "_static/favicon.svg", "references.bib"):
        (tmp_path / "book" / name).write_text((ROOT / "book" / name).read_text())
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters: [{file: notebooks/a}, {file: notebooks/b}]\n"
    )
    (tmp_path / "book" / "index.md").write_text("# Front\n\n```{include} _generated/runs.md\n```\n")
    (tmp_path / "src" / "number.py").write_text("NUMBER = 1\n")
    about = "import sys\nif not profile:\n    import number\nprint(profile, sys.prefix)"
    write_notebook(tmp_path / "notebooks" / "a.ipynb", about)
    write_notebook(tmp_path / "notebooks" / "b.ipynb", "print(2)")
    return tmp_path


def key(root: Path, **parameters) -> str:
    return notebooks.key(root / "notebooks" / "a.ipynb", root, parameters)


def test_the_key_covers_all_that_a_number_depends_on(root):
    seen = [key(root), key(root, profile="quick")]
    (root / "src" / "number.py").write_text("from package import part\n")
    seen.append(key(root))
    (root / "src" / "package").mkdir()
    for file in ("part.py", "numbers.csv", "sentences.toml"):
        (root / "src" / "package" / file).write_text("")
        seen.append(key(root))
    (root / "results").mkdir()
    (root / "results" / "a.evidence.csv").write_text("claim\n")
    seen.append(key(root))
    write_notebook(root / "notebooks" / "a.ipynb", "print(2)")
    seen.append(key(root))
    assert len(set(seen)) == len(seen)


def test_an_edited_sentence_of_a_chapter_runs_the_notebooks_that_show_it_again_and_no_other():
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    readers = {path: set(reads.files(path, ROOT)) for path in found}
    src = ROOT / "src" / "reproduction"
    for folder in src.glob("ch[0-9][0-9]_*"):
        own = [path for path in found if folder / "findings.toml" in readers[path]]
        assert own and all(folder.name in path.read_text() for path in own), folder.name
        assert set(folder.glob("*.py")) <= set.union(*(readers[path] for path in own))
    assert all(src / "claims.toml" in read for read in readers.values())


def test_the_key_ignores_the_files_that_python_creates(root):
    before = key(root)
    (root / "src" / "__pycache__").mkdir()
    (root / "src" / "__pycache__" / "number.pyc").write_text("compiled")
    (root / "src" / "_kernels_plain.so").write_text("compiled")
    (root / "book" / "index.md").write_text("# Another page\n")
    assert key(root) == before


def test_runs_are_kept_until_what_they_import_changes(root, capsys):
    first = book.run_notebooks(root, "quick")
    assert not any(run.kept for run in first.values())
    printed = nbformat.read(first["notebooks/a"].path, as_version=4).cells[-1].outputs[0].text
    assert printed == f"quick {sys.prefix}\n"  # the profile asked for, in this very Python

    second = book.run_notebooks(root, "quick")
    assert all(run.kept for run in second.values())
    assert [run.path for run in second.values()] == [run.path for run in first.values()]

    (root / "src" / "number.py").write_text("NUMBER = 2\n")
    third = book.run_notebooks(root, "quick")
    assert [run.kept for run in third.values()] == [False, True], "b does not import it"
    kept = list((root / "_build" / "executed" / "quick").iterdir())
    assert len(kept) == 2, "earlier runs are replaced"
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[2:4]) == ["a ... kept", "b ... kept"]
    assert lines[4] == "b ... kept"
    assert len(lines) == 6, "one line a notebook"


def test_notebooks_run_side_by_side_with_a_core_each(root, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    waits = "import os, pathlib, time\npathlib.Path('{}').touch()\n"
    waits += "while not pathlib.Path('{}').exists():\n    time.sleep(.05)\n"
    waits += "print(os.environ['MULTIEPOCH_WORKERS'])"
    for one, other in ("ab", "ba"):
        write_notebook(root / "notebooks" / f"{one}.ipynb", waits.format(one, other))
    runs = book.run_notebooks(root, "quick")  # never ends if one waits for the other to end
    assert list(runs) == ["notebooks/a", "notebooks/b"], "in the order of the book"
    for run in runs.values():
        (said,) = nbformat.read(run.path, as_version=4).cells[-1].outputs
        assert said.text == "1\n"
    monkeypatch.setenv("MULTIEPOCH_WORKERS", "1")
    assert workers(named("cpu"), "cpu") == 1


def test_a_notebook_that_fails_stops_the_build_and_leaves_the_pages(root, capsys):
    write_notebook(root / "notebooks" / "b.ipynb", "x = 1", "total = x / 0  # the culprit")
    html = root / "_build" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("earlier")
    assert book.command(["--profile", "quick", "--root", str(root)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("b.ipynb: cell [4] raised ZeroDivisionError: division by zero")
    assert "total = x / 0  # the culprit" in said.err
    assert "Traceback" not in said.err
    assert (html / "index.html").read_text() == "earlier"
    assert not list((root / "_build" / "executed" / "quick").glob("b*"))


def test_a_build_that_was_killed_resumes(root):
    go = root / "go"
    write_notebook(
        root / "notebooks" / "a.ipynb",
        f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(.05)",
    )
    command = [sys.executable, "-u", "-m", "tools.book", "--root", str(root)]
    # In its own process group, so that the kernel is killed with the build.
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert killed.stdout.readline().startswith("b ... ")
        deadline = time.monotonic() + 60
        running = root / "_build" / "executed" / "cpu"
        while not list(running.glob(".*.part.a-*.ipynb")) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    assert not list(running.glob("a-*.ipynb"))

    go.touch()
    runs = book.run_notebooks(root, "cpu")
    assert runs["notebooks/b"].kept
    assert not runs["notebooks/a"].kept


def test_the_pages_say_what_was_run_and_show_the_figures(root, capsys):
    write_notebook(root / "notebooks" / "b.ipynb", FIGURE)
    html = book.build(root, "quick")
    page = BeautifulSoup((html / "notebooks" / "b.html").read_text(), "html.parser")
    (image,) = page.select("figure img")
    assert image["alt"] == "A rising line."
    caption = page.select_one("figure figcaption").get_text()
    assert "It rises by 1.00." in caption
    assert page.find(id="fig-line") is not None
    assert page.get_text().count("It rises by 1.00.") == 1, "not again below the figure"
    text = page.select_one("article").get_text()
    assert 'profile = "quick"  # size' in text, "the page shows what was run"
    assert "Parameters" not in text, "papermill's own cell"
    links = [link["href"] for link in page.find_all("a", href=True)]
    assert Repository.of(ROOT).colab("b") in links
    files = [link["href"] for link in page.select(".figure-files a")]
    assert files == [f"../_static/figures/fig-line.{kind}" for kind in ("csv", "svg")]
    assert (html / "notebooks" / files[0]).read_text().startswith("kind,x,y\nline,0,0\nline,1,1\n")
    front = (html / "book" / "index.html").read_text()
    assert "Profile <code" in front and 'href="../notebooks/a.html"' in front

    before = (html / "index.html").stat().st_mtime_ns
    capsys.readouterr()
    book.build(root, "quick")
    assert (
        capsys.readouterr().out.splitlines()[-1] == "Nothing has changed; the pages are up to date."
    )
    assert (html / "index.html").stat().st_mtime_ns == before

    # A warning is an error, names its page, and leaves the pages that were there.
    (root / "book" / "index.md").write_text("# Front\n\n[nowhere](no-such-page.md)\n")
    with pytest.raises(book.BookFailed, match=r"book/index\.md:3: WARNING.*no-such-page"):
        book.build(root, "quick")
    assert (html / "book" / "index.html").read_text() == front


def test_two_figures_in_a_cell_are_refused(root):
    write_notebook(root / "notebooks" / "b.ipynb", FIGURE + FIGURE.replace("fig-line", "fig-2"))
    with pytest.raises(book.BookFailed, match="notebooks/b: a cell shows 2 figures"):
        book.build(root, "quick")


def test_a_page_of_the_contents_that_is_missing_is_named(root):
    (root / "notebooks" / "b.ipynb").unlink()
    with pytest.raises(book.BookFailed, match=r"lists notebooks/b, but no notebooks/b\.ipynb"):
        book.build(root, "quick")


def test_strip_removes_outputs_and_nothing_else(root):
    path = root / "notebooks" / "a.ipynb"
    stored = nbformat.read(path, as_version=4)
    run = notebooks.execute(path, root, root / "_build", {"profile": "quick"})
    document = notebooks.stripped(nbformat.read(run.path, as_version=4))
    assert [cell.outputs for cell in document.cells if cell.cell_type == "code"] == [[], [], []]
    assert document.cells[1].metadata == {"tags": ["parameters"]}
    kept = [cell.source for cell in document.cells]  # and papermill's own cell
    assert [cell.source for cell in stored.cells if cell.source not in kept] == []


@pytest.mark.parametrize(("version", "fits"), [("3, 10", False), ("3, 11", True), ("3, 15", False)])
def test_the_python_version_is_checked_in_one_sentence(tmp_path, version, fits):
    pretend = f"import sys\nsys.version_info = ({version}, 2, 'final', 0)\n"
    (tmp_path / "sitecustomize.py").write_text(pretend)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command, streams = [sys.executable, ".ci/python_version.py"], {"capture_output": True}
    outcome = subprocess.run(command, cwd=ROOT, text=True, env=environment, **streams)
    assert (outcome.returncode == 0) == fits
    if not fits:
        assert "runs on Python 3.11 to 3.14" in outcome.stderr
        assert outcome.stderr.strip().count("\n") == 0
