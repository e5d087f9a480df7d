"""Dose and response on made-up losses whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from multiepoch_lab.data.ads_world import OBJECTIVES
from multiepoch_lab.stats import interval
from reproduction import judge
from reproduction.dose_response import experiment as dose_response
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
