"""The reader's program in the notebooks: shown, whole, the same everywhere; its exercises run."""

import ast
import inspect
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from reproduction import by_hand, by_package, notebook, style
from reproduction.runs import profile

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CHAPTERS = [*sorted(NOTEBOOKS.glob("0[1-9]_*.ipynb")), *NOTEBOOKS.glob("a2_*.ipynb")]
SOURCE = inspect.getsource(by_hand)
PIECES = {
    node.name: ast.get_source_segment(SOURCE, node)
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef | ast.ClassDef)
}
TINY = {"n_users": 60, "n_products": 40, "n_campaigns": 8, "n_advertisers": 4}
SOLUTION = re.compile(r"```python\n(.*?)```", re.DOTALL)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def code_cells(path: Path, tag: str = "") -> list[nbformat.NotebookNode]:
    cells = [one for one in nbformat.read(path, as_version=4).cells if one.cell_type == "code"]
    return [one for one in cells if not tag or tag in one.metadata.get("tags", [])]


def pieces(path: Path) -> dict[str, str]:
    """Returns the functions and classes that the program's cells of a notebook define."""
    cells = code_cells(path, "program")
    nodes = [(cell.source, node) for cell in cells for node in ast.parse(cell.source).body]
    kinds = ast.FunctionDef | ast.ClassDef
    return {n.name: ast.get_source_segment(s, n) for s, n in nodes if isinstance(n, kinds)}


def n_lines(cells: list[nbformat.NotebookNode]) -> int:
    return sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines())


@each_chapter
def test_what_a_notebook_writes_is_what_the_program_has(path):
    written = pieces(path)
    assert written, f"{path.stem} has no cell tagged 'program'"
    for name in written.keys() & PIECES.keys():
        assert written[name] == PIECES[name], f"{path.stem} writes {name} differently"
    assert max(len(cell.source.splitlines()) for cell in code_cells(path, "program")) <= 30


def test_every_piece_of_the_program_is_written_in_a_notebook():
    written = {name for path in CHAPTERS for name in pieces(path)}
    assert written >= PIECES.keys()


@each_chapter
def test_half_of_the_code_is_shown(path):
    hidden = sum(n_lines(code_cells(path, tag)) for tag in ("hide-input", "hide-cell"))
    assert n_lines(code_cells(path)) >= 2 * hidden, f"{path.stem}: {hidden} lines are folded"


def replaced(node: ast.AST) -> list[str]:
    """Returns the attributes that a statement assigns, as in `by_hand.rewind = mine`."""
    kinds = ast.Assign | ast.AugAssign | ast.AnnAssign
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    whole = [one for one in targets if isinstance(one, ast.Attribute)]
    return [ast.unparse(one) for one in whole] if isinstance(node, kinds) else []


@each_chapter
def test_what_the_reader_edits_is_what_runs(path):
    sources = [cell.source for cell in code_cells(path)]
    everything = nbformat.read(path, as_version=4).cells
    sources += [code for cell in everything for code in SOLUTION.findall(cell.source)]
    imported = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported |= {one.asname or one.name for one in node.names}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            owners = {name.partition(".")[0] for name in replaced(node)}
            assert not owners & imported, f"{path.stem} replaces a part of {owners & imported}"


@each_chapter
def test_no_cell_takes_a_functions_name_for_something_else(path):
    trees = [ast.parse(cell.source) for cell in code_cells(path)]
    functions, other = set(), set()
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            functions.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            functions |= {one.asname or one.name for one in node.names}
        else:
            other |= {
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    assert not functions & other


@pytest.fixture
def program(path, monkeypatch):
    """Returns the names of a notebook's program, run in a tiny world."""
    sizes = replace(profile("quick"), **TINY, impressions_per_day=300)
    log, _, later_day = sizes.split(sizes.world(0))
    monkeypatch.setattr(notebook, "small_world", lambda seed: (log, later_day))
    setup = next(cell.source for cell in code_cells(path) if "google.colab" in cell.source)
    names = {"seeds": [0], "seed": 0, "log": log, "test": later_day}
    for cell in [setup, *(cell.source for cell in code_cells(path, "program"))]:
        exec(cell, names)
    return names


@pytest.mark.parametrize("path", CHAPTERS[:1], ids=["the first"])
def test_an_edited_call_trains_otherwise(program):
    losses, plain = program["losses"], program["losses"]()
    for edit in ({"epochs": 3}, {"seed": 1}, {"batch": 64}, {"rate": 0.03}):
        edited = losses(**edit)
        assert edited.index[-1] == edit.get("epochs", 2)
        assert edited.loc[1.0].equals(plain.loc[1.0]) == ("epochs" in edit)


@pytest.mark.slow
@each_chapter
def test_the_solutions_run_on_the_program(path, program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one downloads a package
    text = next(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.source.startswith("## Exercises")
    )
    solutions = SOLUTION.findall(text)
    assert len(solutions) >= 2
    assert text.count("<summary>Solution</summary>") == text.count("</details>") <= 4
    for solution in solutions:
        exec(solution, program)
    if "movies" in program:  # with an id for each pair of user and film
        assert (program["movies"].loc[1.25] > 1.1 * program["movies"].loc[1.0]).all()


def test_the_curves_say_their_numbers(monkeypatch):
    said = []
    monkeypatch.setattr(style, "show", lambda fig, **texts: said.append(texts))
    plain = pd.DataFrame({"click": [1.0, 1.1, 0.99]}, index=[1.0, 1.25, 2.0])
    plain["checkout"] = [2.0, 2.4, 2.0]
    by_package.curves({"row-wise plain": plain, "FAL": plain / 2}, "eight")
    by_package.curves({"one epoch": plain.loc[:1.0]}, "two")
    assert said[0]["name"] == "fig-program-eight"
    several = {f"tables at a rate of {rate}": plain for rate in (0.3, 0.03, 0.003, 0.001)}
    drawn = []
    monkeypatch.setattr(style, "show", lambda fig, **texts: drawn.append(fig))
    by_package.curves(several, "four")
    (legend,) = drawn[0].legends
    assert len({line.get_color() for line in legend.get_lines()}) == len(several)
    drawn[0].canvas.draw()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= drawn[0].bbox.width, "the legend is cut off"
    assert "A quarter into epoch 2: row-wise plain +15.0 %, FAL −42.5 %." in said[0]["caption"]
    assert "At its end: row-wise plain −0.5 %" in said[0]["alt"]
    assert "At the end of epoch 1: one epoch +0.0 %." in said[1]["caption"]
