"""What rows hold, for the five most telling rows of the board: own label, norm, spectrum.

Measured on the table with the most rows, the cross of user and advertiser, as epoch 2 begins to
read it, after any reset, and at the end of epoch 2.
"""

import pandas as pd
import torch
from torch import Tensor

from multiepoch_lab.data import Log
from multiepoch_lab.train import train
from reproduction.findings import by_name
from reproduction.records import Record
from reproduction.remedies.board import BOARD
from reproduction.runs import Profile, Run, window
from reproduction.runs.interventions import FromSecondEpoch
from reproduction.runs.run import build
from reproduction.tuning import chosen, on_board

NAME = "ch10_anatomy"
SEEDS = (20, 21, 22)
LABELS = {
    "plain": "plain",
    "fal": "FAL",
    "tail_rewind": "tail rewind",
    "adamar": "AdamAR",
    "whole_l2": "L2 on whole tables",
}
COLUMN, OBJECTIVE = "user_x_advertiser", "click"
COUNTS = {"1": (1, 1), "2 to 3": (2, 3), "4 to 9": (4, 9), "10 and more": (10, 10**9)}
RATES = {"rowwise_adagrad": 10**-0.5, "adam": 10**-1.5}  # one a rule, so that rows learn alike


def probe(rows: Tensor, labels: Tensor, generator: torch.Generator) -> float:
    """Returns the correlation of labels with a linear probe of rows, fitted on the other half.

    rows: (n, dim), one for each impression. labels: (n,).
    """
    half = torch.rand(len(rows), generator=generator) < 0.5
    x = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double()
    y = labels.double()
    ridge = 1e-6 * torch.eye(x.shape[1], dtype=torch.float64) * x.square().mean() * half.sum()
    weight = torch.linalg.solve(x[half].T @ x[half] + ridge, x[half].T @ y[half])
    return float(torch.corrcoef(torch.stack([x[~half] @ weight, y[~half]]))[0, 1])


def dissect(name: str, seed: int, profile: Profile) -> list[dict]:
    """Trains twice by a remedy; returns what its rows hold as epoch 2 begins, and at its end."""
    log, _, _ = window(profile, seed=seed)
    rule, value = BOARD[name].rule, chosen(on_board(name)).hyperparameter
    run = Run(name, seed, 1e-3, RATES[rule], value, epochs=2, rule=rule)
    model, optimizers, between = build(run, log.schema, "cpu")
    table = model.table_parameters()[COLUMN].detach()
    found: list[dict] = []

    def measure(epoch: int) -> None:
        for what, of, value in quantities(table, log):
            found.append({"epoch": epoch, "what": what, "of": of, "value": value})

    train(
        model,
        optimizers,
        log,
        epochs=2,
        batch_size=profile.batch_size,
        seed=seed,
        between_epochs=FromSecondEpoch(between, lambda: measure(1)),
        evaluate_epochs=[],
        progress=None,
    )
    measure(2)
    return [one | {"remedy": name, "seed": seed} for one in found]


def quantities(table: Tensor, log: Log):
    """Yields (what, of, value): the own label and the norm by count, and the singular values."""
    ids, labels = log.ids[COLUMN], log.labels[:, log.objectives.index(OBJECTIVE)]
    count = torch.bincount(ids, minlength=len(table))
    generator = torch.Generator().manual_seed(0)
    for words, (low, high) in COUNTS.items():
        mine = (count[ids] >= low) & (count[ids] <= high)
        if mine.sum() > 100:
            yield "own label", words, probe(table[ids[mine]], labels[mine], generator)
            rows = (count >= low) & (count <= high)
            yield "norm", words, float(table[rows].norm(dim=1).mean())
    values = torch.linalg.svdvals(table[count > 0].double())
    for k, value in enumerate((values / values[0]).tolist(), 1):
        yield "singular value", str(k), value


def run(profile: Profile, device: str = "cpu", seeds=None) -> pd.DataFrame:
    """Returns columns remedy, seed, epoch, what, of, value; runs on the CPU."""
    profile = profile.board()
    rows = []
    for seed in seeds or SEEDS:
        for name in LABELS:
            rows += dissect(name, seed, profile)
            print(f"{name}, seed {seed}: dissected", flush=True)
    return pd.DataFrame(rows)


def facts(record: Record) -> dict:
    """Returns the probe's correlation as epoch 2 begins, by remedy and lookups."""
    rows = record.rows[(record.rows["what"] == "own label") & (record.rows["epoch"] == 1)]
    return by_name(held=rows.set_index(["remedy", "of", "seed"])["value"])
