"""The figures of the own label, and its days, on made-up losses."""

import itertools

import pandas as pd

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
