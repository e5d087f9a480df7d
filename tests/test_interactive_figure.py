"""The interactive figure, the front page and the summary show the numbers of the records."""

import json
import re
import shutil
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
from multiepoch.stats import interval
from reproduction import claims, records
from reproduction.ch07_fal_versus_meda import interactive_figure
from reproduction.ch07_fal_versus_meda import interactive_figure_runs as experiment
from reproduction.runs import profile
from tools import book, cost, numbers

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "book" / "_static"
LIMIT = 300_000  # bytes that a page loads for the interactive figure
OBJECTIVES = ("click", "add_to_cart", "checkout")
ABOUT = {
    "profile": "long",
    "seeds": [0, 1, 2, 3, 4],
    "machine": "a machine",
    "torch": "2.0",
    "date": "2025-01-01",
    "commit": "abc1234",
}


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
    """A folder of results that holds the made-up record, and the rest as committed."""
    folder = tmp_path / "results"
    (folder / "long").mkdir(parents=True)
    record.rows.to_parquet(folder / "long" / "interactive_figure.parquet")
    (folder / "long" / "interactive_figure.json").write_text(json.dumps(ABOUT))
    for path in (ROOT / "results").glob("*/*"):
        if path.match("ch08_continual_training.*") or path.match("*.evidence.csv"):
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name)
    return folder


@pytest.fixture
def generated(tmp_path, results):
    for name in ("generated", "static"):
        (tmp_path / name).mkdir()
    interactive_figure.generate(results, tmp_path / "generated", tmp_path / "static")
    return tmp_path


def losses(rows, setting, method, objective, group="all"):
    """One curve by hand: epochs by seeds."""
    mine = rows[
        (rows["setting"] == setting)
        & (rows["method"] == method)
        & (rows["objective"] == objective)
        & (rows["group"] == group)
    ]
    return mine.pivot(index="epoch", columns="seed", values="value")


def test_the_experiment_runs_each_method_at_both_rates_and_keeps_the_losses(tmp_path):
    tiny = replace(
        profile("quick"),
        n_users=300,
        n_products=200,
        n_campaigns=20,
        n_advertisers=5,
        impressions_per_day=1_000,
        batch_size=256,
        train_days=2,
        epochs=2,
    )
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
    data = interactive_figure.content(record)
    series = data["series"][setting][METHODS[method].label]
    for group, objective in product(("all", "0", "9"), OBJECTIVES):
        by_epoch = losses(record.rows, setting, method, objective, group)
        assert data["epochs"] == list(by_epoch.index)
        mean, half = np.array(series[group][objective]["loss"]) * interactive_figure.LOSS_UNIT
        expected = np.array([interval(values) for values in by_epoch.to_numpy(float)])
        np.testing.assert_allclose(mean, expected[:, 0], atol=0.6 * interactive_figure.LOSS_UNIT)
        np.testing.assert_allclose(
            mean + half, expected[:, 2], atol=1.1 * interactive_figure.LOSS_UNIT
        )
        jumps = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
        mean, half = np.array(series[group][objective]["jump"]) * interactive_figure.JUMP_UNIT
        assert mean == pytest.approx(jumps.mean(), abs=0.6 * interactive_figure.JUMP_UNIT)
        high = interval(jumps)[2]
        assert mean + half == pytest.approx(high, abs=1.1 * interactive_figure.JUMP_UNIT)


def test_what_is_shown_first_is_there(record):
    data = interactive_figure.content(record)
    shown = data["shown"]
    for method in shown["methods"]:
        assert data["series"][shown["setting"]][method][shown["group"]][shown["objective"]]
    assert set(shown["methods"]) <= {method["name"] for method in data["methods"]}
    assert list(data["series"][shown["setting"]]["plain"]["all"]) == list(OBJECTIVES)


def test_one_seed_has_no_interval_and_a_tenth_may_be_missing():
    record = made_up(seeds=[0])
    record = replace(record, rows=record.rows[record.rows["group"] != "3"])
    data = interactive_figure.content(record)
    one = data["series"][experiment.TUNED]["plain"]
    assert "3" not in one
    assert set(one["all"]["click"]["loss"][1]) == {None}
    json.dumps(data, allow_nan=False)


def test_a_loss_that_is_not_finite_is_refused(record):
    rows = record.rows.copy()
    rows.loc[0, "value"] = np.nan
    with pytest.raises(ValueError, match="finite"):
        interactive_figure.content(replace(record, rows=rows))


