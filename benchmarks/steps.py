"""What an optimizer step costs: against torch's and FBGEMM's, by table size, with FAL and AdamAR.

    python benchmarks/steps.py [--tiny] [--out FILE]

Writes milliseconds of every repeat, by part:
    step: optimizer.step() alone, on gradients as nn.Embedding leaves them.
    lookup: a lookup, its backward and the step, since FBGEMM does all three in one.
    size: a step on ever larger tables, with the same number of distinct rows touched.
    extra: a step without, with FAL and with AdamAR, on one and the same table, by rule and seed.
    bytes: of table and optimizer state, a row.
    distinct: the rows that a batch touches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timing import (
    N_LOOKUPS,
    Contestant,
    arguments,
    available_bytes,
    interleaved,
    spread_batches,
    write,
    zipf_batches,
)
from torch import Tensor, nn

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    compiled,
)
from multiepoch.optim.rules import RULES

DIM = 32
LR = 1e-3


@dataclass(frozen=True)
class Size:
    """repeats: of all but the dense tables of `size`, which take a fifth. rows_of_size: ascending.

    huge_rows: one more for row-wise Adagrad, where memory allows.
    extra_repeats, seeds: of `extra`, where differences are small.
    """

    n_rows: int = 1_000_000
    n_lookups: int = N_LOOKUPS
    n_batches: int = 8
    repeats: int = 40
    extra_repeats: int = 60
    seeds: int = 5
    rows_of_size: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    huge_rows: int = 100_000_000


TINY = Size(2_000, 500, 2, 2, 2, 2, (1_000, 2_000), 4_000)


def ours(rule: str, compile: bool = True) -> Callable[[nn.Parameter], torch.optim.Optimizer]:
    def make(table: nn.Parameter) -> EmbeddingOptimizer:
        optimizer = EmbeddingOptimizer([table], LR, rule=rule)
        optimizer._path = None if compile else "unique"
        return optimizer

    return make


# By name: how the optimizer is made, and whether its gradient is dense.
TORCH = {
    "SparseAdam": (lambda table: torch.optim.SparseAdam([table], LR), False),
    "Adagrad, sparse": (lambda table: torch.optim.Adagrad([table], LR), False),
    "SGD, sparse": (lambda table: torch.optim.SGD([table], LR), False),
    "Adam, dense": (lambda table: torch.optim.Adam([table], LR), True),
    "Adam, dense, fused": (lambda table: torch.optim.Adam([table], LR, fused=True), True),
    "Adagrad, dense": (lambda table: torch.optim.Adagrad([table], LR), True),
}


def new_table(n_rows: int, dim: int = DIM) -> nn.Parameter:
    """All memory is there before it is timed: writing a value makes the system give the pages."""
    return nn.Parameter(torch.empty(n_rows, dim).fill_(0.01))


def stepper(
    make, table: nn.Parameter, batches: list[Tensor], values: Tensor, dense=False, ahead: int = 0
) -> Contestant:
    """An optimizer's step on the next batch, or on the one that is `ahead` of it.

    values: (n_lookups, dim), the gradients of lookups.
    """
    optimizer = make(table)
    if dense:
        table.grad = torch.full_like(table, 1e-3)

    def prepare(turn: int) -> None:
        if not dense:
            ids = batches[(turn + ahead) % len(batches)][None]
            table.grad = torch.sparse_coo_tensor(ids, values, table.shape, check_invariants=False)

    return Contestant(optimizer.step, prepare)


def step_times(size: Size) -> dict[str, list[float]]:
    batches = zipf_batches(size.n_batches, size.n_lookups, size.n_rows, seed=0)
    values = 1e-3 * torch.randn(size.n_lookups, DIM)
    contestants = {}
    for rule in RULES:
        paths = {"compiled": True, "eager": False} if compiled.library() else {"eager": False}
        for path, compile in paths.items():
            table = new_table(size.n_rows)
            contestants[f"{rule}, {path}"] = stepper(ours(rule, compile), table, batches, values)
    for name, (make, dense) in TORCH.items():
        contestants[name] = stepper(make, new_table(size.n_rows), batches, values, dense)
    return interleaved(contestants, size.repeats)


def lookup_times(size: Size) -> dict[str, list[float]]:
    """Of each id by itself, no pooling: lookup, backward of a given gradient, and step."""
    batches = zipf_batches(size.n_batches, size.n_lookups, size.n_rows, seed=0)
    upstream = 1e-3 * torch.randn(size.n_lookups, DIM)

    def embedding(make) -> Contestant:
        module = nn.Embedding(size.n_rows, DIM, sparse=True, _weight=new_table(size.n_rows).data)
        optimizer = make(module.weight)

        def run() -> None:
            module(ids).backward(upstream)
            optimizer.step()

        def prepare(turn: int) -> None:
            nonlocal ids
            ids, module.weight.grad = batches[turn % len(batches)], None

        ids = batches[0]
        return Contestant(run, prepare)

    contestants = {rule: embedding(ours(rule)) for rule in RULES}
    sparse = {name: make for name, (make, dense) in TORCH.items() if not dense}
    contestants |= {name: embedding(make) for name, make in sparse.items()}
    contestants |= fbgemm(size.n_rows, batches, upstream)
    return interleaved(contestants, size.repeats)


def fbgemm(n_rows: int, batches: list[Tensor], upstream: Tensor) -> dict[str, Contestant]:
    """FBGEMM's CPU kernels; none where the package is not installed. It has no Adam there.

    A bag of one id is a lookup, and its kernel for bags is the faster one.
    """
    try:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
            EmbeddingLocation,
            PoolingMode,
        )
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )
    except (ImportError, OSError) as error:
        print(f"without FBGEMM: {error}", flush=True)
        return {}
    offsets = torch.arange(len(upstream) + 1)

    def kernel(rule: EmbOptimType) -> Contestant:
        module = SplitTableBatchedEmbeddingBagsCodegen(
            [(n_rows, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU)],
            optimizer=rule,
            learning_rate=LR,
            eps=1e-8,
            pooling_mode=PoolingMode.SUM,
        )
        module.init_embedding_weights_uniform(0.01, 0.01)
        ids = batches[0]

        def run() -> None:
            module(ids, offsets).backward(upstream)

        def prepare(turn: int) -> None:
            nonlocal ids
            ids = batches[turn % len(batches)]

        return Contestant(run, prepare)

    return {
        "FBGEMM adagrad": kernel(EmbOptimType.EXACT_ADAGRAD),
        "FBGEMM rowwise_adagrad": kernel(EmbOptimType.EXACT_ROWWISE_ADAGRAD),
        "FBGEMM sgd": kernel(EmbOptimType.EXACT_SGD),
    }


def size_times(size: Size) -> dict[str, dict[str, list[float]]]:
    """By optimizer and number of rows, the sizes in turn."""
    values = 1e-3 * torch.randn(size.n_lookups, DIM)
    measured = {}
    for name, make, dense, bytes_a_row in (
        ("adam", ours("adam"), False, 12 * DIM),
        ("rowwise_adagrad", ours("rowwise_adagrad"), False, 4 * DIM + 4),
        ("SparseAdam", TORCH["SparseAdam"][0], False, 12 * DIM),
        ("Adam, dense", TORCH["Adam, dense"][0], True, 20 * DIM),
    ):
        all_rows = list(size.rows_of_size)
        if name == "rowwise_adagrad":
            needed = (sum(all_rows) + size.huge_rows) * bytes_a_row + 2**30
            if needed < available_bytes():
                all_rows.append(size.huge_rows)
            else:
                print(f"without {size.huge_rows:,} rows, which need {needed / 2**30:.0f} GiB")
        contestants = {}
        for n_rows in all_rows:
            batches = spread_batches(size.n_batches, size.n_lookups, n_rows, seed=1)
            contestants[str(n_rows)] = stepper(make, new_table(n_rows), batches, values, dense)
        repeats = max(2, size.repeats // 5) if dense else size.repeats
        measured[name] = interleaved(contestants, repeats, warm_up=1 if dense else size.n_batches)
        say(f"step by table size, {name}", measured[name])
    return measured


def extra_times(size: Size) -> dict[str, dict[str, dict[str, list[float]]]]:
    """By rule, seed and what is added. A seed makes other batches and lays its table anew.

    One optimizer is switched from step to step, so that all use the same memory; in a turn each
    has another batch, so that none finds its rows in the cache.
    """
    values = 1e-3 * torch.randn(size.n_lookups, DIM)
    added = {
        "plain": dict(row_lr=None, row_decay=None),
        "FAL": dict(row_lr=FrequencyAdaptiveLR(), row_decay=None),
        "AdamAR": dict(row_lr=None, row_decay=AdaptiveRegularization(1e-3)),
        "both": dict(row_lr=FrequencyAdaptiveLR(), row_decay=AdaptiveRegularization(1e-3)),
    }
    measured: dict = {rule: {} for rule in RULES}
    for seed in range(size.seeds):
        batches = zipf_batches(size.n_batches, size.n_lookups, size.n_rows, seed)
        for rule in RULES:
            optimizer = EmbeddingOptimizer([new_table(size.n_rows)], LR, rule=rule)
            contestants = {
                name: switched(optimizer, options, batches, values, ahead=2 * k)
                for k, (name, options) in enumerate(added.items())
            }
            measured[rule][str(seed)] = interleaved(contestants, size.extra_repeats)
    for rule, by_seed in measured.items():
        joined = {name: [t for ms in by_seed.values() for t in ms[name]] for name in added}
        say(f"step with FAL and AdamAR, {rule}", joined)
    return measured


def switched(
    optimizer: EmbeddingOptimizer, options: dict, batches: list[Tensor], values: Tensor, ahead: int
) -> Contestant:
    """The optimizer's step with these options of its one group."""
    (group,) = optimizer.param_groups
    (table,) = group["params"]
    step = stepper(lambda _: optimizer, table, batches, values, ahead=ahead)

    def prepare(turn: int) -> None:
        step.prepare(turn)
        group.update(options)

    return Contestant(step.run, prepare)


