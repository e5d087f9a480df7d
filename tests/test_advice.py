"""The advice stands in advice.toml alone, and no record contradicts it."""

import re
import shutil
from pathlib import Path

import nbformat

from reproduction.findings import OfRecords
from tools import advice
from tools.toc import pages

ROOT = Path(__file__).parents[1]


def test_every_chapter_prints_its_steps_and_the_readme_all(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, tmp_path / "notebooks")
        cells = nbformat.read(notebook, as_version=4).cells
        mondays = [cell for cell in cells if "do on Monday" in cell.source]
        assert [cell.source.startswith(advice.MONDAY) for cell in mondays] == [True], notebook
    shutil.copy(ROOT / "README.md", tmp_path)
    for name in ("results", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert advice.write(tmp_path) == [], "run python -m tools.advice"


def test_a_changed_step_is_written_where_it_is_advised(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    cells = [nbformat.v4.new_markdown_cell(f"{advice.MONDAY}\n\nOld advice.")]
    document = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(document, tmp_path / "notebooks" / "04_rates.ipynb")
    parts = (f"<!-- {one} -->\nold\n<!-- end of {one} -->\n" for one in ("advice", "findings"))
    (tmp_path / "README.md").write_text("a\n" + "".join(parts) + "b\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text(
        ":::{div} findings\n1. It is {{ a.jump:, }}.\n:::\n"
    )
    values = OfRecords(lambda record: {"a.jump": 5000})
    monkeypatch.setattr(advice.sentences, "values", lambda results: values)
    steps = [
        advice.Step("One?", "Do one.", "As [here](cost.md).", ("03_other",)),
        advice.Step("Two?", "Do two ([this](use-it.md)).", "Because 2 %.", ("04_rates",)),
    ]
    monkeypatch.setattr(advice, "steps", lambda results: steps)
    assert len(advice.write(tmp_path)) == 2
    (cell,) = nbformat.read(tmp_path / "notebooks" / "04_rates.ipynb", as_version=4).cells
    said = "**2.** **Two?** Do two ([this](../book/use-it.md)).\n"
    assert said in cell.source
    assert not any(other in cell.source for other in ("One?", "Because", "Old"))
    readme = (tmp_path / "README.md").read_text()
    assert "1. **One?** Do one.\n2. **Two?** Do two ([this](book/use-it.md))." in readme
    assert "old" not in readme and "1. It is 5,000." in readme


ROUND = re.compile(r"\b(first|second|third|earlier|previous|last|next|both|two) rounds?\b", re.I)


def test_no_page_speaks_of_rounds():
    """A chapter is a lesson; the history of its measurements is an appendix."""
    said = {path.name: path.read_text() for path in [ROOT / "README.md", *ROOT.glob("book/*.md")]}
    texts = [ROOT / "tools/front.toml", *(ROOT / "src/reproduction").rglob("*.toml")]
    for path in texts:
        said[f"{path.parent.name}/{path.name}"] = path.read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        said[path.name] = "\n".join(cell.source for cell in cells)
    found = {name for name, text in said.items() if ROUND.search(" ".join(text.split()))}
    assert not found


def test_every_step_is_some_chapter_s():
    chapters = {Path(page).name for page in pages(ROOT) if page.startswith("notebooks/")}
    named = [name for step in advice.steps(ROOT / "results") for name in step.chapters]
    assert set(named) == chapters
