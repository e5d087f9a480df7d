"""Interventions do what they say, runs are kept and paired, and measures are right by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from multiepoch.experiments import interventions, measure, runs
from multiepoch.experiments.methods import METHODS
from multiepoch.experiments.profiles import profile
from multiepoch.experiments.runs import Run, execute, over_seeds, run_all

TINY = replace(
    profile("quick"), n_users=300, n_products=200, n_campaigns=20, n_advertisers=5,
    impressions_per_day=1_000, batch_size=256, train_days=2, passes=2,
)  # fmt: skip
PLAIN = Run("plain", 0, 1e-3, 1e-2, passes=2)


@pytest.fixture(scope="module")
def window():
    return TINY.split(TINY.world(0))


def final(rows, objective="click"):
    end = rows[(rows.metric == "logloss") & (rows.group == "all") & (rows.objective == objective)]
    return end.set_index("epoch")["value"]


def test_the_split_is_in_the_order_of_time_and_shares_one_schema(window):
    train, validation, test = window
    assert train.day.max() < validation.day.min() <= validation.day.max() < test.day.min()
    assert train.schema == validation.schema == test.schema


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_deterministic(method):
    run = replace(PLAIN, method=method, knob=METHODS[method].knobs[0])
    first, second = execute(run, TINY), execute(run, TINY)
    pd.testing.assert_series_equal(final(first), final(second))
    assert np.isfinite(final(first)).all()
    # The first pass is the same for every method that only acts between passes.
    if METHODS[method].row_lr(run.knob) is None and METHODS[method].row_decay(run.knob) is None:
        assert final(first)[1.0] == final(execute(PLAIN, TINY))[1.0]


def test_methods_differ_in_the_second_pass():
    ends = [final(execute(replace(PLAIN, method=m, knob=METHODS[m].knobs[0]), TINY))[2.0]
            for m in METHODS]  # fmt: skip
    assert len(set(ends)) == len(METHODS)


def test_thinning_drops_positives_and_thins_the_truth(window):
    log = window[0]
    thin = interventions.thin(log, ("click",), 0.25, seed=0)
    assert thin.objectives == ("click",)
    assert (thin.labels <= log.labels[:, :1]).all()
    assert thin.labels.sum() / log.labels[:, 0].sum() == pytest.approx(0.25, abs=0.1)
    assert torch.equal(thin.p_true, log.p_true[:, :1] * 0.25)


def test_resampled_labels_are_a_funnel_with_the_same_rates(window):
    log = window[0]
    fresh = interventions.resample(log, seed=1)
    assert not torch.equal(fresh.labels, log.labels)
    assert (fresh.labels[:, 1:] <= fresh.labels[:, :-1]).all()
    assert torch.allclose(fresh.labels.mean(0), log.p_true.mean(0), atol=0.02)


@pytest.mark.parametrize(
    ("name", "what_moves"),
    [
        ("dense layers frozen", {"tables"}),
        ("tables frozen", {"dense"}),
        ("infrequent rows frozen", {"dense", "head"}),
        ("frequent rows frozen", {"dense", "tail"}),
    ],
)
def test_frozen_parts_stand_still_in_the_second_pass(name, what_moves, window, monkeypatch):
    seen = {}
    make = interventions.INTERVENTIONS[name]

    class Watch(interventions._FromSecondPass):
        def before_pass(self, index):
            super().before_pass(index)
            if index == 1:
                seen["before"] = {
                    k: v.detach().clone() for k, v in seen["model"].named_parameters()
                }

    def watched(model, every_pass, log, profile, run):
        data, inner = make(model, every_pass, log, profile, run)
        seen["model"], seen["log"] = model, log
        return data, Watch(inner, lambda: None)

    monkeypatch.setitem(interventions.INTERVENTIONS, name, watched)
    execute(replace(PLAIN, intervention=name), TINY)
    moved = set()
    for key, value in seen["model"].named_parameters():
        changed = (value != seen["before"][key]).reshape(len(value), -1).any(dim=1)
        if not key.startswith("tables."):
            moved |= {"dense"} if changed.any() else set()
            continue
        count = torch.bincount(seen["log"].ids[key.split(".")[1]], minlength=len(value))
        moved |= {"tail"} if changed[count < interventions.TAIL].any() else set()
        moved |= {"head"} if changed[count >= interventions.TAIL].any() else set()
    expected = (what_moves - {"tables"}) | ({"tail", "head"} if "tables" in what_moves else set())
    assert moved == expected


def test_other_data_comes_only_in_the_second_pass():
    plain = final(execute(PLAIN, TINY))
    for name in ("labels drawn anew", "fresh impressions"):
        other = final(execute(replace(PLAIN, intervention=name), TINY))
        assert other[1.0] == plain[1.0]
        assert other[2.0] != plain[2.0]


def test_runs_are_kept_and_a_stopped_call_goes_on(tmp_path, monkeypatch):
    todo = over_seeds(
        (0, 1), [replace(PLAIN, passes=1), replace(PLAIN, passes=1, embedding_lr=1e-3)]
    )
    whole = run_all(todo, TINY, "cpu", tmp_path / "a", log=lambda line: None)
    calls, original = [], runs.execute

    def stop_at_third(run, *arguments):
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(run, *arguments)

    monkeypatch.setattr(runs, "execute", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_all(todo, TINY, "cpu", tmp_path / "b", log=lambda line: None)
    lines = []
    again = run_all(todo, TINY, "cpu", tmp_path / "b", log=lines.append)
    assert lines[0] == "2 of 4 runs are kept from before"
    assert len(calls) == 5  # two finished, one stopped, then the two that were left
    seconds = whole.metric == "seconds"
    pd.testing.assert_frame_equal(whole[~seconds], again[~seconds])


def test_the_key_of_a_run_knows_all_it_depends_on():
    keys = {
        PLAIN.key(TINY, "cpu"),
        replace(PLAIN, seed=1).key(TINY, "cpu"),
        replace(PLAIN, knob=3).key(TINY, "cpu"),
        replace(PLAIN, world={"churn": 0.1}).key(TINY, "cpu"),
        PLAIN.key(replace(TINY, n_users=301), "cpu"),
        PLAIN.key(TINY, "cuda"),
    }
    assert len(keys) == 6
    assert PLAIN.key(TINY, "cpu") == PLAIN.key(replace(TINY, name="other", seeds=(5,)), "cpu")


def rows(**curves):
    """Rows of one method "m" from seed-0 click curves by setting: {epoch: logloss}."""
    return pd.DataFrame(
        [
            {"method": "m", "setting": setting, "seed": 0, "objective": "click", "group": "all",
             "metric": "logloss", "epoch": epoch, "samples": 1000 * epoch, "value": value}
            for setting, curve in curves.items()
            for epoch, value in curve.items()
        ]
    )  # fmt: skip


def test_measures_by_hand():
    table = rows(a={0.5: 0.6, 1.0: 0.5, 1.25: 0.55}, b={0.5: 0.5, 1.0: 0.4, 1.25: 0.4})
    jumps = measure.jump(table).droplevel(["method", "seed", "objective"])
    assert jumps["a"] == pytest.approx(10.0) and jumps["b"] == pytest.approx(0.0)
    difference = measure.worse(measure.at(measure.pick(table, "m", "b"), 1.0),
                               measure.at(measure.pick(table, "m", "a"), 1.0))  # fmt: skip
    assert difference.item() == pytest.approx(-20.0)
    assert measure.samples_to(measure.pick(table, "m", "a"), 0.55) == pytest.approx(750.0)
    assert measure.samples_to(measure.pick(table, "m", "a"), 0.3) == float("inf")
    with pytest.raises(ValueError, match="no logloss at epoch 3"):
        measure.at(table, 3.0)


def test_a_gpu_asked_for_in_vain_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runs.resolve("auto") == "cpu"
    with pytest.raises(ValueError, match="torch sees no GPU"):
        runs.resolve("cuda")
    with pytest.raises(ValueError, match="choose from quick, cpu, long, gpu"):
        profile("huge")
