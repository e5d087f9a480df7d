"""What a loop over epochs does beside resetting rows: a dense rate that falls, and a mean of ends.

Each order of the impressions leaves its own noise in a model. The mean of the weights at the ends
of epochs, tables and dense layers together, is one model with less of it. It serves; training goes
on from the last end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps
from itertools import zip_longest
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.eager import at_least_float32
from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.remedies.tables import Tables


class EndsMean:
    """The running mean of weights and floating buffers at the ends of epochs, float32 or wider.

    Args:
        tables: The tables of the optimizer; the other tensors of their model belong to the mean.
        device: Where the mean is: "cpu", or None for the device of each tensor.
    """

    def __init__(self, tables: Tables, device: str | None = None) -> None:
        self._tables, self.device = tables, device
        self.n, self.mean = 0, list[Tensor]()
        self.is_served = False

    def clear(self) -> None:
        self.n, self.mean = 0, []

    @torch.no_grad()
    def add(self) -> None:
        """Adds the model as it is; nothing if it cannot be added."""
        values = [*self._values()]
        self.n += 1
        if not self.mean:
            self.mean = [self._copy(one, at_least_float32(one.dtype)) for one in values]
            return
        for mean, value in zip(self.mean, values):
            mean.lerp_(value.to(mean), 1 / self.n)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Puts the mean into the model, and at exit what is trained; nothing within another one."""
        if self.is_served:
            yield
            return
        trained = [self._copy(value, value.dtype) for value in self._values()]
        hooks: list[RemovableHandle] = [register_optimizer_step_pre_hook(self._check_step)]
        if isinstance(optimizer := self._tables.optimizer, EmbeddingOptimizer):
            check = partial(self.check_not_serving, "the optimizer's state_dict")
            hooks.append(optimizer.register_state_dict_pre_hook(check))
        self.is_served = True
        try:
            self._write(self.mean)
            yield
        finally:
            self._write(trained)
            for hook in hooks:
                hook.remove()
            self.is_served = False

    def _check_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Refuses a step of any optimizer that has a tensor of the model."""
        own = {id(one) for one in (*self._tables, *self._tables.others())}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self.check_not_serving("a step")

    def check_not_serving(self, call: str, *_: Any) -> None:
        """Raises a RuntimeError while the model is served."""
        if self.is_served:
            wrong = f"{call} within serving() would take what is served for what is trained"
            raise RuntimeError(f"{wrong}: train outside of it, and save checkpoints there")

    def _values(self) -> Iterator[Tensor]:
        """Yields the tensors of the model, found anew, since a model may replace a buffer."""
        values = [*self._tables, *self._tables.others()]
        for value, mean in zip_longest(values, self.mean or values):
            if value is None or mean is None or value.shape != mean.shape:
                found = "the model has tensors of other shapes than at the ends that are averaged"
                remedy = "grow tables and change layers before epoch 0 of new data"
                raise RuntimeError(f"{found}: {remedy}, which begins a new mean")
            yield value.detach()

    def _copy(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(self.device or value.device, dtype, copy=True)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self._values(), values):
            tensor.copy_(value)

    @property
    def n_bytes(self) -> int:
        return sum(mean.nbytes for mean in self.mean)

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n, "mean": [mean.clone() for mean in self.mean]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        values = [*self._tables, *self._tables.others()]
        saved = state["mean"]
        if saved and [one.shape for one in saved] != [value.shape for value in values]:
            raise ValueError("the mean in the state is of a model of other shapes")
        copies = zip(saved, values)
        self.mean = [one.to(self.device or value.device, copy=True) for one, value in copies]
        self.n = state["n"]


def scale_steps(optimizer: Any, factor: float) -> None:
    """Multiplies the rates of an optimizer by `factor`, within its steps alone.

    So no scheduler sees the product, and none can undo it or build on it. A hook after the step
    could not put the rates back if it raises.
    """
    if "rate_factor" not in vars(optimizer):
        if factor == 1:
            return
        step = optimizer.step

        @wraps(step)
        def scaled(self: Any, *args: Any, **kwargs: Any) -> Any:
            groups = [*self.param_groups]
            rates = [group["lr"] for group in groups]
            try:
                if self.rate_factor != 1:
                    for group in groups:
                        group["lr"] = group["lr"] * self.rate_factor
                return step(*args, **kwargs)
            finally:
                for group, rate in zip(groups, rates):
                    group["lr"] = rate

        optimizer.step = MethodType(scaled, optimizer)  # as schedulers expect it
    optimizer.rate_factor = factor
