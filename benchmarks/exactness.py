"""The largest error of EmbeddingOptimizer against the reference over random cases.

    python benchmarks/exactness.py --cases 2000

Each case draws a rule, FAL, AdamAR, a table, a few batches of ids with float32 gradients, and a
way to find the batch's rows. The optimizer runs in float32, the reference on the same numbers in
float64, so the error is the optimizer's own rounding, the sum of repeated ids included: after each
step the largest |ours - reference| of the table, over its largest |reference| or over 1, the
standard deviation that it began with, where that is more. Counts and last steps must be equal.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass

import torch

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    compiled,
)
from multiepoch.optim.reference import new_state, reference_step
from multiepoch.optim.rules import RULES

SCALES = (
    None,
    FrequencyAdaptiveLR(),
    FrequencyAdaptiveLR(count="steps", gap_decay=0.5),
    FrequencyAdaptiveLR("linear"),
    FrequencyAdaptiveLR("power", gap_decay=0.7),
    FrequencyAdaptiveLR("threshold", threshold=4),
)
DECAYS = (None, AdaptiveRegularization(0.01), AdaptiveRegularization(0.6))


def paths() -> tuple[str, ...]:
    """The ways to find a batch's rows that this machine has."""
    return ("unique", "fixed_size", "compiled")[: 3 if compiled.library() else 2]


@dataclass
class Case:
    """batches: the ids of each step. seed: of the table's and the gradients' values."""

    rule: str
    row_lr: FrequencyAdaptiveLR | None
    row_decay: AdaptiveRegularization | None
    n_rows: int
    dim: int
    batches: list[list[int]]
    seed: int
    path: str
    lr: float = 0.1
    dtype: torch.dtype = torch.float32

    @classmethod
    def random(cls, seed: int) -> Case:
        generator = torch.Generator().manual_seed(seed)

        def choose(options):
            return options[int(torch.randint(len(options), (), generator=generator))]

        n_rows, dim = choose(range(1, 41)), choose(range(1, 66))
        sizes = [choose((0, 1, 7, 40, 200)) for _ in range(choose(range(1, 9)))]
        # cubed, so that small ids are frequent
        batches = [(torch.rand(n, generator=generator) ** 3 * n_rows).long() for n in sizes]
        return cls(
            choose(tuple(RULES)),
            choose(SCALES),
            choose(DECAYS),
            n_rows,
            dim,
            [ids.tolist() for ids in batches],
            seed,
            choose(paths()),
        )

    def optimizer(self) -> tuple[torch.nn.Parameter, EmbeddingOptimizer]:
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.randn(self.n_rows, self.dim, generator=generator)
        table = torch.nn.Parameter(values.to(self.dtype))
        options = dict(rule=self.rule, row_lr=self.row_lr, row_decay=self.row_decay)
        optimizer = EmbeddingOptimizer([table], self.lr, **options)
        optimizer._path = self.path
        return table, optimizer

    def gradients(self):
        """(ids, values) of each step: int64 (n,), and (n, dim) of the table's dtype."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        for batch in self.batches:
            values = torch.randn(len(batch), self.dim, generator=generator)
            yield torch.tensor(batch, dtype=torch.int64), values.to(self.dtype)

    def sparse_gradient(self, ids: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        shape = (self.n_rows, self.dim)
        return torch.sparse_coo_tensor(ids[None], values, shape, check_invariants=False)

    def error(self) -> float:
        """The largest error of a weight after any step. A new epoch begins with each step."""
        table, optimizer = self.optimizer()
        reference = table.detach().double()
        state, largest = new_state(reference), 0.0
        for epoch, (ids, values) in enumerate(self.gradients()):
            optimizer.set_epoch(epoch)
            table.grad = self.sparse_gradient(ids, values)
            optimizer.step()
            grad = torch.zeros_like(reference).index_add_(0, ids, values.double())
            occurrences = torch.bincount(ids, minlength=self.n_rows)
            reference_step(
                reference,
                grad,
                occurrences,
                state,
                self.lr,
                self.rule,
                self.row_lr,
                self.row_decay,
                epoch=epoch,
            )
            difference = (table.detach().double() - reference).abs().max()
            largest = max(largest, float(difference / reference.abs().max().clamp(min=1)))
            for name in {"count", "last_step"} & optimizer.state[table].keys():
                assert optimizer.state[table][name].tolist() == state[name].tolist(), name
        return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    n_cases = parser.parse_args().cases
    torch.set_num_threads(1)
    by_path: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for seed in range(n_cases):
        case = Case.random(seed)
        by_path[case.path].append((case.error(), seed))
    for path, errors in by_path.items():
        largest, seed = max(errors)
        print(f"{path:10s} {len(errors):5d} cases, largest error {largest:.2e} (case {seed})")
    largest, seed = max(max(errors) for errors in by_path.values())
    print(f"{'all':10s} {n_cases:5d} cases, largest error {largest:.2e} (case {seed})")


if __name__ == "__main__":
    main()
