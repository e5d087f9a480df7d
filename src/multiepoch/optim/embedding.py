"""`EmbeddingOptimizer`: updates only the rows a batch touches."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from itertools import zip_longest
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from multiepoch.optim import checks, compiled, eager
from multiepoch.optim import state as states
from multiepoch.optim.adamar import AdaptiveRegularization
from multiepoch.optim.fal import FrequencyAdaptiveLR
from multiepoch.optim.lookups import keep_lookups, keeps_lookups
from multiepoch.optim.memory import use_huge_pages

RowHook = Callable[[Tensor, Tensor, Tensor], None]
_NOT_LEARNED = ("step", "count", "max_count")


class EmbeddingOptimizer(Optimizer):
    """Updates only the rows a batch touches, for tables with sparse gradients.

    Works with nn.Embedding and nn.EmbeddingBag created with sparse=True. The cost of a step depends
    on the rows it touches, not on the size of the table. On CUDA, `step()` never waits for the
    device, and sums a row's gradients in an order that varies, unless
    torch.use_deterministic_algorithms(True) is set. On a CPU, float32 tables use compiled kernels
    if the installation has them; `print(optimizer)` shows which path runs. Linux is asked to put
    tables and state into memory pages of 2 MiB, which takes a few seconds per gigabyte of table.

    `state[param]` holds "step", the rule's moments or accumulators, FAL's "count" (int32, one per
    row) and "max_count", and AdamAR's "last_step" (int32, one per row).

    Args:
        params: Tables (2-dim, floating-point) as parameters, (name, parameter) pairs or group
            dicts, which may set every argument below. The state, and all arithmetic, is float32;
            it is float64 for float64 tables.
        lr: Learning rate of the tables; a number, or a tensor with one.
        rule: "rowwise_adagrad", "adagrad", "adam" (lazy) or "sgd"; see `multiepoch.optim.rules`.
        row_lr: A `FrequencyAdaptiveLR`, or None for the same rate in all rows.
        row_decay: An `AdaptiveRegularization`, or None.
        betas: Decay rates of Adam's two moments.
        eps: Added to the denominator of Adam and Adagrad. `lookup_gradients` measures what suits.
        initial_accumulator_value: Where every accumulator of the two Adagrads starts, in a row that
            is new or redrawn, too. At 0, a row's first step has the full rate, however small its
            gradient is; `lookup_gradients` measures what suits.
        weight_decay: Decoupled, as in AdamW: shrinks each row that a batch touches by
            lr * weight_decay before it is updated. FAL does not scale it.
        fused: None uses the compiled kernels where it can, False never does, and True raises an
            error if it cannot.

    Raises:
        ValueError, TypeError, RuntimeError: For invalid input, before anything changes.
    """

    _path: str | None = None  # "eager", "padded" as on CUDA, or "compiled"; the tests force each

    def __init__(
        self,
        params,
        lr: float | Tensor,
        rule: str = "rowwise_adagrad",
        row_lr: FrequencyAdaptiveLR | None = None,
        row_decay: AdaptiveRegularization | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool | None = None,
        initial_accumulator_value: float = 0.0,
    ) -> None:
        self._row_hooks: OrderedDict[int, RowHook] = OrderedDict()
        defaults = dict(lr=lr, rule=rule, row_lr=row_lr, row_decay=row_decay, betas=betas)
        defaults |= dict(eps=eps, weight_decay=weight_decay, fused=fused)
        defaults |= dict(initial_accumulator_value=initial_accumulator_value)
        super().__init__(params, defaults | dict(epoch=0))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group as in torch.optim; accepts (name, parameter) pairs in any version."""
        group, params = dict(param_group), param_group["params"]
        if not isinstance(params, Tensor | set):
            params = list(params)
            if params and all(isinstance(entry, tuple) for entry in params):
                group["param_names"], params = map(list, zip(*params))
            group["params"] = params
        group |= checks.check_options({**self.defaults, **group})
        tables = [params] if isinstance(params, Tensor) else params
        for index, table in enumerate(tables):
            if isinstance(table, Tensor):
                checks.check_table(table, checks.table_name(group, index))
                _fastest_path({**self.defaults, **group}, table, table)  # it may refuse fused=True
        super().add_param_group(group)
        self._keep_lookups()
        for table in self.param_groups[-1]["params"]:
            use_huge_pages(table, written=True)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0, for `FrequencyAdaptiveLR(gap_decay=...)`."""
        if epoch < 0:
            raise ValueError(f"set_epoch: epoch={epoch} must not be negative; the first is 0.")
        for options in (self.defaults, *self.param_groups):
            options["epoch"] = int(epoch)

    def register_row_hook(self, hook: RowHook) -> RemovableHandle:
        """Calls hook(param, rows, occurrences) once per table in each step, before a row changes.

        If a hook raises, no table changes. The rows are int64 (k,), their lookups int32 (k,). On
        CUDA, k is the number of lookups; slots after the last distinct row repeat rows[0] with 0
        occurrences. The hook is not called for a gradient without rows, and is neither copied nor
        pickled.
        """
        handle = RemovableHandle(self._row_hooks)
        self._row_hooks[handle.id] = hook
        self._keep_lookups()
        return handle

    def counts(self, group: dict[str, Any]) -> bool:
        """Says whether a step needs every lookup of the tables of a group."""
        row_lr = group["row_lr"]
        return bool(self._row_hooks) or (row_lr is not None and row_lr.count == "occurrences")

    def _keep_lookups(self) -> None:
        for group in filter(self.counts, self.param_groups):
            for table in group["params"]:
                keep_lookups(table, ())

    def row_state(self, param: Tensor) -> dict[str, Tensor]:
        """Returns the live state of a table's rows; the first dimension is the row.

        This is moments or accumulators and AdamAR's last step, without FAL's counts, which describe
        the data. Missing state is created.
        """
        group, param = self._find(param)
        state = states.fill(self.state[param], states.state_layout(group, param))
        return {key: value for key, value in state.items() if key not in _NOT_LEARNED}

    def options(self, table: str | Tensor) -> dict[str, Any]:
        """Returns the live options of a table: its parameter group."""
        return self._find(table)[0]

    def _find(self, table: str | Tensor) -> tuple[dict[str, Any], Tensor]:
        names = []
        for group in self.param_groups:
            for param, name in zip_longest(group["params"], group.get("param_names", ())):
                if table is param or (isinstance(table, str) and table == name):
                    return group, param
                names.append(name)
        which = f"{table!r}" if isinstance(table, str) else f"of shape {tuple(table.shape)}"
        raise ValueError(f"table {which} is in none of this optimizer's groups: {names}.")

    @torch.no_grad()
    def grow_table(self, table: str | Tensor, new_rows: int | Tensor) -> None:
        """Appends rows to a table and to its state, for ids that are new since it was built.

        The parameter stays the same object, so modules and optimizers keep it; its gradient is
        cleared. The new rows have no moments and no counts; their accumulators are at the start.
        Wrap the model in DistributedDataParallel, or compile it, after this and not before.

        Args:
            table: The parameter or, if the optimizer was given names, its name.
            new_rows: The values of the rows to append, (k, dim); or k, and they are drawn from a
                normal distribution with the mean and standard deviation of the table.

        Raises:
            ValueError: If the table is not this optimizer's, or the rows do not fit or be drawn.
        """
        group, param = self._find(table)
        if isinstance(new_rows, Integral) and new_rows >= 0:
            if param.numel() < 2:
                size = f"a table of shape {tuple(param.shape)} has no standard deviation"
                raise ValueError(f"grow_table: {size} to draw from; give the new rows.")
            std, mean = torch.std_mean(param.float())
            new_rows = mean.new_empty(int(new_rows), param.shape[1]).normal_() * std + mean
        if not isinstance(new_rows, Tensor) or new_rows.shape[1:] != param.shape[1:]:
            what = f"of shape {tuple(new_rows.shape)}" if isinstance(new_rows, Tensor) else new_rows
            wanted = f"give a number of rows, or a tensor of rows of {param.shape[1]} weights"
            raise ValueError(f"grow_table: new_rows is {what}; {wanted}.")
        grown = use_huge_pages(param.new_empty(len(param) + len(new_rows), param.shape[1]))
        torch.cat([param.data, new_rows.to(param)], out=grown)
        state = self.state.get(param, {})
        start = {"sum": group["initial_accumulator_value"]}
        layout = {  # of state of an option that is off, too
            name: states.Kind((len(grown), *v.shape[1:]), v.dtype, v.device, start.get(name, 0.0))
            for name, v in state.items()
            if v.dim()
        }
        state.update(states.copied(state, layout))
        if "last_step" in state:  # a new row has not waited for AdamAR
            state["last_step"][len(param) :] = state["step"].to(param.device)
        # A loss that is still alive keeps the node that accumulates gradients of the earlier shape;
        # torch makes a new one if the type changes.
        other = torch.float16 if param.dtype != torch.float16 else torch.float32
        param.data = param.data.new_empty(0, dtype=other)
        param.data, param.grad = grown, None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every table that has a gradient; returns the loss of the closure, if given."""
        if torch.compiler.is_compiling():  # which cannot trace the kernels
            return torch.compiler.disable(self._step)(closure)
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # All tables are checked, and their rows found, before the first one changes.
        tables = []
        for group in self.param_groups:
            for index, param in enumerate(group["params"]):
                if param.grad is not None:
                    layout = states.state_layout(group, param)
                    touched = self._touched(group, index, param, layout)
                    # A hook may clear the gradient.
                    tables.append((group, param, layout, touched, param.grad.is_sparse))
        filled = [states.fill(self.state[param], layout) for _, param, layout, *_ in tables]
        for _, param, _, touched, _ in tables:
            for hook in tuple(self._row_hooks.values()) if touched is not None else ():
                hook(param, touched.rows, touched.occurrences)
        for (group, param, _, touched, is_sparse), state in zip(tables, filled):
            state["step"] += is_sparse
            if touched is not None:
                kernels = eager if touched.order is None else compiled
                kernels.update_rows(group, param, state, touched)
        return loss

    def _touched(
        self, group: dict[str, Any], index: int, param: Any, layout: dict[str, states.Kind]
    ) -> eager.TouchedRows | None:
        """Checks a table with its gradient, and finds the rows of its batch; None for none."""
        name, grad = checks.table_name(group, index), param.grad
        checks.check_table(param, name)
        checks.check_state(self.state.get(param, {}), param, name, layout)
        # torch.distributed.checkpoint makes an optimizer's state by a step with every rate at 0 and
        # dense gradients of zeros.
        if grad.is_sparse or float(group["lr"]) != 0 or grad.any():
            checks.check_gradient(param, grad, name, self.counts(group))
        if self.counts(group) and not keeps_lookups(param):  # an option that was set in the group
            wrong = f"{name} is counted now, but was not when its gradient came about"
            remedy = "call accumulate_lookups(optimizer) after setting row_lr in a group"
            raise RuntimeError(f"EmbeddingOptimizer: {wrong}; {remedy}.")
        if not grad.is_sparse or grad._nnz() == 0:
            return None
        ids, values = grad._indices()[0], grad._values()
        path = self._path or _fastest_path(group, param, values)
        if path == "compiled":
            touched = compiled.touched_rows(ids, values, len(param))
        else:
            touched = eager.touched_rows(ids, values, padded=ids.is_cuda or path == "padded")
            if not ids.is_cuda and not 0 <= touched.rows.min() <= touched.rows.max() < len(param):
                touched = None
        if touched is None:
            raise IndexError(
                f"EmbeddingOptimizer: the gradient of {name} has ids outside its {len(param)} rows."
            )
        return touched

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and plain values only, for torch.load(weights_only=True)."""
        return states.plain(super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state, options included, bit for bit.

        Tables are matched by name if both sides have names, else by order. Takes states of torch's
        SparseAdam, Adam, Adagrad and SGD, too, if they have no amsgrad, momentum, or decay; these
        keep this optimizer's FAL and AdamAR. A saved fused=True is not restored. A state of another
        rule than a group's is a warm start: the group keeps the options given here, and its tables
        take over their step, FAL's counts and AdamAR's last steps.

        Raises:
            ValueError: If the state is of other tables or of another optimizer, or lacks a part;
                nothing changes then.

        Warns:
            UserWarning: If the state is of another rule; it says what is kept.
        """
        given: dict[str, Any] = {}

        def check(_, final: dict[str, Any]) -> dict[str, Any]:  # runs after the hooks of others
            given.update(states.arranged(final, self.param_groups))
            states.check_loaded(given, self.param_groups)
            states.start_warm(given, self.param_groups)
            return given

        handle = self.register_load_state_dict_pre_hook(check)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        self.defaults["epoch"] = max((group["epoch"] for group in self.param_groups), default=0)
        for group, saved in zip(self.param_groups, given["param_groups"]):
            for param, key in zip(group["params"], saved["params"]):
                # torch has cast the state to the table's dtype, which rounds the moments of a
                # bfloat16 table, so take them from the original.
                saved_state = given["state"].get(key, {})
                self.state[param] = states.copied(saved_state, states.state_layout(group, param))

    @property
    def path(self) -> str:
        """Says whether the compiled kernels update the tables: fused, partly fused, not fused."""
        paths = {_fastest_path(g, p, p) for g in self.param_groups for p in g["params"]}
        some = "partly fused" if "compiled" in paths else "not fused"
        return "fused" if paths == {"compiled"} else some

    def __repr__(self) -> str:
        return f"{super().__repr__()}, {self.path}"

    def __getstate__(self) -> dict[str, Any]:
        state = defaultdict(dict, {table: states.apart(its) for table, its in self.state.items()})
        return {**super().__getstate__(), "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_row_hooks", OrderedDict())
        for group in self.param_groups:
            states.unpack(group)
        self._keep_lookups()


def _fastest_path(group: dict[str, Any], param: Tensor, values: Tensor) -> str:
    """Names the way to find and update the rows of a batch."""
    if group["fused"] is not False and compiled.usable(param, values):
        return "compiled"
    if group["fused"]:
        why = "" if compiled.library() else ", and compiled kernels, which this installation lacks"
        needs = f"fused=True needs contiguous float32 tables on a CPU{why}"
        found = f"this one is {checks.described(param)}"
        raise RuntimeError(f"EmbeddingOptimizer: {needs}; {found}. Use fused=None.")
    return "eager"
