"""The picture that can be touched and the short versions: their numbers are the records'."""

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from multiepoch.methods import METHODS
from reproduction import claims, records
from reproduction.ch07_fal_versus_meda import interactive_figure as picture
from reproduction.ch07_fal_versus_meda import interactive_figure_runs as experiment
from reproduction.ch08_continual_training import experiment as continual
from reproduction.runs import profile
from tools import book, summary

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "book" / "_static"
LIMIT = 300_000  # bytes of all that a page loads for the picture
OBJECTIVES = ("click", "add_to_cart", "checkout")
ABOUT = {"profile": "long", "seeds": [0, 1, 2, 3, 4], "machine": "a machine", "torch": "2.0",
         "date": "2025-01-01", "commit": "abc1234"}  # fmt: skip


def made_up(seeds=range(5)) -> records.Record:
    """A record as large as that of the profile `long`, with random losses."""
    settings = {(run.setting, run.method) for run in experiment.runs(4)}
    epochs = [0.25 * k for k in range(1, 17)]
    groups = ["all", *map(str, range(10))]
    where = product(sorted(settings), seeds, epochs, groups, OBJECTIVES)
    rows = pd.DataFrame(
        [(*one, seed, epoch, group, objective) for one, seed, epoch, group, objective in where],
        columns=["setting", "method", "seed", "epoch", "group", "objective"],
    )
    values = np.random.default_rng(0).uniform(0.05, 0.5, len(rows))
    rows = rows.assign(metric="logloss", value=values.astype("float32"))
    return records.Record(rows, pd.DataFrame(), ABOUT)


@pytest.fixture(scope="module")
def record():
    return made_up()


@pytest.fixture
def results(tmp_path, record):
    """A folder of results that holds the made-up record."""
    folder = tmp_path / "results"
    (folder / "long").mkdir(parents=True)
    record.rows.to_parquet(folder / "long" / "interactive_figure.parquet")
    (folder / "long" / "interactive_figure.json").write_text(json.dumps(ABOUT))
    return folder


@pytest.fixture
def generated(tmp_path, results):
    for name in ("generated", "static"):
        (tmp_path / name).mkdir()
    picture.generate(results, tmp_path / "generated", tmp_path / "static")
    return tmp_path


def losses(rows, setting, method, objective, group="all"):
    """One curve by hand: epochs by seeds."""
    mine = rows[(rows["setting"] == setting) & (rows["method"] == method)
                & (rows["objective"] == objective) & (rows["group"] == group)]  # fmt: skip
    return mine.pivot(index="epoch", columns="seed", values="value")


def test_the_experiment_runs_each_method_at_both_rates_and_keeps_the_losses(tmp_path):
    tiny = replace(
        profile("quick"), n_users=300, n_products=200, n_campaigns=20, n_advertisers=5,
        impressions_per_day=1_000, batch_size=256, train_days=2, epochs=2,
    )  # fmt: skip
    rows = experiment.run(tiny, "cpu", (0,), tmp_path, log=lambda line: None)
    assert set(rows["metric"]) == {"logloss"}
    assert {(s, m) for s, m in zip(rows["setting"], rows["method"])} == set(
        product((experiment.TUNED, experiment.ONE_EPOCH), METHODS)
    )
    assert sorted(rows["epoch"].unique()) == [0.25 * k for k in range(1, 9)]
    assert {"all", "0", "9"} <= set(rows["group"])


