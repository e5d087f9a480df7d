"""The regression: what it allows, how it names each failure, and that a kill costs nothing."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import psutil
import pytest

from reproduction import records
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


def a_reference(**changes):
    entry = {
        "seconds": 1.0,
        "numbers": {
            "loss": {"exact": False, "values": VALUES},
            "rows": {"exact": True, "values": [7.0]},
        },
        "directions": {"up": []},
        "verdicts": {},
    }
    return {"about": {"seeds": SEEDS}, "notebooks": {"01_a": entry | changes}}


def recorded(loss=1.0, rows=7.0, up=True, evidence=(), **more):
    numbers = {
        "loss": {"value": loss, "exact": False},
        "rows": {"value": rows, "exact": True},
        **{name: {"value": value, "exact": False} for name, value in more.items()},
    }
    found = {"numbers": numbers, "directions": {"up": up}, "evidence": list(evidence)}
    return found | {"verdicts": {}}


def outcome(content=None, name="01_a", **more):
    found = Outcome(name, **more)
    if content:
        found.add(content)
    return found


def verdicts(found, reference=None, elsewhere=False):
    rows = compare(found, reference or a_reference(), elsewhere)
    return {row.quantity: row.verdict for row in rows}


def write_notebook(path, *cells):
    document = nbformat.v4.new_notebook()
    parameters = 'profile = "cpu"\nseeds = None'
    document.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    document.cells += [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    for k, cell in enumerate(document.cells):
        cell.id = f"cell-{k}"
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
    def allowed(reference):
        rows = compare(outcome(recorded()), reference)
        return next((row.low, row.high) for row in rows if row.quantity == "loss")

    many = a_reference()
    numbers = {f"n{k}": {"exact": False, "values": VALUES} for k in range(99)}
    many["notebooks"]["02_b"] = {"directions": {}, "numbers": numbers, "verdicts": {}}
    (low, high), (lower, higher) = allowed(a_reference()), allowed(many)
    assert lower < low < high < higher


# Each failure has a verdict of its own.


def test_as_in_the_reference():
    assert set(verdicts(outcome(recorded())).values()) == {"ok"}


@pytest.mark.parametrize(
    ("content", "quantity", "verdict"),
    [
        (recorded(loss=9.0), "loss", "outside"),
        (recorded(loss=-9.0), "loss", "outside"),
        (recorded(loss=math.nan), "loss", "not a number"),
        (recorded(rows=7.0000001), "rows", "not the same"),
        (recorded(surprise=1.0), "surprise", "not in the reference"),
        (recorded(up=False), "up", "does not hold"),
        (recorded() | {"numbers": {}}, "loss", "not recorded"),
        (recorded() | {"directions": {}}, "up", "not recorded"),
        (recorded() | {"directions": {"up": True, "b": True}}, "b", "not in the reference"),
        (recorded() | {"directions": {"up": True, "b": False}}, "b", "does not hold"),
    ],
)
def test_each_failure_has_a_verdict_of_its_own(content, quantity, verdict):
    found = verdicts(outcome(content))
    assert found.pop(quantity) == verdict
    assert content["numbers"] == {} or set(found.values()) == {"ok"}


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (outcome(status="raised", error="cell [3] raised"), "raised", "cell [3]"),
        (outcome(status="died", error="DeadKernelError"), "died", "DeadKernelError"),
        (outcome(), "nothing recorded", "no Checks cell"),
        (outcome(recorded(), "09_new"), "not in the reference", "not in the reference"),
    ],
)
def test_a_notebook_that_fails_as_a_whole(found, verdict, words):
    (row,) = [row for row in compare(found, a_reference()) if row.quantity == "the notebook"]
    assert row.verdict == verdict
    assert words in row.what


def test_what_was_recorded_before_a_cell_raised_is_still_compared():
    found = verdicts(outcome(recorded(loss=9.0), status="raised", error="no"))
    assert found == {"the notebook": "raised", "loss": "outside", "rows": "ok", "up": "ok"}


def test_a_direction_that_fails_is_reported_once():
    found = verdicts(outcome(recorded(up=False), status="raised", error="does not hold"))
    assert found == {"loss": "ok", "rows": "ok", "up": "does not hold"}


def test_a_claim_that_no_longer_holds_is_named():
    values = [50.9, 51.0, 51.1, 51.0, 51.0]  # its threshold is 50, to be exceeded
    number = {"C1: head": {"exact": False, "values": values}}
    reference = a_reference(numbers=number, directions={})

    def measured(values):
        evidence = [
            {
                "claim": "C1",
                "measure": "head",
                "point": "",
                "seed": seed,
                "value": value,
            }
            for seed, value in enumerate(values)
        ]
        return outcome({"numbers": {}, "directions": {}, "verdicts": {}, "evidence": evidence})

    assert set(verdicts(measured(values[:3]), reference).values()) == {"ok"}
    fallen = measured([49.6, 49.6, 49.7])
    failed = {"C1: head": "outside", "verdict on C1": "another verdict"}
    assert verdicts(fallen, reference) == verdicts(fallen, reference, elsewhere=True) == failed
    number_row, verdict_row = compare(fallen, reference)
    assert "across C1's threshold of 50, which it met" in number_row.what
    assert verdict_row.what == "C1 was partly and is not reproduced"

    # An interval that now includes the threshold: on another machine rounding may do that.
    number["C1: head"]["values"] = [50.6, 51.0, 51.4, 50.5, 51.5]
    near, wide = measured([50.5, 51.0, 51.4]), a_reference(numbers=number, directions={})
    assert list(verdicts(near, wide).values()) == ["ok", "another verdict"]
    there = compare(near, wide, elsewhere=True)
    assert [(row.now, row.verdict) for row in there[1:]] == [("not settled", "ok")]


def test_a_verdict_that_a_record_no_longer_gives_is_named():
    verdicts_of = {"verdicts": {"C12 by the record long": "as predicted: seeing holds"}}
    reference = a_reference(**verdicts_of)
    assert set(verdicts(outcome(recorded() | verdicts_of), reference).values()) == {"ok"}
    other = {"verdicts": {"C12 by the record long": "not settled: seeing open"}}
    (row,) = [row for row in compare(outcome(recorded() | other), reference) if not row.ok]
    assert row.verdict == "another verdict"
    assert row.what == "was as predicted: seeing holds; is not settled: seeing open"
    assert verdicts(outcome(recorded()), reference)["C12 by the record long"] == "not recorded"
    (row,) = [
        row for row in compare(outcome(recorded() | verdicts_of), a_reference()) if not row.ok
    ]
    assert row.verdict == "not in the reference"


def test_the_regression_judges_every_claim():
    judged = {
        profile: {
            name: {claim.partition(" by the record ")[0] for claim in one["verdicts"]}
            for name, one in references.read(ROOT, profile)["notebooks"].items()
        }
        for profile in ("quick", "cpu")
    }
    run = {claim for rows in records.ledger().values() for claim in rows["claim"]}
    assert set().union(*judged["quick"].values()) == run
    assert judged["cpu"] == judged["quick"]


# With real notebooks.


def command(root, *options):
    """The command that runs the regression on the book in `root`."""
    report = f"--junitxml={root / 'report.xml'}"
    arguments = [sys.executable, "-m", "pytest", "tests/regression", "--rootdir", str(root), report]
    return [*arguments, *options]


def regression(root, *options):
    """Exit code, output, and the properties and failures by notebook of the JUnit report."""
    done = subprocess.run(command(root, *options), cwd=ROOT, capture_output=True, text=True)
    cases = ET.parse(root / "report.xml").findall(".//testcase")
    failures = {}
    for case in cases:
        failure = case.find("failure")
        name = case.get("name").partition("[")[2].rstrip("]")
        failures[name] = "" if failure is None else failure.get("message") + (failure.text or "")
    return done.returncode, done.stdout, failures


@pytest.mark.notebook
@pytest.mark.timeout(1_800)
def test_whatever_a_notebook_does_the_others_run(root):
    sources = {
        "hangs": ["print('before')\nimport time\ntime.sleep(1e6)"],
        "dies": ["import os\nos._exit(1)"],
        "raises": ["x = 1", "total = x / 0  # the culprit", CHECKS],
        "empty": ["x = 1"],
        "nan": [CHECKS.replace('"loss", 1.0', '"loss", float("nan")')],
        "fails": [CHECKS.replace('"up", True', '"up", False')],
    }
    for name, cells in sources.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", *cells)
    (root / "notebooks" / "02_b.ipynb").unlink()
    known = a_reference()
    known["notebooks"] |= dict.fromkeys(["02_b", *sources], known["notebooks"]["01_a"])
    references.write(root, "quick", known)
    code, said, failures = regression(root, "--timeout", "15")
    folders = [process.info["cwd"] for process in psutil.process_iter(["cwd"])]
    assert str(root / "notebooks") not in folders, "a kernel is left"
    assert code == 1
    words = {
        "01_a": "",
        "02_b": "notebook gone",
        "hangs": "Timeout",
        "dies": "died: DeadKernelError",
        "raises": "raised ZeroDivisionError: division by zero",
        "empty": "nothing recorded",
        "nan": "not a number",
        "fails": "does not hold",
    }
    for name, expected in words.items():
        assert expected in failures[name]
    assert failures.keys() == words.keys() and failures["01_a"] == ""
    assert "Start with 02_b." in said
    assert "# the culprit" in said
    for name in ("raises", "hangs"):
        kept = root / "regression" / "quick" / "failed" / f"{name}.ipynb"
        assert "output_type" in kept.read_text(), "kept as far as it came"


@pytest.mark.notebook
@pytest.mark.timeout(1_800)
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
    code, _, failures = regression(root)
    assert (code, failures) == (0, {"01_a": "", "02_b": ""})
    after = executed()
    assert len(after) == 2 and before.items() <= after.items(), "the finished run is kept"


# Recording, without running notebooks.


@pytest.fixture
def runs(monkeypatch):
    """What notebooks record, by name and seed, instead of running them."""
    content = dict.fromkeys(("01_a", "02_b"), lambda seed: recorded(VALUES[seed]))

    def pretend(notebook, root, folder, parameters):
        made = content[notebook.stem](*parameters["seeds"])
        return made if isinstance(made, Outcome) else outcome(made, notebook.stem)

    monkeypatch.setattr(record, "run", pretend)
    monkeypatch.setattr(record.os, "cpu_count", lambda: 1)
    monkeypatch.setenv("MULTIEPOCH_WORKERS", "1")  # `record` sets it
    return content


def recording(root, *more):
    record.main(["--root", str(root), "--seeds", *map(str, SEEDS), *more])


def refused(root, words, *more):
    with pytest.raises(SystemExit, match=words) as refusal:
        recording(root, *more)
    assert "Not written: " in str(refusal.value)


@pytest.mark.slow
def test_a_profile_without_a_reference_is_refused_with_the_command_that_records_one(root):
    call = command(root, "--profile", "cpu")
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "record it with" in done.stdout + done.stderr


def test_recording_hides_no_changed_verdict(root, runs, capsys):
    recording(root)
    before = (root / "references" / "quick.json").read_text()
    assert json.loads(before)["notebooks"]["01_a"]["numbers"]["loss"]["values"] == VALUES

    runs["02_b"] = lambda seed: recorded(VALUES[seed] + 5)
    refused(root, "--accept-verdicts")
    assert "02_b: loss: outside: 6 is not in" in capsys.readouterr().out
    assert (root / "references" / "quick.json").read_text() == before

    recording(root, "--accept-verdicts")
    kept = references.read(root, "quick")["notebooks"]["02_b"]["numbers"]["loss"]["values"]
    assert statistics.fmean(kept) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda seed: recorded(rows=float(seed)), "rows is exact and differs"),
        (lambda seed: recorded(**({"b": 1.0} if seed else {})), "other quantities than the first"),
        (lambda seed: recorded(loss=math.nan), "is not finite"),
        (
            lambda seed: outcome(status="raised", error="raised ValueError: no"),
            "raised ValueError: no",
        ),
        (lambda seed: outcome(), "recorded nothing"),
    ],
)
def test_what_must_not_become_a_reference(root, runs, content, words):
    before = (root / "references" / "quick.json").read_text()
    runs["01_a"] = content
    refused(root, words)
    assert (root / "references" / "quick.json").read_text() == before


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_writing_a_reference_keeps_a_line_per_quantity(tmp_path, profile):
    committed = references.path(ROOT, profile).read_text()
    assert references.write(tmp_path, profile, json.loads(committed)).read_text() == committed


def test_a_spread_needs_seeds(root, runs):
    refused(root, "at least 5", "--seeds", "0", "1")
    refused(root, "no notebook begins with 77", "--only", "77")


def test_one_notebook_can_be_recorded_alone(root, runs):
    recording(root)
    runs["01_a"] = lambda seed: recorded(VALUES[seed] + 1e-3)
    runs["02_b"] = None  # not to be run
    recording(root, "--only", "01")
    found = references.read(root, "quick")["notebooks"]
    assert found["01_a"]["numbers"]["loss"]["values"][0] == pytest.approx(1.001)
    assert found["02_b"]["numbers"]["loss"]["values"] == VALUES


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
