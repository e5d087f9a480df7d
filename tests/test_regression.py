"""The regression: what it allows, how it names each failure, and that a kill costs nothing."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import psutil
import pytest

from tests.regression import record
from tests.regression import reference as references
from tests.regression.compare import band, compare
from tests.regression.run import Outcome

ROOT = Path(__file__).parents[1]
SEEDS = [0, 1, 2, 3, 4]
VALUES = [1.0, 1.1, 0.9, 1.05, 0.95]
CHECKS = """
from reproduction.notebook import Checks
checks = Checks()
checks.number("loss", 1.0)
checks.exact("rows", 7)
checks.direction("up", True)
checks.show()
"""


def a_reference(**more):
    numbers = {"loss": VALUES, "rows": 7.0} | more
    entry = {"seconds": 1.0, "numbers": numbers, "directions": ["up"]}
    return {"about": {"seeds": SEEDS}, "notebooks": {"01_a": entry}}


def outcome(loss=1.0, rows=7.0, name="01_a", error="", directions=None, **more):
    values = {"loss": loss, "rows": rows, **more}
    numbers = {
        key: {"value": value, "exact": key == "rows"}
        for key, value in values.items()
        if value is not None
    }
    found = {"up": True} if directions is None else directions
    return Outcome(name, error=error, numbers=numbers, directions=found)


def wrong(found):
    return {row.quantity: row.wrong for row in compare(found, a_reference()) if row.wrong}


def write_notebook(path, *cells):
    document = nbformat.v4.new_notebook()
    parameters = 'profile = "cpu"\nseeds = None'
    document.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    document.cells += [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(document, path)


@pytest.fixture
def root(tmp_path):
    """A book of two notebooks, with a package of one file and a reference."""
    for folder in ("src", "references"):
        (tmp_path / folder).mkdir()
    for name in ("01_a", "02_b"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", CHECKS)
    one = a_reference()
    one["notebooks"]["02_b"] = one["notebooks"]["01_a"]
    references.write(tmp_path, "quick", one)
    return tmp_path


# What is allowed.


def test_the_band_is_the_prediction_interval_for_one_more_seed():
    low, high = band([1.0, 2.0, 3.0, 4.0, 5.0], 0.95)
    half = 2.776445 * math.sqrt(2.5) * math.sqrt(1.2)
    assert (low, high) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    low, high = band([2.0, 2.0, 2.0], 0.95)  # no spread: rounding alone
    assert low < 2.0 < high
    assert high - low < 1e-4


def test_more_numbers_make_wider_bands_so_that_all_together_seldom_fail():
    few, many = (
        next(row for row in compare(outcome(), one) if row.quantity == "loss")
        for one in (a_reference(), a_reference(**{f"n{k}": VALUES for k in range(99)}))
    )
    assert many.low < few.low < few.high < many.high


@pytest.mark.parametrize(
    ("found", "quantity", "words"),
    [
        (outcome(loss=9.0), "loss", "must be in 0."),
        (outcome(loss=-9.0), "loss", "must be in 0."),
        (outcome(loss=math.nan), "loss", "and is nan"),
        (outcome(loss=None), "loss", "not recorded here"),
        (outcome(rows=7.0000001), "rows", "must be exactly 7, and is 7.0000001"),
        (outcome(surprise=1.0), "surprise", "is not in the reference"),
        (outcome(directions={"up": False}), "up", "must hold, and does not"),
        (outcome(directions={}), "up", "not recorded here"),
        (outcome(directions={"up": True, "b": True}), "b", "is not in the reference"),
        (outcome(error="cell [3] raised"), "the notebook", "cell [3]"),
        (Outcome("01_a", error="DeadKernelError"), "the notebook", "DeadKernelError"),
        (Outcome("01_a"), "the notebook", "no Checks cell"),
        (outcome(name="09_new"), "the notebook", "is not in the reference"),
    ],
)
def test_each_failure_is_named_alone(found, quantity, words):
    assert wrong(outcome()) == {}
    (said,) = wrong(found).items()
    assert said[0] == quantity and words in said[1]


# With real notebooks.


def command(root, *options):
    """The command that runs the regression on the book in `root`."""
    report = f"--junitxml={root / 'report.xml'}"
    arguments = [sys.executable, "-m", "pytest", "tests/regression", "--rootdir", str(root), report]
    return [*arguments, *options]


def regression(root):
    """Exit code, and failures by notebook of the JUnit report."""
    done = subprocess.run(command(root), cwd=ROOT, capture_output=True)
    failures = {}
    for case in ET.parse(root / "report.xml").findall(".//testcase"):
        failure = case.find("failure")
        name = case.get("name").partition("[")[2].rstrip("]")
        failures[name] = "" if failure is None else failure.get("message") + (failure.text or "")
    return done.returncode, failures


@pytest.mark.notebook
def test_whatever_a_notebook_does_the_others_run(root):
    sources = {
        "dies": ["import os\nos._exit(1)"],
        "raises": ["x = 1", "total = x / 0  # the culprit", CHECKS],
        "fails": [CHECKS.replace('"up", True', '"up", False')],
    }
    for name, cells in sources.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", *cells)
    (root / "notebooks" / "02_b.ipynb").unlink()
    code, failures = regression(root)
    assert code == 1
    words = {
        "01_a": "",
        "02_b": "notebook gone",
        "dies": "DeadKernelError",
        "raises": "raised ZeroDivisionError: division by zero",
        "fails": "is not in the reference",
    }
    for name, expected in words.items():
        assert expected in failures[name]
    assert failures.keys() == words.keys() and failures["01_a"] == ""
    kept = root / "regression" / "quick" / "failed" / "raises.ipynb"
    assert "# the culprit" in kept.read_text(), "kept as far as it came"


@pytest.mark.notebook
def test_killed_and_resumed(root):
    """By SIGKILL, while the second of two notebooks runs."""

    def executed():
        found = root.glob("regression/quick/[!.]*.ipynb")
        return {path: path.stat().st_mtime_ns for path in found}

    killed = subprocess.Popen(command(root), cwd=ROOT, stdout=subprocess.DEVNULL)
    process = psutil.Process(killed.pid)
    while not (before := executed()) or not (children := process.children(recursive=True)):
        assert killed.poll() is None, "it ended before the second notebook ran"
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not psutil.wait_procs(children, timeout=60)[1], "kernels end with the regression"
    assert executed() == before and len(before) == 1
    assert regression(root) == (0, {"01_a": "", "02_b": ""})
    after = executed()
    assert len(after) == 2 and before.items() <= after.items(), "the finished run is kept"


# Recording, without running notebooks.


@pytest.fixture
def runs(monkeypatch):
    """What notebooks record, by name and seed, instead of running them."""
    content = dict.fromkeys(("01_a", "02_b"), lambda seed: outcome(VALUES[seed]))

    def pretend(notebook, root, folder, parameters):
        return content[notebook.stem](*parameters["seeds"])

    monkeypatch.setattr(record, "run", pretend)
    monkeypatch.setenv("MULTIEPOCH_WORKERS", "1")  # `record` sets it
    return content


def recording(root, *more):
    record.main(["--root", str(root), "--seeds", *map(str, SEEDS), *more])


@pytest.mark.slow
def test_a_profile_without_a_reference_is_refused_with_the_command_that_records_one(root):
    call = command(root, "--profile", "cpu")
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "record it with" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda seed: outcome(rows=float(seed)), "rows is exact and differs"),
        (lambda seed: outcome(**({"b": 1.0} if seed else {})), "other quantities than the first"),
        (lambda seed: Outcome("01_a", error="raised ValueError: no"), "raised ValueError: no"),
        (lambda seed: Outcome("01_a"), "recorded nothing"),
    ],
)
def test_what_must_not_become_a_reference(root, runs, content, words):
    before = (root / "references" / "quick.json").read_text()
    runs["01_a"] = content
    with pytest.raises(SystemExit, match=f"Not written: .*{words}"):
        recording(root)
    assert (root / "references" / "quick.json").read_text() == before


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_writing_a_reference_keeps_a_line_per_quantity(tmp_path, profile):
    committed = references.path(ROOT, profile).read_text()
    assert references.write(tmp_path, profile, json.loads(committed)).read_text() == committed


def test_one_notebook_can_be_recorded_alone(root, runs):
    recording(root)
    runs["01_a"] = lambda seed: outcome(VALUES[seed] + 1e-3)
    runs["02_b"] = None  # not to be run
    recording(root, "--only", "01")
    found = references.read(root, "quick")["notebooks"]
    assert found["01_a"]["numbers"] == {"loss": [1.001, 1.101, 0.901, 1.051, 0.951], "rows": 7.0}
    assert found["02_b"]["numbers"]["loss"] == VALUES
    with pytest.raises(SystemExit, match="no notebook begins with 77"):
        recording(root, "--only", "77")


@pytest.mark.slow
def test_every_mutation_still_fits_the_package():
    code = "from tests.mutations import *; [apply(n, m) for n in MUTATIONS for m in MUTATIONS[n]]"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_notebook_of_the_book_takes_seeds_and_has_a_reference(path):
    cells = nbformat.read(path, as_version=4).cells
    parameters = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert any(line.startswith("seeds =") for line in parameters[0].source.splitlines())
    assert path.stem in references.read(ROOT, "quick")["notebooks"]
