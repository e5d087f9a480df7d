"""Predictions and metrics of a model on a log, over all impressions and by row frequency."""

from collections.abc import Callable, Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from multiepoch_lab.data.log import DataError, Log
from multiepoch_lab.model import ConversionModel
from multiepoch_lab.train import metrics


def evaluate(model: ConversionModel, log: Log, group: Tensor | None = None) -> pd.DataFrame:
    """Computes every metric of every objective, over all impressions and within each group.

    The groups are int64, (n,). Returns columns group, objective, metric, value, as in `train`.
    """
    columns = ["group", "objective", "metric", "value"]
    return pd.DataFrame(list(measure(predict(model, log), log, group)), columns=columns)


@torch.inference_mode()
def predict(model: ConversionModel, log: Log, batch_size: int = 8_192) -> Tensor:
    """Returns the logits of a log, (n, n_objectives), in its order and on its device.

    By default batches are small enough for the activations to stay in a processor's cache.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    starts = range(0, len(log), batch_size)
    batches = (log[start : start + batch_size].to(device) for start in starts)
    logits = torch.cat([model(batch.ids, batch.dense) for batch in batches])
    model.train(was_training)
    return logits.to(log.device)


def frequency_edges(train_log: Log, eval_log: Log, column: str = "product", n: int = 10) -> Tensor:
    """Returns the frequencies between the groups of `frequency_groups`, int64 (n - 1,), ascending.

    Rows of group k were trained on at least edges[k - 1] and fewer than edges[k] times.
    """
    frequency = _frequency(train_log, eval_log, column).sort().values
    edges = frequency[torch.arange(1, n, device=frequency.device) * len(frequency) // n]
    return edges.clamp(min=1)  # unseen rows stay in group 0, however many there are


def frequency_groups(
    train_log: Log,
    eval_log: Log,
    column: str = "product",
    n: int = 10,
    edges: Sequence[int] | None = None,
) -> Tensor:
    """Groups the impressions of a log by the training frequency of their row, int64 (n,).

    Group 0 has the rows least often trained on, unseen ones included. The n groups have about the
    same number of impressions, but those of equal frequency stay together, so some may be small or
    empty. With `edges`, ascending, a row of group k was trained on at least edges[k - 1] and fewer
    than edges[k] times instead.

    Raises:
        ValueError: If a log does not have the column.
    """
    frequency = _frequency(train_log, eval_log, column)
    if edges is None:
        bounds = frequency_edges(train_log, eval_log, column, n)
    else:
        bounds = torch.tensor(edges, device=frequency.device)
    return torch.searchsorted(bounds, frequency, right=True)


def _frequency(train_log: Log, eval_log: Log, column: str) -> Tensor:
    if column not in train_log.ids or column not in eval_log.ids:
        raise ValueError(f"column {column!r} is not in the log; it has {', '.join(train_log.ids)}.")
    size = max(log.schema.cardinality[column] for log in (train_log, eval_log))
    counts = torch.bincount(train_log.ids[column], minlength=size)
    return counts[eval_log.ids[column]]


def bayes_optimum(log: Log) -> pd.DataFrame:
    """Scores the truth itself: one row per objective, columns as in `metrics.bayes_optimum`.

    Raises:
        DataError: If the log has no `p_true`.
    """
    if log.p_true is None:
        raise DataError("bayes_optimum: the log has no p_true; only a synthetic world knows it.")
    rows = [metrics.bayes_optimum(*columns) for columns in zip(log.labels.T, log.p_true.T)]
    return pd.DataFrame(rows, index=pd.Index(log.objectives, name="objective"))


def measure(
    logits: Tensor, log: Log, group: Tensor | None, say: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[str, str, str, float]]:
    """Yields (group, objective, metric, value) for all impressions, then for each group."""
    masks: dict[str, slice | Tensor] = {"all": slice(None)}
    if group is not None:
        masks |= {str(k): group == k for k in group.unique().tolist()}
    for name, mask in masks.items():
        for k, objective in enumerate(log.objectives):
            z, y = logits[mask, k], log.labels[mask, k]
            yield name, objective, "logloss", metrics.logloss(z, y)
            if log.p_true is not None:
                p = log.p_true[mask, k]
                yield name, objective, "expected_logloss", metrics.expected_logloss(z, p)
            positives = int(y.sum(dtype=torch.float64))
            if 0 < positives < len(y):
                yield name, objective, "auc", metrics.auc(z, y)
                yield name, objective, "normalized_entropy", metrics.normalized_entropy(z, y)
            else:
                say(f"no auc of {objective} in group {name}: all {len(y)} labels are of one class")
            if positives:
                yield name, objective, "calibration", metrics.calibration(z, y)
