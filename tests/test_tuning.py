"""Tuning finds the best point of a made-up landscape, and re-tuning replaces what it tuned."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from multiepoch.train.loop import NonFiniteLoss
from reproduction import command, records, tuning
from reproduction.runs import profile
from reproduction.tuning import Candidate

QUICK = profile("quick")


@pytest.fixture
def landscape(monkeypatch):
    """Replaces training by a bowl around (dense, embedding, hyperparameter) and notes the runs."""
    asked = []

    def around(dense, embedding, hyperparameter=None):
        def run_all(runs, profile, device, store, log):
            asked.extend(runs)
            off = [
                abs(run.dense_lr / dense - 1)
                + abs(run.embedding_lr / embedding - 1)
                + (run.hyperparameter != hyperparameter)
                for run in runs
            ]
            common = {
                "profile": "quick",
                "device": "cpu",
                "method": runs[0].method,
                "group": "all",
                "objective": "click",
                "samples": 1,
            }
            return pd.DataFrame(
                common
                | {
                    "seed": run.seed,
                    "setting": run.setting,
                    "epoch": float(run.epochs),
                    "metric": metric,
                    "value": value,
                }
                for run, distance in zip(runs, off)
                for metric, value in (("logloss", 1 + distance), ("constant_logloss", 2.0))
            )

        monkeypatch.setattr(tuning, "run_all", run_all)
        return asked

    return around


def best(trials):
    (row,) = trials[trials["best"]].itertuples()
    return row.dense_lr, row.embedding_lr, json.loads(row.hyperparameter)


def test_it_widens_the_grid_until_the_best_is_inside_and_then_turns_the_hyperparameter(landscape):
    asked = landscape(10**-1.5, 10**-3.5, "linear")
    trials = tuning.tune(Candidate("fal", 3), QUICK, "cpu")
    assert best(trials) == pytest.approx((10**-1.5, 10**-3.5, "linear"))
    assert set(trials["stage"]) == {"rates", "widened", "hyperparameter"}
    assert trials["score"].min() == pytest.approx(0.5)
    for rate in ("dense_lr", "embedding_lr"):
        assert trials[rate].min() < best(trials)[rate == "embedding_lr"] < trials[rate].max()
    assert {run.on for run in asked} == {"validation"}
    assert {run.seed for run in asked} == set(QUICK.tuning_seeds)


def test_a_shared_rate_stays_shared(landscape):
    landscape(1e-2, 1e-2)
    trials = tuning.tune(Candidate("plain", 1, shared=True), QUICK, "cpu")
    assert (trials["dense_lr"] == trials["embedding_lr"]).all()
    assert best(trials)[0] == pytest.approx(1e-2)


def test_only_some_are_tuned_again_and_the_others_are_kept(landscape, monkeypatch, tmp_path):
    landscape(1e-3, 1e-2)
    monkeypatch.setattr(records, "folder", lambda: tmp_path)
    path = tmp_path / "tuned.json"
    monkeypatch.setattr(tuning.write_tuned, "__defaults__", (path,))
    two = {c.name: c for c in (Candidate("plain", 1), Candidate("meda", 3))}
    monkeypatch.setattr(tuning, "CANDIDATES", two)
    assert command.command(["tuning", "--profile", "quick"]) == 0
    before = json.loads(path.read_text())
    landscape(1e-3, 10**-2.5)
    assert command.command(["tuning", "--profile", "quick", "--only", "meda"]) == 0
    after = json.loads(path.read_text())
    assert list(before) == list(after) == list(two)
    assert after["plain, 1 epoch"] == before["plain, 1 epoch"]
    assert after["meda, 3 epochs"]["embedding_lr"] == pytest.approx(10**-2.5)
    rows = records.read("tuning", "quick").rows
    assert rows.groupby("candidate")["best"].sum().tolist() == [1, 1]
    assert command.command(["tuning", "--profile", "quick", "--only", "nobody"]) == 2


def test_a_trial_that_diverges_loses_and_the_search_goes_on(landscape, monkeypatch):
    landscape(1e-3, 10**-2.5)
    calm = tuning.run_all

    def run_all(runs, *how):
        if any(run.embedding_lr > 1e-2 for run in runs):
            raise NonFiniteLoss("the loss is not finite")
        return calm(runs, *how)

    monkeypatch.setattr(tuning, "run_all", run_all)
    trials = tuning.tune(Candidate("plain", 1), QUICK, "cpu")
    assert best(trials)[:2] == pytest.approx((1e-3, 10**-2.5))
    assert (trials["score"][trials["embedding_lr"] > 1e-2] == np.inf).all()


def test_days_are_scored_after_the_first_two():
    rows = pd.DataFrame(
        {
            "profile": "quick",
            "device": "cpu",
            "method": "plain",
            "setting": "",
            "seed": 0,
            "group": "all",
            "objective": "click",
            "samples": 1,
            "epoch": [1.0, 2.0, 3.0, 4.0, 4.0],
            "metric": ["logloss"] * 4 + ["constant_logloss"],
            "value": [9.0, 9.0, 1.0, 3.0, 2.0],
        }
    )
    candidate = Candidate("plain", 2, days=4)
    assert tuning.score(rows, candidate).tolist() == [1.0]
    assert tuning.score(rows, replace(candidate, epochs=4, days=0)).tolist() == [1.5]
