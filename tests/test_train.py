import math
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain

import pytest
import torch

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


# What goes wrong ---------------------------------------------------------------------------------


def test_a_table_that_is_not_finite_is_named(tiny_log):
    log = tiny_log()
    model, optimizers = setup(log.schema)
    with torch.no_grad():
        model.tables["product"].weight[0] = math.nan
    with pytest.raises(
        NonFiniteLoss,
        match=r"after 0 steps: the loss of objective "
        r"'click' .* table 'product' has 1 rows that are not, first 0",
    ):
        train(model, optimizers, log, epochs=1, **quiet)


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(epochs=0), "epochs is 0"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(evaluate_at=(0.0, 1.0)), r"fractions in \(0, 1\]"),
        (dict(evaluate_at=(2,)), r"fractions in \(0, 1\]"),
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
