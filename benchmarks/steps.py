"""What an optimizer step costs: against torch's and FBGEMM's, by table size, with FAL and AdamAR.

    python -m benchmarks.steps [--tiny] [--out FILE]

Writes milliseconds of every repeat, with warm and with cold caches, by part:
    step: optimizer.step() alone, on gradients as nn.Embedding leaves them.
    lookup: a lookup, its backward and the step, since FBGEMM does all three in one, by table size.
    size: a step by table size.
    extra: a step without, with FAL and with AdamAR, on one and the same table, by rule and seed.
    bytes: of table and optimizer state, a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.timing import (
    N_LOOKUPS,
    Contestant,
    arguments,
    available_bytes,
    batches,
    warm_and_cold,
    write,
)
from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    compiled,
)
from multiepoch.optim.rules import RULES

DIM = 32
DIM_OF_LARGEST = 16  # of row-wise Adagrad by table size, so that 10^8 rows fit into a small machine
SIZED = ("adam", "SparseAdam")  # are timed at every size
LR = 1e-3


@dataclass(frozen=True)
class Size:
    """rows: of the tables in `lookup` and `size`, ascending; `n_rows` is one of them.

    largest: One more for row-wise Adagrad, where memory allows.
    """

    n_rows: int = 1_000_000
    rows: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    largest: int = 100_000_000
    n_lookups: int = N_LOOKUPS
    n_batches: int = 8
    repeats: int = 20
    extra_repeats: int = 16
    seeds: int = 5


TINY = Size(2_000, (1_000, 2_000), 4_000, 500, 4, 2, 2, 2)


def ours(rule: str, fused: bool | None = None, **options) -> Callable:
    return lambda table: EmbeddingOptimizer([table], LR, rule=rule, fused=fused, **options)


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
    optimizer: torch.optim.Optimizer, ids: list[Tensor], values: Tensor, dense: bool = False
) -> Contestant:
    """The optimizer's step on the next batch. values: (n_lookups, dim), of the lookups."""
    (table,) = optimizer.param_groups[0]["params"]
    if dense:
        table.grad = torch.full_like(table, 1e-3)

    def prepare(turn: int) -> None:
        if not dense:
            at = ids[turn % len(ids)][None]
            table.grad = torch.sparse_coo_tensor(at, values, table.shape, check_invariants=False)

    return Contestant(optimizer.step, prepare)


def gradients(size: Size, dim: int = DIM) -> Tensor:
    return 1e-3 * torch.randn(size.n_lookups, dim)


def step_and_size_times(size: Size) -> tuple[dict, dict]:
    """Returns milliseconds as {caches: {optimizer: ...}} and {optimizer: {caches: {rows: ...}}}.

    The second is by table size. All of one width take turns, and a step that both have is timed
    once.
    """
    steps, sizes = {}, {}
    makers = {rule: (ours(rule), False) for rule in RULES}
    makers |= {f"{rule}, eager": (ours(rule, fused=False), False) for rule in RULES}
    makers |= TORCH
    contestants = {}
    for n_rows in size.rows:
        ids, values = batches(size.n_batches, size.n_lookups, n_rows, seed=0), gradients(size)
        for name in makers if n_rows == size.n_rows else SIZED:
            make, dense = makers[name]
            table = new_table(n_rows)
            contestants[name, n_rows] = stepper(make(table), ids, values, dense)
    for state, ms in warm_and_cold(contestants, size.repeats).items():
        steps[state] = {name: ms[name, size.n_rows] for name in makers}
        for name in SIZED:
            by_rows = {str(n_rows): ms[name, n_rows] for n_rows in size.rows}
            sizes.setdefault(name, {})[state] = by_rows
    del contestants
    return steps, sizes | largest_times(size)


def largest_times(size: Size) -> dict[str, dict]:
    """Returns those of row-wise Adagrad by table size, up to the largest, in narrower tables."""
    name, all_rows = "rowwise_adagrad", list(size.rows)
    needed = (sum(all_rows) + size.largest) * (4 * DIM_OF_LARGEST + 4) + 2**30
    if needed < available_bytes():
        all_rows.append(size.largest)
    else:
        print(f"without {size.largest:,} rows, which need {needed / 2**30:.0f} GiB")
    contestants, values = {}, gradients(size, DIM_OF_LARGEST)
    for n_rows in all_rows:
        ids = batches(size.n_batches, size.n_lookups, n_rows, seed=0)
        table = new_table(n_rows, DIM_OF_LARGEST)
        contestants[name, n_rows] = stepper(ours(name)(table), ids, values)
    measured: dict[str, dict] = {}
    for state, ms in warm_and_cold(contestants, size.repeats).items():
        for (one, n_rows), times in ms.items():
            measured.setdefault(one, {}).setdefault(state, {})[str(n_rows)] = times
    return measured


