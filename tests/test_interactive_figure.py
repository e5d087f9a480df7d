"""The interactive figure and the summary show the numbers of the records."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest

from multiepoch_lab.stats import interval
from reproduction import judge, records, sentences
from reproduction.ch08_fal_versus_meda import figures as figures_of_chapter
from reproduction.dose_response import production
from reproduction.remedies.board import METHODS
from tools import book, figures, interactive_figure, summary

ROOT = Path(__file__).parents[1]
RECORD = records.read(production.NAME, "long", ROOT / "results")
METRICS = {"AdsWorld": "expected_logloss", "KuaiRand": "logloss"}


@pytest.fixture(scope="module")
def content():
    return interactive_figure.content(RECORD)


@pytest.mark.parametrize("source", METRICS)
@pytest.mark.parametrize("method", figures_of_chapter.SHOWN)
def test_the_datas_numbers_are_the_records(content, source, method):
    data = content["sources"][source]
    assert data["loss"] == METRICS[source].replace("_", " ")
    assert list(data["doses"]) == list(data["series"])
    setting = content["shown"]["setting"]
    rows = RECORD.rows.assign(setting=RECORD.rows["rate"].map("{:.2g}".format))
    rows = rows[(rows["stratum"] == source) & (rows["metric"] == METRICS[source])]
    rows = rows[(rows["method"] == method) & (rows["setting"] == setting)]
    found = data["series"][setting][METHODS[method].label]
    assert set(found) == set(rows["objective"])
    for objective, of in found.items():
        mine = rows[rows["objective"] == objective]
        loss = mine.pivot(index="epoch", columns="seed", values="value").sort_index()
        assert content["epochs"] == list(loss.index)
        for measure, values in {"loss": loss, "change": 100 * (loss / loss.loc[1.0] - 1)}.items():
            unit = content["units"][measure]
            mean, half = np.array(of[measure]) * unit
            expected = np.array([interval(one) for one in values.to_numpy(float)])
            np.testing.assert_allclose(mean, expected[:, 0], atol=0.6 * unit)
            np.testing.assert_allclose(mean + half, expected[:, 2], atol=1.1 * unit)


def test_the_figure_opens_in_the_default_setting_with_what_is_there(content):
    shown = content["shown"]
    data = content["sources"][shown["source"]]
    for method in shown["methods"]:
        assert data["series"][shown["setting"]][method][shown["objective"]]
    assert set(shown["methods"]) <= {method["name"] for method in content["methods"]}
    dose = sentences.values(ROOT / "results")["dose_production.at_best/AdsWorld"].mean()
    assert data["doses"][shown["setting"]] == pytest.approx(dose, abs=0.06)


def test_one_seed_has_no_interval():
    one = replace(RECORD, rows=RECORD.rows.query("seed == 30"))
    data = interactive_figure.content(one)
    (first, *_) = data["sources"]["AdsWorld"]["series"].values()
    assert set(first["plain"]["click"]["loss"][1]) == {None}
    json.dumps(data, allow_nan=False)


def test_the_readme_shows_the_interactive_figure_that_the_record_gives(tmp_path):
    again = "it is not up to date: python -m tools.interactive_figure"
    assert interactive_figure.readme(ROOT / "results") in (ROOT / "README.md").read_text(), again
    shown = ROOT / "results" / "long" / interactive_figure.README
    if f"Matplotlib v{matplotlib.__version__}," not in shown.read_text():
        pytest.skip("the README's figure was drawn by another Matplotlib, in other bytes")
    interactive_figure.draw(RECORD, tmp_path / "interactive_figure.svg")
    assert shown.read_bytes() == (tmp_path / "interactive_figure.svg").read_bytes(), again


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


def test_a_number_keeps_its_percent_sign_and_has_a_minus():
    shown = nbformat.v4.new_output("display_data", {"text/markdown": "-6.6 % [-7.1, -0.0], 1e-3"})
    cells = [
        nbformat.v4.new_code_cell("f'{1:.0f} %'", outputs=[shown]),
        nbformat.v4.new_markdown_cell("half of 5 %"),
    ]
    code, prose = book.for_pages(nbformat.v4.new_notebook(cells=cells), "notebooks/a").cells
    assert code.source == "f'{1:.0f} %'"
    assert code.outputs[0].data["text/markdown"] == f"−6.6{sentences.NBSP}% [−7.1, 0.0], 1e-3"
    assert prose.source == f"half of 5{sentences.NBSP}%"


def test_the_summary_has_a_number_for_each_question(tmp_path):
    summary.generate(ROOT / "results", tmp_path)
    text = (tmp_path / "summary.md").read_text()
    for key, question in judge.QUESTIONS.items():
        assert f"[**{question}**]" in text, key
    assert "{" not in text
