"""Chapter 12 on KuaiRand: what is run, with which labels, and what the evidence is made of."""

import pandas as pd
import pytest

from multiepoch.data import PACKAGED_SPLIT, load_kuairand, split_by_day
from multiepoch.train.evaluation import frequency_edges, frequency_groups
from reproduction import measure
from reproduction.ch12_real_logs import experiment as real_logs
from reproduction.ch12_real_logs.experiment import ONE_EPOCH, TUNED, WITH, WITHOUT, setting
from reproduction.runs import profile
from reproduction.tuning import Tuned


@pytest.fixture
def rates(monkeypatch):
    """Rates by method and epochs, so that the tests need no tuned ones."""
    found = {
        ("plain", 1): Tuned(1e-3, 2e-2, None),
        ("fal", 3): Tuned(1e-3, 3e-3, "linear"),
        ("tail_rewind", 3): Tuned(1e-3, 1e-2, 50),
    }
    monkeypatch.setattr(
        real_logs,
        "tuned",
        lambda name, epochs, data: found.get((name, epochs), Tuned(1e-3, 1e-2, None)),
    )


def test_no_run_is_there_twice_and_each_setting_has_the_methods_that_it_compares(rates):
    todo = real_logs.runs(epochs=4)
    names = [(run.method, run.setting) for run in todo]
    assert len(set(names)) == len(names)
    by_setting = pd.Series([run.method for run in todo]).groupby([run.setting for run in todo])
    methods = by_setting.apply(set)
    assert len(methods[setting(WITH, TUNED)]) == 6
    assert methods[setting(WITHOUT, TUNED)] == methods[setting(WITH, ONE_EPOCH)]
    assert methods[setting(WITHOUT, ONE_EPOCH)] == {"plain", "fal"}
    for run in todo:
        assert run.data == "kuairand" and run.cross == (WITH in run.setting)


def test_at_the_rates_for_one_epoch_all_share_them_and_fal_has_the_logarithm(rates):
    mine = {run.method: run for run in real_logs.runs(3) if run.setting == setting(WITH, ONE_EPOCH)}
    assert {(run.dense_lr, run.embedding_lr) for run in mine.values()} == {(1e-3, 2e-2)}
    assert mine["fal"].hyperparameter == "log" and mine["tail_rewind"].hyperparameter == 50
    assert mine["plain"].group_by == real_logs.CROSS


def test_the_quick_runs_are_a_part_of_the_others(rates):
    quick, every = real_logs.quick_runs(), real_logs.runs(3)
    assert {(run.method, run.setting) for run in quick} < {(r.method, r.setting) for r in every}


def test_each_label_by_itself_and_click_made_as_rare_as_like():
    window, _, test = split_by_day(load_kuairand(), **PACKAGED_SPLIT)
    click, like = window.labels[:, :1], window.labels[:, 2:]
    for name, labels in ((real_logs.CLICK_ALONE, click), (real_logs.LIKE_ALONE, like)):
        mine = real_logs.label_ablation_logs(name, seed=0)[0]
        assert mine.labels.equal(labels) and len(mine.objectives) == 1
    assert real_logs.label_ablation_logs(real_logs.HEAVY_LIKE, seed=0)[0].labels.equal(
        window.labels
    )
    rare, rare_test = real_logs.label_ablation_logs(real_logs.RARE_CLICK, seed=0)
    assert rare.objectives == ("click",)
    assert rare.labels.mean().item() == pytest.approx(like.mean().item(), rel=0.1)
    assert (rare.labels <= click).all() and (rare_test.labels <= test.labels[:, :1]).all()
    other = real_logs.label_ablation_logs(real_logs.RARE_CLICK, seed=1)[0]
    assert not rare.labels.equal(other.labels)


def test_the_label_ablation_of_a_label_is_trained_as_its_name_says(rates, monkeypatch):
    seen = []

    def stop(model, optimizer, window, **options):
        rate = optimizer.embedding.param_groups[0]["lr"]
        seen.append((model.schema.objectives, rate, options["loss_weights"]))
        assert options["batch_size"] == 512
        columns = ["split", "epoch", "samples", "group", "objective", "metric", "value"]
        row = ["test", 1.0, 1, "all", "like", "logloss", 0.1]
        return pd.DataFrame([row, ["running", *row[1:]]], columns=columns)

    monkeypatch.setattr(real_logs, "train", stop)
    for name in (real_logs.LIKE_ALONE, real_logs.HEAVY_LIKE, real_logs.SLOW_TABLES):
        rows = real_logs.label_ablation(
            name, profile("quick"), "cpu", seed=3, log=lambda line: None
        )
        assert rows[["seed", "method", "setting"]].values.tolist() == [[3, "plain", name]]
    all_three, heavy = ("click", "long_view", "like"), {"like": real_logs.LIKE_WEIGHT}
    expected = [(("like",), 2e-2, None), (all_three, 2e-2, heavy), (all_three, 2e-3, None)]
    assert seen == expected


def test_the_groups_by_frequency_are_never_once_and_more_often():
    window, _, test = split_by_day(load_kuairand(), **PACKAGED_SPLIT)
    assert frequency_edges(window, test, real_logs.CROSS).unique().tolist() == [1, 2]
    group = frequency_groups(window, test, real_logs.CROSS).unique().tolist()
    table = pd.DataFrame(
        [
            {
                "method": "plain",
                "setting": setting(WITH, ONE_EPOCH),
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
