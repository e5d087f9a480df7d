"""Every notebook is stored without outputs and runs in the quick profile."""

import ast
from pathlib import Path

import nbformat
import pytest

from tools.notebooks import PROFILES, execute_on_one_core, stripped

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_stored_without_outputs(path):
    stored = nbformat.read(path, as_version=4)
    assert stored == stripped(nbformat.read(path, as_version=4)), "run `make strip`"


@each_notebook
def test_has_one_parameters_cell_of_literals(path):
    cells = nbformat.read(path, as_version=4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign), "literals only; derive in the next cell"
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert values["profile"] in PROFILES


@pytest.mark.notebook
@pytest.mark.timeout(1_200)
@each_notebook
def test_runs_in_the_quick_profile(path):
    run = execute_on_one_core(
        path, ROOT, ROOT / "_build" / "executed" / "quick", {"profile": "quick"}
    )
    for cell in nbformat.read(run.path, as_version=4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            slow = "slower than by the compiled kernels" in output.get("text", "")
            silent = output.get("name") != "stderr" or slow
            assert silent, f"{cell.source}\nwrote to stderr:\n{output.text}"
