"""The summary and the questions are made of the claims and their evidence."""

import json
import re

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from multiepoch.stats import interval
from reproduction import claims, records, second_round
from tools import ledger


def evidence(claim, **measures):
    """First-round evidence: the values of each measure, by seed."""
    rows = [
        (claim, name, seed, value)
        for name, values in measures.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=records.EVIDENCE)


def points(claim, measure, **values):
    """Second-round evidence of one measure: the values at each point, by seed."""
    rows = [
        (claim, measure, point, seed, value)
        for point, of_point in values.items()
        for seed, value in enumerate(of_point)
    ]
    return pd.DataFrame(rows, columns=records.POINTS)


def entry(found, id):
    return next(one for one in found if one.id == id)


NOTHING = pd.DataFrame(columns=records.POINTS)
FIRST = {"long": evidence("C6", jump_left=[10, 11, 12], log_linear=[1.0, 1.1, 1.2])}
SECOND = points("C6", "left_small_dose", a=[40.0, 41, 42, 43], b=[60.0, 61, 62, 63])


def test_every_claim_is_on_the_summary_in_order():
    found = ledger.entries({}, NOTHING)
    known = [one.id for one in claims.CLAIMS]
    known += [one.id for one in second_round.PREDICTIONS if one.id not in known]
    assert [one.id for one in found] == sorted(known, key=lambda id: int(id[1:]))
    text = ledger.summary(found, {})
    assert text.count("Not yet run") == len(found)
    assert "forest" not in text


def test_a_dot_is_right_of_its_threshold_if_it_holds():
    found = [entry(ledger.entries(FIRST, SECOND), "C6")]
    text = ledger.summary(found, {})
    lines = BeautifulSoup(text, "html.parser").find_all("svg")
    assert [line["class"] for line in lines] == [["forest-second"], *[["forest-first"]] * 2]
    for line in lines:
        threshold = float(line.select_one(".forest-threshold")["x1"].rstrip("%"))
        for dot in line.find_all("circle"):
            right = float(dot["cx"].rstrip("%")) > threshold
            assert right == (dot["class"] == ["forest-holds"]), dot
    assert len(lines[0].find_all("circle")) == 2
    first = text.split("<svg")[0]
    assert "holds at 1 of 2" in first and "fails at 1 of 2" in first


def test_a_prediction_with_two_limits_is_one_line_and_holds_between_them():
    values = {"a": [0.0, 0.1, -0.1, 0.2], "b": [3.0, 3.1, 2.9, 3.2], "c": [0.0, 2, -2, 1]}
    both = [points("C12", side, **values) for side in ("excluding_above", "excluding_below")]
    text = ledger.summary([entry(ledger.entries({}, pd.concat(both)), "C12")], {})
    (line,) = BeautifulSoup(text, "html.parser").find_all("svg")
    low, high = sorted(float(one["x1"].rstrip("%")) for one in line.select(".forest-threshold"))
    dots = line.find_all("circle")
    assert [dot["class"] for dot in dots] == [["forest-holds"], ["forest-fails"], ["forest-open"]]
    for dot in dots:
        inside = low < float(dot["cx"].rstrip("%")) < high
        assert inside == (dot["class"] != ["forest-fails"]), dot
    words = text.split("<svg")[0].replace(ledger.NO_BREAK, " ")
    assert "**−1 to 1 %**" in words
    assert "holds at 1 of 3, fails at 1 of 3, open at 1 of 3" in words


def test_a_single_point_has_its_interval_and_a_small_value_two_decimals():
    one = points("C6", "left_small_dose", a=[0.001, 0.002, -0.002, -0.002])
    text = ledger.summary([entry(ledger.entries({}, one), "C6")], {}).replace(ledger.NO_BREAK, " ")
    assert "**< 50 %**: 0 % [0, 0], holds" in text


def test_both_verdicts_are_in_words_and_the_profile_with_most_seeds_decides():
    other = {"cpu": evidence("C6", jump_left=[90, 91, 92], log_linear=[1.0, 1.1, 1.2])}
    one = entry(ledger.entries(FIRST | other, NOTHING), "C6")
    judged = claims.verdict(claims.claim("C6"), claims.weigh(claims.claim("C6"), FIRST["long"]))
    assert one.verdict == f"{judged} (first round)"
    both = entry(ledger.entries(FIRST, SECOND), "C6").verdict
    assert both == f"not as predicted; first round: {judged}"


def test_a_question_does_not_give_its_answer_away():
    asked = list(ledger.questions(ledger.entries(FIRST, SECOND)))
    assert [one["section"] for one in asked] == ["c6-second", "c6"]
    for one in asked:
        low, high = one["range"]
        threshold = float(re.search(r"[-\d.]+", one["predicted"])[0])
        assert (low + high) / 2 == pytest.approx(threshold)
        assert low < min(one["found"]) and max(one["found"]) < high
    assert asked[1]["found"] == pytest.approx(interval([10, 11, 12]))


def test_the_written_record_is_valid_for_a_browser(tmp_path):
    one_seed = {"cpu": evidence("C6", jump_left=[10.0])}
    ledger.generate(one_seed, NOTHING, tmp_path, tmp_path)
    script = (tmp_path / ledger.GUESSES).read_text()
    (question,) = json.loads(script.removeprefix("window.MULTIEPOCH_CLAIMS = ").rstrip(";\n"))
    assert question["found"] == [10.0, None, None]


def test_what_follows_is_about_known_claims_and_measures():
    found = {one.id: one for one in ledger.entries({}, NOTHING)}
    measures = {one.id: {m.name for m in one.measures} for one in claims.CLAIMS}
    for one in second_round.PREDICTIONS:
        measures.setdefault(one.id, set()).update(m.name for m in one.measures)
    for id, follows in ledger.so_what().items():
        assert id in found
        name, status = follows.get("relies_on", (next(iter(measures[id])), "holds"))
        assert name in measures[id] and status in ("holds", "fails", "open")
