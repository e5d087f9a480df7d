"""Rows that are drawn by their number."""

import sys

import pytest
import torch

from multiepoch.remedies.row_draws import normal_rows


def test_a_row_is_the_same_whatever_is_drawn_beside_it():
    whole = normal_rows(7, torch.arange(1000), 8)
    some = torch.tensor([999, 3, 500])
    assert torch.equal(normal_rows(7, some, 8), whole[some])
    assert not (whole == normal_rows(8, torch.arange(1000), 8)).any()


def test_draws_are_standard_normal_and_independent():
    n, dim = 50_000, 8
    rows = normal_rows(2**55 + 1, torch.arange(10**10, 10**10 + n), dim).double()
    bound = 5 / n**0.5  # five standard errors
    assert rows.mean(0).abs().max() < bound
    assert (rows.var(0) - 1).abs().max() < 2**0.5 * bound
    assert ((rows**4).mean() - 3).abs() < 10 * bound / dim**0.5
    between = rows.T @ rows / n - torch.eye(dim)
    assert between.abs().max() < 2 * bound
    after = (rows[1:] * rows[:-1]).mean(0)  # one row and the next
    assert after.abs().max() < bound


def test_the_sharded_tables_name_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrec", None)
    monkeypatch.delitem(sys.modules, "multiepoch.torchrec", raising=False)
    with pytest.raises(ImportError, match=r"multiepoch\[torchrec\]"):
        import multiepoch.torchrec  # noqa: F401
