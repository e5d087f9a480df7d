"""The regression: what it allows, how each failure is told, and that a kill costs nothing."""

import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup

from tests.regression import command as commands
from tests.regression import reference as references
from tests.regression import report as reports
from tests.regression.command import main
from tests.regression.compare import FALSE_ALARMS, band, compare, start_with, t_quantile
from tests.regression.execution import Job, Outcome, execute_all

ROOT = Path(__file__).parents[1]
SEEDS = [0, 1, 2, 3, 4]
VALUES = [1.0, 1.1, 0.9, 1.05, 0.95]
CHECKS = """
from reproduction.checks import Checks
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
    }
    return {"about": {"seeds": SEEDS}, "notebooks": {"01_a": entry | changes}}


def recorded(loss=1.0, rows=7.0, up=True, evidence=(), **more):
    numbers = {
        "loss": {"value": loss, "exact": False},
        "rows": {"value": rows, "exact": True},
        **{name: {"value": value, "exact": False} for name, value in more.items()},
    }
    return {"numbers": numbers, "directions": {"up": up}, "evidence": list(evidence)}


def ended(content, name="01_a"):
    return Outcome(name, "ended", seconds=1.0, recorded=[content])


def verdicts(outcome, reference=None):
    rows = compare([outcome], reference or a_reference())
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


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 10, 29])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999, 0.99999])
def test_students_quantile(df, level):
    t = pytest.importorskip("scipy.stats").t
    assert t_quantile(level, df) == pytest.approx(t.ppf((1 + level) / 2, df), rel=1e-6)


def test_the_band_is_the_prediction_interval_for_one_more_seed():
    low, high = band([1.0, 2.0, 3.0, 4.0, 5.0], 0.95)
    half = 2.776445 * math.sqrt(2.5) * math.sqrt(1.2)
    assert (low, high) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    low, high = band([2.0, 2.0, 2.0], 0.95)  # no spread: rounding alone
    assert low < 2.0 < high
    assert high - low < 1e-4


def test_another_seed_seldom_fails_and_a_moved_mean_does():
    generator = random.Random(0)

    def draw(mean=0.0):
        return generator.gauss(mean, 1.0)

    n, failed = 4_000, 0
    for _ in range(n):
        low, high = band([draw() for _ in range(8)], 1 - FALSE_ALARMS)
        failed += not low <= draw() <= high
    assert failed / n == pytest.approx(FALSE_ALARMS, abs=0.012)
    low, high = band([draw() for _ in range(8)], 1 - FALSE_ALARMS)
    assert not low <= draw(20.0) <= high


def test_more_numbers_make_wider_bands_so_that_all_together_seldom_fail():
    (one,) = [r for r in compare([ended(recorded())], a_reference()) if r.quantity == "loss"]
    many = a_reference()
    many["notebooks"]["02_b"] = {
        "seconds": 1.0, "directions": {},
        "numbers": {f"n{k}": {"exact": False, "values": VALUES} for k in range(99)},
    }  # fmt: skip
    (other,) = [r for r in compare([ended(recorded())], many) if r.quantity == "loss"]
    assert other.allowed[0] < one.allowed[0] < one.allowed[1] < other.allowed[1]


# Failures, each in its own words.


def test_as_it_was():
    assert set(verdicts(ended(recorded())).values()) == {"ok"}


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
    found = verdicts(ended(content))
    assert found[quantity] == verdict
    others = {k: v for k, v in found.items() if k != quantity and "numbers" in content}
    assert content["numbers"] == {} or set(others.values()) == {"ok"}


@pytest.mark.parametrize(
    ("outcome", "verdict", "words"),
    [
        (Outcome("01_a", "raised", "raised ValueError: no", "fit"), "raised", "in cell 'fit'"),
        (Outcome("01_a", "hung", "ran past its limit of 3 s"), "hung", "limit of 3 s"),
        (Outcome("01_a", "died", "died with exit code -9"), "died", "exit code -9"),
        (Outcome("01_a", "ended"), "nothing recorded", "no Checks cell recorded anything"),
        (ended(recorded(), "09_new"), "not in the reference", "lacks this notebook"),
    ],
)
def test_a_notebook_that_fails_as_a_whole(outcome, verdict, words):
    (row,) = [row for row in compare([outcome], a_reference()) if row.quantity == "the notebook"]
    assert row.verdict == verdict
    assert words in row.what


def test_what_was_recorded_before_a_cell_raised_is_still_compared():
    outcome = Outcome("01_a", "raised", "raised ValueError: no", recorded=[recorded(loss=9.0)])
    assert verdicts(outcome) == {
        "the notebook": "raised",
        "loss": "outside",
        "rows": "ok",
        "up": "ok",
    }


def test_a_direction_that_fails_is_told_once():
    outcome = Outcome("01_a", "raised", "raised AssertionError", recorded=[recorded(up=False)])
    assert verdicts(outcome) == {"loss": "ok", "rows": "ok", "up": "does not hold"}


def test_a_notebook_that_is_gone():
    rows = compare([ended(recorded())], a_reference(), gone=["02_b"])
    assert [(row.notebook, row.verdict) for row in rows if not row.ok] == [
        ("02_b", "notebook gone")
    ]


def test_a_claim_that_no_longer_holds_is_named():
    values = [1.4, 1.5, 1.6, 1.5, 1.5]  # C3's bar is 0.5, to be exceeded
    number = {"C3: jump_click": {"exact": False, "values": values}}
    reference = a_reference(numbers=number, directions={})

    def outcome(values):
        evidence = [{"claim": "C3", "measure": "jump_click", "seed": seed, "value": value}
                    for seed, value in enumerate(values)]  # fmt: skip
        return ended({"numbers": {}, "directions": {}, "evidence": evidence})

    assert set(verdicts(outcome(values[:3]), reference).values()) == {"ok"}
    fallen = compare([outcome([0.1, 0.1, 0.2])], reference)
    assert {row.quantity: row.verdict for row in fallen} == {
        "C3: jump_click": "outside", "verdict on C3": "another verdict"
    }  # fmt: skip
    assert "on the other side of C3's bar of 0.5, which it met" in fallen[0].what
    assert fallen[1].what == "C3 was partly and is not reproduced"
    assert not compare([outcome([0.1, 0.1, 0.2])], reference, elsewhere=True)[1].ok

    # An interval that has come to reach the bar: on another machine rounding may do that.
    number["C3: jump_click"]["values"] = [1.1, 1.5, 1.9, 1.0, 2.0]
    near, wide = outcome([1.0, 1.5, 1.9]), a_reference(numbers=number, directions={})
    assert [row.verdict for row in compare([near], wide)] == ["ok", "another verdict"]
    there = compare([near], wide, elsewhere=True)
    assert [(row.now, row.verdict) for row in there[1:]] == [("not settled", "ok")]


def test_start_with_the_first_chapter_that_says_what_is_wrong():
    reference = a_reference()
    for name in ("02_b", "03_c"):
        reference["notebooks"][name] = reference["notebooks"]["01_a"]

    def first(*contents):
        outcomes = [ended(c, name) for c, name in zip(contents, reference["notebooks"])]
        return start_with(compare(outcomes, reference))

    assert first(recorded(), recorded(), recorded()) is None
    assert first(recorded(), recorded(loss=9.0), recorded(loss=9.0)) == "02_b"
    assert first(recorded(loss=9.0), recorded(), recorded(up=False)) == "03_c"
    assert first(recorded(), recorded(up=False), recorded(up=False)) == "02_b"


# Notebooks in processes of their own.


def job(root, name, *cells, limit=300.0):
    path, folder = root / "notebooks" / f"{name}.ipynb", root / "executed"
    write_notebook(path, *cells)
    return Job(path, root, folder, folder / "failed" / path.name, {"profile": "quick"}, limit)


@pytest.mark.notebook
def test_whatever_a_notebook_does_the_others_run(tmp_path):
    (tmp_path / "src").mkdir()
    nan = CHECKS.replace('"loss", 1.0', '"loss", float("nan")')
    jobs = [
        job(tmp_path, "hangs", "print('before')\nimport time\ntime.sleep(1e6)", limit=12.0),
        job(tmp_path, "dies", "import os\nos._exit(1)"),
        job(tmp_path, "raises", "x = 1", "total = x / 0  # the culprit", CHECKS),
        job(tmp_path, "empty", "x = 1"),
        job(tmp_path, "nan", nan),
        job(tmp_path, "fails", CHECKS.replace('"up", True', '"up", False')),
        job(tmp_path, "well", CHECKS),
    ]
    before = set(psutil.Process().children(recursive=True))
    found = {outcome.notebook: outcome for _, outcome in execute_all(jobs, 2, 1)}
    assert set(psutil.Process().children(recursive=True)) <= before, "a kernel is left"

    assert found["well"].status == "ended"
    assert found["well"].recorded[0]["numbers"]["loss"]["value"] == 1.0
    assert found["empty"].recorded == []
    assert (found["hangs"].status, found["dies"].status) == ("hung", "died")
    assert found["hangs"].what.startswith("ran past its limit of 12 s")
    assert "DeadKernelError" in found["dies"].what
    raised = found["raises"]
    assert raised.what == "raised ZeroDivisionError: division by zero"
    assert raised.where == "cell-2"
    assert "# the culprit" in raised.traceback
    assert "# the culprit" in raised.executed.read_text(), "kept, with the traceback"
    assert found["fails"].status == "raised"
    assert found["fails"].recorded[0]["directions"] == {"up": False}

    reference = a_reference()
    for name in found:
        reference["notebooks"][name] = reference["notebooks"]["01_a"]
    rows = compare(list(found.values()), reference)
    whole = {row.notebook: row.verdict for row in rows if row.quantity == "the notebook"}
    assert whole == {"hangs": "hung", "dies": "died", "raises": "raised", "nan": "not a number",
                     "empty": "nothing recorded"}  # fmt: skip

    folder = tmp_path / "regression"
    report = reports.Report({"profile": "quick"}, {"seeds": SEEDS}, list(found.values()), rows)
    reports.write(report, folder)
    page = BeautifulSoup((folder / "report.html").read_text(), "html.parser")
    assert any("ZeroDivisionError" in pre.get_text() for pre in page.select("pre"))
    links = [link["href"] for link in page.select("a[href$='.ipynb']")]
    assert "../executed/failed/raises.ipynb" in links
    assert all((folder / link).is_file() for link in links)
    assert not page.select("script, link, img, [src]"), "needs nothing beside it"


@pytest.mark.notebook
def test_killed_and_resumed(root, capsys):
    go = root / "go"
    wait = (
        f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(.05)"
    )
    write_notebook(root / "notebooks" / "02_b.ipynb", wait, CHECKS)
    arguments = ["regression", "--root", str(root)]
    killed = subprocess.Popen([sys.executable, "-m", "tests.regression.command", *arguments],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    executed = root / "regression" / "quick"
    assert killed.stdout.readline().startswith("01_a: "), "02_b still waits"
    children = psutil.Process(killed.pid).children(recursive=True)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert gone and not alive, "the kernel ends with the regression"
    assert [path.name[:4] for path in executed.glob("0*.ipynb")] == ["01_a"]

    go.touch()
    assert main([*arguments, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "01_a: kept, ok" in said
    report = json.loads((root / "regression" / "report.json").read_text())
    assert report["ok"]
    assert [one["kept"] for one in report["notebooks"]] == [True, False]
    cases = ET.parse(root / "regression" / "junit.xml").findall(".//testcase")
    assert len(cases) == 6

    # Without --resume everything is run anew.
    assert main([*arguments, "--only", "01"]) == 0
    assert "01_a: kept" not in capsys.readouterr().out


# The commands, with the processes left out.


@pytest.fixture
def runs(monkeypatch):
    """What notebooks record, by name and seed, in place of running them."""
    content = {
        "01_a": lambda seed: recorded(VALUES[seed]),
        "02_b": lambda seed: recorded(VALUES[seed]),
    }

    def pretend(jobs, at_once, threads):
        for one in jobs:
            seed = one.parameters.get("seeds", [0])[0]
            made = content[one.notebook.stem](seed)
            yield one, made if isinstance(made, Outcome) else ended(made, one.notebook.stem)

    monkeypatch.setattr(commands, "execute_all", pretend)
    return content


def record(root, *more):
    return main(["reference", "--root", str(root), "--seeds", *map(str, SEEDS), *more])


def test_a_failure_is_told_and_the_exit_code_says_so(root, runs, capsys):
    assert main(["regression", "--root", str(root)]) == 0
    assert "All 6 quantities of 2 notebooks are as they were." in capsys.readouterr().out
    runs["02_b"] = lambda seed: recorded(loss=9.0)
    assert main(["regression", "--root", str(root)]) == 1
    said = capsys.readouterr().out
    assert "1 of 6 quantities fail, in 1 of 2 notebooks. Start with 02_b." in said
    (line,) = [line for line in said.splitlines() if line.startswith("02_b: loss")]
    assert "9 is outside" in line
    report = json.loads((root / "regression" / "report.json").read_text())
    assert (report["ok"], report["start_with"]) == (False, "02_b")
    (failure,) = ET.parse(root / "regression" / "junit.xml").findall(".//failure")
    assert failure.get("type") == "outside"
    assert main(["regression", "--root", str(root), "--only", "01"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--profile", "cpu"], "record it with"), (["--only", "77"], "no notebook begins so")],
)
def test_what_cannot_run_is_said_in_one_sentence(root, runs, capsys, arguments, words):
    assert main(["regression", "--root", str(root), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_recording_shows_old_and_new_and_hides_no_changed_verdict(root, runs, capsys):
    assert record(root) == 0
    before = (root / "references" / "quick.json").read_text()
    assert json.loads(before)["notebooks"]["01_a"]["numbers"]["loss"]["values"] == VALUES

    runs["02_b"] = lambda seed: recorded(VALUES[seed] + 5)
    capsys.readouterr()
    assert record(root) == 1
    said = capsys.readouterr()
    assert "02_b: loss\n    old 1 +- 0.079, new 6 +- 0.079" in said.out
    assert "02_b: loss: outside" in said.out
    assert "--accept-verdicts" in said.err
    assert (root / "references" / "quick.json").read_text() == before

    assert record(root, "--accept-verdicts") == 0
    kept = references.read(root, "quick")["notebooks"]["02_b"]["numbers"]["loss"]["values"]
    assert statistics.fmean(kept) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda seed: recorded(rows=float(seed)), "rows is recorded as exact and differs"),
        (lambda seed: recorded(**({"b": 1.0} if seed else {})), "other quantities than the first"),
        (lambda seed: recorded(loss=math.nan), "is not finite"),
        (lambda seed: Outcome("01_a", "raised", "raised ValueError: no"), "raised ValueError: no"),
        (lambda seed: Outcome("01_a", "ended"), "recorded nothing"),
    ],
)
def test_what_must_not_become_a_reference(root, runs, capsys, content, words):
    before = (root / "references" / "quick.json").read_text()
    runs["01_a"] = content
    assert record(root) == 1
    said = capsys.readouterr().err
    assert words in said and "Nothing was written" in said
    assert (root / "references" / "quick.json").read_text() == before


def test_a_spread_needs_seeds(root, runs, capsys):
    assert main(["reference", "--root", str(root), "--seeds", "0", "1"]) == 1
    assert "at least 5" in capsys.readouterr().err
    document = nbformat.read(root / "notebooks" / "01_a.ipynb", as_version=4)
    document.cells[0].source = 'profile = "cpu"'
    nbformat.write(document, root / "notebooks" / "01_a.ipynb")
    assert record(root) == 1
    assert "its parameters cell has no `seeds`" in capsys.readouterr().err


def test_a_direction_that_fails_for_a_seed_is_recorded_with_it(root, runs, capsys):
    runs["01_a"] = lambda seed: recorded(VALUES[seed], up=seed != 3)
    assert record(root) == 0
    assert "'up' does not hold for seeds [3]" in capsys.readouterr().out
    assert references.read(root, "quick")["notebooks"]["01_a"]["directions"] == {"up": [3]}


def test_one_notebook_can_be_recorded_alone(root, runs):
    assert record(root) == 0
    runs["01_a"] = lambda seed: recorded(VALUES[seed] + 1e-3)
    runs["02_b"] = None  # not to be run
    assert record(root, "--only", "01") == 0
    found = references.read(root, "quick")["notebooks"]
    assert found["01_a"]["numbers"]["loss"]["values"][0] == pytest.approx(1.001)
    assert found["02_b"]["numbers"]["loss"]["values"] == VALUES


def test_every_mutation_still_fits_the_package(tmp_path):
    mutation = pytest.importorskip("mutation")
    for name, one in mutation.MUTATIONS.items():
        shutil.copytree(ROOT / "src", tmp_path / name / "src")
        mutation.apply(one, tmp_path / name)  # SystemExit where a text is not there
        assert (ROOT / "notebooks" / f"{one.chapter}.ipynb").exists()


def test_every_notebook_of_the_book_takes_seeds():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert commands.takes(path, "seeds"), path.name


def test_every_notebook_of_the_book_has_a_reference():
    if not references.path(ROOT, "quick").exists():
        pytest.skip("no reference is recorded yet: python -m multiepoch reference")
    known = references.read(ROOT, "quick")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert path.stem in known["notebooks"], f"{path.name}: python -m multiepoch reference"
