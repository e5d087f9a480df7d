"""The figure of chapter 6 and the days of chapter 9 on made-up losses."""

import itertools

import pandas as pd
import pytest

from reproduction.own_label import experiment

OBJECTIVES = ("click", "checkout")


def test_the_figure_of_the_controls_shows_both_data_sets():
    data, strata = ("AdsWorld", "KuaiRand"), {"two_fold": ", two-fold"}
    rows = [
        (name + strata.get(method, ", sums"), 0.1, method, seed, objective, epoch, epoch + seed)
        for name, method, seed, objective, epoch in itertools.product(
            data, experiment.CONTROLS, (20, 21), OBJECTIVES, (1.0, 1.25)
        )
    ]
    columns = ["stratum", "rate", "method", "seed", "objective", "epoch", "value"]
    rows = pd.DataFrame(rows, columns=columns).assign(metric="logloss", group="all")
    fig = experiment.controls.__wrapped__(rows)
    labels = [label.get_text() for label in fig.axes[1].get_yticklabels()]
    assert [axes.get_title() or axes.get_title("left") for axes in fig.axes] == list(data)
    assert labels == list(experiment.CONTROLS.values())


def test_a_day_is_compared_with_one_epoch_at_its_end():
    losses = {
        experiment.BASE: (9.0, 1.0),
        experiment.TAIL: (1.1, 0.9),
        experiment.BLENDED: (0.95, 0.9),
    }
    rows = [
        (setting, seed, objective, day + part, loss * day)
        for setting, (quarter, end) in losses.items()
        for day in range(1, 5)
        for part, loss in ((-0.75, quarter), (0.0, end))
        for seed in (20, 21)
        for objective in OBJECTIVES
    ]
    columns = ["setting", "seed", "objective", "epoch", "value"]
    rows = pd.DataFrame(rows, columns=columns).assign(metric="expected_logloss", group="all")
    found = experiment.gain(rows, experiment.TAIL, experiment.QUARTER)
    assert list(found.index) == [1, 2, 3, 4]
    assert found.to_numpy() == pytest.approx(10)
    served = experiment.later(rows, experiment.BLENDED, experiment.QUARTER)
    assert served.tolist() == pytest.approx([-5, -5])
    blended = experiment.later(rows, experiment.BLENDED, experiment.QUARTER, experiment.TAIL)
    assert blended.tolist() == pytest.approx([100 * (0.95 / 1.1 - 1)] * 2)
    at_end = experiment.later(rows, experiment.BLENDED, experiment.END, experiment.TAIL)
    assert at_end.tolist() == pytest.approx([0, 0])
