"""Verdicts are a pure function of the evidence."""

import math

import pandas as pd
import pytest

from reproduction import claims


def rows(claim_id, **values):
    return pd.DataFrame(
        [
            {"claim": claim_id, "measure": measure, "seed": seed, "value": value}
            for measure, by_seed in values.items()
            for seed, value in enumerate(by_seed)
        ],
        columns=["claim", "measure", "seed", "value"],
    )


def judged(claim_id, **values):
    one = claims.claim(claim_id)
    return claims.verdict(one, claims.weigh(one, rows(claim_id, **values)))


def test_interval_is_students_t():
    mean, low, high = claims.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert mean - low == pytest.approx(high - mean)


def test_one_seed_settles_nothing():
    assert claims.interval([5.0])[1:] == (-math.inf, math.inf)
    assert judged("C6", jump_left=[10.0], log_linear=[-5.0]) == "not settled"


@pytest.mark.parametrize(
    ("jump_left", "log_linear", "expected"),
    [
        ([10, 11, 12], [-1, -1.1, -0.9], "reproduced"),
        ([10, 11, 12], [1, 1.1, 0.9], "partly"),
        ([10, 11, 12], [-5, 0, 5], "partly"),
        ([90, 91, 92], [1, 1.1, 0.9], "not reproduced"),
        ([90, 91, 92], [-5, 0, 5], "not settled"),
    ],
)
def test_verdicts(jump_left, log_linear, expected):
    assert judged("C6", jump_left=jump_left, log_linear=log_linear) == expected


def test_a_measure_not_run_keeps_a_claim_from_reproduced():
    assert judged("C6", jump_left=[10, 11, 12]) == "partly"
    assert judged("C6") == "not yet run"


def test_bad_evidence_is_refused():
    with pytest.raises(ValueError, match="C6 has no measure jump_lost; it has jump_left"):
        judged("C6", jump_lost=[1.0])
    with pytest.raises(ValueError, match="more than one value for a seed"):
        claims.weigh(claims.claim("C6"), pd.concat([rows("C6", jump_left=[1.0])] * 2))
    with pytest.raises(ValueError, match="finite"):
        judged("C6", jump_left=[1.0, math.nan])


def test_the_page_shows_every_claim_and_says_what_was_not_run():
    page = claims.table({"cpu": rows("C6", jump_left=[10, 11, 12], log_linear=[-1, -1.1, -0.9])})
    for one in claims.CLAIMS:
        assert f"## {one.id} · {one.title}" in page
    assert page.count("not yet run.") == len(claims.CLAIMS) - 1
    assert "**reproduced** (cpu)" in page


def test_profiles_that_disagree_are_not_settled():
    good = rows("C6", jump_left=[10, 11, 12], log_linear=[-1, -1.1, -0.9])
    bad = rows("C6", jump_left=[90, 91, 92], log_linear=[1, 1.1, 0.9])
    assert "The profiles disagree" in claims.table({"cpu": good, "long": bad})


def test_ids_are_those_of_the_paper_and_measures_are_unique():
    assert [one.id for one in claims.CLAIMS] == [f"C{k}" for k in range(1, 12)]
    for one in claims.CLAIMS:
        names = [m.name for m in one.measures]
        assert len(set(names)) == len(names) > 0