def test_all_that_a_page_loads_is_small(generated, record):
    ours = [STATIC / "interactive_figure.js", STATIC / "interactive_figure.css"]
    ours += [
        generated / "static" / interactive_figure.DATA,
        generated / "generated" / "interactive_figure.svg",
    ]
    assert sum(path.stat().st_size for path in ours) < LIMIT


def test_the_static_figure_is_named_as_the_script_expects(generated):
    page = (generated / "generated" / "interactive_figure.md").read_text()
    figure, script = page.split("```\n\n```{raw} html")
    assert f":name: {interactive_figure.FRONT}\n" in figure
    assert (generated / "generated" / "interactive_figure.svg").read_text().count("<path") > 10
    assert 'figure[id$="-interactive"]' in (STATIC / "interactive_figure.js").read_text()
    assert all(
        name.endswith("-interactive")
        for name in (interactive_figure.FRONT, interactive_figure.CHAPTER)
    )
    loaded = re.findall(r'(?:src|href)="../_static/([^"]+)"', script)
    assert loaded == ["interactive_figure.css", interactive_figure.DATA, "interactive_figure.js"], (
        "the data before who reads them"
    )
    for name in loaded:
        assert (STATIC / name).exists() or (generated / "static" / name).exists()


def test_the_readme_shows_the_interactive_figure_that_the_record_gives(tmp_path):
    again = "it is not up to date: python -m reproduction.ch07_fal_versus_meda.interactive_figure"
    assert interactive_figure.readme(ROOT / "results") in (ROOT / "README.md").read_text(), again
    shown = ROOT / "results" / "long" / interactive_figure.README
    if f"Matplotlib v{matplotlib.__version__}," not in shown.read_text():
        pytest.skip("the README's figure was drawn by another Matplotlib, in other bytes")
    record = records.read("interactive_figure", "long", ROOT / "results")
    interactive_figure.draw(record, tmp_path / "interactive_figure.svg")
    assert shown.read_bytes() == (tmp_path / "interactive_figure.svg").read_bytes(), again


def test_the_static_figure_says_its_numbers(record):
    said = interactive_figure.words(record)
    by_epoch = losses(record.rows, interactive_figure.SETTING, "fal", interactive_figure.OBJECTIVE)
    jump = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
    assert f"FAL {jump.mean():.1f} % [" in said["alt"]
    assert f"FAL {by_epoch.loc[4.0].mean():.4f}" in said["alt"]
    assert str(record) in said["caption"]


def test_the_same_record_gives_the_same_bytes(generated, results):
    before = {
        path: path.read_bytes() for path in generated.rglob("interactive_figure*") if path.is_file()
    }
    interactive_figure.generate(results, generated / "generated", generated / "static")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_without_the_record_the_pages_say_so(tmp_path):
    interactive_figure.generate(tmp_path, tmp_path, tmp_path)
    assert (tmp_path / "interactive_figure.md").read_text() == interactive_figure.NOT_RUN
    assert not (tmp_path / interactive_figure.DATA).exists()
    assert numbers.front(tmp_path) == {}


def test_the_chapters_figure_gets_its_script():
    said = {
        "alt": "Three words here.",
        "caption": "What to see.",
        "name": interactive_figure.CHAPTER,
    }
    output = nbformat.v4.new_output("display_data", {}, metadata={book.FIGURE: said})
    cells = [nbformat.v4.new_code_cell("show()", outputs=[output]), nbformat.v4.new_code_cell("1")]
    page = book.for_pages(nbformat.v4.new_notebook(cells=cells), "notebooks/a")
    assert [cell.source for cell in page.cells] == ["show()", interactive_figure.SCRIPT, "1"]
    nbformat.validate(page)


def evidence(claim, **measures):
    return pd.DataFrame(
        [
            (claim, name, seed, value)
            for name, values in measures.items()
            for seed, value in enumerate(values)
        ],
        columns=records.EVIDENCE,
    )


def cell(ledger, name: str) -> str:
    return numbers.ledger_cells(ledger)[name].replace(numbers.NBSP, " ")


def test_without_evidence_a_claim_was_not_run():
    for one in claims.CLAIMS:
        assert cell({}, f"{one.id}_found") == cell({}, f"{one.id}_verdict") == "not yet run"


