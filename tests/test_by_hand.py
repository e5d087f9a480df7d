"""The reader's program computes what the library computes, stage by stage."""

import ast
import inspect
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from multiepoch.optim import FrequencyAdaptiveLR, SparseOptimizer
from multiepoch.remedies import tail_rewind
from multiepoch_lab.leave_one_out import LeaveOneOutRows
from reproduction import by_hand, by_package

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "01_the_jump_in_one_program.ipynb"
RATE, BATCH, EPOCHS = 0.1, 100, 3


@pytest.fixture
def log(tiny_log):
    return tiny_log(n=400)


def agree(log, tables, dense, optimizer, model, remedy=None):
    by_package.train(model, optimizer, log, BATCH, EPOCHS, remedy)
    assert by_package.difference(log, tables, dense, model) < 1e-6


def test_the_model_is_the_librarys(log):
    tables, dense = by_hand.build(log, 0, rate=RATE)
    model = by_package.twin(log, tables, dense)
    rows = [table.weight[ids] for table, ids in zip(tables, log.ids.values())]
    ours, theirs = dense(rows, log.dense), model(log.ids, log.dense)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    losses = by_hand.held_out_loss(tables, dense, log)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        theirs, log.p_true, reduction="none"
    )
    assert losses == pytest.approx(expected.mean(dim=0).tolist(), abs=1e-6)


@pytest.mark.parametrize("share", [None, by_hand.fal], ids=["plain", "FAL"])
@pytest.mark.parametrize("rule", [by_hand.rowwise_adagrad, by_hand.lazy_adam])
def test_the_rules_and_fal_are_the_librarys(log, rule, share):
    rate = RATE if rule is by_hand.rowwise_adagrad else RATE / 10
    tables, dense = by_hand.build(log, 0, rate=rate, rule=rule, share=share)
    model = by_package.twin(log, tables, dense)
    optimizer = SparseOptimizer.from_model(
        model,
        by_hand.DENSE_RATE,
        rate,
        rule={"lazy_adam": "adam"}.get(rule.__name__, rule.__name__),
        row_lr=share and FrequencyAdaptiveLR(),
    )
    by_hand.train(tables, dense, log, log, BATCH, EPOCHS)
    agree(log, tables, dense, optimizer, model)


@pytest.mark.parametrize("below", [8, math.inf], ids=["tail rewind", "MEDA"])
def test_the_rewinds_are_the_librarys(log, below, monkeypatch):
    tables, dense = by_hand.build(log, 0, rate=RATE)
    model = by_package.twin(log, tables, dense)
    monkeypatch.setattr(by_hand, "STD", 0.0)  # both draw zeros, whatever their generators
    optimizer = SparseOptimizer.from_model(model, by_hand.DENSE_RATE, RATE, rule="rowwise_adagrad")
    remedy = tail_rewind(model, optimizer, below, "reinit", init=lambda weight: weight.zero_())
    by_hand.train(tables, dense, log, log, BATCH, EPOCHS, below)
    agree(log, tables, dense, optimizer, model, remedy)


def test_the_rows_that_leave_their_own_label_out_are_the_librarys(log):
    tables, dense = by_hand.build(log, 0, by_hand.LeaveOneOut, rate=RATE, n_impressions=len(log))
    model = by_package.twin(log, tables, dense)
    optimizer = SparseOptimizer.from_model(model, by_hand.DENSE_RATE, RATE)
    remedy = LeaveOneOutRows(model, optimizer, math.inf, bits=32)
    by_hand.train(tables, dense, log, log, BATCH, EPOCHS)
    agree(log, tables, dense, optimizer, model, remedy)


def test_a_vote_is_weighed_to_the_last_bit_where_torchs_root_is_not():
    n = 263  # torch's float32 root of 267 may be off by a rounding; the library's is not
    table = by_hand.LeaveOneOut(1, RATE, n)
    grad = torch.randn(n, by_hand.DIM, generator=torch.Generator().manual_seed(0)) / n
    table.update(torch.zeros(n, dtype=torch.long), torch.arange(n), grad)
    rate = (RATE / table.mean_square.sqrt()).float()
    weight = float(np.float32(1) / np.sqrt(np.float32(n + 4)))
    assert torch.equal(table.votes, -weight * (rate * (n * grad)))


def test_it_is_short_and_needs_torch_alone():
    source = inspect.getsource(by_hand)
    assert len(source.splitlines()) <= 150
    tree = ast.parse(source)
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} == {"torch"}
    pieces = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert max(1 + node.end_lineno - node.lineno for node in pieces) <= 30


def test_the_first_notebook_writes_it_cell_by_cell():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    shown = "\n\n\n".join(cell.source for cell in cells if cell.cell_type == "code")
    source = inspect.getsource(by_hand)
    for node in ast.parse(source).body:
        piece = ast.get_source_segment(source, node)
        if getattr(node, "name", "") != "LeaveOneOut" and not isinstance(node, ast.Expr):
            assert piece in shown, f"the notebook lacks or changes this piece:\n{piece}"