def lookup_times(size: Size, n_rows: int) -> dict[str, dict]:
    """Of each id by itself, no pooling: lookup, backward of a given gradient, and step."""
    ids, upstream = batches(size.n_batches, size.n_lookups, n_rows, seed=0), gradients(size)
    makers = {"rowwise_adagrad": ours("rowwise_adagrad")}
    makers["Adagrad, sparse"] = TORCH["Adagrad, sparse"][0]

    def embedding(make) -> Contestant:
        module = nn.Embedding(n_rows, DIM, sparse=True, _weight=new_table(n_rows).data)
        optimizer, now = make(module.weight), ids[0]

        def run() -> None:
            module(now).backward(upstream)
            optimizer.step()

        def prepare(turn: int) -> None:
            nonlocal now
            now, module.weight.grad = ids[turn % len(ids)], None

        return Contestant(run, prepare)

    contestants = {name: embedding(make) for name, make in makers.items()}
    return warm_and_cold(contestants | fbgemm(n_rows, ids, upstream), size.repeats)


def fbgemm(n_rows: int, ids: list[Tensor], upstream: Tensor) -> dict[str, Contestant]:
    """FBGEMM's CPU kernel; none where the package is not installed.

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
    module = SplitTableBatchedEmbeddingBagsCodegen(
        [(n_rows, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=LR,
        eps=1e-8,
        pooling_mode=PoolingMode.SUM,
    )
    module.init_embedding_weights_uniform(0.01, 0.01)
    now = ids[0]

    def run() -> None:
        module(now, offsets).backward(upstream)

    def prepare(turn: int) -> None:
        nonlocal now
        now = ids[turn % len(ids)]

    return {"FBGEMM": Contestant(run, prepare)}


def extra_times(size: Size) -> dict[str, dict[str, dict]]:
    """By rule and seed. A seed makes other batches and lays its table anew.

    The optimizer of a rule is switched from step to step, so that all use the same memory. The
    rules run in turn, as in the other parts: alone, a step is up to twice as fast.
    """
    values = gradients(size)
    added = {
        "plain": dict(row_lr=None, row_decay=None),
        "FAL": dict(row_lr=FrequencyAdaptiveLR(), row_decay=None),
        "AdamAR": dict(row_lr=None, row_decay=AdaptiveRegularization(1e-3)),
    }
    measured: dict = {rule: {} for rule in RULES}
    for seed in range(size.seeds):
        ids = batches(size.n_batches, size.n_lookups, size.n_rows, seed)
        contestants = {}
        for rule in RULES:
            table = new_table(size.n_rows)
            optimizer = ours(rule, **added["FAL"])(table)
            optimizer.row_state(table)  # makes the state, with FAL's count where it belongs
            for name, options in added.items():
                contestants[rule, name] = switched(optimizer, options, ids, values)
        for state, ms in warm_and_cold(contestants, size.extra_repeats).items():
            for (rule, name), times in ms.items():
                by_state = measured[rule].setdefault(str(seed), {"warm": {}, "cold": {}})
                by_state[state][name] = times
    return measured


def switched(
    optimizer: EmbeddingOptimizer, options: dict, ids: list[Tensor], values: Tensor
) -> Contestant:
    """The optimizer's step with these options of its one group."""
    step = stepper(optimizer, ids, values)

    def prepare(turn: int) -> None:
        step.prepare(turn)
        optimizer.param_groups[0].update(options)

    return Contestant(step.run, prepare)


def bytes_a_row(n_rows: int = 10_000) -> dict[str, float]:
    """Of the table, of each optimizer's state, and of what FAL and AdamAR add, once trained."""
    found = {"table": 4.0 * DIM}
    fal, decay = dict(row_lr=FrequencyAdaptiveLR()), dict(row_decay=AdaptiveRegularization(1e-3))
    makers = {}
    for rule in RULES:
        makers[rule] = (ours(rule), False)
        makers[f"{rule} + FAL"] = (ours(rule, **fal), False)
        makers[f"{rule} + AdamAR"] = (ours(rule, **decay), False)
    for name, (make, dense) in (makers | TORCH).items():
        table = new_table(n_rows)
        optimizer = make(table)
        step = stepper(optimizer, [torch.arange(100)], torch.zeros(100, DIM), dense)
        step.prepare(0)
        step.run()
        tensors = [v for v in optimizer.state[table].values() if isinstance(v, Tensor)]
        found[name] = sum(t.nbytes for t in tensors) / n_rows
    return found


def measure(size: Size) -> dict:
    torch.manual_seed(0)
    torch.sparse.check_sparse_tensor_invariants.disable()  # said, so that torch does not warn
    print("step and size ...", flush=True)
    of_step, of_size = step_and_size_times(size)
    measured: dict = {"step": of_step, "size": of_size}
    for name, part in {
        "lookup": lambda size: {str(n): lookup_times(size, n) for n in size.rows},
        "extra": extra_times,
        "bytes": lambda size: bytes_a_row(),
    }.items():
        print(f"{name} ...", flush=True)
        measured[name] = part(size)
    (ids,) = batches(1, size.n_lookups, size.n_rows, seed=0)
    measured["setting"] = {
        "dim": DIM,
        "dim_of_largest": DIM_OF_LARGEST,
        "n_rows": size.n_rows,
        "n_lookups": size.n_lookups,
        "distinct": len(ids.unique()),
        "compiled": compiled.library() is not None,
    }
    return measured


def main() -> None:
    options = arguments(__doc__)
    write(options.out, measure(TINY if options.tiny else Size()))


if __name__ == "__main__":
    main()
