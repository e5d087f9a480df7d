"""Which rows get a gradient: counted from ids, and held against what the model's backward gives."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from multiepoch_lab.model import ConversionModel
from reproduction.ch03_gradient_sparsity import experiment as gradient_sparsity


def test_touched_rows_are_those_with_a_gradient(tiny_log):
    log = tiny_log(n=300)
    batch = next(gradient_sparsity.batches(300, 40, seed=0))
    model = ConversionModel(log.schema)
    logits = model({name: ids[batch] for name, ids in log.ids.items()}, log.dense[batch])
    model.loss(logits, log.labels[batch]).backward()
    for name, rows in gradient_sparsity.touched_rows(log, batch).items():
        dense_gradient = model.table_parameters()[name].grad.to_dense()
        assert torch.equal(dense_gradient.any(dim=1).nonzero()[:, 0], rows)


def test_batches_are_full_and_see_no_impression_twice():
    order = torch.cat(list(gradient_sparsity.batches(103, 10, seed=1)))
    assert len(order) == 100 and len(order.unique()) == 100
    again, other = (torch.cat(list(gradient_sparsity.batches(103, 10, seed))) for seed in (1, 2))
    assert torch.equal(order, again) and not torch.equal(order, other)


def test_head_interpolates_within_a_row():
    found = gradient_sparsity.head(np.array([6, 3, 1, 0]), [0.125, 0.25, 0.5, 1.0])
    assert found == pytest.approx([0.3, 0.6, 0.9, 1.0])


def test_measures_of_a_log_that_can_be_counted_by_hand(tiny_log):
    n = gradient_sparsity.BATCH * 2
    log = tiny_log(n=n, cardinality={"everywhere": 2, "mostly_absent": 10})
    ids = {"everywhere": torch.arange(n) % 2, "mostly_absent": torch.zeros(n, dtype=torch.int64)}
    found = pd.DataFrame(
        gradient_sparsity.measure(replace(log, ids=ids), seed=0),
        columns=["table", "metric", "at", "value"],
    )
    values = found.set_index(["table", "metric", "at"])["value"]
    assert values["everywhere", "touched", gradient_sparsity.BATCH] == 2
    assert values["mostly_absent", "touched", gradient_sparsity.BATCH] == 1
    assert values["all", "touched", gradient_sparsity.BATCH] == 3
    assert values["everywhere", "rare", gradient_sparsity.RARE] == 0
    assert values["mostly_absent", "rare", gradient_sparsity.RARE] == 90
    assert values["all", "rare", gradient_sparsity.RARE] == 75
    assert values["mostly_absent", "head", 0.1] == 100
