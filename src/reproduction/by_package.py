"""The package in place of the reader's program: the same weights and batches, and how far off.

The notebooks and the tests hold each stage of `by_hand` against the library with these functions.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from matplotlib.figure import Figure

from multiepoch.optim import SparseOptimizer
from multiepoch_lab.data import Log
from multiepoch_lab.leave_one_out import LeaveOneOutRows
from multiepoch_lab.model import ConversionModel
from reproduction import by_hand, style


def twin(log: Log, tables: list[by_hand.Table], dense: by_hand.Dense) -> ConversionModel:
    """Returns the package's model with the weights of the program's."""
    model = ConversionModel(log.schema, embedding_dim=by_hand.DIM)
    weights = {f"tables.{name}.weight": one.weight for name, one in zip(log.ids, tables)}
    for name, weight in dense.state_dict().items():
        part, *rest = name.split(".")
        if part == "towers":
            rest[0] = log.objectives[int(rest[0])]
        weights[".".join([part, "0", *rest] if part == "cross" else [part, *rest])] = weight
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter[: len(weights[name])] = weights[name]
    return model


def train(
    model: ConversionModel,
    optimizer: SparseOptimizer,
    log: Log,
    batch: int,
    epochs: int = 2,
    remedy=None,
    seed: int = 0,
) -> None:
    """Trains on the batches that `by_hand.train` takes, in their order."""
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        if remedy is not None:
            remedy.before_epoch(epoch)
        for at in torch.randperm(len(log), generator=order).split(batch):
            part = log[at]

            def closure(part=part):
                optimizer.zero_grad()
                model.loss(model(part.ids, part.dense), part.labels).backward()

            if isinstance(remedy, LeaveOneOutRows):
                remedy.backward(at, closure)
            else:
                closure()
            optimizer.step()


def difference(
    log: Log, tables: list[by_hand.Table], dense: by_hand.Dense, model: ConversionModel
) -> float:
    """Returns the largest difference of a weight of the dense layers or of a row of the log."""
    pairs = list(zip(dense.parameters(), model.dense_parameters()))
    for name, table in zip(log.ids, tables):
        seen = log.ids[name].unique()  # rows that nothing looks up may be redrawn or not
        pairs.append((table.weight[seen], model.table_parameters()[name][seen]))
    return max((ours - theirs).abs().max().item() for ours, theirs in pairs)


@style.shown("fig-program-{chapter}")
def curves(
    losses: Mapping[str, pd.DataFrame], chapter: str, start: float = 0.5
) -> tuple[Figure, dict]:
    """Draws the losses of the reader's program: a panel for each objective, a line for each name.

    The losses are by epochs done (the index) and objective, and drawn in % of the first name's at
    the end of its epoch 1, from `start` on.
    """
    first = next(iter(losses))
    changes = {name: 100 * (of / losses[first].loc[1.0] - 1) for name, of in losses.items()}
    spare = iter(style.SPARE)  # each line has a colour of its own
    looks = {name: style.line_style(name) | {"label": name} for name in changes}
    looks |= {
        name: look | {"color": next(spare)}
        for name, look in looks.items()
        if look["color"] in style.SPARE
    }
    fig, panels = style.figure(columns=len(changes[first].columns), height=3.2, sharey=True)
    for axes, objective in zip(panels, changes[first].columns):
        for name, change in changes.items():
            shown = change.loc[start:, objective]
            axes.plot(shown.index, shown, **looks[name])
        style.boundaries(axes, shown.index.max())
        style.reference(axes)
        axes.set_title(style.spelled(objective))
    panels[len(panels) // 2].set_xlabel("epochs done")
    panels[0].set_ylabel("change of the loss, %")
    style.legend_outside(fig, panels[0], columns=4 if len("".join(changes)) < 40 else 2)
    points = {1.0: "At the end of epoch 1", 1.25: "A quarter into epoch 2", 2.0: "At its end"}
    said = []
    for point in (1.25, 2.0) if changes[first].index.max() > 1 else (1.0,):
        means = (
            (name, style.signed(f"{of.loc[point].mean():+.1f}")) for name, of in changes.items()
        )
        said.append(f"{points[point]}: {', '.join(f'{name} {mean} %' for name, mean in means)}.")
    return fig, {"chapter": chapter, "first": first, "changes": " ".join(said)}