@pytest.mark.parametrize("setting", [experiment.TUNED, experiment.ONE_EPOCH])
@pytest.mark.parametrize("method", METHODS)
def test_the_datas_numbers_are_the_records(record, setting, method):
    data = picture.content(record)
    series = data["series"][setting][METHODS[method].label]
    for group, objective in product(("all", "0", "9"), OBJECTIVES):
        by_epoch = losses(record.rows, setting, method, objective, group)
        assert data["epochs"] == list(by_epoch.index)
        mean, half = np.array(series[group][objective]["loss"]) * picture.LOSS_UNIT
        expected = np.array([claims.interval(values) for values in by_epoch.to_numpy(float)])
        np.testing.assert_allclose(mean, expected[:, 0], atol=0.6 * picture.LOSS_UNIT)
        np.testing.assert_allclose(mean + half, expected[:, 2], atol=1.1 * picture.LOSS_UNIT)
        jumps = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
        mean, half = np.array(series[group][objective]["jump"]) * picture.JUMP_UNIT
        assert mean == pytest.approx(jumps.mean(), abs=0.6 * picture.JUMP_UNIT)
        high = claims.interval(jumps)[2]
        assert mean + half == pytest.approx(high, abs=1.1 * picture.JUMP_UNIT)


def test_what_is_shown_first_is_there(record):
    data = picture.content(record)
    shown = data["shown"]
    for method in shown["methods"]:
        assert data["series"][shown["setting"]][method][shown["group"]][shown["objective"]]
    assert set(shown["methods"]) <= {method["name"] for method in data["methods"]}
    assert list(data["series"][shown["setting"]]["plain"]["all"]) == list(OBJECTIVES)


def test_one_seed_has_no_interval_and_a_tenth_may_be_missing():
    record = made_up(seeds=[0])
    record = replace(record, rows=record.rows[record.rows["group"] != "3"])
    data = picture.content(record)
    one = data["series"][experiment.TUNED]["plain"]
    assert "3" not in one
    assert set(one["all"]["click"]["loss"][1]) == {None}
    json.dumps(data, allow_nan=False)


def test_a_loss_that_is_not_finite_is_refused(record):
    rows = record.rows.copy()
    rows.loc[0, "value"] = np.nan
    with pytest.raises(ValueError, match="finite"):
        picture.content(replace(record, rows=rows))


def test_all_that_a_page_loads_is_small(generated, record):
    ours = [STATIC / "interactive_figure.js", STATIC / "interactive_figure.css"]
    ours += [
        generated / "static" / picture.DATA,
        generated / "generated" / "interactive_figure.svg",
    ]
    assert sum(path.stat().st_size for path in ours) < LIMIT


def test_the_plain_picture_stands_where_the_script_looks_for_it(generated):
    page = (generated / "generated" / "interactive_figure.md").read_text()
    figure, script = page.split("```\n\n```{raw} html")
    assert f":name: {picture.FRONT}\n" in figure
    assert (generated / "generated" / "interactive_figure.svg").read_text().count("<path") > 10
    assert 'figure[id$="-touch"]' in (STATIC / "interactive_figure.js").read_text()
    assert all(name.endswith("-touch") for name in (picture.FRONT, picture.CHAPTER))
    loaded = re.findall(r'(?:src|href)="../_static/([^"]+)"', script)
    assert loaded == ["interactive_figure.css", picture.DATA, "interactive_figure.js"], (
        "the data before who reads them"
    )
    for name in loaded:
        assert (STATIC / name).exists() or (generated / "static" / name).exists()


def test_the_readme_shows_the_interactive_figure_that_the_record_gives(tmp_path):
    again = "it is not up to date: python -m reproduction.ch07_fal_versus_meda.interactive_figure"
    assert picture.readme(ROOT / "results") in (ROOT / "README.md").read_text(), again
    shown = ROOT / "results" / "long" / picture.README
    if f"Matplotlib v{matplotlib.__version__}," not in shown.read_text():
        pytest.skip("the README's picture was drawn by another Matplotlib, in other bytes")
    record = records.read("interactive_figure", "long", ROOT / "results")
    picture.draw(record, tmp_path / "interactive_figure.svg")
    assert shown.read_bytes() == (tmp_path / "interactive_figure.svg").read_bytes(), again


