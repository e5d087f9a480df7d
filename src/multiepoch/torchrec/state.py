"""The state of a sharded run, for any number of processes and any sharding plan.

What has a value for each row is one tensor over the whole table, which
`torch.distributed.checkpoint` reads into other shards than those it was written from. So an undo
log is saved as the table that it would restore, and needs the memory of the tables once more.
"""

import io
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.stateful import Stateful
from torchrec.distributed import DistributedModelParallel

from multiepoch.optim.eager import at_least_float32
from multiepoch.remedies import Rewind
from multiepoch.remedies.tables import check_same
from multiepoch.torchrec.optimizer import ShardedOptimizer
from multiepoch.torchrec.shards import Shard

Columns = dict[str, Tensor]  # (n, ...) each: a value of every row of a shard


class ShardedState(Stateful):
    """Model, optimizer and remedy, as `torch.distributed.checkpoint` saves and loads them.

        state = {"run": ShardedState(model, optimizer, rewind), "place": {"epoch": 1, "batch": 70}}
        torch.distributed.checkpoint.save(state, checkpoint_id="checkpoints/170")

    Save between two steps, and load with the same arguments into objects that are built as the
    saved ones were. Tables are loaded in place. All processes must take part.

    Args:
        model: The sharded model.
        optimizer: Its optimizer.
        rewind: Its remedy, if any.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        optimizer: ShardedOptimizer,
        rewind: Rewind | None = None,
    ) -> None:
        self.model, self.optimizer, self.rewind = model, optimizer, rewind

    def state_dict(self) -> dict[str, Any]:
        """Returns live tensors where it can, and whatever is no row as bytes; collective."""
        optimizer, tables = self.optimizer, {}
        rates: list = [None] * dist.get_world_size()  # a process knows those of its own tables only
        dist.all_gather_object(rates, optimizer.rates())
        others: dict[str, Any] = {
            "arguments": optimizer.arguments(),
            "progress": {"n_steps": optimizer.n_steps, "epoch": optimizer.epoch},
            "rates": {name: lr for some in rates for name, lr in some.items()},
            "dense": optimizer.dense_state(),
        }
        of_remedy: list[Columns] = [{} for _ in optimizer.shards]
        if self.rewind is not None:
            others["remedy"], of_remedy = _split(self.rewind, optimizer.shards)
        for shard, columns in zip(optimizer.shards, of_remedy):
            columns |= {"weight": shard.weight, **shard.state}
            if shard.fal:
                columns["count"] = shard.fal["count"]
            tables[shard.name] = {name: shard.sharded(columns[name]) for name in sorted(columns)}
        written = io.BytesIO()
        torch.save(others, written)
        model = {k: v for k, v in self.model.state_dict().items() if k not in tables}
        return {"model": model, "tables": tables, "others": written.getvalue()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned and a checkpoint has filled in; collective.

        Raises a ValueError if it was saved with other arguments. The tables are the saved ones
        then.
        """
        optimizer, rewind = self.optimizer, self.rewind
        others = torch.load(io.BytesIO(state_dict["others"]), weights_only=True)
        check_same(others["arguments"], optimizer.arguments(), "a ShardedOptimizer", "this one has")
        if (rewind is None) != ("remedy" not in others):
            found, here = ("no", "one") if rewind is not None else ("a", "none")
            wrong = f"the state has {found} Rewind, and ShardedState was given {here}"
            raise ValueError(f"{wrong}: load it as it was saved")
        optimizer.load_dense_state(others["dense"])
        optimizer.set_progress(**others["progress"], rates=others["rates"])
        if rewind is None:
            return
        columns = [
            {name: shard.local(value) for name, value in state_dict["tables"][shard.name].items()}
            for shard in optimizer.shards
        ]
        rewind.load_state_dict(_joined(others["remedy"], columns))


def _split(rewind: Rewind, shards: list[Shard]) -> tuple[dict[str, Any], list[Columns]]:
    """Splits a remedy's state into what is no row, and what has a value for every row.

    The columns depend on the arguments of the remedy alone, so that a checkpoint can be loaded into
    one that has not begun.
    """
    state, n = rewind.state_dict(), len(shards)
    records = state["records"] or [record.state_dict() for record in rewind._new_records()]
    mean = state["mean"]["mean"]
    every: list[Columns] = [{} for _ in shards]
    for k, (shard, columns) in enumerate(zip(shards, every)):
        zeros = torch.zeros(len(shard.weight), dtype=torch.int32, device=shard.weight.device)
        if records:
            record = records[k]
            columns["lookups"] = _filled(zeros, record["ids"], record["counts"])
        if records and "values" in record:
            for name, value in {"weight": shard.weight, **shard.state}.items():
                before = record["values"].get(name)
                columns[f"before_{name}"] = _filled(value, record["rows"], before)
        if rewind.average:
            dtype = at_least_float32(shard.weight.dtype)
            columns["mean"] = mean[k] if mean else shard.weight.to(dtype, copy=True)
    rest = {"records": bool(state["records"]), "mean": state["mean"] | {"mean": mean[n:]}}
    return state | rest, every


def _joined(state: dict[str, Any], every: list[Columns]) -> dict[str, Any]:
    """Returns the state of a remedy from what `_split` made of it."""
    state["records"] = [_record(columns) for columns in every if state["records"]]
    if state["mean"]["n"]:
        state["mean"]["mean"] = [columns["mean"] for columns in every] + state["mean"]["mean"]
    return state


def _record(columns: Columns) -> dict[str, Any]:
    lookups = columns["lookups"]
    before = {k.removeprefix("before_"): v for k, v in columns.items() if k.startswith("before_")}
    rows = lookups.nonzero().squeeze(1)
    values = {name: value[rows] for name, value in before.items()}
    kept = {"rows": rows, "values": values} if before else {}
    return {"ids": rows, "counts": lookups[rows], **kept}


def _filled(values: Tensor, rows: Tensor, some: Tensor | None) -> Tensor:
    """Returns a copy in which some rows have other values; None for no rows."""
    copy = values.clone()
    if some is not None:
        copy[rows.to(copy.device)] = some.to(copy.device)
    return copy
