"""The state of tables: its tensors, and saved states made to fit the optimizer that loads them."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from multiepoch.optim.checks import ROW_OPTIONS, check_options, table_name
from multiepoch.optim.eager import at_least_float32
from multiepoch.optim.memory import zeros
from multiepoch.optim.rules import RULES


class Kind(NamedTuple):
    """What a state tensor of a table is, and the value that its entries start at."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    start: float = 0.0


Entry = tuple[Any, dict[str, Any], str]  # a parameter or its key, its group, its name or ""
_OF_DATA = ("step", "count", "max_count", "last_step")  # which every rule can go on with
_SAME_MODEL = "build the optimizer from the model that was saved"


def state_layout(group: dict[str, Any], param: Tensor) -> dict[str, Kind]:
    """Returns what each state tensor of a table is."""
    n_rows, device, dtype = len(param), param.device, at_least_float32(param.dtype)
    layout = {"step": Kind((), torch.int64, torch.device("cpu"))}
    for name, shape in RULES[group["rule"]].state_shapes(*param.shape).items():
        start = group["initial_accumulator_value"] if name == "sum" else 0.0
        layout[name] = Kind(shape, dtype, device, start)
    if group["row_lr"] is not None:
        layout["count"] = Kind((n_rows,), torch.int32, device)
        layout["max_count"] = Kind((), torch.int32, device)
    if group["row_decay"] is not None:
        layout["last_step"] = Kind((n_rows,), torch.int32, device)
    return layout


def fill(state: dict[str, Tensor], layout: dict[str, Kind]) -> dict[str, Tensor]:
    """Adds the tensors that are missing.

    Row-wise Adagrad's sum and FAL's count of a row lie side by side, so that a step that reads one
    has read the other. Beside a state with a number for each weight, the count would save nothing.
    """
    missing = {name: its for name, its in layout.items() if name not in state}
    if {"sum", "count"} <= missing.keys():
        shape, dtype, device, _ = missing["sum"]
        if shape == missing["count"].shape and dtype == torch.float32:
            pairs = zeros((*shape, 2), dtype, device)
            state["sum"], state["count"] = pairs[:, 0], pairs.view(torch.int32)[:, 1]
    for name, (shape, dtype, device, start) in missing.items():
        if name not in state:
            state[name] = zeros(shape, dtype, device)
        if start:
            state[name].fill_(start)
    return state


def apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies what lies side by side, since torch.save refuses one memory with two dtypes."""
    pairs = {name: value.contiguous() for name, value in state.items() if name in ("sum", "count")}
    return {**state, **pairs}


def copied(state: dict[str, Tensor], layout: dict[str, Kind]) -> dict[str, Tensor]:
    """Returns a copy with the shapes of a layout, which may have more rows; these start anew."""
    copy = fill({}, {name: its for name, its in layout.items() if name in state})
    for name, value in copy.items():
        (value[: len(state[name])] if value.dim() else value).copy_(state[name])
    return copy


def plain(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Returns a `state_dict` of what torch.load(weights_only=True) takes, in place."""
    state_dict["state"] = {key: apart(its) for key, its in state_dict["state"].items()}
    for group in state_dict["param_groups"]:
        for key in ROW_OPTIONS.keys() & group.keys():
            group[key] = None if group[key] is None else asdict(group[key])
    return state_dict


def unpack(group: dict[str, Any]) -> dict[str, Any]:
    """Turns the plain values that `state_dict` wrote back into objects, in place."""
    for key, kind in ROW_OPTIONS.items():
        if isinstance(group.get(key), dict):
            group[key] = kind(**group[key])
    return group