def test_the_plain_picture_says_its_numbers(record):
    said = picture.words(record)
    by_epoch = losses(record.rows, picture.SETTING, "fal", picture.OBJECTIVE)
    jump = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
    assert f"FAL {jump.mean():.1f} % [" in said["alt"]
    assert f"FAL {by_epoch.loc[4.0].mean():.4f}" in said["alt"]
    assert str(record) in said["caption"]


def test_the_same_record_gives_the_same_bytes(generated, results):
    before = {path: path.read_bytes() for path in generated.rglob("picture*") if path.is_file()}
    picture.generate(results, generated / "generated", generated / "static")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_without_the_record_the_pages_say_so(tmp_path):
    picture.generate(tmp_path, tmp_path, tmp_path)
    assert (tmp_path / "interactive_figure.md").read_text() == picture.NOT_RUN
    assert not (tmp_path / picture.DATA).exists()
    assert summary.front(tmp_path) == ""


def test_the_chapters_figure_gets_its_script():
    said = {"alt": "Three words here.", "caption": "What to see.", "name": picture.CHAPTER}
    output = nbformat.v4.new_output("display_data", {}, metadata={book.FIGURE: said})
    cells = [nbformat.v4.new_code_cell("show()", outputs=[output]), nbformat.v4.new_code_cell("1")]
    page = book.for_pages(nbformat.v4.new_notebook(cells=cells), "notebooks/a")
    assert [cell.source for cell in page.cells] == ["show()", picture.SCRIPT, "1"]
    nbformat.validate(page)


def evidence(claim, **measures):
    return pd.DataFrame(
        [(claim, name, seed, value) for name, values in measures.items()
         for seed, value in enumerate(values)], columns=records.EVIDENCE,
    )  # fmt: skip


