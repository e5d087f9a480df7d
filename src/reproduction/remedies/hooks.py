"""What acts between and within the epochs of a remedy, attached by hooks to an unchanged trainer.

They are kept out of `multiepoch`, since nobody should have to maintain what is here to be compared.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multiepoch.optim.lookups import gradient_of
from multiepoch.optim.sparse import SparseOptimizer
from multiepoch.remedies.tables import Tables, embeddings
from multiepoch_lab.methods import Around


class Hook(Around):
    """Changes nothing; a remedy overrides what it changes.

    Args:
        model: The model.
        optimizer: The optimizer of its tables and dense layers.
        inner: Another remedy that acts as well, such as a reset of rows.
    """

    kept: Sequence[Tensor] = ()  # by table

    def __init__(self, model: nn.Module, optimizer: SparseOptimizer, inner: Any = None) -> None:
        super().__init__(inner)
        self.model, self.optimizer, self.index = model, optimizer, 0
        self.tables = Tables(model, optimizer, 0, None)
        self.modules = embeddings(self.tables)

    def before_epoch(self, index: int) -> None:
        self.index = index
        super().before_epoch(index)

    @property
    def n_bytes(self) -> int:
        return super().n_bytes + sum(v.nbytes for v in self.kept)


class FrozenTables(Hook):
    """Sets the tables' learning rate to 0 from the second epoch on."""

    def before_epoch(self, index: int) -> None:
        super().before_epoch(index)
        if index:
            for group in self.optimizer.embedding.param_groups:
                group["lr"] = 0.0
            self.optimizer.keep_ratio()


class RowGradients(Hook):
    """Changes the gradient of each touched row; what is added is spread over the row's lookups."""

    def change(self, weight: Tensor, sums: Tensor, lookups: Tensor, so_far: Tensor) -> Tensor:
        """Returns the new gradients of k rows.

        weight, sums: (k, dim). lookups, so_far: (k, 1), of the batch and since training began.
        """
        raise NotImplementedError

    def __init__(self, model, optimizer, inner: Any = None) -> None:
        super().__init__(model, optimizer, inner)
        self.kept = [torch.zeros(len(t), dtype=torch.int32, device=t.device) for t in self.tables]

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        result = super().backward(impressions, closure)
        with torch.no_grad():
            for table, count in zip(self.tables, self.kept):
                ids, values = table.grad._indices(), table.grad._values()
                rows, slot, n = ids[0].unique(return_inverse=True, return_counts=True)
                sums = values.new_zeros(len(rows), values.shape[1]).index_add_(0, slot, values)
                count[rows] += n.int()
                n, so_far = n[:, None], count[rows][:, None]
                more = (self.change(table[rows], sums, n, so_far) - sums) / n
                table.grad = gradient_of(ids, values + more[slot], table.shape)
        return result


class TouchedL2(RowGradients):
    """Adds `coefficient` times the weight to the gradient of each touched row, once a batch.

    By visit, as DiFacto does (Li et al., WSDM 2016), frequent rows shrink more in an epoch. With
    `even`, the coefficient is divided by the row's lookups so far: the mini-batch aware L2 of DIN
    (arXiv 1706.06978, 5.2), which is even over an epoch.
    """

    def __init__(
        self, model, optimizer, coefficient: float, inner: Any = None, even: bool = False
    ) -> None:
        super().__init__(model, optimizer, inner)
        self.coefficient, self.even = coefficient, even

    def change(self, weight: Tensor, sums: Tensor, lookups: Tensor, so_far: Tensor) -> Tensor:
        return sums + self.coefficient * weight / (so_far if self.even else 1)


def cowclip(
    weight: Tensor, gradient: Tensor, lookups: Tensor, ratio: float, zeta: float = 1e-5
) -> Tensor:
    """Clips each row's gradient to lookups * max(ratio |w|, zeta): CowClip (arXiv 2204.06240).

    weight, gradient: (k, dim). lookups: (k, 1), of the batch.
    """
    limit = lookups * (ratio * weight.norm(dim=1, keepdim=True)).clamp(min=zeta)
    return gradient * (limit / gradient.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1.0)


class CowClip(RowGradients):
    """Clips the gradient of each touched row by `cowclip`."""

    def __init__(self, model, optimizer, ratio: float) -> None:
        super().__init__(model, optimizer)
        self.ratio = ratio

    def change(self, weight: Tensor, sums: Tensor, lookups: Tensor, so_far: Tensor) -> Tensor:
        return cowclip(weight, sums, lookups, self.ratio)


class Dropout(Hook):
    """Drops the share `p` of what the tables return while training."""

    def __init__(self, model, optimizer, p: float) -> None:
        super().__init__(model, optimizer)
        for module in self.modules:
            module.register_forward_hook(lambda m, args, out: F.dropout(out, p, m.training))


