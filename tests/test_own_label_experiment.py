"""Chapter 9 on made-up losses whose effects are known, and its runs."""

import itertools

import pandas as pd
import pytest

from reproduction import judge
from reproduction.own_label import experiment
from reproduction.own_label.experiment import ENDS, INSIDE, REWINDS, STRATA, TENTHS
from reproduction.runs import profile
from tests.judged import verdicts

DATA = ("AdsWorld", "KuaiRand")
OBJECTIVES = ("click", "checkout")
# Loss of each method by point of an epoch from the second on; one plain epoch has 1.
INSIDE_LOSS = {"plain": 1.4, "meda": 1.05, "meda_blend": 1.0, "tail_rewind": 1.03}
INSIDE_LOSS["tail_rewind_blend"] = 0.99


def made_up(seeds=range(20, 24), **changed) -> pd.DataFrame:
    rows = []

    def add(stratum, rate, method, seed, epoch, loss):
        for k, objective in enumerate(OBJECTIVES):
            value = loss * (1 + k) * (1 + 1e-5 * ((seed * 7919 + k) % 13))
            rows.append((stratum, rate, method, seed, objective, epoch, value))

    for one in itertools.chain(*STRATA.values()):
        worse = 1 + 0.01 * (one.embedding_lr != 0.1)  # the best rate is 0.1
        for seed in seeds:
            inside = changed.get(one.method, INSIDE_LOSS[one.method])
            points = {1.0: 1.0, **dict.fromkeys((*INSIDE, *TENTHS), inside)}
            points |= dict.fromkeys(ENDS, 0.97)
            for epoch, loss in points.items():
                add(*one.about.values(), seed, epoch, loss * worse)
    columns = ["stratum", "rate", "method", "seed", "objective", "epoch", "value"]
    return pd.DataFrame(rows, columns=columns).assign(metric="logloss", group="all")


def test_made_up_losses_get_their_verdicts():
    assert verdicts(experiment.judge(made_up()), "C13") == {"C13": "as predicted"}
    dips = made_up(tail_rewind_blend=1.04)
    assert verdicts(experiment.judge(dips), "C13") == {"C13": "partly as predicted"}


def test_every_measure_is_predicted_and_has_its_points():
    evidence = experiment.judge(made_up())
    mine = {("C13", m.name) for m in judge.claim("C13").measures}
    assert set(zip(evidence["claim"], evidence["measure"])) == mine
    points = evidence.groupby("measure")["point"].nunique()
    assert points["tail_inside"] == 2 * 3 * 6
    assert points["one_epoch"] == 2 * 9
    assert "C13 · Blended serving has no dip: **as predicted**" in judge.table(evidence)


def test_each_is_compared_at_its_best_rate():
    rows = made_up()
    assert experiment.best_rate(rows, "AdsWorld", "plain", 1.0) == 0.1
    found = experiment.against_one_epoch(rows, "AdsWorld").mean()
    assert found[1.25] == pytest.approx(-1, abs=0.1) and found[4.0] == pytest.approx(-3, abs=0.1)


def test_the_figures_show_both_data_sets_and_every_remedy():
    rows = made_up()
    plain = rows[rows["method"] == "plain"]
    strata = {"in_sample": ", sums", "leave_one_out": ", sums", "two_fold": ", two-fold"}
    of_controls = pd.concat(
        plain[plain["stratum"] == data].assign(method=name, stratum=data + stratum)
        for data in DATA
        for name, stratum in strata.items()
    )
    fig = experiment.controls.__wrapped__(of_controls)
    labels = [label.get_text() for label in fig.axes[1].get_yticklabels()]
    assert [axes.get_title() or axes.get_title("left") for axes in fig.axes] == list(DATA)
    assert labels == list(experiment.CONTROLS.values())
    fig = experiment.served.__wrapped__(rows)
    assert {line.get_label() for line in fig.axes[0].lines} >= set(experiment.LOOKS)


def test_runs_have_names_of_their_own_and_strata_are_refused_by_name():
    names = [tuple(run.about.values()) for runs in STRATA.values() for run in runs]
    assert len(set(names)) == len(names)
    assert {run.method for run in STRATA["AdsWorld"]} == set(REWINDS)
    with pytest.raises(ValueError, match="no stratum is named 'AdsWorlds'; there are AdsWorld"):
        experiment.run(profile("quick"), "cpu", only="AdsWorlds")
