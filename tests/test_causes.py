"""C5 and C12 on made-up losses whose effects are known."""

import pandas as pd
import pytest

from reproduction.second_epoch import causes
from tests.judged import verdicts

SEEDS = range(30, 34)
JUMP, RISE = 0.20, 0.30  # of plain training, from the end of epoch 1
LEFT = {"infrequent rows frozen": 0.9, "dense layers frozen": 0.1, "labels drawn anew": 0.02}


def made_up(two_fold=0.1, own=0.001) -> pd.DataFrame:
    rows = []

    def add(run, claim, seed, part, group="all", more=0.0):
        ends = {1.0: 1.0, 1.25: 1 + part * (JUMP + more), 2.0: 1 + part * RISE}
        for k, objective in enumerate(("click", "like")):
            for epoch, loss in ends.items():
                noise = 1 + 1e-4 * ((seed * 7919 + k) % 13) * (epoch - 1)
                at = {"claim": claim, "seed": seed, "setting": run.setting, "method": run.method}
                point = {"objective": objective, "epoch": epoch, "group": group}
                rows.append(at | run.about | point | {"value": loss * noise})

    for data in causes.DATA:
        for seed in SEEDS:
            for run in causes.interventions(data):
                add(run, "C5", seed, LEFT.get(run.setting, 1.0))
                if run.group_by:
                    add(run, "C5", seed, 1.0, "0", 0.05)
                    add(run, "C5", seed, 1.0, "9", -0.05)
            for run in causes.own_label(data):
                part = {"two_fold": two_fold, "leave_one_out_votes": own / JUMP}
                add(run, "C12", seed, part.get(run.method, 1.0))
    return pd.DataFrame(rows).assign(metric="logloss")


def test_made_up_losses_get_their_verdicts():
    def judged(**changed):
        return verdicts(causes.judge(made_up(**changed)), "C5", "C12")

    assert judged() == {"C5": "as predicted", "C12": "as predicted"}
    assert judged(two_fold=0.4)["C12"] == "partly as predicted"
    assert judged(own=0.02)["C12"] == "partly as predicted"


def test_shares_are_counted_from_plains_mean_change():
    rows = made_up()
    change = causes.changes(rows)
    found = {tuple(at): (plain, share) for *at, plain, share in causes.left(change, "KuaiRand")}
    plain, share = found[True, "Adam", causes.RATES["Adam"][1]]
    assert plain["all"] == pytest.approx(100 * JUMP, abs=0.1)
    assert share["like"].mean() == pytest.approx(10, abs=0.5)
    gone = causes.gone(change, "AdsWorld", "Adam").mean()
    assert gone["infrequent rows frozen"] == pytest.approx(10, abs=0.5)
    assert causes.tenths(rows, "AdsWorld", "Adam").mean() == pytest.approx(10, abs=0.5)


def test_only_the_made_world_gives_labels_anew():
    settings = {data: {run.setting for run in causes.interventions(data)} for data in causes.DATA}
    assert settings["AdsWorld"] - settings["KuaiRand"] == set(causes.NEED_TRUTH)
