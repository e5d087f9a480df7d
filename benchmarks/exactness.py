"""The largest error of EmbeddingOptimizer against the reference, on a random case.

Each case draws a rule, FAL, AdamAR, a table, a few batches of ids with float32 gradients, and a
way to find the batch's rows. In half of the cases the gradients come from modules instead: an
nn.Embedding and an nn.EmbeddingBag that share the table, in one or several backward passes, with or
without a padding row, clipped or not, and the table may grow in mid-training.

The optimizer runs in float32, the reference on the same numbers in float64, with dense gradients.
So the error is the optimizer's own rounding, the sum of repeated ids included: after each step the
largest |ours - reference| of the table, over its largest |reference| or over 1, the standard
deviation that it began with, where that is more. Counts and last steps must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiepoch.optim import (
    AdaptiveRegularization,
    EmbeddingOptimizer,
    FrequencyAdaptiveLR,
    accumulate_lookups,
    clip_grad_norm_,
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
    return ("eager", "padded", "compiled")[: 3 if compiled.library() else 2]


class Features(nn.Module):
    """A feature and a bag that share a table; the loss has given gradients at their outputs."""

    def __init__(self, table: nn.Parameter, mode: str, padding: int | None, sparse: bool) -> None:
        super().__init__()
        shape, options = table.shape, dict(padding_idx=padding, sparse=sparse, device="meta")
        self.one = nn.Embedding(*shape, **options)
        self.bag = nn.EmbeddingBag(*shape, mode=mode, **options)
        self.one.weight = self.bag.weight = table

    def loss(self, ids: Tensor, values: Tensor) -> Tensor:
        """The first third of the n lookups are of the feature, the others in bags of four.

        A mean of four is exact, so that rounding it does not count as the optimizer's error.
        """
        n = len(ids) // 3
        offsets = torch.arange(0, len(ids) - n, 4)
        of_bags = values[n : n + len(offsets)]
        loss = (self.one(ids[:n]) * values[:n]).sum()
        return loss + (self.bag(ids[n:], offsets) * of_bags).sum()


@dataclass(frozen=True)
class Through:
    """How the gradients of a case come about, if through modules. grow: rows added half-way."""

    mode: str
    padding: int | None
    n_passes: int
    clip: bool
    grow: int


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
    through: Through | None = None
    weight_decay: float = 0.0
    eps: float = 1e-8
    start: float = 0.0  # of the accumulators

    @classmethod
    def random(cls, seed: int) -> Case:
        generator = torch.Generator().manual_seed(seed)

        def choose(options):
            return options[int(torch.randint(len(options), (), generator=generator))]

        n_rows, dim = choose(range(1, 41)), choose(range(1, 66))
        sizes = [choose((0, 1, 7, 40, 200)) for _ in range(choose(range(1, 9)))]
        # cubed, so that small ids are frequent
        batches = [(torch.rand(n, generator=generator) ** 3 * n_rows).long() for n in sizes]
        through = Through(
            choose(("sum", "mean")),
            choose((None, 0)),
            choose((1, 1, 3)),
            choose((False, True)),
            choose((0, 0, 5)),
        )
        return cls(
            rule := choose(tuple(RULES)),
            choose(SCALES),
            choose(DECAYS),
            n_rows,
            dim,
            [ids.tolist() for ids in batches],
            seed,
            choose(paths()),
            through=choose((None, through)),
            weight_decay=choose((0.0, 0.0, 0.3)),
            eps=choose((1e-8, 1e-8, 1e-2)),
            start=choose((0.0, 1e-3, 1.0)) if "adagrad" in rule else 0.0,
        )

    def optimizer(self) -> tuple[torch.nn.Parameter, EmbeddingOptimizer]:
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.randn(self.n_rows, self.dim, generator=generator)
        table = torch.nn.Parameter(values.to(self.dtype))
        options = dict(rule=self.rule, row_lr=self.row_lr, row_decay=self.row_decay)
        options |= dict(eps=self.eps, initial_accumulator_value=self.start)
        optimizer = EmbeddingOptimizer([table], self.lr, weight_decay=self.weight_decay, **options)
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
        # A parameter, since the reference's gradients come from modules, too.
        reference = nn.Parameter(table.detach().double().clone())
        state, largest = new_state(reference.detach(), self.start), 0.0
        if self.through is not None:
            ours = Features(table, self.through.mode, self.through.padding, sparse=True)
            accumulate_lookups(optimizer, ours)
        for epoch, (ids, values) in enumerate(self.gradients()):
            optimizer.set_epoch(epoch)
            optimizer.zero_grad()
            if self.through is None:
                table.grad = self.sparse_gradient(ids, values)
                reference.grad = torch.zeros_like(reference).index_add_(0, ids, values.double())
                counted = ids
            else:
                if self.through.grow and epoch == len(self.batches) // 2:
                    more = torch.ones(self.through.grow, self.dim)
                    optimizer.grow_table(table, more)
                    reference, state = _grown(reference, more, state, self.start)
                    ids = torch.cat([ids, torch.arange(len(table) - len(more), len(table))])
                    values = torch.cat([values, more])
                self._backward(ours, ids, values)
                mode, padding = self.through.mode, self.through.padding
                self._backward(Features(reference, mode, padding, sparse=False), ids, values)
                counted = ids if padding is None else ids[ids != padding]
                if self.through.clip:
                    clip_grad_norm_(table, 2.0)
                    nn.utils.clip_grad_norm_(reference, 2.0)
            optimizer.step()
            with torch.no_grad():
                reference_step(
                    reference,
                    reference.grad,
                    torch.bincount(counted, minlength=len(table)),
                    state,
                    self.lr,
                    self.rule,
                    self.row_lr,
                    self.row_decay,
                    eps=self.eps,
                    epoch=epoch,
                    weight_decay=self.weight_decay,
                )
            difference = (table.detach().double() - reference.detach()).abs().max()
            largest = max(largest, float(difference / reference.detach().abs().max().clamp(min=1)))
            for name in {"count", "last_step"} & optimizer.state[table].keys():
                assert optimizer.state[table][name].tolist() == state[name].tolist(), name
        return largest

    def _backward(self, features: Features, ids: Tensor, values: Tensor) -> None:
        features.one.weight.grad = None
        values = values.to(features.one.weight.dtype)
        n_passes = self.through.n_passes
        for part, its in zip(ids.chunk(n_passes), values.chunk(n_passes)):
            features.loss(part, its).backward()
        if features.one.weight.grad is None:  # an empty batch
            features.loss(ids, values).backward()


def _grown(
    reference: nn.Parameter, more: Tensor, state: dict, start: float
) -> tuple[nn.Parameter, dict]:
    """Appends rows to the reference, as `grow_table` should."""
    state, fresh = dict(state), new_state(more.double(), start)
    fresh["last_step"] += state["step"]
    for name in state.keys() - {"step"}:
        state[name] = torch.cat([state[name], fresh[name]])
    return nn.Parameter(torch.cat([reference.detach(), more.double()])), state
