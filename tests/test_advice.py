"""The advice stands in advice.toml alone, and no record contradicts it."""

import shutil
from pathlib import Path

import nbformat

from tools import advice
from tools.toc import pages

ROOT = Path(__file__).parents[1]


def test_the_records_do_not_contradict_the_advice():
    assert advice.contradicted(ROOT / "results") == []


def test_every_chapter_prints_its_steps_and_the_readme_all(tmp_path):
    for name in ("notebooks", "results"):
        (tmp_path / name).mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, tmp_path / "notebooks")
        cells = nbformat.read(notebook, as_version=4).cells
        mondays = [cell for cell in cells if "do on Monday" in cell.source]
        assert [cell.source.startswith(advice.MONDAY) for cell in mondays] == [True], notebook
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.rmtree(tmp_path / "results")
    (tmp_path / "results").symlink_to(ROOT / "results")
    assert advice.write(tmp_path) == [], "run python -m tools.advice"


def test_a_changed_step_is_written_where_it_is_advised(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    cells = [nbformat.v4.new_markdown_cell(f"{advice.MONDAY}\n\nOld advice.")]
    document = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(document, tmp_path / "notebooks" / "04_rates.ipynb")
    (tmp_path / "README.md").write_text("a\n<!-- advice -->\nold\n<!-- end of advice -->\nb\n")
    steps = [
        advice.Step("One?", "Do one.", "As [here](cost.md).", ("03_other",)),
        advice.Step("Two?", "Do two ([this](use-it.md)).", "Because 2 %.", ("04_rates",)),
    ]
    monkeypatch.setattr(advice, "steps", lambda results: steps)
    assert len(advice.write(tmp_path)) == 2
    (cell,) = nbformat.read(tmp_path / "notebooks" / "04_rates.ipynb", as_version=4).cells
    said = "**2.** **Two?** Do two ([this](../book/use-it.md)). Because 2 %."
    assert said in cell.source and "One?" not in cell.source and "Old" not in cell.source
    readme = (tmp_path / "README.md").read_text()
    assert "1. **One?** Do one.\n2. **Two?** Do two ([this](book/use-it.md))." in readme
    assert "old" not in readme


def test_every_step_is_some_chapter_s():
    chapters = {Path(page).name for page in pages(ROOT) if page.startswith("notebooks/")}
    named = [name for step in advice.steps(ROOT / "results") for name in step.chapters]
    assert set(named) == chapters