def arranged(saved: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a saved state with its tables in the groups and the order of `groups`.

    Raises a ValueError if it has other tables, or options that one group here cannot have at once.
    """
    if not {"state", "param_groups"} <= saved.keys():
        raise ValueError(f"load_state_dict: {sorted(saved)[:3]} ... is no state of an optimizer.")
    entries, ours = list(_entries(saved["param_groups"])), list(_entries(groups))
    names, our_names = ({bare(name) for *_, name in side} for side in (entries, ours))
    if "" not in names | our_names:
        if names != our_names:
            more, less = sorted(names - our_names), sorted(our_names - names)
            found = f"has the tables {more} that this optimizer lacks, and lacks {less}"
            raise ValueError(f"load_state_dict: the state {found}; {_SAME_MODEL}.")
        by_name = {bare(name): (key, group, name) for key, group, name in entries}
        entries = [by_name[bare(name)] for *_, name in ours]
    if len(entries) != len(ours):
        found = f"is of {len(entries)} tables, this optimizer has {len(ours)}"
        raise ValueError(f"load_state_dict: the state {found}; {_SAME_MODEL}.")
    rest, state, arranged_groups = iter(entries), dict(saved["state"]), []
    for group in groups:
        chosen = [next(rest) for _ in group["params"]]
        of_each = [_without_tables(its) for _, its, _ in chosen]
        if any(options != of_each[0] for options in of_each[1:]):
            wrong = "tables of one group here have different options in the state"
            remedy = "group the tables as they were when it was saved"
            raise ValueError(f"load_state_dict: {wrong}; {remedy}.")
        keys = [key for key, *_ in chosen]
        options = of_each[0] if of_each else _without_tables(group)
        if "rule" not in options:
            options = _as_ours(options, group, keys, state)
        new = {**_without_tables(group), **options, "params": keys}
        # False rounds in another way; but this machine may lack what True demands.
        if group["fused"] is not None or options.get("fused"):
            new["fused"] = group["fused"]
        of_tables = group.get("param_names") or [name for *_, name in chosen]
        arranged_groups.append(new | ({"param_names": of_tables} if all(of_tables) else {}))
    return {**saved, "state": state, "param_groups": arranged_groups}


def check_loaded(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Refuses an arranged state whose tensors do not fit the tables."""
    for group, saved in zip(groups, state_dict["param_groups"]):
        rule, options = saved["rule"], unpack(dict(saved))
        check_options(options)
        for index, (param, key) in enumerate(zip(group["params"], saved["params"])):
            table, loaded = table_name(group, index), state_dict["state"].get(key, {})
            needed = {"step", *RULES[rule].state_shapes(*param.shape)} if loaded else set()
            if {"count", "max_count"} & loaded.keys():
                needed |= {"count", "max_count"}
            for name, (shape, dtype, *_) in state_layout(options, param).items():
                value = loaded.get(name)
                if value is None and name in needed:
                    lacks = f"the state of {table} lacks {name}, without which it cannot go on"
                    raise ValueError(f"load_state_dict: {lacks}; begin with a new state.")
                what = f"load_state_dict: {name} of {table} is"
                if value is not None and not isinstance(value, Tensor):
                    raise ValueError(f"{what} {value!r:.40}, which is no tensor.")
                if value is not None and (value.shape, value.dtype) != (shape, dtype):
                    same = "dtype" if value.shape == shape else "shape"
                    found = f"{value.dtype} of shape {tuple(value.shape)}"
                    wanted = f"it must be {dtype} of shape {shape}"
                    remedy = f"load the state of a table of the same {same}"
                    raise ValueError(f"{what} {found}; {wanted}: {remedy}.")


def start_warm(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Makes a checked state fit groups of another rule, in place; warns of what it drops."""
    for group, saved in zip(groups, state_dict["param_groups"]):
        if (rule := saved["rule"]) == group["rule"]:
            continue
        saved |= _without_tables(group) | {"epoch": saved["epoch"]}
        for key in saved["params"]:
            its = state_dict["state"].get(key, {})
            state_dict["state"][key] = {name: its[name] for name in _OF_DATA if name in its}
        found = f"the state is of rule {rule!r} and this optimizer's is {group['rule']!r}"
        kept = "steps, counts and the epoch are kept, options are those given here, and moments"
        warnings.warn(f"load_state_dict: {found}: {kept} and accumulators start anew", stacklevel=6)


def _entries(groups: list[dict[str, Any]]) -> Iterable[Entry]:
    for group in groups:
        names = group.get("param_names") or [""] * len(group["params"])
        yield from ((key, group, name) for key, name in zip(group["params"], names))


def bare(name: str) -> str:
    """Strips what DistributedDataParallel and torch.compile put before a name."""
    return re.sub(r"^(module\.|_orig_mod\.)+", "", name)


def _without_tables(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _as_ours(options: dict, group: dict, keys: list, state: dict[Any, dict]) -> dict[str, Any]:
    """Translates a group of torch's optimizers and, in `state`, the states of its tables."""
    given = [{k: v for k, v in state.get(key, {}).items() if v is not None} for key in keys]
    rule = _rule_of(options, {name for its in given for name in its})
    for key, its in zip(keys, given):
        step = {"step": torch.tensor(int(its.pop("step")), device="cpu")} if "step" in its else {}
        state[key] = step | {k: v.to(at_least_float32(v.dtype)) for k, v in its.items()}
    # Weight decay is refused there, so this optimizer's own stays, as FAL and AdamAR do.
    ours = {"lr", "initial_lr", "betas", "eps", "initial_accumulator_value"}
    given_options = {name: options[name] for name in ours & options.keys()} | {"rule": rule}
    return _without_tables(group) | {"initial_accumulator_value": 0.0} | given_options


def _rule_of(options: dict[str, Any], names: set[str]) -> str:
    """Recognizes torch's SparseAdam, Adam, Adagrad and SGD by options; refuses other states."""
    of_adam = "amsgrad" in options or "weight_decay" not in options  # unlike Adamax and others
    if "betas" in options and of_adam:
        rule = "adam"
    elif "initial_accumulator_value" in options:
        rule = "adagrad"
    elif "dampening" in options:
        rule = "sgd"
    else:
        found = f"the state, of an optimizer with the options {', '.join(options)}, is of none of"
        known = "EmbeddingOptimizer and torch's SparseAdam, Adam, Adagrad and SGD"
        raise ValueError(f"load_state_dict: {found} {known}; begin with a new state.")
    optional = ("amsgrad", "maximize", "momentum", "lr_decay", "weight_decay")
    foreign = [name for name in optional if options.get(name)]
    if foreign := foreign + sorted(names - {"step", *RULES[rule].state_shapes(0, 0)}):
        found = f"the state is of an optimizer with {', '.join(foreign)}"
        lacks = f"which EmbeddingOptimizer's rule {rule!r} does not have"
        raise ValueError(f"load_state_dict: {found}, {lacks}; begin with a new state.")
    return rule
