"""`EmbeddingOptimizer`: trains the rows of embedding tables that a batch touches, no others."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from multiepoch.optim import compiled, eager
from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.batch import TouchedRows
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.memory import use_huge_pages
from multiepoch.optim.rules import RULES

RowHook = Callable[[Tensor, Tensor, Tensor], None]
NOT_OF_A_ROW = ("step", "count", "max_count")
WEIGHT_DECAY = (
    "EmbeddingOptimizer: weight_decay={} is not supported, since it would have to change rows "
    "that no batch touches; use row_decay=AdaptiveRegularization(alpha) instead."
)


class EmbeddingOptimizer(Optimizer):
    """Optimizer for tables with sparse gradients: nn.Embedding or EmbeddingBag(sparse=True).

    A step costs as much as the rows it touches, however large the table. Gradients of several
    backward passes are summed. On CUDA `step()` never waits for the device; a row's gradients are
    summed there in an order that varies, unless torch.use_deterministic_algorithms(True).
    On a CPU float32 tables take the kernels of `multiepoch.optim.compiled`, where they build.

    params: tables (float32 or bfloat16, 2-dim) as parameters, (name, parameter) pairs or group
        dicts; every argument below may be given per group, and names appear in errors.
        State is float32 for either dtype; a bfloat16 row is computed in float32, then rounded.
    lr: eta_T, the rate of the tables.
    rule: "adam" (lazy), "adagrad", "rowwise_adagrad" or "sgd"; see `multiepoch.optim.rules`.
    row_lr: a `FrequencyAdaptiveLR`, or None for the same rate in every row. Works with each rule.
    row_decay: an `AdaptiveRegularization`, or None. Works with each rule.
    betas: decay of Adam's two moments. eps: added to Adam's and Adagrad's denominator.
    check_finite: look for infinities and NaN before each step; on CUDA this waits for the device.

    state[param] holds "step", the moments or accumulators of the rule, with `row_lr` "count"
    (int32, one a row) and "max_count", with `row_decay` "last_step" (int32, one a row).

    Raises ValueError, TypeError or RuntimeError, before anything changes.
    """

    def __init__(
        self,
        params,
        lr: float,
        rule: str = "adam",
        row_lr: FrequencyAdaptiveLR | None = None,
        row_decay: AdaptiveRegularization | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        check_finite: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if weight_decay:
            raise ValueError(WEIGHT_DECAY.format(weight_decay))
        self._row_hooks: OrderedDict[int, RowHook] = OrderedDict()
        self._path: str | None = None  # "unique", "fixed_size" or "compiled"; the tests force each
        defaults = dict(lr=lr, rule=rule, row_lr=row_lr, row_decay=row_decay, betas=betas,
                        eps=eps, check_finite=check_finite, epoch=0)  # fmt: skip
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch.optim; params may also be (name, parameter) pairs, in every torch."""
        group = dict(param_group)
        params = group["params"]
        if not isinstance(params, Tensor | set):
            params = list(params)
            if params and all(isinstance(entry, tuple) for entry in params):
                group["param_names"] = [name for name, _ in params]
                params = [param for _, param in params]
            group["params"] = params
        if group.get("weight_decay"):
            raise ValueError(WEIGHT_DECAY.format(group["weight_decay"]))
        _check_options({**self.defaults, **group})
        tables = [params] if isinstance(params, Tensor) else params
        for index, table in enumerate(tables):
            if isinstance(table, Tensor):
                _check_table(table, _name(group, index))
        super().add_param_group(group)

    def set_epoch(self, epoch: int) -> None:
        """The epoch, counted from 0, that `FrequencyAdaptiveLR(gap_decay=...)` goes by."""
        if epoch < 0:
            raise ValueError(f"set_epoch: epoch={epoch} must not be negative; the first is 0.")
        for options in (self.defaults, *self.param_groups):
            options["epoch"] = int(epoch)

    def register_row_hook(self, hook: RowHook) -> RemovableHandle:
        """Calls hook(param, rows, occurrences) in each step, once a table, before a row changes.

        rows: int64 (k,), each row that the batch touches. occurrences: int32 (k,), its lookups.
        On CUDA, where the number of distinct rows isn't known to the host, k is the number of
        lookups and the slots past the last distinct row repeat rows[0] with 0 occurrences.
        Not called for a gradient without rows. Hooks aren't copied or pickled.
        """
        handle = RemovableHandle(self._row_hooks)
        self._row_hooks[handle.id] = hook
        return handle

    def row_state(self, param: Tensor) -> dict[str, Tensor]:
        """The live state of a table's rows, first dimension the row: what the rows have learned.

        Moments or accumulators and, with `row_decay`, the last step; not FAL's counts, which
        tell of the data and not of the weights. Created where there is none yet.
        """
        for group in self.param_groups:
            if any(param is table for table in group["params"]):
                state = self._table_state(group, param)
                return {key: value for key, value in state.items() if key not in NOT_OF_A_ROW}
        raise ValueError("row_state: the parameter is in none of this optimizer's groups.")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every table that has a gradient. Returns the closure's loss, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        tables = [entry for entry in self._tables() if entry[2].grad is not None]
        for group, name, param in tables:
            _check_gradient(param.grad, name, group["check_finite"])
        for group, _, param in tables:
            self._update(group, param)
        return loss

    def _update(self, group: dict[str, Any], param: Tensor) -> None:
        state = self._table_state(group, param)
        ids, values = param.grad._indices()[0], param.grad._values()
        if len(ids) == 0:
            state["step"] += 1
            return
        path = self._path or _fastest_path(param, values)
        touched = getattr(TouchedRows, path)(ids, values, len(param))
        for hook in tuple(self._row_hooks.values()):
            hook(param, touched.rows, touched.occurrences)
        state["step"] += 1
        kernels = compiled if path == "compiled" else eager
        kernels.update_rows(group, param, state, touched)

    def _table_state(self, group: dict[str, Any], param: Tensor) -> dict[str, Tensor]:
        """The state of a table; what is missing, all of it before the first step, starts at 0."""
        state = self.state[param]
        for name, (shape, dtype, device) in _state_layout(group, param).items():
            if name not in state:
                fresh = torch.empty(shape, dtype=dtype, device=device)
                state[name] = use_huge_pages(fresh).zero_()
        return state

    def _tables(self) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
        for group in self.param_groups:
            for index, param in enumerate(group["params"]):
                yield group, _name(group, index), param

    def state_dict(self) -> dict[str, Any]:
        """As in torch.optim, of tensors and plain values only: torch.load(weights_only=True)."""
        state_dict = super().state_dict()
        for group in state_dict["param_groups"]:
            for key in ("row_lr", "row_decay"):
                group[key] = None if group[key] is None else asdict(group[key])
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch.optim: what was saved, options too, replaces what is here, bit for bit.

        ValueError where it is the state of other tables or of another rule; nothing changes then.
        """
        given: dict[str, Any] = {}

        def check(_, final: dict[str, Any]) -> None:  # runs after the pre-hooks of others
            given.update(final)
            self._check_loaded(final)

        handle = self.register_load_state_dict_pre_hook(check)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for group, saved in zip(self.param_groups, given["param_groups"]):
            _unpack(group)
            for param, key in zip(group["params"], saved["params"]):
                # torch has cast the state to the table's dtype: float32 moments of a bfloat16
                # table would be rounded, so take them from the original.
                layout = _state_layout(group, param)
                self.state[param] = {
                    name: value.to(layout[name][2], copy=True).contiguous()
                    for name, value in given["state"].get(key, {}).items()
                    if name in layout
                }

    def _check_loaded(self, state_dict: dict[str, Any]) -> None:
        for group, saved in zip(self.param_groups, state_dict["param_groups"]):
            if saved.get("rule") != group["rule"]:
                raise ValueError(
                    f"load_state_dict: the state is of rule {saved.get('rule')!r} and this "
                    f"optimizer's is {group['rule']!r}; make the optimizer with the rule it was "
                    "saved with."
                )
            options = _unpack(dict(saved))
            for index, (param, key) in enumerate(zip(group["params"], saved["params"])):
                loaded = state_dict["state"].get(key, {})
                for name, (shape, dtype, _) in _state_layout(options, param).items():
                    value = loaded.get(name)
                    if value is not None and (tuple(value.shape), value.dtype) != (shape, dtype):
                        raise ValueError(
                            f"load_state_dict: {name} of {_name(group, index)} is {value.dtype} "
                            f"of shape {tuple(value.shape)} and must be {dtype} of shape {shape}; "
                            "load the state of a table of the same shape."
                        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_row_hooks", OrderedDict())
        self.__dict__.setdefault("_path", None)


def _fastest_path(param: Tensor, values: Tensor) -> str:
    """By which of TouchedRows' ways the rows of a batch are found."""
    if param.is_cuda:
        return "fixed_size"
    return "compiled" if compiled.usable(param, values) else "unique"