class SharedEmbeddings(Hook):
    """Replaces an id by another of its table, drawn anew each time: SSE-SE (arXiv 1905.10630)."""

    def __init__(self, model, optimizer, p: float) -> None:
        super().__init__(model, optimizer)
        self.p = p
        for module in self.modules:
            module.register_forward_pre_hook(self._replace)

    def _replace(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        if not module.training:
            return args
        (ids,) = args
        other = torch.randint_like(ids, module.num_embeddings)
        return (torch.where(torch.rand(ids.shape, device=ids.device) < self.p, other, ids),)


class SensitivityPenalty(Hook):
    """Penalises the dense layers for relying on rows that have seen little.

    The penalty is the mean over impressions of sum_t |d logits / d row_t|^2 / n_t, where n_t is how
    often row t has been looked up; only the dense layers learn from it. The abstract of UWSR (arXiv
    2609.34083) describes a penalty of this kind; its formula is not known, and this is ours.
    """

    def __init__(self, model, optimizer, coefficient: float) -> None:
        super().__init__(model, optimizer)
        self.coefficient, self.dense = coefficient, model.dense_parameters()
        self.kept = [torch.zeros(len(t), device=t.device) for t in self.tables]  # lookups by row
        self.batch: tuple[Tensor, ...] = ()
        self.read: list[tuple[Tensor, Tensor]] | None = None  # rows and their n, in a second pass
        model.register_forward_pre_hook(self._see)
        for module, count in zip(self.modules, self.kept):
            module.register_forward_hook(lambda m, args, out, c=count: self._row(c, *args, out))

    def _see(self, module: nn.Module, args: tuple) -> None:
        self.batch = args

    def _row(self, count: Tensor, ids: Tensor, out: Tensor) -> Tensor:
        if self.read is None:
            return out
        count.index_add_(0, ids, torch.ones_like(ids, dtype=count.dtype))
        leaf = out.detach().requires_grad_()
        self.read.append((leaf, count[ids]))
        return leaf

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        result = super().backward(impressions, closure)
        self.read = []
        logits = self.model(*self.batch)
        rows, counts = zip(*self.read)
        self.read = None
        # Random signs make the square of the sum that of the objectives' own, on average.
        signs = torch.randint_like(logits, 2) * 2 - 1
        slopes = torch.autograd.grad((signs * logits).sum(), rows, create_graph=True)
        penalty = sum((s.square().sum(dim=1) / n).mean() for s, n in zip(slopes, counts))
        gradients = torch.autograd.grad(self.coefficient * penalty, self.dense, allow_unused=True)
        for parameter, gradient in zip(self.dense, gradients):
            if gradient is not None:
                parameter.grad += gradient
        return result


class DenseAverage(Hook):
    """Serves an exponential average of the dense weights, with the tables as they are.

    decay: Of the average, by step.
    """

    def __init__(self, model, optimizer, decay: float, inner: Any = None) -> None:
        super().__init__(model, optimizer, inner)
        self.decay, self.dense, self.steps = decay, model.dense_parameters(), 0
        self.kept = [p.detach().clone() for p in self.dense]
        optimizer.dense.register_step_post_hook(lambda *_: self._follow())

    @torch.no_grad()
    def _follow(self) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))  # soon forgets the first weights
        torch._foreach_lerp_(self.kept, self.dense, 1 - decay)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Swaps the average in while the model is evaluated."""
        with super().serving():
            self._swap()
            try:
                yield
            finally:
                self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        trained = [p.clone() for p in self.dense]
        torch._foreach_copy_(self.dense, self.kept)
        torch._foreach_copy_(self.kept, trained)


class SharpnessAware(Hook):
    """Takes the dense layers' gradient where they do worst nearby: SAM (arXiv 2010.01412).

    The tables learn from the first of the two passes, at the weights as they are. radius: Of the
    step towards the worst place, an Euclidean norm over all dense layers.
    """

    def __init__(self, model, optimizer, radius: float) -> None:
        super().__init__(model, optimizer)
        self.radius, self.dense = radius, model.dense_parameters()

    def backward(self, impressions: Tensor, closure: Callable[[], Any]) -> Any:
        result = super().backward(impressions, closure)
        with torch.no_grad():
            of_tables = [table.grad for table in self.tables]
            steps = [p.grad.clone() for p in self.dense]
            norm = torch.stack(torch._foreach_norm(steps)).norm()
            torch._foreach_mul_(steps, float(self.radius / norm.clamp(min=1e-12)))
            torch._foreach_add_(self.dense, steps)
        closure()
        with torch.no_grad():
            torch._foreach_sub_(self.dense, steps)
        for table, gradient in zip(self.tables, of_tables):
            table.grad = gradient
        return result


class WholeTables(Around):
    """Trains tables by dense Adam, which moves every row in every step, and decays all of them.

    Args:
        model: The model; its tables get dense gradients from now on.
        dense_lr, embedding_lr: The learning rates.
        decay: An L2 penalty's coefficient (of |w|^2 / 2, added to the gradient) or, if decoupled,
            the weight decay of AdamW.
        decoupled: Decays as AdamW does, by the rate times `decay` in each step.
        dense_factor: Multiplies the dense rate from the second epoch on.
    """

    def __init__(
        self,
        model: nn.Module,
        dense_lr: float,
        embedding_lr: float,
        decay: float,
        decoupled: bool,
        dense_factor: float = 1.0,
    ) -> None:
        super().__init__()
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = False
        tables = list(model.table_parameters().values())
        rule = torch.optim.AdamW if decoupled else torch.optim.Adam
        self.dense = torch.optim.Adam(model.dense_parameters(), lr=dense_lr)
        of_tables = rule(tables, lr=embedding_lr, weight_decay=decay, fused=True)
        self.optimizers = [self.dense, of_tables]
        self.dense_lr, self.dense_factor = dense_lr, dense_factor

    def before_epoch(self, index: int) -> None:
        """Sets the dense rate of the epoch."""
        for group in self.dense.param_groups:
            group["lr"] = self.dense_lr * (self.dense_factor if index else 1.0)
