"""The compiled kernels: built at installation, loaded if they fit, and announced."""

import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    SparseOptimizer,
    clip_grad_norm_,
    compiled,
    eager,
)
from multiepoch.remedies.row_counts import HashedCounts
from multiepoch.remedies.undo_log import UndoLog

ROOT = Path(__file__).parents[1]
NO_KERNELS = shutil.ignore_patterns("*.so", "__pycache__")
needs_kernels = pytest.mark.skipif(
    compiled.library() is None, reason="no C++ compiler built the kernels"
)


@pytest.fixture
def fresh():
    """Lets `library` choose again, here and after the test."""
    compiled.library.cache_clear()
    yield
    compiled.library.cache_clear()


@pytest.fixture
def copy(tmp_path, monkeypatch, fresh):
    """A folder with the kernels and their source, in place of the package's."""
    for path in compiled.FOLDER.glob("_kernels*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    return tmp_path


def table(**kind):
    return nn.Parameter(torch.zeros(4, 2, **kind))


@pytest.fixture(params=["bfloat16", "float64", "meta"])
def default(request):
    """Another default dtype or device of torch's than what the kernels write to."""
    if request.param == "meta":
        with torch.device("meta"):
            yield
        return
    torch.set_default_dtype(getattr(torch, request.param))
    yield
    torch.set_default_dtype(torch.float32)


@needs_kernels
def test_no_default_of_torch_reaches_the_kernels(default):
    """They would write past a buffer of another dtype, or to the address of one elsewhere."""
    here = dict(dtype=torch.float32, device="cpu")
    weight = nn.Parameter(torch.ones(9, 5, **here))
    options = dict(row_lr=FrequencyAdaptiveLR(), fused=True)
    optimizer = EmbeddingOptimizer([weight], 1.0, "sgd", **options)
    ids, values = torch.tensor([[3, 1, 3]], device="cpu"), torch.full((3, 5), 3.0, **here)
    sparse = dict(size=weight.shape, device="cpu", check_invariants=False)
    weight.grad = torch.sparse_coo_tensor(ids, values, **sparse)
    assert clip_grad_norm_(weight, math.inf).item() == pytest.approx(math.sqrt(5 * (36 + 9)))
    optimizer.step()
    row_1 = 1 - 3 * math.log(2) / math.log(3)
    assert weight[:5, 2].tolist() == pytest.approx([1, row_1, 1, -5, 1])
    optimizer.grow_table(weight, 2)
    assert (weight.shape, weight.dtype, weight.device.type) == ((11, 5), torch.float32, "cpu")
    rows, occurrences = compiled.distinct_rows(ids[0], 9)
    assert (rows.tolist(), occurrences.tolist()) == ([1, 3], [1, 2])
    group, state = optimizer.param_groups[0], optimizer.state[weight]
    kept = compiled.keep_rows(group, weight, state, rows, occurrences)
    compiled.correct_rows(group, weight, state, kept, 2)
    assert [part.dtype for part in kept] == [torch.int64, torch.float32, torch.int32]
    counts = HashedCounts()
    counts.add(rows, occurrences)
    assert counts.of(rows).tolist() == [1, 2]


@needs_kernels
def test_the_kernels_fit_this_processor_and_are_announced_once(fresh, caplog):
    caplog.set_level(logging.INFO, "multiepoch")
    optimizer = EmbeddingOptimizer([table()], 0.1)
    assert optimizer.path == "fused" and repr(optimizer).endswith(", fused")
    (record,) = caplog.records
    capability = torch.backends.cpu.get_cpu_capability().lower()
    name = capability if "avx" in capability else "plain"
    assert record.levelno == logging.INFO and f"_kernels_{name}.so" in record.message


@needs_kernels
def test_each_kernel_computes_the_same(monkeypatch):
    """The processor of this machine may lack what the newest needs."""
    capability = torch.backends.cpu.get_cpu_capability()
    names = {"AVX512": ["avx512", "avx2"], "AVX2": ["avx2"]}.get(capability, [])
    ids, values = torch.randint(50, (1, 300)), torch.randn(300, 19)
    results = []
    for name in ("plain", *names):
        kernels = compiled._load(compiled.FOLDER / f"_kernels_{name}.so")
        monkeypatch.setattr(compiled, "library", lambda kernels=kernels: kernels)
        rows = nn.Parameter(torch.ones(50, 19))
        optimizer = EmbeddingOptimizer([rows], 0.1, fused=True)
        for _ in range(3):
            rows.grad = torch.sparse_coo_tensor(ids, values, rows.shape, check_invariants=False)
            optimizer.step()
        results.append(rows.detach())
    for result in results:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-6)


