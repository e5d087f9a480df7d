"""The mathematics of EmbeddingOptimizer in dense, obvious PyTorch: every row of one table.

Slow on purpose. The tests compare the fast optimizer with it, and the book prints it.
"""

import torch


def new_state(table, initial_accumulator_value=0.0):
    """Returns the state of a table; each rule uses part of it. table: (rows, dim)."""
    per_row = torch.zeros(len(table), dtype=table.dtype)
    start = initial_accumulator_value
    return {
        "step": 0,
        "mean": torch.zeros_like(table),  # Adam's first moment
        "square": torch.full_like(table, start),  # Adam's second moment, or Adagrad's sum
        "row_square": per_row + start,  # row-wise Adagrad's sum
        "count": per_row.clone(),  # F of FAL
        "last_step": per_row.clone(),  # s of AdamAR
    }


def fal_factor(count, row_lr, epoch=0):
    """Returns FAL's factor of each row. count: (rows,), the current batch included."""
    most = count.max().clamp(min=1)
    if row_lr.scale == "log":
        factor = torch.log(count + 1) / torch.log(most + 1)
    if row_lr.scale == "linear":
        factor = count / most
    if row_lr.scale == "power":
        factor = (count / most) ** row_lr.exponent
    if row_lr.scale == "threshold":
        factor = torch.ones_like(count)
        factor[count < row_lr.threshold] = row_lr.reduced
    return 1 - (1 - factor) * row_lr.gap_decay**epoch


def reference_step(
    table,
    grad,
    occurrences,
    state,
    lr,
    rule="adam",
    row_lr=None,
    row_decay=None,
    betas=(0.9, 0.999),
    eps=1e-8,
    epoch=0,
    weight_decay=0,
):
    """Takes one step of one table, in place; options as for EmbeddingOptimizer.

    Args:
        table: (rows, dim).
        grad: (rows, dim), the summed gradient; zero in rows that the batch lacks.
        occurrences: (rows,), the number of lookups of each row.
        state: From `new_state`.
    """
    state["step"] += 1
    step = state["step"]
    touched = occurrences > 0
    rows = touched[:, None]  # (rows, 1): a mask over the rows of a matrix

    # 1. The rule: which way does each weight go?
    if rule == "adam":
        mean = betas[0] * state["mean"] + (1 - betas[0]) * grad
        square = betas[1] * state["square"] + (1 - betas[1]) * grad**2
        state["mean"] = torch.where(rows, mean, state["mean"])
        state["square"] = torch.where(rows, square, state["square"])
        direction = (mean / (1 - betas[0] ** step)) / (
            torch.sqrt(square / (1 - betas[1] ** step)) + eps
        )
    if rule == "adagrad":
        state["square"] += grad**2
        direction = grad / (torch.sqrt(state["square"]) + eps)
    if rule == "rowwise_adagrad":
        state["row_square"] += (grad**2).mean(dim=1)
        direction = grad / (torch.sqrt(state["row_square"])[:, None] + eps)
    if rule == "sgd":
        direction = grad

    # 2. FAL: how fast does each row go?
    rate = torch.full_like(state["count"], lr)
    if row_lr is not None:
        state["count"] += occurrences if row_lr.count == "occurrences" else touched
        rate = lr * fal_factor(state["count"], row_lr, epoch)

    # 3. Weight decay and AdamAR: how much of the row is kept?
    kept = torch.full_like(rate, 1 - lr * weight_decay)
    if row_decay is not None:
        waited = step - state["last_step"] - 1
        kept *= 1 - torch.clamp(row_decay.alpha * waited, max=1)
        state["last_step"][touched] = step

    moved = kept[:, None] * table - rate[:, None] * direction
    table.copy_(torch.where(rows, moved, table))
