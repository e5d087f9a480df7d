"""The third reading of C2, and C17, by hand; and the chapter's own runs beside them."""

import pandas as pd
import pytest

from reproduction import records
from reproduction.ch04_sparse_optimizer import experiment, rules
from reproduction.measure import by_seed

# By source: the loss after one epoch of the densest and the sparsest objective.
LOSSES = {
    ("world", "Adam", "shared"): (0.50, 0.100),
    ("world", "Adam", "own"): (0.50, 0.100),
    ("world", "row-wise Adagrad", "shared"): (0.50, 0.100),
    ("world", "row-wise Adagrad", "own"): (0.495, 0.097),
    ("world", "row-wise Adagrad", "reported"): (0.495, 0.097),
    ("kuairand", "Adam", "shared"): (0.60, 0.080),
    ("kuairand", "Adam", "own"): (0.60, 0.079),
    ("kuairand", "row-wise Adagrad", "shared"): (0.60, 0.080),
    ("kuairand", "row-wise Adagrad", "own"): (0.60, 0.076),
    ("kuairand", "row-wise Adagrad", "reported"): (0.606, 0.076),
}


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setattr(rules, "RULES", dict.fromkeys(("Adam", "row-wise Adagrad")))
    found = []
    for (data, rule, rates), (dense, sparse) in LOSSES.items():
        metric = "expected_logloss" if data == "world" else "logloss"
        about = {"data": data, "rule": rule, "rates": rates, "metric": metric, "group": "all"}
        for objective, loss in (("click", dense), ("rare", sparse)):
            for epoch in rules.POINTS:
                # Falls by a tenth of what it ends at, in a straight line.
                value = loss * (1.1 - 0.1 * epoch)
                point = {"objective": objective, "epoch": epoch}
                found.append(about | point | {"seed": 30, "value": value})
    return pd.DataFrame(found)


def test_the_evidence_is_the_change_of_the_mean_and_of_the_sparsest(rows):
    found = rules.judge(rows).set_index(["claim", "measure", "point"])["value"]
    assert found["C2", "one_epoch", "AdsWorld"] == pytest.approx((-1 - 3) / 2)
    assert found["C2", "sparsest", "AdsWorld"] == pytest.approx(-3 + 1)
    assert found["C2", "one_epoch", "KuaiRand"] == pytest.approx((0 - 5) / 2)
    assert found["C2", "reported", "KuaiRand"] == pytest.approx((1 + 0) / 2)
    assert found["C17", "rule", "KuaiRand"] == pytest.approx(100 * (76 / 79 - 1) / 2)
    assert len(found) == 7


def test_the_steps_needed_are_read_off_the_curve_and_never_more_than_the_epoch(rows):
    steps = rules.steps_needed(rows)
    # A straight line from 1.1 times its end, which is 0.495; the shared rate ends at 0.5.
    assert steps["AdsWorld", "click", 30] == pytest.approx(1 - (0.5 / 0.495 - 1) / 0.1)
    assert steps["KuaiRand", "click", 30] == 1.0
    worse = rows.assign(value=rows["value"] * (1 + (rows["rates"] == "own")))
    assert (rules.steps_needed(worse) == 1.0).all()


def test_the_chapters_own_runs_have_the_gains_that_decide_the_claim():
    mine, theirs = (records.read(name, "long").rows for name in (experiment.NAME, rules.NAME))
    production = rules.PRODUCTION
    for ours, rates in ((experiment.OWN, "own"), (experiment.multiple(50), "reported")):
        gain = experiment.against(mine, ours, experiment.SHARED)
        decided = rules.change(theirs, (production, rates), (production, "shared"))["AdsWorld"]
        assert by_seed(gain).to_dict() == pytest.approx(by_seed(decided).to_dict(), abs=0.01)


def test_the_sweep_is_in_the_order_of_the_rates_and_relative_to_the_dense_rate():
    change = experiment.sweep(records.read(experiment.NAME, "long").rows)
    times = list(change.index.unique("times"))
    assert times == sorted(times) and times[-2] == pytest.approx(10**2.5)
    assert (change.xs(1, level="times") == 0).all() and (change.xs(10, level="times") < 0).all()
