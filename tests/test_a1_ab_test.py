"""Appendix A1: serving, its measures on made-up results whose effects are known, and power."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from multiepoch_lab.data import AdsWorld
from multiepoch_lab.data.ads_world import OBJECTIVES
from reproduction.a1_ab_test import experiment
from reproduction.a1_ab_test.experiment import LIVE
from reproduction.a1_ab_test.serving import (
    ARMS,
    BLEND,
    CANDIDATES,
    NAIVE,
    ONE,
    PAID,
    QUARTERS,
    RANDOM,
    REWIND,
    TRUTH,
    Requests,
    ServeWhileTraining,
    simulate,
)
from reproduction.runs import profile

SMALL = dict(n_users=500, n_products=250, n_campaigns=50, n_advertisers=10)
TINY = replace(profile("quick"), **SMALL, impressions_per_day=800, batch_size=50)


def measured(requests, choice, q):
    found = pd.DataFrame(requests.measure(choice, q), columns=["metric", "quarter", "value"])
    return found.groupby("metric")["value"].mean()


def test_the_truth_ranks_best_and_promises_what_it_delivers():
    world = AdsWorld(**SMALL)
    requests = Requests(world.candidates(1, 8_000, CANDIDATES), world.schema(2))
    best, first = requests.rank(requests.p), torch.zeros(8_000, dtype=torch.int64)
    ours, none = (measured(requests, choice, requests.p) for choice in (best, first))
    torch.manual_seed(0)
    wrong = requests.p * (0.5 * torch.randn_like(requests.p) - 0.125).exp()
    curse = measured(requests, requests.rank(wrong), wrong)
    assert ours["value"] > curse["value"] > none["value"]
    assert ours["predicted"] == pytest.approx(ours["conversions"])
    # Right on average, and yet too high on what it selects.
    assert curse["predicted_all"] == pytest.approx(curse["conversions_all"], rel=0.05)
    assert curse["predicted_value"] > 1.05 * curse["value"]
    # What is drawn agrees with what is expected, on both halves of the users.
    for half in (0, 1):
        n = ours[f"requests_{half}"]
        error = (ours["square"] / n) ** 0.5
        assert abs(ours[f"paid_{half}"] - ours["value"]) < 5 * error
    shown = requests.shown(best)
    assert len(shown) == 8_000 and shown.schema == world.schema(2)
    p = shown.p_true[:, PAID].double()
    assert p.mean().item() == pytest.approx(ours["conversions"])


def test_a_model_serves_halfway_through_and_after_each_epoch():
    happened = []

    class Remedy:
        def before_epoch(self, index):
            happened.append(f"epoch {index}")

        def backward(self, impressions, closure):
            return closure()

    serving = ServeWhileTraining(Remedy(), 2, lambda: happened.append("serve"))
    for index in range(2):
        serving.before_epoch(index)
        for step in range(4):
            serving.backward(None, lambda step=step: happened.append(step))
    epoch = [0, 1, "serve", 2, 3]
    assert happened == ["epoch 0", *epoch, "serve", "epoch 1", *epoch]


def test_arms_differ_only_in_what_they_are_said_to():
    plan = replace(LIVE, arms=(ONE, REWIND, BLEND), own=(BLEND,), before=1, days=2)
    rows = simulate(plan, TINY, "cpu", seed=3)
    assert set(rows["arm"]) == {*plan.arms, TRUTH, RANDOM}
    # Whatever the logs, the test starts with the same model.
    by = ["metric", "feedback", "day"]
    found = rows.pivot_table("value", [*by, "quarter"], "arm")
    shared, own = (found.loc["predicted", kind][BLEND] for kind in ("shared", "own"))
    assert shared[1].equals(own[1]) and not shared[2].equals(own[2])
    shared = found.loc["value", "shared"]
    assert (shared[[ONE, REWIND, BLEND]].le(shared[TRUTH], axis=0)).all(axis=None)
    # Training is the same to the bit, so only what is served within epoch 2 differs.
    differs = rows[rows["metric"].str.startswith("logloss") & (rows["feedback"] == "shared")]
    differs = differs.pivot_table("value", ["quarter", "day", "metric"], "arm")
    differs = (differs[BLEND] != differs[REWIND]).groupby("quarter").any()
    assert differs.tolist() == [False, False, True, False]


def made_up(seeds=range(20, 24), arms=tuple(ARMS), noise=1e-3) -> pd.DataFrame:
    """One epoch has the value 1; each further arm is 1 % better, but the naive one is worse."""
    rng, rows = np.random.default_rng(0), []
    for k, arm in enumerate((*arms, TRUTH)):
        level = {NAIVE: 0.95, ONE: 1.0, TRUTH: 2.0}.get(arm, 1 + 0.01 * k)
        for kind in ("shared", "own") if arm in (NAIVE, BLEND) else ("shared",):
            for seed in seeds:
                for day in (1, 2, 3):
                    for quarter in range(QUARTERS):
                        v = level * (1 + noise * rng.standard_normal())
                        dip = 0.95 if (arm, quarter) == (REWIND, 2) else 1.0
                        found = {"value": v * dip, "conversions": 0.03 * v, "square": 40 * v}
                        found |= {"predicted": 0.036 * v, "predicted_value": 1.2 * v}
                        found |= {"predicted_all": 0.01, "conversions_all": 0.01}
                        if arm != TRUTH:
                            found |= {f"logloss_{o}": 1 / v for o in OBJECTIVES}
                        rows += [(seed, kind, arm, day, quarter, *one) for one in found.items()]
                    for half in (0, 1):
                        found = {"paid": level, "square": 40 * level, "requests": 5e4}
                        rows += [
                            (seed, kind, arm, day, -1, f"{name}_{half}", value)
                            for name, value in found.items()
                        ]
    rows += [(seed, "shared", TRUTH, 3, -1, "design_effect", 4.0) for seed in seeds]
    columns = ["seed", "feedback", "arm", "day", "quarter", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_measures_of_made_up_results():
    rows = made_up()
    assert experiment.lift(rows, "FAL").mean() == pytest.approx(3, abs=0.1)
    assert experiment.regret(rows, ONE).mean() == pytest.approx(50, abs=0.1)
    assert experiment.overprediction(rows, ONE).mean() == pytest.approx(1.2)
    assert experiment.overprediction(rows, ONE, "_all").mean() == pytest.approx(1)
    assert experiment.order(rows).mean() > 0.9
    quarters = experiment.lift(rows, BLEND, "value", "quarter", base=REWIND).mean(axis=1)
    assert quarters.idxmax() == 2 and quarters[2] > 5
    assert experiment.spread(rows).mean() == pytest.approx(39**0.5, rel=0.01)
    # The loss is one over the value, so 1 % of the one is -1 % of the other.
    assert experiment.worth(rows).mean() == pytest.approx(-1, abs=0.1)
    day_one = rows["day"].eq(1) & rows["arm"].eq("FAL")
    late = rows.assign(value=rows["value"] * np.where(day_one, 0.9, 1.0))
    assert experiment.novelty(late, "FAL").mean() == pytest.approx(-10.3, abs=0.2)
    from_own = rows["feedback"].eq("own") & rows["day"].gt(1)
    own = rows.assign(value=rows["value"] * np.where(from_own, 1.02, 1.0))
    found = experiment.gain_from_own_logs(own, BLEND).mean()
    assert found == pytest.approx(2.12, abs=0.2)
    assert experiment.chance(rows, NAIVE).mean() > experiment.chance(rows, "FAL").mean()


def test_a_test_of_nothing_reports_what_exceeds_the_width_of_its_sample():
    rows = made_up()
    assert experiment.tests_of_nothing(rows).tolist() == [False] * 8
    width = experiment.Z * 39**0.5 * (2 / 1.5e5) ** 0.5  # of three days
    for share, alarm in ((0.9, False), (1.1, True)):
        luck = rows["metric"].eq("paid_0") & rows["seed"].eq(20)
        lucky = rows.assign(value=rows["value"] * np.where(luck, 1 + share * width, 1.0))
        assert experiment.tests_of_nothing(lucky).groupby("seed").any().to_dict() == {
            20: alarm,
            21: False,
            22: False,
            23: False,
        }


def test_users_vary_more_than_requests():
    few = replace(LIVE, before=0, days=1)
    alone = experiment.design_effect(few, replace(TINY, n_users=500_000, n_products=50), seed=1)
    assert alone == pytest.approx(1, abs=0.15)  # hardly a user comes twice
    busy = experiment.design_effect(few, replace(TINY, impressions_per_day=20_000), seed=1)
    assert busy > 1.5


def test_power_agrees_with_simulated_tests():
    rng, n, p, effect, tests = np.random.default_rng(0), 20_000, 0.04, 0.1, 4_000
    a, b = rng.binomial(n, p * (1 + effect), tests) / n, rng.binomial(n, p, tests) / n
    z = (a - b) / np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    spread = (p * (1 - p)) ** 0.5 / p
    assert experiment.power(effect, spread, n) == pytest.approx((abs(z) > 1.96).mean(), abs=0.03)
    assert experiment.power(0, spread, n) == pytest.approx(0.05)
    n = experiment.requests_needed(effect, spread)
    assert experiment.power(effect, spread, n) == pytest.approx(0.8, abs=1e-6)
