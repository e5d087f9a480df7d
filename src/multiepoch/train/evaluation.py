"""Predictions and metrics of a model on a log, over all impressions and by row frequency."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
import torch
from torch import Tensor

from multiepoch.data.log import Log
from multiepoch.model import ConversionModel
from multiepoch.train import metrics


def evaluate(model: ConversionModel, log: Log, group: Tensor | None = None) -> pd.DataFrame:
    """Every metric of every objective on a log, over all impressions and within each group.

    group: (n,) integers. Columns group, objective, metric, value, as in `train`.
    """
    columns = ["group", "objective", "metric", "value"]
    return pd.DataFrame(list(measure(predict(model, log), log, group)), columns=columns)


@torch.inference_mode()
def predict(model: ConversionModel, log: Log, batch_size: int = 8_192) -> Tensor:
    """Logits for a log in its order, (n, n_objectives).

    batch_size: impressions at a time; of this size, activations stay in a processor's cache.
    """
    was_training = model.training
    model.eval()
    logits = [
        model({name: c[k : k + batch_size] for name, c in log.ids.items()},
              log.dense[k : k + batch_size])
        for k in range(0, len(log), batch_size)
    ]  # fmt: skip
    model.train(was_training)
    return torch.cat(logits)


def frequency_edges(train_log: Log, eval_log: Log, column: str = "product", n: int = 10) -> Tensor:
    """The frequencies that part the groups of `frequency_groups`, (n - 1,) int64, ascending.

    Group k holds the impressions whose row was trained on at least edges[k - 1] and fewer than
    edges[k] times.
    """
    frequency = _frequency(train_log, eval_log, column).sort().values
    edges = frequency[torch.arange(1, n, device=frequency.device) * len(frequency) // n]
    return edges.clamp(min=1)  # a row never seen stays in group 0, however many there are


def frequency_groups(train_log: Log, eval_log: Log, column: str = "product", n: int = 10) -> Tensor:
    """The group of each impression of `eval_log`, (n_impressions,) int64, by training frequency.

    0 has the rows least often trained on, unseen ones among them, n - 1 the most frequent. Groups
    are about equal in impressions of `eval_log`; those of one frequency stay together, so that
    where many share one, some groups are small or empty.
    """
    edges = frequency_edges(train_log, eval_log, column, n)
    return torch.searchsorted(edges, _frequency(train_log, eval_log, column), right=True)


def _frequency(train_log: Log, eval_log: Log, column: str) -> Tensor:
    if column not in train_log.ids or column not in eval_log.ids:
        raise ValueError(f"column {column!r} is not in the log; it has {', '.join(train_log.ids)}.")
    size = max(log.schema.cardinality[column] for log in (train_log, eval_log))
    return torch.bincount(train_log.ids[column], minlength=size)[eval_log.ids[column]]


def measure(
    logits: Tensor, log: Log, group: Tensor | None, tell: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[str, str, str, float]]:
    """(group, objective, metric, value) for all impressions and for each group there is."""
    masks: dict[str, slice | Tensor] = {"all": slice(None)}
    if group is not None:
        masks |= {str(k): group == k for k in group.unique().tolist()}
    for name, mask in masks.items():
        for k, objective in enumerate(log.objectives):
            z, y = logits[mask, k], log.labels[mask, k]
            yield name, objective, "logloss", metrics.logloss(z, y)
            positives = int(y.sum(dtype=torch.float64))
            if 0 < positives < len(y):
                yield name, objective, "auc", metrics.auc(z, y)
                yield name, objective, "normalized_entropy", metrics.normalized_entropy(z, y)
            else:
                tell(f"no auc of {objective} in group {name}: all {len(y)} labels are of one class")
            if positives:
                yield name, objective, "calibration", metrics.calibration(z, y)
