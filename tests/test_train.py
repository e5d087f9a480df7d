import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
import torch

from multiepoch.optim import FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import tail_rewind
from multiepoch_lab.data import Log, Schema
from multiepoch_lab.model import ConversionModel
from multiepoch_lab.train import (
    NonFiniteLoss,
    evaluate,
    frequency_edges,
    frequency_groups,
    metrics,
    predict,
    train,
    train_days,
)
from multiepoch_lab.train import checkpoint as checkpoints

quiet = dict(progress=None)


class Recorder:
    """Notes when it is called, and draws noise into the tables from a generator of its own."""

    def __init__(self, model):
        self.model, self.calls = model, []
        self.generator = torch.Generator().manual_seed(7)

    @torch.no_grad()
    def before_epoch(self, index):
        self.calls.append(index)
        if index:
            for weight in self.model.table_parameters().values():
                weight += 0.01 * torch.randn(weight.shape, generator=self.generator)

    def state_dict(self):
        return {"calls": self.calls, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.calls = list(state["calls"])
        self.generator.set_state(state["generator"])


class Serving(Recorder):
    """Serves tables of zeros, and computes each batch's gradients twice."""

    @contextmanager
    def serving(self):
        tables = list(self.model.table_parameters().values())
        kept = [weight.detach().clone() for weight in tables]
        for weight in tables:
            weight.data.zero_()
        yield
        for weight, values in zip(tables, kept):
            weight.data.copy_(values)

    def backward(self, impressions, closure):
        self.calls.append(impressions)
        closure()
        return closure()


def setup(schema, model_class=ConversionModel, **options):
    """A model and its optimizers, the same at each call."""
    torch.manual_seed(1)
    model = model_class(schema, embedding_dim=4, hidden=(8,), tower=(), **options)
    tables = torch.optim.SparseAdam(list(model.table_parameters().values()), lr=0.02)
    return model, [tables, torch.optim.Adam(model.dense_parameters(), lr=0.01)]


def log_of_products(products, cardinality=20):
    n = len(products)
    return Log(
        schema=Schema({"product": cardinality}, (), ("click",)),
        ids={"product": torch.tensor(list(products))},
        dense=torch.zeros(n, 0),
        labels=(torch.arange(n) % 2).float()[:, None],
        day=torch.zeros(n, dtype=torch.int32),
    )


def pick(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def same(one, two):
    """Bit for bit: nested states of tensors and plain values."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


# What is trained on, and what is recorded --------------------------------------------------------


def test_learns_more_than_the_rate(tiny_log):
    log, test = tiny_log(n=4000), tiny_log(n=2000, seed=1)
    model, optimizers = setup(log.schema)
    table = train(model, optimizers, log, epochs=3, batch_size=64, evaluate=test, **quiet)
    last = pick(table, epoch=3.0, split="test", group="all")
    for k, objective in enumerate(log.objectives):
        value = pick(last, objective=objective).set_index("metric")["value"]
        assert value["normalized_entropy"] < 0.9
        assert value["auc"] > 0.7
        logits = predict(model, test)[:, k]
        assert value["logloss"] == metrics.logloss(logits, test.labels[:, k])
        assert value["calibration"] == metrics.calibration(logits, test.labels[:, k])


def test_rows_say_when_and_where(tiny_log):
    log = tiny_log(n=250)
    model, optimizers = setup(log.schema)
    table = train(
        model,
        optimizers,
        log,
        epochs=2,
        batch_size=50,
        evaluate_at=(0.4, 1.0),
        evaluate={"a": tiny_log(seed=1), "b": tiny_log(seed=2)},
        **quiet,
    )
    assert list(table.columns) == [
        "epoch",
        "samples",
        "split",
        "group",
        "objective",
        "metric",
        "value",
    ]
    moments = table[["epoch", "samples"]].drop_duplicates().values.tolist()
    assert moments == [[0.4, 100], [1.0, 250], [1.4, 350], [2.0, 500]]
    assert set(table["split"]) == {"running", "a", "b"}
    assert len(pick(table, epoch=1.0, split="a", metric="auc")) == 2


def test_every_impression_once_an_epoch_in_an_order_that_only_the_seed_decides():
    n = 103
    log = log_of_products(range(n), cardinality=n)

    class Watched(ConversionModel):
        def forward(self, ids, dense):
            self.seen = [*getattr(self, "seen", []), ids["product"].tolist()]
            return super().forward(ids, dense)

    def batches(seed, lr=0.01):
        model, _ = setup(log.schema, Watched)
        train(
            model,
            torch.optim.SGD(model.parameters(), lr=lr),
            log,
            epochs=2,
            batch_size=10,
            seed=seed,
            **quiet,
        )
        return model.seen

    seen = batches(seed=0)
    assert [len(batch) for batch in seen] == 2 * ([10] * 10 + [3])
    first, second = list(chain(*seen[:11])), list(chain(*seen[11:]))
    assert sorted(first) == sorted(second) == list(range(n))
    assert first != second and first != sorted(first)
    assert batches(seed=0, lr=0.5) == seen
    assert batches(seed=1) != seen


def test_running_loss_is_that_of_the_batches_since_the_last_evaluation(tiny_log):
    log = tiny_log(n=230)
    model, _ = setup(log.schema)
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    table = train(model, still, log, epochs=1, batch_size=50, evaluate_at=(0.5, 1.0), **quiet)
    values = pick(table, split="running", objective="click")
    seen = values["samples"].diff().fillna(values["samples"]).to_numpy()
    mean = (values["value"].to_numpy() * seen).sum() / seen.sum()
    assert mean == pytest.approx(metrics.logloss(predict(model, log)[:, 0], log.labels[:, 0]))


def test_points_that_fall_on_one_step_are_all_measured_there(tiny_log):
    log = tiny_log(n=100)
    model, optimizers = setup(log.schema)
    how = dict(epochs=2, batch_size=50, evaluate=log, evaluate_at=(0.1, 0.25, 1.0), **quiet)
    table = train(model, optimizers, log, **how)
    points = {epoch: part.drop(columns="epoch").values for epoch, part in table.groupby("epoch")}
    assert list(points) == [0.1, 0.25, 1.0, 1.1, 1.25, 2.0]
    for one, other in ((0.1, 0.25), (1.1, 1.25)):
        assert (points[one] == points[other]).all()
    assert not (points[0.25] == points[1.0]).all()


def test_loss_weights_choose_what_is_learnt(tiny_log):
    log = tiny_log()
    model, optimizers = setup(log.schema)
    before = {name: p.clone() for name, p in model.named_parameters()}
    train(model, optimizers, log, epochs=1, batch_size=50, loss_weights={"checkout": 0}, **quiet)
    moved = {name for name, p in model.named_parameters() if not p.equal(before[name])}
    assert any("click" in name for name in moved)
    assert not any("checkout" in name for name in moved)


def test_weights_of_impressions_count_in_training_and_metrics(tiny_log):
    def trained(weight):
        log, test = replace(tiny_log(), weight=weight), replace(tiny_log(seed=1), weight=weight)
        model, optimizers = setup(log.schema)
        table = train(model, optimizers, log, epochs=1, batch_size=50, evaluate=test, **quiet)
        return model, table["value"].to_numpy()

    model, values = trained(None)
    _, equal = trained(torch.ones(500))
    assert equal == pytest.approx(values, abs=1e-5)
    # Impressions that count nothing leave no trace: the last half is as if it had no labels.
    late = (torch.arange(500) < 250).float() * 2
    log = tiny_log()
    logits = model(log.ids, log.dense)
    some = model.losses(logits[:250], log.labels[:250])
    assert torch.allclose(model.losses(logits, log.labels, late), some)
    assert trained(late)[1] != pytest.approx(values, abs=1e-3)
    times = torch.arange(500) % 3 + 1
    weighted = evaluate(model, replace(log, weight=times.float()))["value"]
    repeated = evaluate(model, log[torch.arange(500).repeat_interleave(times)])["value"]
    assert weighted.tolist() == pytest.approx(repeated.tolist(), abs=1e-5)


def test_one_optimizer_or_several_and_a_scheduler_step_every_batch(tiny_log):
    log = tiny_log(n=100)
    model, _ = setup(log.schema)
    optimizer = SparseOptimizer.from_model(model, dense_lr=0.01, embedding_lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    train(model, optimizer, log, epochs=2, batch_size=25, scheduler=scheduler, **quiet)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 4)


def test_data_and_what_happens_between_epochs_are_asked_for_by_epoch(tiny_log):
    logs = [tiny_log(seed=k) for k in range(3)]
    asked = []

    def data(index):
        asked.append(index)
        return logs[index]

    model, optimizers = setup(logs[0].schema)
    between = Recorder(model)
    train(model, optimizers, data, epochs=3, between_epochs=between, **quiet)
    assert asked == between.calls == [0, 1, 2]


def test_days_are_tested_before_they_are_trained_on(tiny_log):
    logs = {d: tiny_log(n=100, seed=d, day=d) for d in (3, 4, 7)}
    asked = []

    def day_log(day):
        asked.append(day)
        return logs[day]

    model, optimizers = setup(logs[3].schema)
    between = Recorder(model)
    table = train_days(
        model,
        optimizers,
        day_log,
        [3, 4, 7],
        epochs=2,
        batch_size=25,
        between_epochs=between,
        **quiet,
    )
    assert asked == [3, 4, 7]
    assert between.calls == [0, 1, 0, 1]
    moments = table[["day", "epoch", "samples"]].drop_duplicates().values.tolist()
    assert moments == [[3, 1.0, 100], [3, 2.0, 200], [4, 1.0, 300], [4, 2.0, 400]]
    last = pick(table, day=4, epoch=2.0, split="next_day", metric="logloss", objective="click")
    expected = metrics.logloss(predict(model, logs[7])[:, 0], logs[7].labels[:, 0])
    assert last["value"].item() == expected


def test_epochs_that_are_not_evaluated_leave_the_others_as_they_are(tiny_log):
    def run(**options):
        model, optimizers = setup(tiny_log().schema)
        table = train_days(
            model, optimizers, lambda d: tiny_log(seed=d), range(3), epochs=3, **quiet, **options
        )
        return table[table["split"] == "next_day"]

    every, some = run(), run(evaluate_epochs=[0, 2])
    assert set(every["epoch"]) == {1.0, 2.0, 3.0}
    assert some.values.tolist() == every[every["epoch"] != 2.0].values.tolist()
    with pytest.raises(ValueError, match="counted from 0 to 2"):
        run(evaluate_epochs=[3])


def test_days_before_the_last_do_not_depend_on_those_to_come(tiny_log):
    def run(days):
        model, optimizers = setup(tiny_log().schema)
        return train_days(model, optimizers, lambda d: tiny_log(seed=d), days, **quiet)

    short, long = run(range(3)), run(range(4))
    assert short.equals(long[: len(short)])


def test_days_of_one_epoch_with_a_rewind_resume_within_a_day(tiny_log, tmp_path):
    def run(day_log, **options):
        model, _ = setup(tiny_log().schema)
        optimizer = SparseOptimizer.from_model(model, 0.01, 0.02)
        rewind = tail_rewind(model, optimizer, below=5)
        return train_days(
            model,
            optimizer,
            day_log,
            range(3),
            between_epochs=rewind,
            evaluate_at=(0.5, 1.0),
            batch_size=25,
            **quiet | options,
        )

    def cut(day):
        if day == 2 and not cut.done:
            cut.done = True
            raise KeyboardInterrupt
        return tiny_log(seed=day)

    cut.done = False
    kept = {"checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        run(cut, **kept)
    assert run(cut, **kept).equals(run(lambda day: tiny_log(seed=day)))


# By row frequency --------------------------------------------------------------------------------


def test_frequency_groups_are_equal_in_impressions():
    trained = log_of_products([k for k in range(20) for _ in range(k + 1)])  # k: k + 1 times
    tested = log_of_products(list(range(20)))
    assert frequency_groups(trained, tested).tolist() == [k // 2 for k in range(20)]
    assert frequency_edges(trained, tested).tolist() == list(range(3, 21, 2))
    assert frequency_groups(trained, tested, n=2).tolist() == [0] * 10 + [1] * 10


def test_unseen_rows_are_in_group_zero_and_ties_stay_together():
    trained = log_of_products([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3])
    tested = log_of_products([0] * 8 + [1, 2, 1, 2, 1, 2] + [3, 3])
    groups = frequency_groups(trained, tested, n=4)
    assert groups[:8].eq(0).all()
    assert groups[8:14].unique().numel() == 1 and groups[8] > 0
    assert groups[14:].eq(3).all()


def test_a_product_that_training_never_had_is_unseen():
    trained, tested = log_of_products([1, 2], 5), log_of_products([1, 40], 50)
    assert frequency_groups(trained, tested, n=2).tolist() == [1, 0]


def test_frequency_groups_take_edges_of_their_own():
    trained, tested = log_of_products([1, 2, 2, 3, 3, 3]), log_of_products([0, 1, 2, 3])
    assert frequency_groups(trained, tested, edges=(1, 2)).tolist() == [0, 1, 2, 2]


def test_frequency_groups_names_the_columns_there_are():
    with pytest.raises(ValueError, match="'shop' is not in the log; it has product"):
        frequency_groups(log_of_products([1]), log_of_products([1]), column="shop")


def test_groups_make_up_the_whole(tiny_log):
    log, test = tiny_log(n=2000), tiny_log(n=1000, seed=1)
    model, optimizers = setup(log.schema)
    by_user = partial(frequency_groups, column="user", n=4)
    table = train(model, optimizers, log, epochs=1, evaluate=test, groups=by_user, **quiet)
    losses = pick(table, epoch=1.0, split="test", metric="logloss", objective="click")
    losses = losses.set_index("group")["value"]
    sizes = torch.bincount(by_user(log, test)).tolist()
    assert list(losses.index) == ["all", "0", "1", "2", "3"]
    assert sum(n * losses[str(k)] for k, n in enumerate(sizes)) / 1000 == pytest.approx(
        losses["all"]
    )


def test_a_group_of_one_class_has_no_auc_and_says_so_once(tiny_log):
    log, test = tiny_log(), tiny_log(seed=1)
    group = (torch.arange(len(test)) >= 5).long()
    test.labels[:5, 1] = 0
    lines = []
    model, optimizers = setup(log.schema)
    table = train(
        model,
        optimizers,
        log,
        epochs=2,
        evaluate=test,
        progress=lines.append,
        groups=lambda trained, evaluated: group,
    )
    small = pick(table, group="0", objective="checkout")
    assert set(small["metric"]) == {"logloss", "expected_logloss"}
    rest = {"auc", "normalized_entropy", "calibration"}
    assert set(pick(table, group="1", objective="checkout")["metric"]) == {*small["metric"], *rest}
    assert sum("no auc of checkout in group 0" in line for line in lines) == 1


def test_expected_logloss_is_there_if_and_only_if_the_truth_is_known(tiny_log):
    log = tiny_log()
    model, _ = setup(log.schema)
    group = (torch.arange(len(log)) % 3).long()
    table = pick(evaluate(model, log, group), metric="expected_logloss")
    assert table["group"].tolist() == [name for name in ("all", "0", "1", "2") for _ in range(2)]
    q = torch.sigmoid(predict(model, log).double())
    p = log.p_true.double()
    losses = -(p * q.log() + (1 - p) * (1 - q).log())  # (n, n_objectives)
    for name in ("all", "1"):
        expected = losses[group == 1].mean(0) if name == "1" else losses.mean(0)
        assert pick(table, group=name)["value"].tolist() == pytest.approx(expected.tolist())
    others = evaluate(model, replace(log, p_true=None), group)
    assert "expected_logloss" not in set(others["metric"])


def test_evaluate_leaves_the_model_in_its_mode(tiny_log):
    log = tiny_log()
    model, _ = setup(log.schema)
    table = evaluate(model, log)
    assert model.training and set(table["group"]) == {"all"}


# Saving and resuming ---------------------------------------------------------------------------


class Stopping(ConversionModel):
    """Does something in the middle of its `at`-th step."""

    at, action, n_steps = -1, None, 0

    def losses(self, logits, labels):
        if torch.is_grad_enabled():
            self.n_steps += 1
            if self.n_steps == self.at:
                self.action()
        return super().losses(logits, labels)


class Crash(Exception):
    pass


def crash():
    raise Crash


def run_window(tiny_log, checkpoint, at=-1, action=crash, **options):
    """Three epochs of five steps. Returns all that a run ends with."""
    log, test = tiny_log(n=230), tiny_log(n=200, seed=1)
    model, optimizers = setup(log.schema, Stopping)
    model.at, model.action = at, action
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizers[1], 0.97)
    between = Recorder(model)
    table = train(
        model,
        optimizers,
        log,
        epochs=3,
        batch_size=50,
        evaluate=test,
        evaluate_at=(0.3, 1.0),
        scheduler=scheduler,
        between_epochs=between,
        checkpoint=checkpoint,
        **dict(checkpoint_seconds=0) | quiet | options,
    )
    parts = [model, *optimizers, scheduler, between]
    return table, [part.state_dict() for part in parts], torch.get_rng_state()


def test_what_acts_between_epochs_may_serve_other_rows_and_compute_the_gradients(tiny_log):
    log, test = tiny_log(n=130), tiny_log(n=60, seed=1)
    results, parts = [], []
    for kind in (Recorder, Serving):
        model, optimizers = setup(log.schema)
        between = kind(model)
        more = dict(epochs=1, batch_size=50, evaluate=test, evaluate_at=(1.0,))
        results.append(train(model, optimizers, log, between_epochs=between, **more, **quiet))
        parts.append((model, between))
    (model, _), (same_model, between) = parts
    for a, b in zip(model.parameters(), same_model.parameters()):
        assert torch.equal(a, b), "gradients are cleared before each pass, and zeros not trained"
    assert sorted(torch.cat(between.calls[1:]).tolist()) == list(range(130))
    with between.serving():
        expected = evaluate(same_model, test)
    found = results[1][results[1]["split"] == "test"]
    assert found["value"].tolist() == expected["value"].tolist()
    running = [table[table["split"] == "running"]["value"].tolist() for table in results]
    assert running[0] == running[1]


def run_days(tiny_log, checkpoint, at=-1, action=crash, **options):
    """Three days of two epochs of three steps, with the project's own optimizer and rewind."""
    schema = tiny_log().schema
    torch.manual_seed(1)
    model = Stopping(schema, embedding_dim=4, hidden=(8,))
    model.at, model.action = at, action
    optimizer = SparseOptimizer.from_model(
        model, dense_lr=0.01, embedding_lr=0.05, row_lr=FrequencyAdaptiveLR()
    )
    rewind = tail_rewind(model, optimizer, below=4, to="start")
    table = train_days(
        model,
        optimizer,
        lambda d: tiny_log(n=130, seed=d, day=d),
        range(4),
        epochs=2,
        batch_size=50,
        between_epochs=rewind,
        checkpoint=checkpoint,
        **dict(checkpoint_seconds=0) | quiet | options,
    )
    states = [part.state_dict() for part in (model, optimizer, rewind)]
    return table, states, torch.get_rng_state()


def assert_same_end(one, two):
    assert one[0].equals(two[0])
    assert same(one[1], two[1])
    assert one[2].equal(two[2])


@pytest.mark.parametrize("run, steps", [(run_window, 15), (run_days, 18)])
def test_a_run_that_crashed_anywhere_resumes_bit_for_bit(tiny_log, tmp_path, run, steps):
    whole = run(tiny_log, None)
    for at in range(1, steps + 1):
        path = tmp_path / f"{at}.pt"
        with pytest.raises(Crash):
            run(tiny_log, path, at=at)
        assert path.exists() == (at > 1)
        torch.manual_seed(99)  # what the new process happens to start with does not matter
        assert_same_end(run(tiny_log, path), whole)


def test_a_run_that_crashes_again_and_again_gets_there(tiny_log, tmp_path):
    path = tmp_path / "deep" / "run.pt"
    for _ in range(4):
        with pytest.raises(Crash):
            run_window(tiny_log, path, at=4)
    assert_same_end(run_window(tiny_log, path), run_window(tiny_log, None))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["writing", "replacing"])
def test_a_kill_while_the_checkpoint_is_written_loses_nothing(tiny_log, tmp_path, moment):
    path = tmp_path / "run.pt"
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import torch
        torch.set_num_threads(1)
        from conftest import make_tiny_log
        from test_train import run_window

        written = 0
        def kill_at_seventh(*args):
            global written
            written += 1
            if written < 7:
                return original(*args)
            if {moment!r} == "writing":
                os.truncate(args[0], 1000)
            os.kill(os.getpid(), signal.SIGKILL)

        name = "fsync" if {moment!r} == "writing" else "replace"
        original = getattr(os, name)
        setattr(os, name, kill_at_seventh)
        run_window(make_tiny_log, {str(path)!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list(tmp_path.iterdir())) == 2  # the checkpoint and the one being written
    lines = []
    resumed = run_window(tiny_log, path, progress=lines.append)
    assert "280 impressions done" in lines[0]  # six steps: 230 + 50
    assert_same_end(resumed, run_window(tiny_log, None))
    assert list(tmp_path.iterdir()) == [path]


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at, done", [(3, 150), (5, 230), (7, 330)])
def test_ctrl_c_finishes_the_step_and_says_how_to_resume(tiny_log, tmp_path, at, done):
    path = tmp_path / "run.pt"
    before = signal.getsignal(signal.SIGINT)
    message = f"interrupted after {done} impressions; .*checkpoint='{re.escape(str(path))}'"
    with pytest.raises(KeyboardInterrupt, match=message):
        run_window(tiny_log, path, at=at, action=press_ctrl_c, checkpoint_seconds=math.inf)
    assert signal.getsignal(signal.SIGINT) is before
    assert_same_end(run_window(tiny_log, path), run_window(tiny_log, None))


def test_ctrl_c_without_a_checkpoint_says_that_nothing_is_saved(tiny_log):
    with pytest.raises(KeyboardInterrupt, match="nothing is saved"):
        run_window(tiny_log, None, at=3, action=press_ctrl_c)


def test_a_second_ctrl_c_stops_at_once(tiny_log, tmp_path):
    def twice():
        press_ctrl_c()
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt) as stopped:
        run_window(tiny_log, tmp_path / "run.pt", at=3, action=twice, checkpoint_seconds=math.inf)
    assert "interrupted after" not in str(stopped.value)
    assert not (tmp_path / "run.pt").exists()


def test_trains_outside_the_main_thread(tiny_log):
    results = []
    thread = threading.Thread(target=lambda: results.append(run_window(tiny_log, None)))
    thread.start()
    thread.join()
    assert results[0][0].equals(run_window(tiny_log, None)[0])


def test_a_finished_run_is_read_and_not_trained_again(tiny_log, tmp_path):
    first = run_window(tiny_log, tmp_path / "run.pt")
    again = run_window(tiny_log, tmp_path / "run.pt", at=1)  # any step would crash
    assert_same_end(first, again)


@pytest.mark.parametrize(
    "change", [dict(seed=1), dict(batch_size=51), dict(epochs=4), dict(evaluate_at=(0.5,))], ids=str
)
def test_a_checkpoint_of_other_settings_is_refused(tiny_log, tmp_path, change):
    log, (model, optimizers) = tiny_log(), setup(tiny_log().schema)
    settings = dict(epochs=1, seed=0, batch_size=50, checkpoint=tmp_path / "run.pt") | quiet
    train(model, optimizers, log, **settings)
    with pytest.raises(ValueError, match=f"is of a run with {next(iter(change))} "):
        train(model, optimizers, log, **settings | change)


def test_a_checkpoint_of_other_data_rates_or_sizes_is_refused(tiny_log, tmp_path):
    settings = dict(epochs=1, checkpoint=tmp_path / "run.pt") | quiet
    log = tiny_log()
    model, optimizers = setup(log.schema)
    train(model, optimizers, log, **settings)
    with pytest.raises(ValueError, match="is of a run with data "):
        train(*setup(log.schema), tiny_log(seed=1), **settings)
    with pytest.raises(ValueError, match="is of a run with parameters "):
        train(*setup(log.schema, n_buckets=3), log, **settings)
    model, optimizers = setup(log.schema)
    optimizers[0].param_groups[0]["lr"] = 0.5
    with pytest.raises(ValueError, match="is of a run with optimizers "):
        train(model, optimizers, log, **settings)


def test_a_checkpoint_of_other_days_is_refused(tiny_log, tmp_path):
    """Another world, the same in another order, or other dense features."""
    path = tmp_path / "run.pt"
    run_days(tiny_log, path)
    back = torch.arange(129, -1, -1)

    def spoiled(change):
        """Whoever asks for a day gets another; the schema is as it was."""
        return lambda **about: change(tiny_log(**about), about) if about else tiny_log()

    for change in (
        lambda log, about: tiny_log(**about | {"seed": 9}),
        lambda log, about: log[back],
        lambda log, about: replace(log, dense=log.dense + 1),
    ):
        with pytest.raises(ValueError, match="is of a run with data "):
            run_days(spoiled(change), path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(tiny_log, tmp_path, content):
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as one of this package's"):
        run_window(tiny_log, path)
    assert path.read_bytes() == content


# What goes wrong ---------------------------------------------------------------------------------


def test_a_table_that_is_not_finite_is_named_and_nothing_is_saved(tiny_log, tmp_path):
    log = tiny_log()
    model, optimizers = setup(log.schema)
    with torch.no_grad():
        model.tables["product"].weight[0] = math.nan
    with pytest.raises(
        NonFiniteLoss,
        match=r"after 0 steps: the loss of objective "
        r"'click' .* table 'product' has 1 rows that are not, first 0",
    ):
        train(model, optimizers, log, epochs=1, checkpoint=tmp_path / "run.pt", **quiet)
    assert not (tmp_path / "run.pt").exists()


def test_a_rate_that_is_too_high_is_noticed(tiny_log):
    model, _ = setup(tiny_log().schema)
    wild = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(NonFiniteLoss, match=r"after \d+ steps: .* lower learning rate"):
        train(model, wild, tiny_log(), epochs=5, batch_size=50, **quiet)


def test_a_dense_feature_that_is_not_finite_is_named_and_the_model_is_left_as_it_was(tiny_log):
    log = tiny_log()
    log.dense[17, 1] = math.inf
    model, optimizers = setup(log.schema)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(NonFiniteLoss, match="dense feature 'x1' is not in impression 17"):
        train(model, optimizers, log, epochs=1, **quiet)
    assert all(p.equal(before[name]) for name, p in model.named_parameters())


def test_a_table_ruined_by_the_last_step_is_noticed_at_evaluation(tiny_log):
    log = tiny_log()
    model, _ = setup(log.schema)
    wild = torch.optim.SGD(model.parameters(), lr=math.inf)
    with pytest.raises(NonFiniteLoss, match="a logit on 'test' of objective 'click'"):
        train(model, wild, log, epochs=1, evaluate=log, batch_size=len(log), **quiet)


@pytest.mark.parametrize("options, name", [(dict(epoch=1), "epoch"), ({}, "epochs")])
def test_an_unknown_or_missing_option_is_named(tiny_log, options, name):
    model, optimizers = setup(tiny_log().schema)
    with pytest.raises(TypeError, match=f"argument.* '{name}'"):
        train(model, optimizers, tiny_log(), **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(epochs=0), "epochs is 0"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(evaluate_at=(0.0, 1.0)), r"fractions in \(0, 1\]"),
        (dict(evaluate_at=(2,)), r"fractions in \(0, 1\]"),
        (dict(loss_weights={"clicks": 1.0}), "loss_weights names"),
        (dict(evaluate={"running": None}), "named 'running'"),
    ],
)
def test_arguments_out_of_range_are_refused(tiny_log, arguments, message):
    model, optimizers = setup(tiny_log().schema)
    with pytest.raises(ValueError, match=message):
        train(model, optimizers, tiny_log(), **dict(epochs=1) | quiet | arguments)


