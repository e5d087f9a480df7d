"""Sharded tables as the remedies see them: values by local row, and draws by the global row."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.embedding import RowHook
from multiepoch.remedies.row_draws import normal_rows
from multiepoch.remedies.tables import Init, Tables, clear_state, draw_seed

_CHUNK = 1 << 18  # rows drawn at once


class ShardedTables(Tables):
    """The shards of a `ShardedOptimizer`, which makes this, on this process.

    All processes must call the same methods in the same order. A redrawn row depends on the seed
    and on its place in the whole table alone.
    """

    optimizer: Any

    def __init__(self, optimizer: Any, seed: int, init: Init | None) -> None:
        if init is not None:
            raise ValueError("init draws a whole table, and no process has one: leave it out")
        self.model, self.seed, self.optimizer = optimizer.model, seed, optimizer
        self.moments = [self._moments(place) for place in range(len(optimizer.shards))]

    def __iter__(self) -> Iterator[Tensor]:
        return (shard.weight for shard in self.optimizer.shards)

    def values(self, table: Tensor) -> dict[str, Tensor]:
        return {"weight": table, **self.optimizer.shards[self.place(table)].state}

    def names(self) -> list[str]:
        return [shard.name for shard in self.optimizer.shards]

    def follow(self, hook: RowHook) -> RemovableHandle:
        return self.optimizer.register_row_hook(hook)

    def step(self, table: Tensor) -> int:
        return self.optimizer.n_steps

    def is_frozen(self, table: Tensor) -> bool:
        return False  # a fused optimizer trains every table of its kernel

    def others(self) -> list[Tensor]:
        buffers = (buffer for buffer in self.model.buffers() if buffer.is_floating_point())
        return [*self.optimizer.dense.params.values(), *buffers]

    def redraw(self, table: Tensor, rows: Tensor | None, draw: int) -> None:
        place, step = self.place(table), self.optimizer.n_steps
        shard, (mean, std) = self.optimizer.shards[place], self.moments[place]
        if rows is None:
            rows = torch.arange(len(table), device=table.device)
        seed = draw_seed(self.seed, place, draw)
        for some in rows.split(_CHUNK):
            fresh = normal_rows(seed, some + shard.offset, table.shape[1])
            table.index_copy_(0, some, fresh.mul_(std).add_(mean).to(table.dtype))
        clear_state(shard.state, rows, step, shard.options["initial_accumulator_value"])

    def _moments(self, place: int) -> tuple[float, float]:
        """Returns the mean and the standard deviation of a whole table."""
        shard = self.optimizer.shards[place]
        sums = torch.zeros(3, dtype=torch.float64, device=shard.weight.device)
        if len(shard.weight):
            moments = torch.std_mean(shard.weight.float(), correction=0)
            n, (std, mean) = shard.weight.numel(), (one.item() for one in moments)
            sums += torch.tensor([n, n * mean, n * (std**2 + mean**2)], dtype=torch.float64)
        dist.all_reduce(sums)
        n, first, second = sums.tolist()
        return first / n, max(second / n - (first / n) ** 2, 0.0) ** 0.5
