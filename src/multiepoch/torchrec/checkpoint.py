"""Checkpoints of a sharded run, for any number of processes and any sharding plan.

Written by `torch.distributed.checkpoint`. What has a value for each row (weights, the optimizer's
state, counts) is one tensor over the whole table. What has values for some rows only (the undo log,
rows that are served) is a list for each shard, by the row's number in the whole table; a process
reads those that overlap its own. Each checkpoint is a folder; the file `latest` names the newest.
"""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torchrec.distributed import DistributedModelParallel

from multiepoch.remedies import Rewind
from multiepoch.torchrec.optimizer import ShardedOptimizer
from multiepoch.torchrec.shards import Shard

Columns = dict[str, Tensor]  # (k, ...) each: the values of k rows
_LATEST = "latest"  # the file that has the name of the newest complete checkpoint


def save(
    folder: str | Path,
    model: DistributedModelParallel,
    optimizer: ShardedOptimizer,
    rewind: Rewind | None = None,
    extra: Any = None,
) -> Path:
    """Writes a checkpoint between two steps, then deletes the earlier ones; collective.

    A kill at any moment leaves the earlier checkpoint or the new one.

    Args:
        folder: Where the checkpoints are, on a file system that all processes share.
        model: The sharded model.
        optimizer: Its optimizer.
        rewind: Its remedy, if any.
        extra: Anything that JSON can hold, such as the place in the data; `load` returns it.
    """
    name = [f"step-{optimizer.n_steps:012d}-{uuid.uuid4().hex[:8]}"]
    dist.broadcast_object_list(name)
    path = Path(folder) / name[0]
    content = _tensors(model, optimizer)
    content["optimizer"] = optimizer.dense.state_dict()["state"]
    meta: dict[str, Any] = {"n_steps": optimizer.n_steps, "epoch": optimizer.epoch, "extra": extra}
    rates: list = [None] * dist.get_world_size()  # a process knows those of its own tables only
    dist.all_gather_object(rates, optimizer.rates())
    meta["rates"] = {name: lr for some in rates for name, lr in some.items()}
    if rewind is not None:
        meta["rewind"] = state = rewind.state_dict()
        for shard, record in zip(optimizer.shards, state["records"]):
            if "ids" in record:
                content |= _listed(shard, "touched", record["ids"], {"counts": record["counts"]})
                content |= _listed(shard, "before", record["rows"], record["values"])
            else:
                content[f"counts:{shard.name}"] = shard.sharded(record["counts"])
        if (blend := state["blend"]) is not None:
            content["blend"] = {str(k): value for k, value in enumerate(blend["dense"])}
            for shard, rows in zip(optimizer.shards, blend["rows"]):
                content |= _listed(shard, "served", rows.pop("rows"), rows)
        state["records"], state["blend"] = bool(state["records"]), blend is not None
    content["meta"] = json.dumps(meta)
    dcp.save(content, checkpoint_id=path)
    dist.barrier()
    if dist.get_rank() == 0:
        (Path(folder) / _LATEST).write_text(path.name)
        for other in set(Path(folder).glob("step-*")) - {path}:
            shutil.rmtree(other)
    return path


def load(
    folder: str | Path,
    model: DistributedModelParallel,
    optimizer: ShardedOptimizer,
    rewind: Rewind | None = None,
) -> Any:
    """Loads the newest complete checkpoint into the objects; collective.

    Returns:
        What `save` was given as `extra`; None if there is no checkpoint.

    Raises:
        ValueError: If the checkpoint has no Rewind, or one with other arguments.
    """
    latest, shards = Path(folder) / _LATEST, optimizer.shards
    if not latest.exists():
        return None
    path = Path(folder) / latest.read_text(encoding="utf-8")
    found = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    content = _tensors(model, optimizer) | {"meta": ""}
    if any(key.startswith("optimizer.") for key in found):
        if not optimizer.dense.state:
            optimizer.dense.init_state()  # torch makes the state in a step
            optimizer.dense.zero_grad()
        content["optimizer"] = optimizer.dense.state_dict()["state"]
    counts = [torch.zeros_like(shard.weight[:, 0], dtype=torch.int32) for shard in shards]
    if rewind is not None:
        for shard, own in zip(shards, counts):
            if (key := f"counts:{shard.name}") in found:
                content[key] = shard.sharded(own)
        for key, saved in found.items():
            if isinstance(saved, TensorStorageMetadata) and _overlaps(key, shards):
                content[key] = torch.empty(saved.size, dtype=saved.properties.dtype)
        dense = [torch.empty_like(tensor) for tensor in rewind._tables.others()]
        if "blend.0" in found:
            content["blend"] = {str(k): value for k, value in enumerate(dense)}
    dcp.load(content, checkpoint_id=path)
    meta = json.loads(content["meta"])
    optimizer.set_progress(meta["n_steps"], meta["epoch"], meta["rates"])
    if rewind is None:
        return meta["extra"]
    if "rewind" not in meta:
        raise ValueError(f"checkpoint {path} was saved without a Rewind: load it without one")
    state = meta["rewind"]
    state["records"] = [
        _record(content, shard, own) for shard, own in zip(shards, counts) if state["records"]
    ]
    if state["blend"]:
        state["blend"] = {"rows": [_served(content, shard) for shard in shards], "dense": dense}
    rewind.load_state_dict(state | {"blend": state["blend"] or None})
    return meta["extra"]