def bytes_a_row(size: Size) -> dict[str, dict[str, float]]:
    """Of the table, of each optimizer's state, and of what FAL and AdamAR add, once trained."""
    found = {"table": 4.0 * DIM}
    fal, decay = FrequencyAdaptiveLR(), AdaptiveRegularization(1e-3)
    makers = {rule: ours(rule) for rule in RULES}
    makers |= {
        f"{rule} + FAL": lambda table, rule=rule: EmbeddingOptimizer(
            [table], LR, rule=rule, row_lr=fal
        )
        for rule in RULES
    }
    makers |= {
        f"{rule} + AdamAR": lambda table, rule=rule: EmbeddingOptimizer(
            [table], LR, rule=rule, row_decay=decay
        )
        for rule in RULES
    }
    makers |= {name: make for name, (make, _) in TORCH.items()}
    batches = zipf_batches(1, size.n_lookups, size.n_rows, seed=0)
    values = torch.zeros(size.n_lookups, DIM)
    for name, make in makers.items():
        table = new_table(size.n_rows)
        optimizer = make(table)
        step = stepper(
            lambda _, made=optimizer: made,
            table,
            batches,
            values,
            dense=name in TORCH and TORCH[name][1],
        )
        step.prepare(0)
        step.run()
        tensors = [v for v in optimizer.state[table].values() if isinstance(v, Tensor)]
        found[name] = sum(t.numel() * t.element_size() for t in tensors) / size.n_rows
    return found


