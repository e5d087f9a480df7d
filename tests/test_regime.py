"""The rule of thumb: one row against torch, by hand, and against the book's records."""

import numpy as np
import pandas as pd
import pytest
import torch

from multiepoch_compare.record import loads
from multiepoch_lab import regime
from reproduction import records
from reproduction.ch12_real_logs import penalty
from reproduction.dose_response import experiment as dose_response
from reproduction.dose_response import production
from reproduction.measure import losses, relative
from reproduction.runs import SOURCES, profile, window


@pytest.mark.parametrize("decay", [{}, {"l2": 1e-6}, {"weight_decay": 0.3}])
def test_a_waiting_row_is_that_of_torch(decay):
    # A row first seen late: so many steps that the bias corrections are 1.
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    rule = torch.optim.AdamW if "weight_decay" in decay else torch.optim.Adam
    options = {"weight_decay": sum(decay.values())}
    optimizer = rule([weight], lr=0.01, **options)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.state[weight]["step"].fill_(1e6)
    path = []
    for step in range(60):
        weight.grad = torch.full_like(weight, 2e-5 if step == 0 else 0.0)
        optimizer.step()
        path.append(weight.item())
    np.testing.assert_allclose(regime.wait(59, 2e-5, 0.01, **decay), path, rtol=1e-6)


def test_a_penalty_moves_a_waiting_row_by_the_rate_whatever_its_coefficient():
    for l2 in (1e-3, 1e-1):
        path = regime.wait(30, -2e-5, 0.01, l2=l2)  # up, and back
        steps = -np.diff(path)[path.argmax() :][:2] / 0.01
        assert 0.3 < steps.max() < 3.5
    paths = [np.abs(regime.wait(60, 2e-5, 0.03, l2=v)) for v in (0, 1e-8, 1e-6)]
    early = [path[-1] / path.max() for path in paths]
    assert early[0] > 0.95 and early[1] > 0.9 and early[2] < 0.05


def test_adamar_forgets_in_proportion_to_the_wait():
    path = regime.wait(11, 1e-5, 0.01, alpha=0.05, lazy=True)
    np.testing.assert_allclose(path / path[0], [1, *(1 - 0.05 * np.arange(11))])


def test_the_rule_of_thumb_by_hand():
    # Ten rows of one lookup and one of ten: 11 own labels' worth over 20 lookups.
    counts = np.array([1] * 10 + [10] + [0] * 5)
    found = regime.expect(counts, 100, 0.01, rule="adagrad")
    assert found.trace == pytest.approx(11 / 20)
    assert found.step == pytest.approx(1, abs=0.01)  # Adagrad's first step is the rate
    assert found.rise == pytest.approx(40 * 11 / 20 / 2, rel=0.01)
    assert found.regime.startswith("harmful")
    assert regime.expect(np.array([100, 200]), 100, 0.01).regime.startswith("harmless")
    assert regime.expect(counts, 100, 0.01, alpha=0.05).trace < 0.2
    with pytest.raises(ValueError, match="give some of both"):
        regime.expect(np.zeros(3), 100, 0.01)
    with pytest.raises(ValueError, match="sgd"):
        regime.expect(counts, 100, 0.01, rule="sgd")


def said(one: regime.Expected) -> str:
    return one.regime.partition(":")[0]


def of_c14():
    """What is expected and what was measured, by setting of C14's scan."""
    record = records.read("ch12_penalty", "long")
    log = window(profile("long").board(), seed=20)[0]
    counts = torch.bincount(log.ids["user_x_advertiser"]).numpy()
    dense = {"lazy": False}
    decays = {"plain": lambda _: {}, "adamar": lambda value: {"alpha": value}}
    decays |= {"whole_l2": lambda value: {"l2": value} | dense}
    decays |= {"adamw": lambda value: {"weight_decay": value} | dense}
    changes = penalty.changes(record.rows)["gain"].groupby(["remedy", "coefficient", "batch"])
    for (remedy, value, batch), rise in changes.mean().items():
        steps, gradient = len(log) // batch, 0.01 / batch
        decay = decays[remedy](value)
        yield regime.expect(counts, steps, penalty.RATE, gradient=gradient, **decay), rise


def of_rates():
    """The same by table rate, under Adam and row-wise Adagrad, with the cross and without it."""
    adam = records.read(dose_response.NAME, "long").rows
    names = production.NAME, production.NO_CROSS_NAME
    row_wise = pd.concat([records.read(name, "long").rows for name in names])
    for data, source in production.SOURCES.items():
        for cross in (True, False):
            log = window(profile("long"), source, 20, cross)[0]
            n_rows = {name: len(ids.unique()) for name, ids in log.ids.items()}
            counts = torch.bincount(log.ids[max(n_rows, key=n_rows.get)]).numpy()
            steps = len(log) // (SOURCES[source].batch_size or profile("long").batch_size)
            where = {"stratum": data if cross else f"{data}, no cross", "method": "plain"}
            for rule, rows in {"adam": adam, "adagrad": row_wise}.items():
                ends = (losses(rows, None, epoch=epoch, **where) for epoch in (2.0, 1.0))
                for rate, rise in relative(*ends).groupby("rate").mean().items():
                    yield regime.expect(counts, steps, rate, rule=rule), rise


def of_logs():
    """The same of the logs that `compare` has been asked about."""
    for path in (records.folder() / "cpu").glob("compare_*.json"):
        found = loads(path.read_text())
        yield regime.Expected(**found["expected"]), found["methods"][0]["second"].mean


def test_the_words_of_the_rule_are_right_nine_times_in_ten():
    found = {"harmful": [], "harmless": [], "open": []}
    for one, rise in (*of_c14(), *of_rates(), *of_logs()):
        found[said(one)].append(rise)
    harmful, harmless = np.array(found["harmful"]), np.array(found["harmless"])
    assert (len(harmful), (harmful > 5).sum()) == (32, 32)
    assert (len(harmless), (harmless < 2).sum()) == (6, 6)
    assert sum(map(len, found.values())) == 78


def test_the_rule_agrees_with_the_public_logs():
    # Their rows' counts are not known; a table of rows that are read once is the worst case.
    runs = penalty.read_bars().dropna(subset="regularizer")
    setting = ["n_train", "batch_size", "learning_rate", "regularizer"]
    found = {
        key: said(
            regime.expect(np.ones(1), n // batch, lr, l2=l2, lazy=False, gradient=0.02 / batch)
        )
        for key in runs.groupby(setting).groups
        for n, batch, lr, l2 in [key]
    }
    says = [found[tuple(key)] for key in runs[setting].itertuples(index=False)]
    table = pd.crosstab(pd.Series(says, runs.index), runs["first"])
    assert len(runs) == 281
    assert table.loc["harmful"].tolist() == [3, 35]  # best after a later epoch, after the first
    assert table.loc["harmless"].tolist() == [211, 0]
