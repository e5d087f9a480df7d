"""The front page's trainer in Python: its small world, and the losses that it must show.

book/_static/trainer.js trains on a world that `python -m reproduction.trainer` writes. It computes
what `by_hand.train` computes here, in the same order, with 64 bits: both draw from the Mersenne
twister, and rows start at zero. The dense layers are smaller than chapter 1's, for speed.
"""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from reproduction import by_hand
from reproduction.runs import profile

SEED, BATCH = 0, 128
FILE = Path(__file__).parents[2] / "book" / "_static" / "trainer_world.js"
METHODS = {
    "plain": {},
    "FAL": {"share": by_hand.fal},
    "MEDA": {"reset": by_hand.meda},
    "tail rewind": {"reset": by_hand.rewind},
}


def world() -> str:
    """Returns the script with the world, half of chapter 1's: zipped bytes in base64.

    For each log come the ids (two bytes each), the numbers in 16ths from -8, the labels, and the
    true probabilities as 16ths of the negative logarithm; each column whole.
    """
    sizes = profile("quick").smaller(2)
    log, _, test = sizes.split(sizes.world(SEED))
    parts = []
    for one in (log, test):
        ids = torch.stack(list(one.ids.values())).numpy().astype("<u2")
        numbers = 16 * one.dense.numpy() + 128, one.labels.numpy(), -16 * one.p_true.log().numpy()
        columns = (np.clip(np.rint(of.T), 0, 255).astype("u1") for of in numbers)
        parts += [ids.tobytes(), *(column.tobytes() for column in columns)]
    zipped = base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()
    about = {"rows": list(log.schema.cardinality.values()), "n": [len(log), len(test)]}
    about |= {"batch": BATCH, "seed": SEED, "zipped": zipped}
    return f"const trainerWorld = {json.dumps(about)};\n"


def logs(script: str) -> list[SimpleNamespace]:
    """Returns the two logs of a script that `world` made."""
    about = json.loads(script.removeprefix("const trainerWorld = ").rstrip(";\n"))
    unzipped, at, found = zlib.decompress(base64.b64decode(about["zipped"])), 0, []
    schema = SimpleNamespace(cardinality=dict(enumerate(about["rows"])))
    for n in about["n"]:
        columns = {"ids": 5, "dense": 5, "labels": 3, "p_true": 3}
        for name, k in columns.items():
            kind = np.dtype("<u2" if name == "ids" else "u1")
            column = np.frombuffer(unzipped, kind, k * n, at).reshape(k, n)
            at += k * n * kind.itemsize
            columns[name] = torch.tensor(column.T.astype(float))
        columns["ids"] = dict(enumerate(columns["ids"].long().T))
        columns["dense"] = (columns["dense"] - 128) / 16
        columns["p_true"] = (-columns["p_true"] / 16).exp()
        found.append(SimpleNamespace(schema=schema, **columns))
    return found


class Layers(by_hand.Dense):
    """Chapter 1's dense layers, smaller, with the first weights that the page draws, too."""

    def __init__(self, width: int, n: int) -> None:
        super().__init__(width, n)
        self.bottom = nn.Sequential(*by_hand.layer(width, 32), *by_hand.layer(32, 16))
        self.towers = nn.ModuleList([nn.Linear(16, n)])
        draws = np.random.RandomState(SEED)
        for layer in (one for one in self.modules() if isinstance(one, nn.Linear)):
            for weight in layer.parameters():
                drawn = draws.randint(0, 2**32, weight.shape, dtype=np.uint32) / 2**32
                weight.data = torch.tensor((2 * drawn - 1) / layer.in_features**0.5)


def losses(
    script: str, rate: float, epochs: int, share: Callable | None = None, reset=None
) -> tuple[dict[float, float], float]:
    """Returns the loss, summed over objectives, by epochs done, and that of the mean of the ends.

    The mean is of all weights, at the ends of epochs 2 and later.
    """
    log, test = logs(script)
    torch.set_default_dtype(torch.float64)
    try:
        tables = [by_hand.Table(n, rate, share=share) for n in log.schema.cardinality.values()]
        dense = Layers(by_hand.DIM * len(tables) + log.dense.shape[1], log.labels.shape[1])
        for table in tables:
            table.weight.zero_()
        weights = [*(table.weight for table in tables), *(p.data for p in dense.parameters())]
        ends = []

        def between(table, epoch):
            if len(ends) < epoch:
                ends.append([weight.clone() for weight in weights])
            if reset:
                reset(table, epoch)
                table.weight[table.count == 0] = 0

        found = by_hand.train(tables, dense, log, test, BATCH, epochs, between, seed=SEED)
        for weight, *of_ends in zip(weights, weights, *ends[1:]):
            weight.copy_(torch.stack(of_ends).mean(dim=0))
        mean = by_hand.held_out_loss(tables, dense, test)
    finally:
        torch.set_default_dtype(torch.float32)
    return {at: sum(of) for at, of in found.items()}, sum(mean)


if __name__ == "__main__":
    FILE.write_text(world(), encoding="utf-8")
    print(f"Wrote {FILE}, {FILE.stat().st_size / 1000:,.0f} kB.")
