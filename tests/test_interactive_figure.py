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

from multiepoch_lab.methods import METHODS
from multiepoch_lab.stats import interval
from reproduction import judge, records, sentences
from reproduction.ch08_fal_versus_meda import figures as figures_of_chapter
from reproduction.dose_response import experiment, production
from tools import book, figures, interactive_figure, summary

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


RATES = [f"{rate:.2g}" for rate in production.RATES]
METHODS_SHOWN = figures_of_chapter.SHOWN
METRICS = {"AdsWorld": experiment.EXPECTED, "KuaiRand": "logloss"}


def made_up(seeds=range(5), rates=production.RATES, methods=METHODS_SHOWN) -> records.Record:
    """A record as large as the committed one, with random losses."""
    epochs = [0.25, 0.5, 1.0, 1.25, 1.5, 2.0, 2.25, 2.5, 3.0]
    where = product(METRICS, rates, methods, seeds, epochs, OBJECTIVES)
    columns = ["stratum", "rate", "method", "seed", "epoch", "objective"]
    rows = pd.DataFrame(list(where), columns=columns)
    values = np.random.default_rng(0).uniform(0.05, 0.5, len(rows))
    rows = rows.assign(group="all", metric=rows["stratum"].map(METRICS), value=values)
    return records.Record(rows.astype({"value": "float32"}), pd.DataFrame(), ABOUT)


@pytest.fixture(scope="module")
def record():
    return made_up()


@pytest.fixture(scope="module")
def content(record):
    return interactive_figure.content(record)


@pytest.fixture(scope="module")
def under_adam():
    """A made-up record of the curve under Adam, whose numbers the front page has, too."""
    rows = made_up(rates=experiment.RATES, methods=experiment.ALL).rows
    return rows[rows["stratum"] == "AdsWorld"]


