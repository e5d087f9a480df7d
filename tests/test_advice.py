"""The advice stands in advice.toml alone, and no record contradicts it."""

import re
import shutil
from pathlib import Path

import nbformat

from reproduction.findings import OfRecords
from tools import advice

ROOT = Path(__file__).parents[1]


def test_the_readme_has_the_advice(tmp_path):
    shutil.copy(ROOT / "README.md", tmp_path)
    for name in ("results", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert advice.write(tmp_path) == [], "run python -m tools.advice"


def test_a_changed_step_is_written_into_the_readme(tmp_path, monkeypatch):
    parts = (f"<!-- {one} -->\nold\n<!-- end of {one} -->\n" for one in ("advice", "findings"))
    (tmp_path / "README.md").write_text("a\n" + "".join(parts) + "b\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text(
        ":::{div} findings\n1. It is {{ a.jump:, }}.\n:::\n"
    )
    values = OfRecords(lambda record: {"a.jump": 5000})
    monkeypatch.setattr(advice.sentences, "values", lambda results: values)
    steps = [
        advice.Step("One?", "Do one.", "As [here](cost.md).", "1 %", "you did"),
        advice.Step("Two?", "Do two ([this](use-it.md)).", "Because 2 %.", "2 %", "never"),
    ]
    monkeypatch.setattr(advice, "steps", lambda results: steps)
    assert advice.write(tmp_path) == [tmp_path / "README.md"]
    readme = (tmp_path / "README.md").read_text()
    assert "1. **One?** Do one.\n2. **Two?** Do two ([this](book/use-it.md))." in readme
    assert "old" not in readme and "1. It is 5,000." in readme


def test_the_page_of_advice_has_at_most_500_words(tmp_path):
    advice.generate(ROOT / "results", tmp_path)
    table = (tmp_path / "advice.md").read_text()
    assert table.count("\n| ") == 8 and "{" not in table
    page = (ROOT / "book" / "what-to-do.md").read_text()
    assert len(f"{page} {re.sub(r'[|:-]', ' ', table)}".split()) <= 500


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
