"""How large the gradient of a lookup is, and which epsilon or start makes a row's first step small.

From an accumulator of zero, Adagrad moves a row by the full rate at its first lookup, however small
the gradient is. An epsilon, or a start of the accumulator, near the size of gradients prevents that
(the book's page about a row's first step); the usual defaults are far below it.
"""

import statistics
from collections.abc import Iterable
from itertools import islice

from torch import Tensor, nn

from multiepoch.optim.parts import parts_of


def lookup_gradients(
    model: nn.Module, losses: Iterable[Tensor], batches: int = 300, c: float = 16.0
) -> dict[str, float]:
    """Measures the squared gradient of a lookup, and prints the eps or start that it suggests.

    A lookup's squared gradient is the mean over the row's weights, as row-wise Adagrad sums it. The
    table says, for each table and for all, c times the median, to be typed in as
    `initial_accumulator_value`, or its root, to be typed in as `eps`: here, or in FBGEMM or
    TorchRec, which have eps alone. Search c by factors of four. A loss that is the mean over twice
    as many impressions has a quarter of the squared gradient.

    It calls `backward` and changes no weight; all gradients are cleared before each batch and at
    the end. Where nothing has been learned, gradients are small (on KuaiRand, twenty times, when
    squared). So let `losses` step, and begin anew with what is found::

        def losses():
            for batch in loader:
                yield model.loss(batch)
                optimizer.step()

        lookup_gradients(model, losses())

    Args:
        model: The module; its tables are the parameters whose gradients are sparse.
        losses: The loss of each batch, with its graph.
        batches: How many losses to take, at most.
        c: How many times the median.

    Returns:
        By table, the median over batches of the median over the lookups of a batch.

    Raises:
        ValueError: If no loss gave a table a sparse gradient.
    """
    medians: dict[str, list[float]] = {}
    lookups: dict[str, int] = {}
    parts = parts_of(model)
    for loss in islice(losses, batches):
        model.zero_grad()
        loss.backward()
        for part in parts:
            gradient = part.parameter.grad
            if gradient is not None and gradient.is_sparse and gradient._nnz() > 0:
                squares = gradient._values().float().square().mean(dim=1)
                medians.setdefault(part.name, []).append(squares.median().item())
                lookups[part.name] = lookups.get(part.name, 0) + len(squares)
    model.zero_grad()
    if not medians:
        remedy = "give tables sparse=True, or call make_sparse(model), and give at least one loss"
        raise ValueError(f"lookup_gradients: no table had a sparse gradient: {remedy}.")
    found = {name: statistics.median(each) for name, each in medians.items()}
    print(_table(found, lookups, c))
    return found


def _table(found: dict[str, float], lookups: dict[str, int], c: float) -> str:
    rows = [("table", "lookups", "median square", "eps", "initial_accumulator_value")]
    rows += [(name, f"{lookups[name]:,}", *_advice(its, c)) for name, its in found.items()]
    rows.append(("their median", "", *_advice(statistics.median(found.values()), c)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _advice(median: float, c: float) -> tuple[str, str, str]:
    return f"{median:.1e}", f"{(c * median) ** 0.5:.1e}", f"{c * median:.1e}"
