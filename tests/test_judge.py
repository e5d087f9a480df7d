"""Verdicts are a pure function of the evidence."""

import math

import pandas as pd
import pytest

from multiepoch_lab.stats import interval
from reproduction import judge


def rows(claim, **values):
    """Evidence at one point: the values of each measure, by seed."""
    return judge.evidence((claim, name, "", pd.Series(of)) for name, of in values.items())


def judged(id, **values):
    one = judge.claim(id)
    return judge.verdict(one, judge.weigh(one, rows(id, **values)))


def test_interval_is_students_t():
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert mean - low == pytest.approx(high - mean)


def test_one_seed_settles_nothing():
    assert interval([5.0])[1:] == (-math.inf, math.inf)
    assert judged("C9", time=[1.0], memory=[3.0]) == "not settled"


@pytest.mark.parametrize(
    ("time", "memory", "expected"),
    [
        ([1, 1.1, 1.2], [3, 3.01, 2.99], "reproduced"),
        ([1, 1.1, 1.2], [4, 4.1, 3.9], "partly"),
        ([1, 1.1, 1.2], [-5, 3, 10], "partly"),
        ([9, 9.1, 9.2], [4, 4.1, 3.9], "not reproduced"),
        ([9, 9.1, 9.2], [-5, 3, 10], "not settled"),
    ],
)
def test_verdicts(time, memory, expected):
    assert judged("C9", time=time, memory=memory) == expected


def test_a_measure_not_run_keeps_a_claim_from_reproduced_and_a_prediction_has_those_that_apply():
    assert judged("C9", time=[1, 1.1, 1.2]) == "partly"
    assert judged("C9") == "not yet run"
    assert judged("C6", left_low=[10, 11, 12]) == "as predicted"


@pytest.mark.parametrize("low", [49.999, 50.001])
def test_without_a_correction_a_measure_is_open_if_its_interval_contains_the_threshold(low):
    values = pd.Series([1.0, 1.2, 0.9, 1.4, 1.1])
    values += low - interval(values)[1]  # the threshold of the head is 50, to be exceeded
    (evidence,) = judge.weigh(judge.claim("C1"), rows("C1", head=values))
    assert evidence.low == pytest.approx(low)
    assert evidence.status == ("holds" if low > 50 else "open")


def test_holms_correction_is_over_all_points_of_the_claim():
    values = pd.Series([50.4, 51.2, 50.9, 51.4, 51.1])  # alone, p is below 1 %
    many = [("C6", "left_high", str(point), values) for point in range(60)]
    claim = judge.claim("C6")
    alone, among = (judge.weigh(claim, judge.evidence(points)) for points in (many[:1], many))
    assert alone[0].status == "holds" and {one.status for one in among} == {"open"}
    assert (among[0].estimate, among[0].low) == (alone[0].estimate, alone[0].low)


def test_bad_evidence_is_refused():
    with pytest.raises(ValueError, match="C9 has no measure speed; it has time"):
        judged("C9", speed=[1.0])
    with pytest.raises(ValueError, match="more than one value for a seed"):
        judge.weigh(judge.claim("C9"), pd.concat([rows("C9", time=[1.0])] * 2))
    with pytest.raises(ValueError, match="finite"):
        judged("C9", time=[1.0, math.nan])
    with pytest.raises(KeyError, match="no claim 'X0'; there are C1, C2"):
        judge.claim("X0")


def test_a_table_has_the_claims_asked_for_or_all_that_have_evidence():
    evidence = rows("C1", touched=[1, 1.1, 0.9])
    assert "C1 · Gradients are sparse: **partly**" in judge.table(evidence)
    assert "C2" not in judge.table(evidence)
    assert "**not yet run**" in judge.table(evidence, ["C2"])


def test_a_table_says_what_open_means_if_a_point_is():
    assert judge.OPEN not in judge.table(rows("C1", touched=[1, 1.1, 0.9]))
    assert judge.table(rows("C1", touched=[1])).endswith(judge.OPEN)


def test_the_ledger_is_complete():
    ids = [one.id for one in judge.CLAIMS]
    assert len(set(ids)) == len(ids)
    for one in judge.CLAIMS:
        assert len({measure.name for measure in one.measures}) == len(one.measures) > 0
        assert one.question in judge.QUESTIONS and one.records
        assert one.title and one.text and one.prediction
        assert one.source in ("paper", "ours") and one.decide in judge.WORDS
        assert all(m.sign in "<>" for m in one.measures)


def test_a_failure_needs_no_correction():
    values = pd.Series([49.6, 48.8, 49.1, 48.6, 48.9])  # alone, p is below 1 %
    many = [("C6", "left_high", str(point), values) for point in range(60)]
    found = judge.weigh(judge.claim("C6"), judge.evidence(many))
    assert {one.status for one in found} == {"fails"} and found[0].adjusted > 0.05 > found[0].p