def _tensors(model: DistributedModelParallel, optimizer: ShardedOptimizer) -> dict[str, Any]:
    """Returns the live tensors of model and optimizer, which `load` fills in place."""
    tables = {shard.name for shard in optimizer.shards}
    content: dict[str, Any] = {
        "dense": {name: value for name, value in model.state_dict().items() if name not in tables}
    }
    for shard in optimizer.shards:
        values = {"weight": shard.weight, **shard.state}
        values |= {"count": shard.fal["count"]} if shard.fal else {}
        content[f"table:{shard.name}"] = {k: shard.sharded(value) for k, value in values.items()}
    return content


def _listed(shard: Shard, kind: str, rows: Tensor, columns: Columns) -> Columns:
    """Names the values of some rows of a shard, int64 (k,), for the checkpoint."""
    if len(rows) == 0:
        return {}
    prefix = f"rows:{kind}:{shard.name}:{shard.offset}:{shard.offset + len(shard.weight)}"
    return {f"{prefix}:{k}": v for k, v in {"row": rows + shard.offset, **columns}.items()}


def _overlaps(key: str, shards: list[Shard]) -> bool:
    """Says whether a key of `_listed` is of rows that this process has."""
    if not key.startswith("rows:"):
        return False
    _, _, name, first, last, _ = key.split(":")
    return any(
        shard.offset < int(last) and int(first) < shard.offset + len(shard.weight)
        for shard in shards
        if shard.name == name
    )


def _own(content: dict[str, Any], shard: Shard, kind: str, empty: Columns) -> Columns:
    """Returns "row" and the columns of `empty` for the rows of a shard, by ascending shard."""
    parts: dict[int, Columns] = {}
    for key in content:
        if key.startswith(f"rows:{kind}:{shard.name}:"):
            first, _, column = key.split(":")[3:]
            parts.setdefault(int(first), {})[column] = content[key].to(shard.weight.device)
    empty = {"row": torch.empty(0, dtype=torch.int64, device=shard.weight.device), **empty}
    all_parts = [empty, *(parts[first] for first in sorted(parts))]
    whole = {name: torch.cat([part[name] for part in all_parts]) for name in empty}
    whole["row"] -= shard.offset
    here = (whole["row"] >= 0) & (whole["row"] < len(shard.weight))
    return {name: value[here] for name, value in whole.items()}


def _record(content: dict[str, Any], shard: Shard, counts: Tensor) -> dict[str, Any]:
    """Returns the state of a shard's `Counts` or `UndoLog`."""
    if f"counts:{shard.name}" in content:
        return {"counts": counts}
    touched = _own(content, shard, "touched", {"counts": counts[:0]})
    values = {"weight": shard.weight[:0], **{k: v[:0] for k, v in shard.state.items()}}
    before = _own(content, shard, "before", values)
    rows = before.pop("row")
    return {"ids": touched["row"], "counts": touched["counts"], "rows": rows, "values": before}


def _served(content: dict[str, Any], shard: Shard) -> Columns:
    """Returns the state of a shard's `RowBlend`."""
    number = torch.empty(0, dtype=torch.int32, device=shard.weight.device)
    empty = {"counts": number, "since": number, "old": shard.weight[:0]}
    served = _own(content, shard, "served", empty)
    return {"rows": served.pop("row"), **served}
