import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiepoch_lab.data import DataError, Log, Schema
from multiepoch_lab.train import bayes_optimum, metrics

# Scores on a coarse grid, so that many are equal.
LABELLED = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@pytest.fixture(scope="module")
def theirs():
    """The metrics of scikit-learn, which take a second to import."""
    import sklearn.metrics

    return sklearn.metrics


@settings(max_examples=60, deadline=None)
@given(LABELLED)
def test_equals_scikit_learn_with_ties(theirs, pairs):
    logits = torch.tensor([float(score) for score, _ in pairs])
    labels = torch.tensor([float(label) for _, label in pairs])
    y, p = labels.double().numpy(), torch.sigmoid(logits.double()).numpy()
    assert metrics.auc(logits, labels) == pytest.approx(
        theirs.roc_auc_score(y, logits.numpy()), abs=1e-9
    )
    loss = theirs.log_loss(y, p, labels=[0, 1])
    constant = theirs.log_loss(y, np.full(len(y), y.mean()), labels=[0, 1])
    assert metrics.logloss(logits, labels) == pytest.approx(loss, abs=1e-9)
    assert metrics.normalized_entropy(logits, labels) == pytest.approx(loss / constant, abs=1e-9)
    assert metrics.calibration(logits, labels) == pytest.approx(p.sum() / y.sum(), abs=1e-9)


def test_equals_scikit_learn_on_many_impressions(theirs):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(200_000, generator=generator) - 3
    labels = (torch.rand(200_000, generator=generator) < torch.sigmoid(logits)).float()
    expected = theirs.roc_auc_score(labels.numpy(), logits.numpy())
    assert metrics.auc(logits, labels) == pytest.approx(expected, abs=1e-9)
    # An increasing function of the scores changes nothing.
    assert metrics.auc(logits.double() * 2 + 1, labels) == pytest.approx(expected, abs=1e-9)


def test_logloss_of_a_confident_mistake_is_its_logit():
    assert metrics.logloss(torch.tensor([200.0]), torch.tensor([0.0])) == pytest.approx(200.0)


def test_expected_logloss_is_the_mean_over_all_draws_of_the_labels():
    logits = torch.tensor([-2.0, 0.5, 3.0])
    p_true = torch.tensor([0.1, 0.6, 0.7])
    expected = 0.0
    for outcome in range(8):
        y = torch.tensor([float(outcome >> k & 1) for k in range(3)])
        chance = torch.where(y == 1, p_true, 1 - p_true).double().prod().item()
        expected += chance * metrics.logloss(logits, y)
    assert metrics.expected_logloss(logits, p_true) == pytest.approx(expected)
    # The truth has the least, its entropy; and a confident prediction is not lost to rounding.
    truth = metrics.expected_logloss(torch.logit(p_true.double()), p_true)
    assert truth == pytest.approx(np.mean([metrics.entropy(float(p)) for p in p_true]))
    assert metrics.expected_logloss(torch.tensor([200.0]), torch.tensor([0.25])) == 150.0


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("metric", [metrics.auc, metrics.normalized_entropy])
def test_one_class_is_refused_in_words(metric, label):
    with pytest.raises(ValueError, match="needs labels of both classes, and all 5 are"):
        metric(torch.randn(5), torch.full((5,), label))


def test_calibration_without_a_positive_is_refused():
    with pytest.raises(ValueError, match="at least one positive"):
        metrics.calibration(torch.randn(5), torch.zeros(5))


@pytest.mark.parametrize(
    "shapes", [((4,), (5,)), ((4, 2), (4, 2)), ((0,), (0,)), ((4, 1), (4,))], ids=str
)
def test_wrong_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        metrics.logloss(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_auc_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        metrics.auc(torch.tensor([0.0, math.nan]), torch.tensor([0.0, 1.0]))


def test_share_of_gap():
    assert metrics.share_of_gap(0.6, constant_loss=0.6, bayes_loss=0.5) == 0
    assert metrics.share_of_gap(0.5, constant_loss=0.6, bayes_loss=0.5) == 1
    assert metrics.share_of_gap(0.65, constant_loss=0.6, bayes_loss=0.5) == pytest.approx(-0.5)


def test_bayes_optimum_is_what_many_draws_average_to(theirs):
    p = torch.tensor([0.05, 0.1, 0.1, 0.4, 0.7, 0.9])
    repeats = 40_000
    p_true = p.repeat(repeats)[:, None]
    n = len(p_true)
    labels = (torch.rand(n, 1, generator=torch.Generator().manual_seed(0)) < p_true).float()
    log = Log(
        Schema({}, (), ("click",)),
        {},
        torch.zeros(n, 0),
        labels,
        torch.zeros(n, dtype=torch.int32),
        p_true,
    )
    row = bayes_optimum(log).loc["click"]
    assert row.positive_rate == pytest.approx(p.mean().item(), abs=0.005)
    assert row.bayes_logloss == pytest.approx(row.bayes_expected_logloss, abs=0.005)
    assert row.bayes_auc == pytest.approx(
        theirs.roc_auc_score(labels[:, 0], p_true[:, 0]), abs=1e-9
    )
    assert row.bayes_logloss < row.constant_logloss
    # Every other predictor is worse in expectation.
    expected = np.mean([metrics.entropy(float(q)) for q in p])
    assert row.bayes_expected_logloss == pytest.approx(expected, abs=1e-6)


def test_bayes_optimum_needs_the_truth(tiny_log):
    log = tiny_log()
    without = Log(log.schema, log.ids, log.dense, log.labels, log.day)
    with pytest.raises(DataError, match="no p_true"):
        bayes_optimum(without)
