"""Dose and response on made-up losses whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from multiepoch_lab.data.ads_world import OBJECTIVES
from multiepoch_lab.stats import interval
from reproduction import judge
from reproduction.dose_response import experiment as dose_response
from reproduction.dose_response import production
from reproduction.dose_response.experiment import STRATA, stratum
from reproduction.remedies.board import METHODS
from reproduction.runs import profile

# By rate: plain's jump in %, FAL's share of it, and FAL against MEDA a quarter into epoch 2 in %.
TRUTH = {0.001: (4.0, 0.1, -2.0), 0.01: (36.0, 0.8, 5.0)}


def made_up(stratum: str = "AdsWorld", seeds=range(20, 24)) -> pd.DataFrame:
    """Losses of plain, FAL, MEDA and tail rewind; one after epoch 1, with a little noise."""
    rng, rows = np.random.default_rng(0), []
    for rate, (jump, share, difference) in TRUTH.items():
        for seed in seeds:
            for k, objective in enumerate(OBJECTIVES):
                plain = 1 + (jump + k) / 100
                fal = 1 + share * (jump + k) / 100
                at = {
                    "plain": {1.25: plain, 2.0: plain, 3.0: plain},
                    "fal": {1.25: fal, 2.0: 1.03, 3.0: 1.03},
                    "meda": {1.25: fal / (1 + difference / 100), 2.0: 1.01, 3.0: 1.01},
                    "tail_rewind": {1.25: 1.0, 2.0: 1.0, 3.0: 1.0},
                }
                inside = {
                    name: dict.fromkeys((1.5, 2.25, 2.5), 1.1 if name == "tail_rewind" else 1.2)
                    for name in at
                }
                for method, curve in at.items():
                    for epoch, loss in {1.0: 1.0, **inside[method], **curve}.items():
                        loss = loss if epoch == 1.0 else loss * (1 + 1e-5 * rng.standard_normal())
                        rows.append((stratum, rate, method, seed, objective, epoch, loss))
    columns = ["stratum", "rate", "method", "seed", "objective", "epoch", "value"]
    return pd.DataFrame(rows, columns=columns).assign(metric="expected_logloss", group="all")


def test_dose_share_and_difference_are_those_that_were_put_in():
    rows = made_up()
    dose = dose_response.mean_dose(rows, "AdsWorld")
    assert dose.round(2).to_dict() == {0.001: 5.0, 0.01: 37.0}, "the objectives' mean"
    left = dose_response.share_left(rows, "AdsWorld").groupby("rate").mean()
    assert left.to_dict() == pytest.approx({0.001: 10, 0.01: 80}, rel=0.01)
    click = dose_response.share_left(rows, "AdsWorld", objective="click").groupby("rate").mean()
    assert click.to_dict() == pytest.approx({0.001: 10, 0.01: 80}, rel=0.01)
    quarter = dose_response.against(rows, "AdsWorld", "fal", "meda")[1.25].groupby("rate").mean()
    assert quarter.to_dict() == pytest.approx({0.001: -2, 0.01: 5}, rel=0.01)
    assert dose_response.valley(rows, "AdsWorld").abs().max() == 0, "one epoch is as good anywhere"


def test_without_a_known_truth_the_drawn_labels_are_scored():
    rows = made_up("KuaiRand").assign(metric="logloss")
    assert dose_response.mean_dose(rows, "KuaiRand")[0.001] == pytest.approx(5, rel=0.01)


def test_a_stratum_trains_each_method_at_each_rate_with_its_default():
    runs = stratum("s", methods=("plain", "fal"), rates=(0.1, 0.2))
    assert [(r.method, r.embedding_lr) for r in runs] == [
        ("plain", 0.1), ("fal", 0.1), ("plain", 0.2), ("fal", 0.2)
    ]  # fmt: skip
    assert all(r.hyperparameter == METHODS[r.method].grid[0] for r in runs)
    names = [tuple(run.about.values()) for runs in STRATA.values() for run in runs]
    assert len(set(names)) == len(names), "no two runs of one name"


def test_an_unknown_stratum_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no stratum is named 'AdsWorlds'; there are AdsWorld"):
        dose_response.run(profile("quick"), "cpu", only="AdsWorlds")


def test_holm_adjusts_as_published_and_a_t_test_agrees_with_the_interval():
    assert judge.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    values = [1.0, 1.2, 0.9, 1.4, 1.1]
    low = interval(values)[1]
    assert judge.t_test(values, low) == pytest.approx(0.05)
    assert (
        judge.t_test([1.0], 0.0) == 1
        and judge.t_test([2.0, 2.0], 2.0) == 1
        and judge.t_test([2.0, 2.0], 1.0) == 0
    )


def test_one_point_that_fails_fails_its_measure_and_noise_leaves_it_open():
    c3 = judge.claim("C3")
    rows = pd.DataFrame(
        [("C3", "jump", point, seed, value + 0.01 * seed)
         for point, value in (("a", 2.0), ("b", 0.1)) for seed in range(4)],
        columns=["claim", "measure", "point", "seed", "value"],
    )  # fmt: skip
    evidence = judge.weigh(c3, rows)
    assert [e.status for e in evidence] == ["holds", "fails"]
    assert judge.status(evidence) == "fails"
    noisy = rows.assign(value=[-5.0, 9.0] * 4)
    assert judge.status(judge.weigh(c3, noisy)) == "open"


def test_the_rows_of_a_stratum_name_its_rate_and_variant(tmp_path, monkeypatch):
    def run_all(runs, *_):
        return pd.DataFrame([{"metric": dose_response.EXPECTED} | one.about for one in runs])

    monkeypatch.setattr(dose_response, "run_all", run_all)
    plain = dose_response.run(profile("quick"), seeds=[0], only="AdsWorld, no cross")
    assert set(plain["method"]) == {"plain", "fal", "meda"}
    assert sorted(set(plain["rate"])) == list(dose_response.RATES)
    linear = dose_response.run(profile("quick"), seeds=[0], only="AdsWorld, linear")
    assert set(linear["method"]) == {"fal, linear"}
    assert set(linear["stratum"]) == {"AdsWorld, linear"}


def test_the_default_setting_is_judged_at_every_rate_on_both_sources():
    def at_rates(stratum, names):
        rows = made_up(stratum)
        tail = rows[rows["method"] == "meda"].assign(method="tail_rewind")
        rows = pd.concat([rows, tail])
        rows["objective"] = rows["objective"].map(dict(zip(rows["objective"].unique(), names)))
        rate = production.RATES
        one = rows[rows["rate"] == rows["rate"].min()]
        return pd.concat(one.assign(rate=value) for value in rate)

    world = at_rates("AdsWorld", OBJECTIVES)
    log = at_rates("KuaiRand", ("click", "long_view", "like"))
    found = production.judge(pd.concat([world, log]))
    predicted = {(one.id, m.name) for one in judge.CLAIMS for m in one.measures}
    assert set(zip(found["claim"], found["measure"])) == {
        pair for pair in predicted if "dose_production" in judge.claim(pair[0]).records
    }
    jumps = found[found["claim"] == "C3"]["point"].unique()
    assert len(jumps) == 5 * (3 + 2) and "click, KuaiRand, tables at 0.1" in jumps
    left = found[found["measure"] == "left_plain_low"]
    assert left["value"].tolist() == pytest.approx([10] * len(left), rel=0.05)
