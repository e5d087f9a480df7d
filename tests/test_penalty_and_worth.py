"""Claims C14 and C15: the public logs, and the measures."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reproduction import judge
from reproduction.ch11_new_data_every_day import worth
from reproduction.ch12_real_logs import penalty
from reproduction.runs import profile


def test_the_public_logs_are_those_of_the_benchmark():
    runs = penalty.read_bars()
    assert len(runs) == 341
    by_data = penalty.by_data(runs)
    assert (
        by_data["first"].to_dict() | {"avazu_x4": 39, "criteo_x4": 2} == by_data["first"].to_dict()
    )
    counts = penalty.by_penalty(runs)
    assert counts.loc[penalty.SMALL].tolist() == [35, 4] and counts.loc[penalty.LARGE].tolist() == [
        0,
        7,
    ]
    # All 7 among the 11 that are not best after one epoch: 11 over 7 of 46 over 7.
    assert penalty.exact_test(counts) == pytest.approx(330 / 53_524_680, rel=1e-6)


COLUMNS = ["remedy", "seed", "objective", "epoch", "value"]


def scanned() -> pd.DataFrame:
    rows = []
    for seed, batch, value in itertools.product(range(4), penalty.BATCHES, penalty.COEFFICIENTS):
        jump = 1.05 if value < 1e-6 else 1.0 + 1e-5 * batch if value == 1e-6 else 0.99
        for epoch, loss in ((1.0, 1.0), (1.25, jump), (2.0, jump)):
            loss *= 1 + 1e-5 * ((seed * 7919) % 13)
            rows.append(("whole_l2", seed, "click", epoch, loss, value, batch))
    return pd.DataFrame(rows, columns=[*COLUMNS, "coefficient", "batch"]).assign(
        metric="loss", group="all"
    )


DAY = 15_625  # impressions
FRESH, UNIQUE = ([n * DAY for n in times] for times in (worth.WINDOWS, worth.REPEATED))


def priced() -> pd.DataFrame:
    """Losses of a law: repeats are worth up to 1.5 epochs of fresh data, and fall with tau = 2."""
    rows = []

    def add(remedy, n, seed, epoch, data):
        loss = (0.1 + 0.02 * (data / 1e6) ** -0.3) * (1 + 1e-4 * seed)
        rows.append((remedy, seed, "click", float(epoch), loss, n))

    for seed in range(4):
        for n in FRESH:
            add("plain", n, seed, 1, n)
        for n, epoch in itertools.product(UNIQUE, worth.EPOCHS):
            repeats = 1.5 * (1 - np.exp(-(epoch - 1) / 2))
            for remedy in (worth.TAIL, worth.OWN):
                add(remedy, n, seed, epoch, n * (1 + repeats + 1e-4 * seed * (1 + n / 1e6)))
            if n == UNIQUE[-1]:
                add(worth.FIXED, n, seed, epoch, n * (1 + repeats / 2 + 1e-4 * seed))
            if epoch > 1:
                add("plain", n, seed, epoch, n * (0.8 + 1e-4 * seed))
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "unique"]).assign(metric="loss", group="all")
    windows = frame.drop_duplicates(["unique", "seed"])
    found = windows["unique"] / 62_500
    return pd.concat([frame, windows.assign(metric="lookups", remedy="", value=found)])


@pytest.mark.parametrize(
    ("name", "judge_rows", "rows"),
    [("C14", penalty.judge, scanned), ("C15", worth.judge, priced)],
)
def test_made_up_losses_get_their_verdicts(name, judge_rows, rows):
    claim = judge.claim(name)
    found = judge.weigh(claim, judge_rows(rows()))
    assert judge.verdict(claim, found) == "as predicted"
    assert {one.measure.name for one in found} == {m.name for m in claim.measures}


def test_worth_is_that_of_the_fresh_data_of_the_same_loss():
    found = worth.in_fresh_data(priced())
    at = "click", worth.TAIL, 250_000, 0
    assert found[(*at, 1.0)] == pytest.approx(1)
    assert found[(*at, 4.0)] == pytest.approx(1 + 1.5 * (1 - np.exp(-1.5)), rel=0.03)


def test_windows_are_nested_parts_of_one_log_and_the_held_out_day_is_small():
    few = replace(profile("quick"), held_out=50)
    window, _, test = few.split(few.world(0))
    assert (len(window), len(test)) == (4 * few.impressions_per_day, 50)
    trials = worth.trials_of(20, DAY)
    along = {t.about["unique"]: t.hyperparameter for t in trials if t.about["method"] == worth.TAIL}
    assert along[250_000] == 4 * along[62_500]
    assert len({t.share for t in trials}) == len(FRESH) and max(t.share for t in trials) == 1
