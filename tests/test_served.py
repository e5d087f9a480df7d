"""C13 on made-up losses whose effects are known, and its runs."""

import pandas as pd
import pytest

from reproduction import judge
from reproduction.own_label import served
from reproduction.own_label.served import BLEND, RATES, SOURCES
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


def test_what_is_held_back_is_the_end_of_the_epoch_before():
    found = served.held_back(made_up(), "KuaiRand").mean()
    assert found[1.25] == pytest.approx(-0.5, abs=0.02)
    assert found[[2.1, 3.5]].to_list() == pytest.approx([100 * (0.995 / 0.99 - 1)] * 2, abs=0.02)