@pytest.fixture(scope="module")
def results(tmp_path_factory, under_adam):
    """A folder of results that holds the made-up record, and the rest as committed."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "long").mkdir(parents=True)
    strata = ("AdsWorld", "AdsWorld, no cross", "KuaiRand", "KuaiRand, no cross")
    rows = pd.concat([under_adam.assign(stratum=name) for name in strata], ignore_index=True)
    rows.to_parquet(folder / "long" / f"{experiment.NAME}.parquet")
    (folder / "long" / f"{experiment.NAME}.json").write_text(json.dumps(ABOUT))
    committed = (
        "days",
        "own_label",
        "served",
        "causes",
        "delay",
        "board",
    )
    committed += ("rules", "worth", "scale", "kuairand", "ab_test")
    committed += ("dose_production", "dose_no_cross", "interplay", "ch12_penalty")
    kept = [f"{name}.*" for name in committed] + ["*.evidence.csv"]
    for path in (ROOT / "results").glob("*/*"):
        if any(map(path.match, kept)):
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name)
    return folder


@pytest.fixture(scope="module")
def generated(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("generated")
    for name in ("generated", "static"):
        (folder / name).mkdir()
    interactive_figure.generate(results, folder / "generated", folder / "static")
    return folder


def losses(rows, rate, method, objective, source="AdsWorld"):
    """One curve by hand: epochs by seeds."""
    where = {"rate": rate, "method": method, "objective": objective, "stratum": source}
    mine = rows[(rows[list(where)] == pd.Series(where)).all(axis=1)]
    return mine.pivot(index="epoch", columns="seed", values="value")


@pytest.mark.parametrize("source", METRICS)
@pytest.mark.parametrize("rate", production.RATES[::2])
@pytest.mark.parametrize("method", METHODS_SHOWN)
def test_the_datas_numbers_are_the_records(record, content, source, rate, method):
    series = content["sources"][source]["series"][f"{rate:.2g}"][METHODS[method].label]
    for objective in OBJECTIVES:
        by_epoch = losses(record.rows, rate, method, objective, source)
        assert content["epochs"] == list(by_epoch.index)
        mean, half = np.array(series[objective]["loss"]) * interactive_figure.LOSS_UNIT
        expected = np.array([interval(values) for values in by_epoch.to_numpy(float)])
        np.testing.assert_allclose(mean, expected[:, 0], atol=0.6 * interactive_figure.LOSS_UNIT)
        np.testing.assert_allclose(
            mean + half, expected[:, 2], atol=1.1 * interactive_figure.LOSS_UNIT
        )
        changes = 100 * (by_epoch / by_epoch.loc[1.0] - 1)
        mean, half = np.array(series[objective]["change"]) * interactive_figure.CHANGE_UNIT
        expected = np.array([interval(values) for values in changes.to_numpy(float)])
        unit = interactive_figure.CHANGE_UNIT
        np.testing.assert_allclose(mean, expected[:, 0], atol=0.6 * unit)
        np.testing.assert_allclose(mean + half, expected[:, 2], atol=1.1 * unit)


def test_the_slider_has_plains_jump_at_each_rate(record, content):
    data = content["sources"]["AdsWorld"]
    assert list(data["doses"]) == list(data["series"]) == RATES
    plain = [
        100 * (one.loc[1.25] / one.loc[1.0] - 1).mean()
        for one in (losses(record.rows, production.RATES[0], "plain", o) for o in OBJECTIVES)
    ]
    assert data["doses"][RATES[0]] == pytest.approx(np.mean(plain), abs=0.06)


def test_what_is_shown_first_is_there(content):
    shown = content["shown"]
    series = content["sources"][shown["source"]]["series"][shown["setting"]]
    for method in shown["methods"]:
        assert series[method][shown["objective"]]
    assert set(shown["methods"]) <= {method["name"] for method in content["methods"]}
    assert list(series["plain"]) == list(OBJECTIVES)


def test_a_log_without_true_probabilities_is_scored_on_its_labels(content):
    assert {name: one["loss"] for name, one in content["sources"].items()} == {
        "AdsWorld": "expected logloss",
        "KuaiRand": "logloss",
    }


def test_the_figure_opens_in_the_default_setting():
    data = interactive_figure.content(records.read(production.NAME, "long", ROOT / "results"))
    dose = data["sources"]["AdsWorld"]["doses"][data["shown"]["setting"]]
    values = sentences.values(ROOT / "results")
    assert dose == pytest.approx(values["dose_production.at_best/AdsWorld"].mean(), abs=0.06)


def test_one_seed_has_no_interval():
    data = interactive_figure.content(made_up(seeds=[0]))
    assert set(data["sources"]["AdsWorld"]["series"][RATES[0]]["plain"]["click"]["loss"][1]) == {
        None
    }
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
    again = "it is not up to date: python -m tools.interactive_figure"
    assert interactive_figure.readme(ROOT / "results") in (ROOT / "README.md").read_text(), again
    shown = ROOT / "results" / "long" / interactive_figure.README
    if f"Matplotlib v{matplotlib.__version__}," not in shown.read_text():
        pytest.skip("the README's figure was drawn by another Matplotlib, in other bytes")
    record = records.read(production.NAME, "long", ROOT / "results")
    interactive_figure.draw(record, tmp_path / "interactive_figure.svg")
    assert shown.read_bytes() == (tmp_path / "interactive_figure.svg").read_bytes(), again


def test_the_static_figure_says_its_numbers(record):
    said = figures_of_chapter.interactive_words(record)
    by_epoch = losses(record.rows, interactive_figure.RATE, "fal", figures_of_chapter.OBJECTIVE)
    jump = 100 * (by_epoch.loc[1.25] / by_epoch.loc[1.0] - 1)
    assert f"FAL {jump.mean():.1f} % [" in said["alt"]
    assert f"FAL {by_epoch.loc[3.0].mean():.4f}" in said["alt"]
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


def test_the_chapters_figure_gets_its_script():
    said = {
        "alt": "Three words here.",
        "caption": "What to see.",
        "name": interactive_figure.CHAPTER,
    }
    output = nbformat.v4.new_output("display_data", {}, metadata={figures.FIGURE: said})
    cells = [nbformat.v4.new_code_cell("show()", outputs=[output]), nbformat.v4.new_code_cell("1")]
    page = book.for_pages(nbformat.v4.new_notebook(cells=cells), "notebooks/a")
    assert [cell.source for cell in page.cells][::2] == ["show()", "1"]
    assert page.cells[1].source.endswith(interactive_figure.SCRIPT)
    assert f"{interactive_figure.CHAPTER}.csv" in page.cells[1].source
    nbformat.validate(page)


def test_a_number_keeps_its_percent_sign():
    shown = nbformat.v4.new_output("display_data", {"text/markdown": "a jump of 6.6 % [6.1, 7.1]"})
    cells = [
        nbformat.v4.new_code_cell("f'{1:.0f} %'", outputs=[shown]),
        nbformat.v4.new_markdown_cell("half of 5 %"),
    ]
    code, prose = book.for_pages(nbformat.v4.new_notebook(cells=cells), "notebooks/a").cells
    assert code.source == "f'{1:.0f} %'"
    assert code.outputs[0].data["text/markdown"] == f"a jump of 6.6{sentences.NBSP}% [6.1, 7.1]"
    assert prose.source == f"half of 5{sentences.NBSP}%"


def test_the_summary_has_a_number_for_each_question(tmp_path):
    summary.generate(ROOT / "results", tmp_path)
    text = (tmp_path / "summary.md").read_text()
    for key, question in judge.QUESTIONS.items():
        assert f"[**{question}**]" in text, key
    assert "{" not in text