def test_a_log_that_the_model_was_not_made_for_is_refused(tiny_log):
    model, optimizers = setup(tiny_log().schema)
    for log, message in [
        (tiny_log(cardinality={"user": 5}), "id columns"),
        (tiny_log(n_dense=1), "dense features"),
        (tiny_log(objectives=("click",)), "objectives"),
        (tiny_log()[:0], "no impression"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(model, optimizers, log, epochs=1, **quiet)
        with pytest.raises(ValueError, match=message):
            train(model, optimizers, tiny_log(), epochs=1, evaluate=log, **quiet)


def test_days_need_one_to_evaluate_on(tiny_log):
    model, optimizers = setup(tiny_log().schema)
    with pytest.raises(ValueError, match="at least 2"):
        train_days(model, optimizers, lambda d: tiny_log(), [3], **quiet)


def test_progress_is_one_line_an_epoch_with_loss_and_speed(tiny_log, capsys):
    log = tiny_log()
    model, optimizers = setup(log.schema)
    train(model, optimizers, log, epochs=2, evaluate=log)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.match(
        r"epoch 2 of 2: [\d,]+ examples/s; running logloss click \d\.\d+, "
        r"checkout \d\.\d+; test logloss click",
        lines[1],
    )
    train(model, optimizers, log, epochs=1, progress=None)
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_losses(tiny_log):
    def losses(device):
        log = tiny_log(n=1000)
        model, _ = setup(log.schema)
        model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        table = train(model, optimizer, log, epochs=2, batch_size=50, evaluate=log, **quiet)
        return table["value"].to_numpy()

    assert losses("cuda") == pytest.approx(losses("cpu"), rel=1e-3)


def test_a_part_of_an_epoch_is_the_beginning_of_a_whole_one():
    log = log_of_products([k % 20 for k in range(64)])
    whole, part = (
        train(*setup(log.schema), log, epochs=epochs, batch_size=8, evaluate=log, **quiet)
        for epochs in (2, 1.25)
    )
    beginning = whole[whole["epoch"] <= 1.25].reset_index(drop=True)
    assert part["epoch"].max() == 1.25 and beginning.equals(part)


def test_a_gpu_that_cannot_be_used_does_not_stop_a_checkpoint(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda.random, "device_count", lambda: 1)
    state = checkpoints.random_state()
    assert state["cuda"] == []
    checkpoints.set_random_state(state)
