"""Clipping of sparse and dense gradients together against torch's own on dense copies."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from multiepoch.optim import (
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    clip_grad_norm_,
    compiled,
)

IDS = torch.tensor([1, 4, 4, 0, 4, 1])


@pytest.fixture(autouse=True, params=["with kernels", "without"])
def kernels(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(compiled, "library", lambda: None)
    elif compiled.library() is None:
        pytest.skip("no C++ compiler built the kernels")


def parameters(seed=0, dtype=torch.float32):
    """Two tables with sparse gradients that repeat rows, dense layers, and one unused."""
    torch.manual_seed(seed)
    model = nn.ModuleDict(
        {
            "user": nn.Embedding(6, 3, sparse=True, dtype=dtype),
            "words": nn.EmbeddingBag(9, 3, sparse=True, mode="sum", dtype=dtype),
            "tower": nn.Linear(3, 2, dtype=dtype),
            "unused": nn.Linear(3, 2),
        }
    )
    rows = model.user(IDS) + model.words(torch.randint(9, (6, 4)))
    (model.tower(rows).float().square() * torch.rand(6, 2)).sum().backward()
    return list(model.parameters())


def with_dense_gradients(sparse):
    copies = [nn.Parameter(p.detach().clone()) for p in sparse]
    for p, its in zip(sparse, copies):
        its.grad = None if p.grad is None else p.grad.to_dense().clone()
    return copies


def assert_alike(sparse, dense, rtol=1e-5):
    for p, its in zip(sparse, dense):
        assert (p.grad is None) == (its.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(p.grad.to_dense(), its.grad, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, math.inf, "inf"])
@pytest.mark.parametrize("max_norm", [0.1, 5.0, 1e6])
def test_the_norm_is_clipped_as_torch_clips_dense_gradients(max_norm, norm_type):
    sparse = parameters()
    dense = with_dense_gradients(sparse)
    expected = nn.utils.clip_grad_norm_(dense, max_norm, norm_type)
    total = clip_grad_norm_(sparse, max_norm, norm_type)
    torch.testing.assert_close(total, expected)
    assert_alike(sparse, dense)


@pytest.mark.parametrize("norm_type", [2.0, math.inf])
def test_a_table_that_no_batch_has_touched_adds_nothing_to_the_norm(norm_type):
    table, dense = nn.Parameter(torch.ones(6, 3)), nn.Parameter(torch.ones(2))
    none = torch.empty(1, 0, dtype=torch.int64), torch.empty(0, 3)
    table.grad = torch.sparse_coo_tensor(*none, table.shape, check_invariants=False)
    dense.grad = torch.tensor([3.0, 4.0])
    total = clip_grad_norm_([table, dense], 1.0, norm_type)
    assert total == torch.linalg.vector_norm(torch.tensor([3.0, 4.0]), norm_type)


def test_float16_gradients_do_not_overflow():
    """Two lookups of 4e4 sum to more than float16 holds, and so does the norm of 16 of 3e4."""
    table, dense = nn.Parameter(torch.zeros(6, 3).half()), nn.Parameter(torch.zeros(16).half())
    ids, values = torch.tensor([[1, 1, 4]]), torch.full((3, 3), 4e4, dtype=torch.float16)
    table.grad = torch.sparse_coo_tensor(ids, values, table.shape, check_invariants=False)
    dense.grad = torch.full_like(dense, 3e4)
    clip_grad_norm_([table, dense], 1.0)
    assert table.grad.dtype == torch.float16
    rows = torch.zeros(6, 3).index_add_(0, ids[0], table.grad._values().float())
    together = torch.cat([rows.flatten(), dense.grad.float()])
    assert together.norm().item() == pytest.approx(1, rel=1e-2)


@pytest.fixture
def one_process(tmp_path):
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_a_sharded_table_is_refused(one_process):
    distributed = pytest.importorskip("torch.distributed.tensor")
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    table = distributed.distribute_tensor(torch.ones(4, 2), mesh, [distributed.Shard(0)])
    with pytest.raises(TypeError, match=r"table 'users' is sharded.*ignored_params"):
        EmbeddingOptimizer([("users", nn.Parameter(table))], 0.1)


def test_dense_gradients_may_be_dtensors(one_process):
    """As fully_shard makes those of the dense layers; the tables are not sharded."""
    distributed = pytest.importorskip("torch.distributed.tensor")
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    sparse = parameters()
    dense = with_dense_gradients(sparse)
    for place, p in enumerate(sparse):
        if p.grad is not None and not p.grad.is_sparse:
            shard = [distributed.Shard(0)]
            sparse[place] = nn.Parameter(distributed.distribute_tensor(p.detach(), mesh, shard))
            sparse[place].grad = distributed.distribute_tensor(p.grad, mesh, shard)
    expected = nn.utils.clip_grad_norm_(dense, 0.1)
    torch.testing.assert_close(clip_grad_norm_(sparse, 0.1), expected)
    for p in sparse:
        if hasattr(p, "full_tensor"):
            p.grad = p.grad.full_tensor()
    for p, its in zip(sparse, dense):
        if p.grad is not None:
            torch.testing.assert_close(p.grad.to_dense(), its.grad, rtol=1e-5, atol=1e-7)


def test_bfloat16_gradients_are_clipped_too():
    sparse = parameters(dtype=torch.bfloat16)
    dense = with_dense_gradients(sparse)
    nn.utils.clip_grad_norm_(dense, 0.5)
    clip_grad_norm_(sparse, 0.5)
    assert_alike(sparse, dense, rtol=2**-5)
    assert sparse[0].grad.dtype == torch.bfloat16


def test_every_lookup_is_still_counted():
    table, *_ = sparse = parameters()
    optimizer = EmbeddingOptimizer([table], 0.1, row_lr=FrequencyAdaptiveLR())
    clip_grad_norm_(sparse, 0.1)
    optimizer.step()
    assert optimizer.state[table]["count"].tolist() == torch.bincount(IDS, minlength=6).tolist()


def test_the_gradients_of_the_loss_are_not_written_to():
    """torch may hand the same memory to the table and to the output of its lookup."""
    layer = nn.Embedding(6, 3, sparse=True)
    output = layer(IDS)
    output.retain_grad()
    output.square().sum().backward()
    before = output.grad.clone()
    clip_grad_norm_(layer.weight, 0.01)
    assert torch.equal(output.grad, before)
    layer.weight.grad = None
    layer(IDS).sum().backward()  # its values are one expanded number
    clip_grad_norm_(layer.parameters(), 0.01)
    assert layer.weight.grad.to_dense().norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_norm_that_is_not_finite_is_refused_on_request_and_no_gradient_is_no_error():
    sparse = parameters()
    sparse[0].grad._values()[0] = math.nan
    before = copy.deepcopy([p.grad for p in sparse])
    with pytest.raises(RuntimeError, match="total norm of the gradients is nan"):
        clip_grad_norm_(sparse, 1.0, error_if_nonfinite=True)
    assert torch.equal(before[2], sparse[2].grad)
    assert clip_grad_norm_([nn.Parameter(torch.ones(2))], 1.0) == 0
    layer = nn.Embedding(6, 3, sparse=True)
    layer(IDS[:0]).sum().backward()
    assert clip_grad_norm_(layer.weight, 1.0) == 0
    assert layer.weight.grad._nnz() == 0


def test_the_hook_of_the_page_clips():
    page = (Path(__file__).parents[1] / "book" / "use-it.md").read_text()
    start = page.index("def configure_gradient_clipping")
    names = dict(clip_grad_norm_=clip_grad_norm_)
    exec(page[start : page.index("def clip_with_accelerate")], names)
    sparse = parameters()
    module = SimpleNamespace(parameters=lambda: iter(sparse))
    names["configure_gradient_clipping"](module, None, 0.01, None)
    grads = torch.cat([p.grad.to_dense().flatten() for p in sparse if p.grad is not None])
    assert grads.norm().item() == pytest.approx(0.01, rel=1e-3)