@pytest.mark.parametrize(
    ("values", "status"), [([10, 11, 12], "holds"), ([90, 91, 92], "fails"), ([10, 50, 90], "open")]
)
def test_the_summary_says_what_the_evidence_says(values, status):
    rows = evidence("C6", jump_left=values, log_linear=[1.0, 1.1, 1.2])
    mean, low, high = interval(values)
    predicted, found = cell({"cpu": rows}, "C6_predicted"), cell({"cpu": rows}, "C6_found")
    assert predicted.startswith("a) FAL's jump as a part of the plain jump < 50 %<br>b) ")
    assert found.startswith(
        f"a) **{mean:.3g} %** [{low:.3g}, {high:.3g}], {status}<br>b) **1.1 %**"
    )
    one = claims.claim("C6")
    judged = claims.verdict(one, claims.weigh(one, rows))
    assert cell({"cpu": rows}, "C6_verdict") == f"{judged} (cpu)"


def test_the_summary_shows_the_profile_with_the_most_seeds_and_any_disagreement():
    good = evidence("C6", jump_left=[10, 11, 12], log_linear=[-1, -1.1, -0.9])
    bad = evidence("C6", jump_left=[90, 91, 92], log_linear=[1, 1.1, 0.9])
    ledger = {"cpu": good, "replication": good, "long": bad}
    assert "**91 %**" in cell(ledger, "C6_found") and cell(ledger, "C6_found").endswith("(long)")
    assert cell(ledger, "C6_verdict") == (
        "reproduced (cpu, replication)<br>not reproduced (long)<br>The profiles disagree."
    )


def test_the_records_do_not_contradict_the_front_page_and_the_summary():
    assertions = numbers.assertions(ROOT / "results")
    assert [name for name, holds in assertions.items() if not holds] == []
    assert set(numbers.SO_WHAT_RELIES_ON) == {one.id for one in claims.CLAIMS}


def test_the_pages_interpolate_known_numbers_and_the_summary_has_every_claim():
    results = ROOT / "results"
    known = cost.numbers(results) | numbers.front(results) | numbers.ledger_cells({})
    for page in ("index", "summary", "cost"):
        text = (ROOT / "book" / f"{page}.md").read_text()
        used = set(re.findall(r"\{\{ (\w+) \}\}", text))
        assert used and used <= set(known), page
        if page == "summary":
            assert used == set(numbers.ledger_cells({})) | {"jump"}


def test_the_front_pages_numbers_are_the_records(results, record):
    front = {name: text.replace(numbers.NBSP, " ") for name, text in numbers.front(results).items()}
    by_epoch = losses(record.rows, experiment.ONE_EPOCH, "plain", "add_to_cart")
    jump = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
    assert front["jump_add_to_cart"].startswith(f"{jump.mean():.0f} % [")
    end = sum(
        losses(record.rows, experiment.TUNED, "tail_rewind", objective).loc[3.0]
        / losses(record.rows, experiment.ONE_EPOCH, "plain", objective).loc[1.0]
        for objective in OBJECTIVES
    )
    change = 100 * (end / len(OBJECTIVES) - 1).mean()
    assert front["end_tail_rewind"].startswith(f"{change:+.1f} %".replace("-", "−"))
    assert front["days_more_data"].startswith("−5.0 % [")


def test_a_rise_is_not_asserted_if_there_is_none(results):
    assertions = numbers.assertions(results)  # the made-up losses are noise
    assert not assertions["plain training jumps at once: jump_click"]
    assert assertions["day by day, tail rewind gains"]


@pytest.mark.page
@pytest.mark.parametrize(
    ("page", "label"),
    [
        ("book/index", interactive_figure.FRONT),
        ("notebooks/07_fal_versus_meda", interactive_figure.CHAPTER),
    ],
)
def test_the_built_pages_hold_the_interactive_figure_and_its_script(page, label):
    if records.read("interactive_figure", "long", ROOT / "results") is None:
        pytest.skip("record not found")
    html = book.build(ROOT, "quick", ROOT / "_build" / "html-quick")
    path = html / f"{page}.html"
    content = BeautifulSoup(path.read_text(), "html.parser")
    figure = content.find("figure", id=label)
    image = path.parent / figure.find("img")["src"]
    names = [tag["src"] for tag in content.select('script[src*="_static/interactive_figure"]')]
    assert [Path(name).name for name in names] == [interactive_figure.DATA, "interactive_figure.js"]
    loaded = [
        image,
        path.parent / "../_static/interactive_figure.css",
        *(path.parent / n for n in names),
    ]
    assert sum(one.stat().st_size for one in loaded) < LIMIT
