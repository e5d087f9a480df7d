"""What is said of the committed records: each sentence holds, and each value has one whole name."""

import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from reproduction import judge, sentences
from reproduction.findings import OfRecords, by_name
from tools import cost, summary

ROOT = Path(__file__).parents[1]
VALUES = sentences.values(ROOT / "results")
FILES = [
    judge.LEDGER,
    judge.LEDGER.with_name("advice.toml"),
    ROOT / "paper" / "asserted.toml",
    summary.FRONT,
    *sorted((ROOT / "src" / "reproduction").rglob("findings.toml")),
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_records_bear_out_what_a_file_of_sentences_says(path):
    assert sentences.contradicted(path, VALUES) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_value_of_a_text_is_there_in_the_format_asked_for(path):
    for text in texts(path):
        for field in re.findall(r"\{\w+\.[^{}]+\}", text):
            assert sentences.shown(field, VALUES)


def texts(path):
    """Yields the texts of a file of sentences that are about one record each."""
    yield from _texts(tomllib.loads(path.read_text()))


def _texts(one):
    if isinstance(one, str):
        yield one
    elif isinstance(one, list):
        for each in one:
            yield from _texts(each)
    elif isinstance(one, dict) and "of" not in one:
        for each in one.values():
            yield from _texts(each)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_interpolates_known_values(page):
    text = sentences.on_a_page(page.read_text(), VALUES)
    assert set(re.findall(r"\{\{ ([^}]*) \}\}", text)) <= cost.numbers(ROOT / "results").keys()


def test_every_claim_that_was_run_says_what_its_consequence_rests_on():
    for one in judge.CLAIMS:
        assert bool(one.consequence) == bool(one.holds), one.id


def test_a_contradiction_is_named_with_what_was_said(tmp_path):
    path = tmp_path / "front.toml"
    path.write_text('[[step]]\nask = "Why?"\nholds."it falls" = "a.rise < 0"\n')
    values = OfRecords(lambda record: {f"{record}.rise": pd.Series([1.0, 1.1])})
    assert sentences.contradicted(path, values) == ["step: Why?, it falls (a.rise < 0)"]


def test_a_page_has_signs_and_units_that_keep_together():
    found = by_name(rise=pd.Series([-1.0, -1.2]), count=12000)
    values = OfRecords(lambda record: {f"{record}.{name}": v for name, v in found.items()})
    text = "{{ a.rise:+% 1 }}, {{ a.rise:size % }}, {{ a.count:, }}, {{ cost_rows }}"
    shown = sentences.on_a_page(text, values).replace(sentences.NBSP, " ")
    assert shown == "−1.1 % [−2.4, +0.2], 1.1 %, 12,000, {{ cost_rows }}"


def test_an_unknown_record_and_an_unknown_value_are_named():
    with pytest.raises(KeyError, match="no claim 'dose'"):
        sentences.shown("{dose.jump}", VALUES)
    with pytest.raises(KeyError, match=r"no fact is named 'delay.wating'; .* delay.wait"):
        sentences.shown("{delay.wating}", VALUES)