def row_of(table: str, claim: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| [{claim}](")]
    return [cell.strip() for cell in line.replace(summary.NBSP, " ").strip("|").split(" | ")]


def test_the_summary_has_each_claim_and_its_measure_exists():
    page = summary.summary({})
    for one in claims.CLAIMS:
        assert row_of(page, one.id)[2:] == ["not yet run", "not yet run", "–"]
        name, holds, fails = summary.SO_WHAT[one.id]
        assert name in {measure.name for measure in one.measures}
        assert holds != fails
    assert set(summary.SO_WHAT) == {one.id for one in claims.CLAIMS}


@pytest.mark.parametrize(("values", "status", "what"), [
    ([10, 11, 12], "holds", 1), ([90, 91, 92], "fails", 2), ([10, 50, 90], "open", None),
])  # fmt: skip
def test_the_summary_says_what_the_evidence_says(values, status, what):
    rows = evidence("C6", jump_left=values, log_linear=[1.0, 1.1, 1.2])
    page = summary.summary({"cpu": rows})
    _, predicted, found, verdict, so_what = row_of(page, "C6")
    mean, low, high = claims.interval(values)
    assert predicted.startswith("a) FAL's jump as a part of the plain jump < 50 %<br>b) ")
    assert found.startswith(
        f"a) **{mean:.3g} %** [{low:.3g}, {high:.3g}], {status}<br>b) **1.1 %**"
    )
    assert verdict == f"{judged(rows)} (cpu)"
    assert so_what == (summary.OPEN if what is None else summary.SO_WHAT["C6"][what])
    assert "wrong side of its bar in [C6](#C6)." in page


def judged(rows):
    return claims.verdict(claims.claim("C6"), claims.weigh(claims.claim("C6"), rows))


def test_the_profile_with_the_most_seeds_speaks_and_disagreement_is_said():
    good = evidence("C6", jump_left=[10, 11, 12], log_linear=[-1, -1.1, -0.9])
    bad = evidence("C6", jump_left=[90, 91, 92], log_linear=[1, 1.1, 0.9])
    cells = row_of(summary.summary({"cpu": good, "replication": good, "long": bad}), "C6")
    assert "**91 %**" in cells[2] and cells[2].endswith("(long)")
    assert cells[3] == (
        "reproduced (cpu, replication)<br>not reproduced (long)<br>The profiles disagree."
    )
    assert cells[4] == summary.SO_WHAT["C6"][2]


def test_the_front_pages_numbers_are_the_records(results, record):
    hurts, remedies, days = summary.front(results).splitlines()
    by_epoch = losses(record.rows, experiment.ONE_EPOCH, "plain", "add_to_cart")
    jump = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
    assert f"{jump.mean():.1f} % [" in hurts and "for add-to-cart" in hurts
    end = sum(
        losses(record.rows, experiment.TUNED, "tail_rewind", objective).loc[3.0]
        / losses(record.rows, experiment.ONE_EPOCH, "plain", objective).loc[1.0]
        for objective in OBJECTIVES
    )
    change = 100 * (end / len(OBJECTIVES) - 1).mean()
    assert f"tail rewind {change:+.1f}\u00a0%".replace("-", "−") in remedies
    assert days.endswith("nothing is measured yet.")


def test_the_front_page_claims_a_rise_only_where_there_is_one(results, record):
    assert "may hurt" in summary.front(results)  # the made-up losses are noise
    rows = record.rows.copy()
    rows["value"] = rows["epoch"] + 0.001 * rows["value"]
    rows.to_parquet(results / "long" / "interactive_figure.parquet")
    assert "hurts at once" in summary.front(results)


def test_the_front_page_tells_of_continual_training_once_it_is_measured(results):
    methods = ("plain", "fal", *continual.MEDA, "day_tail_rewind")
    loss = {name: 0.9 + 0.01 * k for k, name in enumerate(methods)}
    settings = {continual.label(name, 2): loss[name] for name in methods}
    settings |= {continual.ONE_EPOCH: 1.0, continual.MORE_DATA: 0.6}
    rows = pd.DataFrame(
        [(f"{name}; {continual.DEFAULT}", seed, day, objective, "all", "logloss", value)
         for (name, value), seed, day, objective in
         product(settings.items(), range(3), range(1, 6), OBJECTIVES)],
        columns=["setting", "seed", "epoch", "objective", "group", "metric", "value"],
    )  # fmt: skip
    rows.to_parquet(results / "long" / "ch08_continual_training.parquet")
    (results / "long" / "ch08_continual_training.json").write_text(json.dumps(ABOUT))
    days = summary.front(results).splitlines()[2].replace("\u00a0", " ")
    assert "plain −10.0 %" in days and "FAL −9.0 %" in days
    assert "MEDA −8.0 %" in days, "the best of its meanings"
    assert "tail rewind (to the day's start) −5.0 %" in days
    assert "A gain over one epoch is shown for plain, FAL, MEDA, tail rewind" in days
    assert "One epoch a day over twice the data: −40.0 %" in days


@pytest.mark.page
@pytest.mark.parametrize(
    ("page", "label"),
    [("book/index", picture.FRONT), ("notebooks/07_fal_versus_meda", picture.CHAPTER)],
)
def test_the_built_pages_hold_picture_and_script(page, label):
    if records.read("interactive_figure", "long", ROOT / "results") is None:
        pytest.skip("the picture's record is not there")
    html = book.build(ROOT, "quick", ROOT / "_build" / "html-quick")
    path = html / f"{page}.html"
    content = BeautifulSoup(path.read_text(), "html.parser")
    figure = content.find("figure", id=label)
    image = path.parent / figure.find("img")["src"]
    names = [tag["src"] for tag in content.select('script[src*="_static/picture"]')]
    assert [Path(name).name for name in names] == [picture.DATA, "interactive_figure.js"]
    loaded = [
        image,
        path.parent / "../_static/interactive_figure.css",
        *(path.parent / n for n in names),
    ]
    assert sum(one.stat().st_size for one in loaded) < LIMIT
