"""The board's remedies: each trains by its entry alone, and each new class does what it says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multiepoch.optim import SparseOptimizer
from multiepoch_lab.data import Log, Schema
from reproduction.measure import as_losses
from reproduction.remedies import hooks
from reproduction.remedies.board import BOARD, filtered, hashed, smoothed
from reproduction.runs import NEW_IDS, Run, execute, profile
from reproduction.runs.sources import has_new_id

TINY = replace(
    profile("quick"),
    n_users=60,
    n_products=40,
    n_campaigns=8,
    n_advertisers=4,
    impressions_per_day=150,
    batch_size=100,
)


@pytest.mark.parametrize("name", BOARD)
def test_every_remedy_trains_from_its_entry(name):
    remedy = BOARD[name]
    factor = {"dense_factor": remedy.dense_factors[-1], "rule": remedy.rule}
    rate = 1e-2 * remedy.scale(remedy.grid[0])
    run = Run(name, 0, 1e-3, rate, remedy.grid[0], epochs=2, group_by=NEW_IDS, **factor)
    rows = as_losses(execute(run, TINY))
    loss = rows[(rows["metric"] == "loss") & (rows["group"] == "all")]
    assert sorted(loss["epoch"].unique()) == [0.25, 0.5, 1.0, 1.25, 1.5, 2.0]
    assert loss["value"].between(0.001, 5).all()
    assert {"0", "1"} <= set(rows["group"])


class Model(nn.Module):
    """Two tables and a linear layer; each batch reads row k and row k of the tables."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(6, 3, sparse=True)
        self.item = nn.Embedding(20, 3, sparse=True)
        self.head = nn.Linear(6, 1)

    def forward(self, ids):
        return self.head(torch.cat([self.user(ids % 6), self.item(ids)], dim=1))

    def table_parameters(self):
        return {"user": self.user.weight, "item": self.item.weight}

    def dense_parameters(self):
        return list(self.head.parameters())


def setting(lr=0.1, rule="sgd"):
    model = Model()
    return model, SparseOptimizer.from_model(model, dense_lr=0.1, embedding_lr=lr, rule=rule)


def step(model, optimizer, hook, ids):
    def closure():
        optimizer.zero_grad()
        loss = model(ids).square().mean()
        loss.backward()
        return loss

    hook.backward(torch.arange(len(ids)), closure)


IDS = torch.tensor([0, 0, 7, 3])


def gradients(model):
    return [table.grad.to_dense() for table in (model.user.weight, model.item.weight)]


def test_a_pair_acts_before_the_epochs_and_on_the_gradients():
    model, optimizer = setting(rule="adagrad")
    pair = BOARD["blend_l2"].remedy(model, optimizer, hyperparameter=0.5)
    step(model, optimizer, hooks.Hook(model, optimizer), IDS)
    plain = gradients(model)
    pair.before_epoch(0)
    step(model, optimizer, pair, IDS)
    assert not torch.equal(gradients(model)[1], plain[1])
    optimizer.step()
    learned = model.item.weight.detach().clone()
    pair.before_epoch(1)
    assert not (model.item.weight == learned)[IDS].any()


def test_touched_l2_adds_the_weight_once_to_each_touched_row():
    model, optimizer = setting()
    step(model, optimizer, hooks.Hook(model, optimizer), IDS)
    plain = gradients(model)
    step(model, optimizer, hooks.TouchedL2(model, optimizer, 0.5), IDS)
    touched = torch.zeros(20, 1).index_fill_(0, IDS, 1.0)
    torch.testing.assert_close(gradients(model)[1], plain[1] + 0.5 * touched * model.item.weight)
    assert model.item.weight.grad._nnz() == 4, "lookups are still listed one by one"


def test_cowclip_limits_a_row_by_its_lookups_and_its_norm():
    model, optimizer = setting()
    step(model, optimizer, hooks.Hook(model, optimizer), IDS)
    plain = gradients(model)
    step(model, optimizer, hooks.CowClip(model, optimizer, 1e-3), IDS)
    norms = gradients(model)[1].norm(dim=1)
    assert norms[0].item() == pytest.approx(2e-3 * model.item.weight[0].norm().item(), rel=1e-4)
    step(model, optimizer, hooks.CowClip(model, optimizer, 1e3), IDS)
    torch.testing.assert_close(gradients(model), plain)


def test_even_l2_divides_by_the_lookups_so_far():
    model, optimizer = setting()
    hook = hooks.TouchedL2(model, optimizer, 0.5, even=True)
    for n in (2, 4):  # IDS has row 0 twice
        step(model, optimizer, hooks.Hook(model, optimizer), IDS)
        plain = gradients(model)[1][0]
        step(model, optimizer, hook, IDS)
        torch.testing.assert_close(gradients(model)[1][0], plain + 0.5 * model.item.weight[0] / n)


def test_dropout_drops_only_in_training():
    model, optimizer = setting()
    hooks.Dropout(model, optimizer, 0.5)
    ids = torch.arange(20)
    assert 0 < (model.item(ids) == 0).sum() < 60
    model.eval()
    torch.testing.assert_close(model.item(ids), model.item.weight)


def test_the_average_of_the_dense_weights_is_served_and_not_trained():
    model, optimizer = setting()
    hook = hooks.DenseAverage(model, optimizer, decay=0.9)
    seen = []
    for _ in range(3):
        step(model, optimizer, hook, IDS)
        optimizer.step()
        seen.append(model.head.weight.detach().clone())
    average = torch.zeros(1)
    start = hooks.DenseAverage(*setting(), decay=0.9).kept[0]
    for t, weight in enumerate(seen, 1):
        decay = min(0.9, t / (t + 9))
        average = decay * (average if t > 1 else start) + (1 - decay) * weight
    with hook.serving():
        torch.testing.assert_close(model.head.weight.detach(), average)
    torch.testing.assert_close(model.head.weight.detach(), seen[-1])


