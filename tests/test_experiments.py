"""Interventions do what they say, runs are kept and paired, and measures are right by hand."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from multiepoch_lab.data import DataError
from multiepoch_lab.model import ConversionModel
from reproduction import measure, tuning
from reproduction.ch11_new_data_every_day import experiment as continual
from reproduction.remedies.board import BOARD, METHODS
from reproduction.runs import (
    Run,
    execute,
    interventions,
    mapped,
    over_seeds,
    profile,
    run_all,
    sources,
)
from reproduction.runs import run as runs
from reproduction.tuning import Tuned

TINY = replace(
    profile("quick"),
    n_users=300,
    n_products=200,
    n_campaigns=20,
    n_advertisers=5,
    impressions_per_day=1_000,
    batch_size=256,
    train_days=2,
    epochs=2,
)
COMPARED = ("plain", "fal", "meda", "adamar", "tail_rewind")
PLAIN = Run("plain", 0, 1e-3, 1e-2, epochs=2)


@pytest.fixture(scope="module")
def window():
    return TINY.split(TINY.world(0))


@pytest.fixture(scope="module")
def ended():
    """Returns the click losses by epoch of a run, which several tests compare others with."""
    kept = {}

    def ended(run):
        if (key := run.key(TINY, "cpu")) not in kept:
            kept[key] = final(execute(run, TINY))
        return kept[key]

    return ended


def final(rows, objective="click"):
    end = rows[(rows.metric == "logloss") & (rows.group == "all") & (rows.objective == objective)]
    return end.set_index("epoch")["value"]


def test_the_split_is_in_the_order_of_time_and_shares_one_schema(window):
    train, validation, test = window
    assert train.day.max() < validation.day.min() <= validation.day.max() < test.day.min()
    assert train.schema == validation.schema == test.schema


@pytest.mark.parametrize("method", [m for m in METHODS if m in COMPARED or m not in BOARD])
def test_every_method_trains_and_is_deterministic(method, ended):
    given = 20 if METHODS[method].hyperparameter == "tau" else METHODS[method].grid[0]
    run = replace(PLAIN, method=method, hyperparameter=given)
    first, second = ended(run), final(execute(run, TINY))
    pd.testing.assert_series_equal(first, second)
    assert np.isfinite(first).all()
    # The first epoch is the same for every method that only acts between epochs.
    if method in ("meda", "tail_rewind"):
        assert first[1.0] == ended(PLAIN)[1.0]


@pytest.mark.parametrize("name", ["tail_rewind", "meda"])
def test_blending_changes_what_is_served_within_epochs_and_not_what_is_trained(name, ended):
    tau = METHODS[name].grid[0]
    plain, blend = (
        ended(replace(PLAIN, method=m, hyperparameter=tau)) for m in (name, f"{name}_blend")
    )
    for epoch in (1.0, 2.0):
        assert plain[epoch] == pytest.approx(blend[epoch], rel=1e-6)
    assert abs(plain[1.25] - blend[1.25]) > 1e-4


def test_methods_differ_in_the_second_epoch(ended):
    ends = [
        ended(replace(PLAIN, method=m, hyperparameter=METHODS[m].grid[0]))[2.0] for m in COMPARED
    ]
    assert len(set(ends)) == len(COMPARED)


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
def test_frozen_parts_stand_still_in_the_second_epoch(name, what_moves, window, monkeypatch):
    seen = {}
    make = interventions.INTERVENTIONS[name]

    class Watch(interventions.FromSecondEpoch):
        def before_epoch(self, index):
            super().before_epoch(index)
            if index == 1:
                seen["before"] = {
                    k: v.detach().clone() for k, v in seen["model"].named_parameters()
                }

    def watched(model, every_epoch, log, profile, run):
        data, inner = make(model, every_epoch, log, profile, run)
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


def test_other_data_comes_only_in_the_second_epoch(ended):
    plain = ended(PLAIN)
    for name in ("labels drawn anew", "fresh impressions"):
        other = ended(replace(PLAIN, intervention=name))
        assert other[1.0] == plain[1.0]
        assert other[2.0] != plain[2.0]


def test_runs_are_kept_and_a_stopped_call_goes_on(tmp_path, monkeypatch, capsys):
    todo = over_seeds(
        (0, 1), [replace(PLAIN, epochs=1), replace(PLAIN, epochs=1, embedding_lr=1e-3)]
    )
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path / "a"))
    whole = run_all(todo, TINY, "cpu")
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path / "b"))
    calls, original = [], runs.execute

    def stop_at_third(run, **how):
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(run, **how)

    monkeypatch.setattr(runs, "execute", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_all(todo, TINY, "cpu")
    capsys.readouterr()
    again = run_all(todo, TINY, "cpu")
    assert capsys.readouterr().out.startswith("2 of 4 runs are kept from before\n")
    assert len(calls) == 5  # two finished, one stopped, then the two that were left
    seconds = whole.metric.isin(["seconds", "cpu_seconds"])
    pd.testing.assert_frame_equal(whole[~seconds], again[~seconds])


def test_a_worker_refuses_code_that_its_parent_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="the code has changed since this call began"):
        runs._keep(pd.DataFrame, "another", {"x": [1]}, tmp_path / "run.parquet")
    assert not list(tmp_path.iterdir())


def test_runs_on_a_mapped_window_are_those_on_one_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIEPOCH_RUNS", str(tmp_path))
    logs = sources.window(TINY, seed=0)
    with mapped(TINY) as shared:
        assert PLAIN.key(shared, "cpu") == PLAIN.key(TINY, "cpu")
        sources.window(shared, seed=0)
        (file,) = tmp_path.glob("windows/*.pt")
        made = file.stat().st_mtime_ns
        sources._window.cache_clear()  # as another process would ask
        others = sources.window(shared, seed=0)
        assert file.stat().st_mtime_ns == made
        assert final(execute(PLAIN, shared)).equals(final(execute(PLAIN, TINY)))
    for log, other in zip(logs, others):
        assert log.schema == other.schema and torch.equal(log.ids["user"], other.ids["user"])
        assert torch.equal(log.labels, other.labels)
    assert not list(tmp_path.glob("windows/*"))
    with mapped(TINY) as shared, mapped(TINY):
        sources.window(shared, seed=1)
        with mapped(TINY):
            pass
        assert list(tmp_path.glob("windows/*.pt")), "a call leaves what another still reads"


def test_another_file_of_kuairand_has_runs_and_windows_of_its_own(tmp_path, monkeypatch):
    run, path = replace(PLAIN, data="kuairand"), tmp_path / "part.parquet"
    keys = {run.key(TINY, "cpu")}
    for n in (1, 2):
        path.write_bytes(b"x" * n)
        monkeypatch.setenv("MULTIEPOCH_KUAIRAND", str(path))
        keys.add(run.key(TINY, "cpu"))
        with pytest.raises(DataError, match=r"part\.parquet"):
            sources.window(TINY, "kuairand")
    monkeypatch.setenv("MULTIEPOCH_KUAIRAND", "https://example.org/part.parquet")
    assert len(keys | {run.key(TINY, "cpu")}) == 4


def test_the_key_of_a_run_knows_all_it_depends_on():
    keys = {
        PLAIN.key(TINY, "cpu"),
        replace(PLAIN, seed=1).key(TINY, "cpu"),
        replace(PLAIN, hyperparameter=3).key(TINY, "cpu"),
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
            {
                "method": "m",
                "setting": setting,
                "seed": 0,
                "objective": "click",
                "group": "all",
                "metric": "logloss",
                "epoch": epoch,
                "samples": 1000 * epoch,
                "value": value,
            }
            for setting, curve in curves.items()
            for epoch, value in curve.items()
        ]
    )


def test_measures_by_hand():
    table = rows(a={0.5: 0.6, 1.0: 0.5, 1.25: 0.55}, b={0.5: 0.5, 1.0: 0.4, 1.25: 0.4})
    jumps = measure.jump(table).droplevel(["method", "seed", "objective"])
    assert jumps["a"] == pytest.approx(10.0) and jumps["b"] == pytest.approx(0.0)
    ends = (measure.losses(table, setting=name, epoch=1.0) for name in ("b", "a"))
    difference = measure.relative(*ends)
    assert difference.item() == pytest.approx(-20.0)
    with pytest.raises(ValueError, match="no logloss at epoch 3"):
        measure.losses(table, epoch=3.0)


def days(**lines):
    """Rows of days 1, 2, ...: by setting, the loss by day."""
    found = rows(**{name: dict(enumerate(values, start=1)) for name, values in lines.items()})
    return found.assign(metric=measure.EXPECTED)


def test_gains_by_day_by_hand():
    gains = (-4.0, -3.0, -2.0, -1.0, 0.0)  # in %
    table = days(
        **{continual.ONE_EPOCH: [0.5] * 5, "ours": [0.5 * (1 + gain / 100) for gain in gains]}
    )
    found = continual.gain(table, "ours")
    assert found[0].tolist() == pytest.approx(gains)
    assert continual.last_days(found)[0] == pytest.approx(-1.0)
    assert continual.slope(found)[0] == pytest.approx(1.0)
    bent = days(**{continual.ONE_EPOCH: [0.5] * 4, "ours": [0.4, 0.5, 0.51, 0.52]})
    assert continual.slope(continual.gain(bent, "ours"), first=2)[0] == pytest.approx(2.0)


def test_inside_a_day_an_arm_is_compared_with_one_epoch_at_the_days_end():
    table = rows(
        **{
            continual.ONE_EPOCH: {0.25: 9.0, 1.0: 2.0, 1.25: 9.0, 2.0: 4.0},
            continual.TAIL: {0.25: 3.0, 1.0: 1.0, 1.25: 5.0, 2.0: 2.0},
        }
    ).assign(metric=measure.EXPECTED)
    found = continual.gain(table, continual.TAIL, at=continual.QUARTER)
    assert found[0].to_dict() == {1: pytest.approx(50.0), 2: pytest.approx(25.0)}


def test_the_control_of_days_has_the_steps_of_two_epochs_and_the_rates_of_one(monkeypatch):
    def rates(candidate):
        return Tuned(1e-3 * candidate.epochs, 1e-2, 20 if candidate.epochs > 1 else None)

    monkeypatch.setattr(tuning, "chosen", rates)
    runs = {name: continual.run_of(name, 4) for name in continual.ARMS}
    one, more, two = (
        runs[n] for n in (continual.ONE_EPOCH, continual.MORE_DATA, continual.SAME_RATES)
    )
    assert one.epochs * one.times_data * 2 == more.epochs * more.times_data == two.epochs
    assert replace(more, setting=one.setting, times_data=1.0) == one
    assert replace(two, setting=one.setting, epochs=1) == one
    fal = runs[continual.FAL_SAME]
    assert (fal.dense_lr, fal.hyperparameter, fal.dense_factor) == (1e-3, 20, 1.0)


def test_a_gpu_asked_for_in_vain_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runs.resolve_device("auto") == "cpu"
    with pytest.raises(ValueError, match="torch sees no GPU"):
        runs.resolve_device("cuda")
    with pytest.raises(ValueError, match="choose from toy, quick, cpu, long, gpu"):
        profile("huge")


@pytest.mark.parametrize("factor", [0.5, 0.0])
def test_the_dense_rate_falls_in_the_second_epoch_and_is_back_on_a_new_day(factor, tiny_log):
    model = ConversionModel(tiny_log().schema, embedding_dim=2)
    optimizer, every_epoch = METHODS["plain"].build(
        model, dense_lr=0.1, embedding_lr=1.0, dense_factor=factor
    )
    rates = []
    for index in (0, 1, 2, 0, 1):
        every_epoch.before_epoch(index)
        rates.append([group["lr"] for group in optimizer.param_groups])
    dense, tables = zip(*[(rate[0], set(rate[1:])) for rate in rates])
    low = factor * 0.1
    assert dense == (0.1, low, low, 0.1, low) and all(one == {1.0} for one in tables)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the changed ratio is meant
        optimizer.step()


def test_the_dense_factor_multiplies_the_rate_of_a_schedule_and_goes_on_after_a_resume(tiny_log):
    def build():
        model = ConversionModel(tiny_log().schema, embedding_dim=2)
        return METHODS["plain"].build(model, dense_lr=0.1, embedding_lr=1.0, dense_factor=0.5)

    optimizer, every_epoch = build()
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
    rates = []
    for index in (0, 1, 2):
        every_epoch.before_epoch(index)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warm_up.step()
    assert rates == pytest.approx([0.01, 0.0275, 0.05])
    resumed, every_epoch = build()
    resumed.load_state_dict(optimizer.state_dict())
    every_epoch.before_epoch(3)
    assert resumed.param_groups[0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize("name", COMPARED)
def test_without_a_hyperparameter_a_method_takes_its_first(name, tiny_log):
    def built(given):
        model = ConversionModel(tiny_log().schema, embedding_dim=2)
        rates = {"dense_lr": 0.1, "embedding_lr": 1.0}
        optimizer, every = METHODS[name].build(model, **rates, hyperparameter=given)
        group = optimizer.embedding.param_groups[0]
        return group["row_lr"], group["row_decay"], getattr(every.inner, "below", None)

    first, *others = METHODS[name].grid
    assert built(None) == built(first)
    assert not any(built(None) == built(other) for other in others)


def test_the_fused_dense_step_is_adams_and_left_out_where_there_is_none(tiny_log):
    models = [ConversionModel(tiny_log().schema, embedding_dim=2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    (fused, _), (plain, _) = (
        METHODS["plain"].build(model, dense_lr=0.1, embedding_lr=1.0) for model in models
    )
    assert fused.dense.param_groups[0]["fused"]
    plain.dense.param_groups[0]["fused"] = None
    log = tiny_log()
    for model, optimizer in zip(models, (fused, plain)):
        for _ in range(3):
            optimizer.zero_grad()
            model.loss(model(log.ids, log.dense), log.labels).backward()
            optimizer.step()
    for one, other in zip(*(model.dense_parameters() for model in models)):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)

    elsewhere, _ = METHODS["plain"].build(models[0].to("meta"), dense_lr=0.1, embedding_lr=1.0)
    assert not elsewhere.dense.param_groups[0]["fused"]


def test_a_world_without_its_cross_is_the_same_world():
    run = replace(PLAIN, cross=False)
    without, whole = execute(run, TINY), execute(PLAIN, TINY)
    best = [rows[rows["metric"] == "bayes_logloss"]["value"].tolist() for rows in (without, whole)]
    assert best[0] == best[1]
    assert final(without)[1.0] != final(whole)[1.0]
