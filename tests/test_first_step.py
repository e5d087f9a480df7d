"""The mean of the ends, models averaged, and intervals over searches and seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import t

from multiepoch_lab.stats import interval, two_level
from reproduction.first_step import experiment
from reproduction.first_step.search import EPS, START, axes, trials
from reproduction.runs import PROFILES, Run
from reproduction.runs.run import build, logs
from tools import first_step

ROOT = Path(__file__).parents[1]
TINY = {"n_users": 300, "n_products": 150, "n_campaigns": 20, "n_advertisers": 8}
TINY |= {"impressions_per_day": 400, "batch_size": 128}


@pytest.fixture
def tiny():
    return replace(PROFILES["quick"], **TINY)


def test_the_interval_of_one_search_is_that_over_seeds():
    values = [[1.0, 2.0, 4.0]]
    assert two_level(values) == interval(values[0])


def test_searches_that_differ_widen_the_interval():
    seeds = np.array([0.0, 1.0, 2.0, 3.0])
    same, apart = np.stack([seeds] * 3), seeds + np.array([[-2.0], [0.0], [2.0]])
    assert np.allclose(two_level(same), interval(seeds))
    mean, low, high = two_level(apart)
    assert mean == pytest.approx(1.5)
    # Variances of the mean by searches and by seeds; exact, since the two effects add up.
    parts, df = np.array([4 / 3, seeds.var(ddof=1) / 4]), np.array([2, 3])
    freedom = parts.sum() ** 2 / (parts**2 / df).sum()
    half = t.ppf(0.975, freedom) * parts.sum() ** 0.5
    assert (mean - low, high - mean) == pytest.approx((half, half))


@pytest.mark.parametrize("option", [EPS, START])
def test_a_run_hands_its_first_step_to_the_tables(option, tiny):
    run = Run("plain", 0, 1e-3, 0.1, rule="rowwise_adagrad", **{option: 0.25})
    log, _, _ = logs(run, tiny)
    _, (optimizer,), _ = build(run, log.schema, "cpu")
    assert {group[option] for group in optimizer.embedding.param_groups} == {0.25}


def test_the_means_of_ends_are_those_of_weights_and_predictions(tiny):
    run = Run("meda", 0, 1e-3, 0.1, rule="rowwise_adagrad")
    log, held_out, _ = logs(run, tiny)
    model, _, every_epoch = build(run, log.schema, "cpu")
    ends = experiment.Ends(every_epoch, model, held_out)
    first = [p.detach().clone() for p in model.parameters()]
    ends.see()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(2.0)
    ends.see()
    ends.of_mean_weights(slice(0, 2))
    for parameter, value in zip(model.parameters(), first):
        torch.testing.assert_close(parameter.detach(), value + 1.0)


def test_lines_of_one_kind_have_equally_many_trials_and_each_search_its_seeds():
    for data in ("world", "tmall"):
        seeds = [{one.seed for one in trials("one, eps", data, k)} for k in range(3)]
        assert not (seeds[0] & seeds[1] or seeds[1] & seeds[2])
    counts = {
        name: len(trials(name, "world", 0)) for name in ("one", "one, eps", "one, start", "fal")
    }
    assert set(counts.values()) == {16}
    assert axes(experiment.LINES["one"], "world").get(EPS) is None


def test_the_pages_say_what_the_committed_records_bear(tmp_path):
    first_step.generate(ROOT / "results", tmp_path, tmp_path)
    for name in (first_step.STEP, first_step.SAME, first_step.LINES):
        assert "Records: " in (tmp_path / f"{name}.md").read_text()