def test_sharpness_aware_steps_take_the_gradient_at_the_worst_place_nearby():
    model, optimizer = setting()
    step(model, optimizer, hooks.Hook(model, optimizer), IDS)
    tables, start = gradients(model), [p.detach().clone() for p in model.dense_parameters()]
    norm = torch.cat([p.grad.flatten() for p in model.dense_parameters()]).norm()
    with torch.no_grad():
        for parameter in model.dense_parameters():
            parameter += 0.1 * parameter.grad / norm
    step(model, optimizer, hooks.Hook(model, optimizer), IDS)
    expected = [p.grad.clone() for p in model.dense_parameters()]
    with torch.no_grad():
        torch._foreach_copy_(model.dense_parameters(), start)
    step(model, optimizer, hooks.SharpnessAware(model, optimizer, 0.1), IDS)
    torch.testing.assert_close([p.grad for p in model.dense_parameters()], expected)
    torch.testing.assert_close([p.detach() for p in model.dense_parameters()], start)
    torch.testing.assert_close(gradients(model), tables)


def test_shared_embeddings_replace_ids_in_training_only():
    model, optimizer = setting()
    hooks.SharedEmbeddings(model, optimizer, 1.0)
    ids = torch.zeros(50, dtype=torch.int64)
    assert len(model.item(ids).unique(dim=0)) > 5
    model.eval()
    assert len(model.item(ids).unique(dim=0)) == 1


def test_the_sensitivity_penalty_moves_the_dense_layers_alone():
    model, optimizer = setting()
    step(model, optimizer, hooks.Hook(model, optimizer), IDS)
    tables, dense = gradients(model), model.head.weight.grad.clone()
    step(model, optimizer, hooks.SensitivityPenalty(model, optimizer, 1.0), IDS)
    torch.testing.assert_close(gradients(model), tables)
    # |d z / d row|^2 is the squared norm of the table's half of the head, whatever the impression.
    seen = {"user": torch.tensor([2, 2, 1, 1.0]), "item": torch.tensor([2, 2, 1, 1.0])}
    pull = torch.cat(
        [
            2 * (1 / n).mean() * half
            for n, half in zip(seen.values(), model.head.weight.chunk(2, 1))
        ],
        dim=1,
    )
    torch.testing.assert_close(model.head.weight.grad - dense, pull.detach(), rtol=1e-4, atol=1e-6)


def test_threshold_meda_redraws_large_tables_only():
    model, optimizer = setting(rule="adagrad")
    method = BOARD["threshold_meda"]
    hook = method.remedy(model, optimizer, hyperparameter=10, seed=1)
    before = model.user.weight.detach().clone(), model.item.weight.detach().clone()
    hook.before_epoch(0)
    hook.before_epoch(1)
    assert torch.equal(model.user.weight, before[0])
    assert not (model.item.weight == before[1]).any()


def test_frozen_tables_have_no_rate_from_the_second_epoch_on():
    model, optimizer = setting()
    hook = hooks.FrozenTables(model, optimizer)
    rates = []
    for index in (0, 1):
        hook.before_epoch(index)
        rates.append(optimizer.embedding.param_groups[0]["lr"])
    assert rates == [0.1, 0.0]


def test_whole_tables_decay_rows_that_no_batch_touches():
    for decoupled in (False, True):
        model = Model()
        whole = hooks.WholeTables(model, 0.1, 0.01, 1e-2, decoupled)
        start = model.item.weight[5].detach().clone()
        model(IDS).square().mean().backward()
        for optimizer in whole.optimizers:
            optimizer.step()
        # L2 under Adam: by the rate, whatever the size. AdamW: by rate times decay, in proportion.
        expected = start * (1 - 1e-4) if decoupled else start - 0.01 * start.sign()
        torch.testing.assert_close(model.item.weight[5].detach(), expected, rtol=1e-4, atol=1e-5)


def log_of(ids):
    n, schema = len(ids), Schema({"item": 10}, ("x",), ("click",))
    labels = (torch.arange(n) % 2).float()[:, None]
    return Log(schema, {"item": ids}, torch.zeros(n, 1), labels, torch.zeros(n, dtype=torch.int32))


def test_filtered_ids_share_a_row():
    log = log_of(torch.tensor([1, 1, 4, 5, 5, 9]))
    changed, _ = filtered(log, log, 2)
    assert changed.ids["item"].tolist() == [0, 0, 2, 1, 1, 2]
    assert changed.schema.cardinality == {"item": 3}


def test_hashed_ids_fit_and_are_the_same_in_every_log():
    log = log_of(torch.arange(10))
    window, held_out = hashed(log, log[:4], 0.3)
    assert window.schema.cardinality == {"item": 3}
    assert 0 <= window.ids["item"].min() <= window.ids["item"].max() < 3
    assert torch.equal(held_out.ids["item"], window.ids["item"][:4])


def test_smoothing_keeps_the_mean_label():
    log = log_of(torch.arange(10))
    window, held_out = smoothed(log, log, 0.2)
    assert held_out is log
    labels = window.labels
    assert labels.mean() == log.labels.mean() and sorted(labels.unique().tolist()) == [
        pytest.approx(0.1),
        pytest.approx(0.9),
    ]


def test_new_ids_are_those_the_window_lacks():
    log = log_of(torch.tensor([1, 1, 4]))
    assert has_new_id(log, log_of(torch.tensor([4, 5])), ("item",)).tolist() == [0, 1]