def _state_layout(group: dict[str, Any], param: Tensor) -> dict[str, tuple]:
    """Shape, dtype and device of each state tensor of a table."""
    n_rows, dim = param.shape
    layout: dict[str, tuple] = {"step": ((), torch.int64, torch.device("cpu"))}
    for name, shape in RULES[group["rule"]].state_shapes(n_rows, dim).items():
        layout[name] = (shape, torch.float32, param.device)
    if group["row_lr"] is not None:
        layout["count"] = ((n_rows,), torch.int32, param.device)
        layout["max_count"] = ((), torch.int32, param.device)
    if group["row_decay"] is not None:
        layout["last_step"] = ((n_rows,), torch.int32, param.device)
    return layout


def _unpack(group: dict[str, Any]) -> dict[str, Any]:
    """Makes objects of the options that `state_dict` wrote as plain values, in place."""
    for key, kind in (("row_lr", FrequencyAdaptiveLR), ("row_decay", AdaptiveRegularization)):
        if isinstance(group.get(key), dict):
            group[key] = kind(**group[key])
    return group


def _name(group: dict[str, Any], index: int) -> str:
    """How an error speaks of a table."""
    names = group.get("param_names")
    return f"table {names[index]!r}" if names else f"table {index} of its group"


def _check_options(group: dict[str, Any]) -> None:
    def require(holds: bool, name: str, what: str) -> None:
        if not holds:
            raise ValueError(f"EmbeddingOptimizer: {name}={group[name]!r} must be {what}.")

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and math.isfinite(value)

    known = ", ".join(map(repr, RULES))
    require(group["rule"] in RULES, "rule", f"one of {known}")
    require(number(group["lr"]) and group["lr"] >= 0, "lr", "a number, not negative")
    require(number(group["eps"]) and group["eps"] >= 0, "eps", "a number, not negative")
    betas = group["betas"]
    inside = len(betas) == 2 and all(number(beta) and 0 <= beta < 1 for beta in betas)
    require(inside, "betas", "two numbers, each at least 0 and below 1")
    kinds = (("row_lr", FrequencyAdaptiveLR), ("row_decay", AdaptiveRegularization))
    for name, kind in kinds:
        require(group[name] is None or isinstance(group[name], kind), name,
                f"None or a multiepoch {kind.__name__}")  # fmt: skip


def _check_table(table: Tensor, name: str) -> None:
    if table.dtype not in (torch.float32, torch.bfloat16) or table.dim() != 2:
        raise TypeError(
            f"EmbeddingOptimizer: {name} is {table.dtype} of shape {tuple(table.shape)}; "
            "it must be a float32 or bfloat16 matrix, one row an id."
        )


def _check_gradient(grad: Tensor, name: str, check_finite: bool) -> None:
    if not grad.is_sparse:
        raise RuntimeError(
            f"EmbeddingOptimizer: {name} has a dense gradient; make its nn.Embedding or "
            "nn.EmbeddingBag with sparse=True."
        )
    if grad.sparse_dim() != 1:
        raise RuntimeError(
            f"EmbeddingOptimizer: the gradient of {name} has {grad.sparse_dim()} sparse "
            "dimensions; it must have one, the row."
        )
    if check_finite:
        finite = grad._values().isfinite().all(dim=1)
        if not finite.all():
            row = grad._indices()[0][~finite][0].item()
            raise RuntimeError(
                f"EmbeddingOptimizer: the gradient of row {row} of {name} is not finite; "
                "lower the rate or look for overflow in the loss."
            )
