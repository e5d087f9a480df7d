"""A model that is served with other values than those that it trains on."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from multiepoch.optim.embedding import EmbeddingOptimizer
from multiepoch.remedies.tables import Tables


class Served:
    """Puts values into a model to be served, and takes them out again; `tables` are the model's."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.kept: list[Tensor] | None = None  # what is trained, while the model is served

    def trained(self) -> list[Tensor]:
        """Copies what serving replaces."""
        raise NotImplementedError

    def served(self) -> list[Tensor]:
        """Returns what to serve, in the order of `trained`."""
        raise NotImplementedError

    def write(self, values: list[Tensor]) -> None:
        """Writes what `trained` or `served` returned into the model."""
        raise NotImplementedError

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Puts what is to be served into the model, and at exit what is trained.

        It does nothing within another one.
        """
        if self.kept is not None:
            yield
            return
        trained, served = self.trained(), self.served()
        hooks: list[RemovableHandle] = [register_optimizer_step_pre_hook(self._check_step)]
        if isinstance(optimizer := self._tables.optimizer, EmbeddingOptimizer):
            check = partial(self.check_not_serving, "the optimizer's state_dict")
            hooks.append(optimizer.register_state_dict_pre_hook(check))
        self.kept = trained
        try:
            self.write(served)
            yield
        finally:
            self.write(trained)
            for hook in hooks:
                hook.remove()
            self.kept = None

    def _check_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Refuses a step of any optimizer that has a tensor of the model."""
        own = {id(one) for one in (*self._tables, *self._tables.others())}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self.check_not_serving("a step")

    def check_not_serving(self, call: str, *_: Any) -> None:
        """Raises a RuntimeError while the model is served."""
        if self.kept is not None:
            wrong = f"{call} within serving() would take what is served for what is trained"
            raise RuntimeError(f"{wrong}: train outside of it, and save checkpoints there")