@needs_kernels
def test_a_kernel_of_another_source_is_not_called(copy, caplog):
    source = copy / "_kernels.cpp"
    source.write_text(source.read_text() + "// changed since\n")
    assert compiled.library() is None
    assert "another version of _kernels.cpp" in caplog.text


def test_without_kernels_the_eager_path_runs_and_says_so(copy, caplog):
    for path in copy.glob("*.so"):
        path.unlink()
    optimizer = EmbeddingOptimizer([table()], 0.1)
    assert repr(optimizer).endswith(", not fused")
    EmbeddingOptimizer([table()], 0.1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "pip install" in record.message
    with pytest.raises(RuntimeError, match="which this installation lacks"):
        EmbeddingOptimizer([table()], 0.1, fused=True)


@needs_kernels
def test_fused_is_obeyed_by_group():
    groups = [{"params": [table()]}, {"params": [table()], "fused": False}]
    assert EmbeddingOptimizer(groups, 0.1).path == "partly fused"
    assert EmbeddingOptimizer([table()], 0.1, fused=False).path == "not fused"
    for kind in ({"dtype": torch.bfloat16}, {"device": "meta"}):
        assert EmbeddingOptimizer([table(**kind)], 0.1).path == "not fused"
        with pytest.raises(RuntimeError, match="fused=True needs contiguous float32"):
            EmbeddingOptimizer([table(**kind)], 0.1, fused=True)
    model = nn.ModuleDict({"user": nn.Embedding(4, 2, sparse=True), "tower": nn.Linear(2, 1)})
    pair = SparseOptimizer.from_model(model, 0.1, 0.1, fused=False)
    assert "EmbeddingOptimizer, not fused" in repr(pair)


def test_a_wheel_without_a_compiler_has_no_kernels_and_says_that_it_fits_everywhere(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    build = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", "."]
    build += ["bdist_wheel", "--dist-dir", "dist"]
    shutil.copytree(ROOT / "src" / "multiepoch", tmp_path / "src" / "multiepoch", ignore=NO_KERNELS)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    environment = os.environ | {"CC": "/no/cc", "CXX": "/no/c++"}
    done = subprocess.run(build, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
    (wheel,) = tmp_path.glob("dist/*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")


@needs_kernels
@pytest.mark.parametrize("row_lr", [None, FrequencyAdaptiveLR(), FrequencyAdaptiveLR("linear")])
@pytest.mark.parametrize("row_decay", [None, AdaptiveRegularization(0.01)])
@pytest.mark.parametrize("weight_decay", [{}, {"weight_decay": 0.3, "lr": 0.1}])
def test_rows_of_another_optimizer_are_corrected_alike_by_both_paths(
    row_lr, row_decay, weight_decay
):
    n, dim = 3000, 5
    options = {"row_lr": row_lr, "row_decay": row_decay, "epoch": 0, **weight_decay}
    start, found = torch.randn(n, dim), {}
    for way in (compiled, eager):
        g, weight = torch.Generator().manual_seed(0), start.clone()
        state = {
            "count": torch.zeros(n, dtype=torch.int32),
            "max_count": torch.tensor(0, dtype=torch.int32),
            "last_step": torch.zeros(n, dtype=torch.int32),
        }
        for step in range(1, 4):
            ids = (n * torch.rand(4000, generator=g) ** 2).long()
            rows, occurrences = compiled.distinct_rows(ids, n)
            for one, other in zip((rows, occurrences), ids.unique(return_counts=True)):
                assert torch.equal(one.long(), other)
            kept = way.keep_rows(options, weight, state, rows, occurrences)
            weight[rows] += torch.randn(len(rows), dim, generator=g)
            way.correct_rows(options, weight, state, kept, step)
        found[way] = {"weight": weight, **state}
    for name, value in found[eager].items():
        torch.testing.assert_close(found[compiled][name], value, rtol=0, atol=1e-6)
    assert compiled.distinct_rows(torch.tensor([0, n]), n) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_corrected_with_one_rounding(dtype):
    options = {"row_lr": FrequencyAdaptiveLR(), "row_decay": AdaptiveRegularization(0.01)}
    options["epoch"] = 0
    before, after = (1 + torch.rand(300, 8) for _ in range(2))
    rows, occurrences, corrected = torch.arange(300), torch.arange(1, 301), {}
    for kind in (dtype, torch.float64):
        weight, state = (
            before.to(dtype).to(kind),
            {
                "count": torch.zeros(300, dtype=torch.int32),
                "max_count": torch.tensor(0, dtype=torch.int32),
                "last_step": torch.zeros(300, dtype=torch.int32),
            },
        )
        kept = eager.keep_rows(options, weight, state, rows, occurrences)
        weight.copy_(after.to(dtype))
        eager.correct_rows(options, weight, state, kept, 5)
        corrected[kind] = weight
    error = (corrected[dtype].double() - corrected[torch.float64]).abs()
    half_a_step = torch.finfo(dtype).eps / 2  # below 2, and 1 from 2 on
    assert (error <= half_a_step * corrected[torch.float64].clamp(min=1) + 1e-6).all()


ROW = st.integers(0, 12) | st.integers(2**31 - 13, 2**31 - 2)
BATCH = st.dictionaries(ROW, st.integers(0, 3) | st.just(2**31 - 1))


@needs_kernels
@given(batches=st.lists(BATCH, max_size=8))
def test_counts_of_rows_are_those_of_a_dict(batches):
    hashed, expected, most = HashedCounts(), {}, 0
    for batch in batches:
        most = max(most, len(expected) + len(batch))
        rows, occurrences = torch.tensor([*batch], dtype=torch.int64), [*batch.values()]
        assert hashed.of(rows).tolist() == [expected.get(row, 0) for row in batch]
        hashed.add(rows, torch.tensor(occurrences, dtype=torch.int32))
        for row, n in batch.items():
            if n:
                expected[row] = min(expected.get(row, 0) + n, 2**31 - 1)
        rows, counts = hashed.all()
        assert dict(zip(rows.tolist(), counts.tolist())) == expected
        assert rows.tolist() == sorted(expected)
        known = torch.tensor([*expected], dtype=torch.int64)
        assert hashed.of(known).tolist() == [*expected.values()]
        assert hashed.n_bytes == 12 * len(expected)
        assert hashed.slots.nbytes <= 12 * most + 8


@needs_kernels
@pytest.mark.parametrize("ascending", [True, False])
def test_the_undo_log_counts_alike_on_both_paths(monkeypatch, ascending):
    weight, states = torch.randn(5000, 3), []
    kernels = compiled.library()
    for library in (kernels, None):
        monkeypatch.setattr(compiled, "library", lambda library=library: library)
        g, log = torch.Generator().manual_seed(0), UndoLog(weight)
        for _ in range(30):
            ids = (5000 * torch.rand(400, generator=g) ** 2).long()
            rows, occurrences = ids.unique(return_counts=True)
            order = slice(None) if ascending else torch.randperm(len(rows), generator=g)
            log.add(rows[order], occurrences[order], lambda: {"weight": weight})
        states.append(log.state_dict())
    (one, other), values = states, [state.pop("values")["weight"] for state in states]
    assert one.keys() == other.keys() and torch.equal(*values)
    assert all(torch.equal(one[name], other[name]) for name in one)
