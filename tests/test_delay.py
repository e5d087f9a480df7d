"""Conversions that come late, and C20 on made-up losses."""

import pandas as pd
import pytest
import torch

from reproduction.ch11_new_data_every_day import delay
from reproduction.runs import profile, window
from reproduction.runs.interventions import visible
from tests.judged import verdicts


def test_conversions_come_as_published_and_clicks_at_once():
    log, _, _ = window(profile("quick"))
    there = {day: visible(log, 0, 4.0 + day).labels for day in (1.0, 40.0)}
    assert torch.equal(there[40.0], log.labels)
    assert torch.equal(there[1.0][:, 0], log.labels[:, 0])
    share = there[1.0][:, 1].sum() / log.labels[:, 1].sum()  # after one to five days
    assert 0.58 < share < 0.68
    at_once = visible(log, 0).labels
    assert (at_once <= there[1.0]).all() and at_once[:, 1].sum() < there[1.0][:, 1].sum()


def made_up(leak=0.1, kept=0.0) -> pd.DataFrame:
    rows = []
    for run in delay.runs():
        for seed in range(30, 34):
            for k, objective in enumerate(delay.LATE):
                harm = leak if run.method == "plain" else 0.0
                lost = kept if run.method in delay.RESETS else 0.0
                late = 0.2 if run.setting != delay.AWAITED else 0.1
                gained = (0.1 - lost) * (run.setting == delay.CORRECTED)
                for epoch, loss in {
                    1.0: 1 + late,
                    1.25: 1 + late,
                    2.0: 1.2 - gained + harm,
                }.items():
                    value = loss * (1 + k) * (1 + 1e-5 * (seed * 7919 % 13) * epoch)
                    rows.append((run.method, run.setting, seed, objective, epoch, value))
    columns = ["method", "setting", "seed", "objective", "epoch", "value"]
    return pd.DataFrame(rows, columns=columns).assign(metric="expected_logloss", group="all")


def verdict(rows):
    return verdicts(delay.judge(rows), "C20")["C20"]


def test_made_up_losses_get_their_verdict():
    assert verdict(made_up()) == "as predicted"
    assert verdict(made_up(leak=0.0)) == "partly as predicted"
    assert verdict(made_up(kept=0.06)) == "partly as predicted"


def test_a_corrected_epoch_is_held_against_two_epochs_after_waiting():
    found = delay.to_waiting_twice(made_up(), "meda")
    assert found.mean() == pytest.approx(-100 * 0.1 / 1.2, abs=0.01)
