"""C13 on made-up losses whose effects are known, and its runs."""

from dataclasses import replace

import pandas as pd
import pytest

from reproduction import judge
from reproduction.own_label import served
from reproduction.own_label.served import BLEND, COMPARED, RATES, SOURCES
from reproduction.runs import profile
from tests.judged import verdicts

# Loss of each method within an epoch from the second on; one plain epoch has 1.
WITHIN = {"plain": 1.4, "meda": 1.05, "meda_blend": 1.0, "tail_rewind": 1.03, BLEND: 0.995}
BEST = RATES[1]


def made_up(seeds=range(30, 34), **changed) -> pd.DataFrame:
    rows = []
    for one in (run for data in SOURCES for run in served.runs(data)):
        worse = 1 + 0.01 * (one.embedding_lr != BEST)
        within = changed.get(one.method, WITHIN[one.method])
        points = {1.0: 1.0, **dict.fromkeys(served.WITHIN, within)}
        points |= dict.fromkeys((2.0, 3.0, 4.0), 0.99)
        for seed in seeds:
            for k, objective in enumerate(("click", "checkout")):
                for epoch, loss in points.items():
                    noise = 1 + 1e-5 * ((seed * 7919 + k) % 13) * epoch
                    of = {"method": one.method, "seed": seed, "objective": objective}
                    at = {"epoch": epoch, "value": loss * worse * (1 + k) * noise}
                    rows.append(one.about | of | at)
    return pd.DataFrame(rows).assign(metric="logloss", group="all")


def test_made_up_losses_get_their_verdicts():
    assert verdicts(served.judge(made_up()), "C13") == {"C13": "as predicted"}
    dips = served.judge(made_up(**{BLEND: 1.02}))
    status = {one.measure.name: one.status for one in judge.weigh(judge.claim("C13"), dips)}
    assert status["dip"] == status["held_above"] == "fails" and status["tail_inside"] == "holds"


def test_every_measure_is_predicted_and_has_its_points():
    evidence = served.judge(made_up())
    assert set(evidence["measure"]) == {m.name for m in judge.claim("C13").measures}
    points = evidence.groupby("measure")["point"].nunique()
    assert points["tail_inside"] == points["held_below"] == 2 * 3 * 6
    assert points["dip"] == 2 * 3 * 9


def test_what_is_held_back_is_the_end_of_the_epoch_before():
    found = served.held_back(made_up(), "KuaiRand").mean()
    assert found[1.25] == pytest.approx(-0.5, abs=0.02)
    assert found[[2.1, 3.5]].to_list() == pytest.approx([100 * (0.995 / 0.99 - 1)] * 2, abs=0.02)


def test_the_figure_shows_every_remedy():
    fig, _ = served.served.__wrapped__(made_up())
    assert {line.get_label() for line in fig.axes[0].lines} >= set(served.LOOKS)


def test_each_rate_trains_every_method_under_the_rule_of_the_default_setting():
    runs = served.runs("KuaiRand")
    assert {(run.method, run.embedding_lr) for run in runs} == {
        (method, rate) for method in COMPARED for rate in RATES
    }
    assert {run.rule for run in runs} == {"rowwise_adagrad"}


@pytest.mark.slow
def test_it_runs_at_a_small_size(tmp_path, monkeypatch):
    small = replace(profile("quick"), impressions_per_day=1_500)
    todo = served.runs("AdsWorld", rates=(BEST,))
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path))
    rows = served.run(small, "cpu", (0, 1), todo)
    assert set(served.judge(rows)["measure"]) == {m.name for m in judge.claim("C13").measures}
    at_end = rows[rows["epoch"] == 2.0].pivot_table("value", ["seed", "objective"], "method")
    assert at_end["tail_rewind"].equals(at_end[BLEND].rename("tail_rewind"))