def say(title: str, ms: dict[str, list[float]]) -> None:
    print(f"\n{title}: median ms [quartiles]")
    for name, times in ms.items():
        q1, median, q3 = torch.tensor(times).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        print(f"  {name:28s} {median:9.3f} [{q1:.3f}, {q3:.3f}]", flush=True)


def measure(size: Size) -> dict:
    torch.manual_seed(0)
    torch.sparse.check_sparse_tensor_invariants.disable()  # said, so that torch does not warn
    measured = {"step": step_times(size)}
    say("optimizer.step()", measured["step"])
    measured["lookup"] = lookup_times(size)
    say("lookup, backward and step", measured["lookup"])
    measured["extra"] = extra_times(size)
    measured["size"] = size_times(size)
    measured["bytes"] = bytes_a_row(size)
    batches = zipf_batches(size.n_batches, size.n_lookups, size.n_rows, seed=0)
    distinct = [len(ids.unique()) for ids in batches]
    spread = spread_batches(1, size.n_lookups, size.rows_of_size[-1], seed=1)[0]
    measured["setting"] = {
        "dim": DIM,
        "n_rows": size.n_rows,
        "n_lookups": size.n_lookups,
        "distinct": math.floor(sum(distinct) / len(distinct)),
        "distinct_of_size": len(spread.unique()),
        "compiled": compiled.library() is not None,
    }
    return measured


def main() -> None:
    options = arguments(__doc__)
    write(options.out, measure(TINY if options.tiny else Size()))


if __name__ == "__main__":
    main()
