"""Tuning finds the best point of a made-up landscape, and re-tuning replaces what it tuned."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from reproduction import command, records, tuning
from reproduction.runs import profile
from reproduction.tuning import Candidate

QUICK = profile("quick")


@pytest.fixture
def landscape(monkeypatch):
    """Replaces training by a bowl around (dense, embedding, hyperparameter) and notes the runs."""
    asked = []

    def around(dense, embedding, hyperparameter=None):
        def run_all(runs, profile, device):
            asked.extend(runs)
            off = [
                abs(run.dense_lr / dense - 1)
                + abs(run.embedding_lr / embedding - 1)
                + (run.hyperparameter != hyperparameter)
                for run in runs
            ]
            common = {"group": "all", "objective": "click"}
            return pd.DataFrame(
                common
                | {
                    "seed": run.seed,
                    "trial": run.about["trial"],
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


def test_a_design_tries_all_values_and_pairs_about_as_often():
    axes = {"embedding_lr": (1, 2, 3, 4), "hyperparameter": "abcd", "dense_factor": (1.0, 0.1)}
    points = tuning.design(axes, 8)
    assert len(set(points)) == 8
    for a, b in ((0, 2), (1, 2)):
        assert len({(point[a], point[b]) for point in points}) == 8
    assert len(tuning.design({"dense_lr": (1, 2), "dense_factor": (1.0,)}, 8)) == 2


@pytest.mark.parametrize("candidate", tuning.CANDIDATES.values(), ids=lambda one: one.name)
def test_every_design_varies_each_axis_evenly(candidate):
    axes = candidate.axes()
    points = tuning.design(axes, candidate.n_trials[0])
    for k, values in enumerate(axes.values()):
        times = Counter(point[k] for point in points)
        assert max(times.values()) - min(times.values()) <= 2 and len(times) == len(values)


def test_it_goes_beyond_the_edge_until_the_best_is_inside_or_the_trials_are_spent(landscape):
    asked = landscape(10**-1.5, 10**-3.5, "linear")
    trials = tuning.tune(Candidate("fal", 3), QUICK, "cpu")
    assert set(trials["stage"]) == {"design", "widened"} and len(trials) <= 24
    assert trials["dense_lr"].max() > 10**-2.5 and trials["embedding_lr"].min() < 1e-3
    rates, edge = best(trials), trials["edge"].iloc[0]
    for k, rate in enumerate(("dense_lr", "embedding_lr")):
        inside = trials[rate].min() < rates[k] < trials[rate].max()
        assert inside == (rate not in edge)
    assert {run.on for run in asked} == {"validation"}
    assert {run.seed for run in asked} == set(QUICK.tuning_seeds)


def test_the_points_that_a_candidate_is_judged_by_are_those_it_is_evaluated_at(landscape):
    asked = landscape(1e-3, 1e-2)
    tuning.tune(Candidate("plain", 4, at=(3.25, 4.0)), QUICK, "cpu")
    assert {(run.epochs, run.evaluate_epochs, run.evaluate_at) for run in asked} == {
        (4, (3,), (0.25, 1.0))
    }


def test_the_next_value_past_an_edge():
    assert tuning.beyond("embedding_lr", [0.1, 0.3, 1.0], 1.0) == pytest.approx(1 / 0.3)
    assert tuning.beyond("dense_factor", [1.0, 0.1], 1.0) is None
    assert tuning.beyond("dense_factor", [1.0, 0.1], 0.1) == pytest.approx(0.01)
    assert tuning.beyond("hyperparameter", [2, 5, 10, 30], 30) == 90
    assert tuning.beyond("hyperparameter", [1, 2, 4, 8], 1) is None
    assert tuning.beyond("hyperparameter", ["log", "linear"], "log") is None
    assert tuning.beyond("hyperparameter", [None], None) is None


def test_a_shared_rate_stays_shared(landscape):
    landscape(1e-2, 1e-2)
    trials = tuning.tune(Candidate("plain", 1, shared=True), QUICK, "cpu")
    assert (trials["dense_lr"] == trials["embedding_lr"]).all()
    assert best(trials)[0] == pytest.approx(1e-2)


def test_by_default_the_board_is_not_tuned(monkeypatch):
    tried = []

    def tune(candidate, *_):
        tried.append(candidate)
        return pd.DataFrame()

    monkeypatch.setattr(tuning, "tune", tune)
    tuning.run(QUICK)
    assert len(tried) == 16 and not any(one.board for one in tried)
    tried.clear()
    tuning.run(QUICK, only=", board")
    assert tried and all(one.board for one in tried)


def test_only_some_are_tuned_again_and_the_others_are_kept(landscape, monkeypatch, tmp_path):
    landscape(1e-3, 1e-2)
    monkeypatch.setattr(records, "folder", lambda: tmp_path)
    path = tmp_path / "tuned.json"
    monkeypatch.setattr(tuning, "_TUNED", path)
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
        rows = calm(runs, *how)
        wild = rows["trial"].isin([r.about["trial"] for r in runs if r.embedding_lr > 1e-2])
        # Its only point is not one that it is judged at.
        loss = wild & (rows["metric"] == "logloss")
        return rows.assign(epoch=rows["epoch"].where(~loss, 9.0))

    monkeypatch.setattr(tuning, "run_all", run_all)
    trials = tuning.tune(Candidate("plain", 1), QUICK, "cpu")
    assert best(trials)[:2] == pytest.approx((1e-3, 10**-2.5))
    assert (trials["score"][trials["embedding_lr"] > 1e-2] == np.inf).all()


def test_days_are_scored_after_the_first_two():
    common = {"trial": 0, "seed": 0, "group": "all", "objective": "click"}
    losses = {1.0: 9.0, 2.0: 9.0, 3.0: 1.0, 4.0: 3.0}
    rows = pd.DataFrame(
        [common | {"epoch": e, "metric": "logloss", "value": v} for e, v in losses.items()]
        + [common | {"epoch": 4.0, "metric": "constant_logloss", "value": 2.0}]
    )
    for candidate, expected in (
        (Candidate("plain", 2, days=4), 1.0),
        (Candidate("plain", 4), 1.5),
        (Candidate("plain", 4, at=(2.0, 3.0)), 2.5),
    ):
        assert tuning.score(rows, candidate.judged).tolist() == [expected]


def test_the_board_searches_leave_one_out_rows_at_rates_of_their_own():
    point = {"embedding_lr": 0.1, "dense_lr": 1e-3, "hyperparameter": 100, "dense_factor": 1.0}
    candidate = tuning.on_board("leave_one_out_votes")
    assert candidate.run(0, 0, point).embedding_lr == pytest.approx(0.3)


def test_the_searches_for_both_ends_of_the_board_share_their_runs():
    point = {"embedding_lr": 0.1, "dense_lr": 1e-3, "hyperparameter": None, "dense_factor": 1.0}
    early, late = (tuning.on_board("meda", epochs=epochs) for epochs in tuning.BOARD_EPOCHS)
    assert early.judged == (2.0,) and late.judged == (4.0,)
    assert early.run(0, 0, point) == late.run(0, 0, point)


def test_the_committed_rates_are_the_best_of_the_committed_search():
    rows = records.read(tuning.NAME, "long").rows
    boards = [name for name, one in tuning.CANDIDATES.items() if one.board]
    for name, trials in rows[rows["candidate"].isin(boards)].groupby("candidate"):
        best = trials[trials["best"]].squeeze()
        found = tuning.chosen(tuning.CANDIDATES[name])
        assert best["score"] == trials["score"].min()
        assert (found.dense_lr, found.embedding_lr, found.dense_factor) == (
            best["dense_lr"],
            best["embedding_lr"],
            best["dense_factor"],
        )
        assert found.hyperparameter == json.loads(best["hyperparameter"])
