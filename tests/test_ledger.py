"""The page of claims and the questions are made of the claims and their evidence."""

import pandas as pd
from bs4 import BeautifulSoup

from reproduction import judge
from tools import ledger


def evidence(claim, measure, **values):
    """Evidence of one measure: the values at each point, by seed."""
    return judge.evidence((claim, measure, point, pd.Series(v)) for point, v in values.items())


def page_of(id, rows, monkeypatch):
    monkeypatch.setattr(ledger, "CLAIMS", (judge.claim(id),))
    return ledger.claims({"long": rows}).replace(ledger.NO_BREAK, " ")


FIRST = judge.evidence(
    ("C9", name, "", pd.Series(values))
    for name, values in {"time": [1.0, 1.1, 1.2], "memory": [4.0, 4.1, 4.2]}.items()
)
SECOND = evidence("C6", "left_low", a=[40.0, 41, 42, 43], b=[60.0, 61, 62, 63])


def test_a_dot_is_right_of_its_threshold_if_it_holds(monkeypatch):
    text = page_of("C6", SECOND, monkeypatch)
    (line,) = BeautifulSoup(text, "html.parser").find_all("svg")
    threshold = float(line.select_one(".forest-threshold")["x1"].rstrip("%"))
    dots = line.find_all("circle")
    assert [dot["class"] for dot in dots] == [["forest-holds"], ["forest-fails"]]
    for dot in dots:
        right = float(dot["cx"].rstrip("%")) > threshold
        assert right == (dot["class"] == ["forest-holds"]), dot
    assert "holds at 1 of 2" in text and "fails at 1 of 2" in text


def test_a_prediction_with_two_limits_is_one_line_and_holds_between_them(monkeypatch):
    values = {"a": [0.0, 0.2, -0.2, 0.4], "b": [6.0, 6.2, 5.8, 6.4], "c": [0.0, 4, -4, 2]}
    both = [evidence("C16", side, **values) for side in ("remedy_above", "remedy_below")]
    text = page_of("C16", pd.concat(both), monkeypatch)
    (line,) = BeautifulSoup(text, "html.parser").find_all("svg")
    low, high = sorted(float(one["x1"].rstrip("%")) for one in line.select(".forest-threshold"))
    dots = line.find_all("circle")
    assert [dot["class"] for dot in dots] == [["forest-holds"], ["forest-fails"], ["forest-open"]]
    for dot in dots:
        inside = low < float(dot["cx"].rstrip("%")) < high
        assert inside == (dot["class"] != ["forest-fails"]), dot
    assert "**−2 to 2 %**" in text
    assert "holds at 1 of 3, fails at 1 of 3, open at 1 of 3" in text


def test_a_single_point_has_its_interval_and_a_small_value_two_decimals(monkeypatch):
    one = evidence("C6", "left_low", a=[0.001, 0.002, -0.002, -0.002])
    assert "**< 50 %**: 0 % [0, 0], holds" in page_of("C6", one, monkeypatch)


def test_the_page_shows_every_claim_and_says_what_was_not_run():
    found = {"cpu": FIRST, "long": SECOND}
    text = ledger.claims(found)
    for one in judge.CLAIMS:
        assert f"({one.id})=\n### {one.id} · {one.title}" in text and one.prediction in text
    for question in judge.QUESTIONS.values():
        assert f"## {question}\n" in text
    assert text.count("{div} forest") == 2
    assert text.count("not yet run.") == len(judge.CLAIMS) - 2
    assert "**partly** (cpu)" in text and "**not as predicted** (long)" in text
    assert "| point" in text and "| profile" not in text


def test_profiles_that_disagree_are_said_to():
    bad = judge.evidence([("C9", "time", "", pd.Series([90, 91, 92]))])
    text = ledger.claims({"cpu": FIRST, "long": bad})
    assert "The profiles disagree" in text and "| profile" in text
