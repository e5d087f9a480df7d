"""KuaiRand: what is run, and what is measured."""

import pandas as pd
import pytest

from multiepoch_lab.data import PACKAGED_SPLIT, load_kuairand, split_by_day
from multiepoch_lab.train.evaluation import frequency_edges, frequency_groups
from reproduction import measure
from reproduction.ch12_real_logs import experiment as real_logs
from reproduction.ch12_real_logs.experiment import WITH


def test_the_groups_by_frequency_are_never_once_and_more_often():
    window, _, test = split_by_day(load_kuairand(), **PACKAGED_SPLIT)
    assert frequency_edges(window, test, real_logs.CROSS).unique().tolist() == [1, 2]
    group = frequency_groups(window, test, real_logs.CROSS).unique().tolist()
    table = pd.DataFrame(
        [
            {
                "method": "plain",
                "setting": WITH,
                "seed": 0,
                "objective": "click",
                "group": name,
                "metric": "logloss",
                "epoch": epoch,
                "value": 0.5 * (1 + rise * (epoch > 1)),
            }
            for name, rise in [("all", 0.2), *zip(map(str, group), (0.1, 0.2, 0.4))]
            for epoch in (1.0, 1.25)
        ]
    )
    found = real_logs.jump_by_frequency(table)
    assert found["never"].item() == pytest.approx(10.0)
    assert found["more often"].item() == pytest.approx(40.0)


def test_against_pairs_by_seed_and_epoch():
    columns = ["method", "seed", "epoch", "value"]
    points = [
        ["fal", 0, 1.0, 0.51],
        ["meda", 0, 1.0, 0.5],
        ["fal", 1, 1.0, 0.5],
        ["meda", 1, 1.0, 0.4],
        ["fal", 0, 2.0, 0.3],
        ["meda", 0, 2.0, 0.6],
    ]
    table = pd.DataFrame(points, columns=columns)
    table = table.assign(setting="s", objective="click", group="all", metric="logloss")
    found = measure.against(table, "fal", "meda", setting="s")
    assert found.loc[0, 1.0] == pytest.approx(2.0)
    assert found.loc[1, 1.0] == pytest.approx(25.0)
    assert found.loc[0, 2.0] == pytest.approx(-50.0)
