"""`compare` on small logs whose answer is known: the headline must give it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiepoch_compare import plan
from multiepoch_compare.__main__ import main

pytestmark = pytest.mark.slow

CALL = ["--ids", "user,item", "--labels", "click", "--day", "day", "--epochs", "2", "--seeds", "4"]
CALL += ["--methods", "MEDA"]
FIRST = np.datetime64("2024-03-01")


@pytest.fixture
def headline(tmp_path, monkeypatch, capsys):
    """Runs `compare` with few methods, trials and steps; returns warnings and headline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "LEAST_STEPS", 100)
    monkeypatch.setattr(plan, "DENSE_LR", 3.2e-3)
    every = plan.trials
    monkeypatch.setattr(plan, "trials", lambda epochs, methods: every(epochs, methods, 2))

    def run(columns, *options):
        pq.write_table(pa.table(columns), "log.parquet")
        code = main(["compare", "log.parquet", *CALL, *options])
        if code:
            return [capsys.readouterr().err]
        found = json.loads((tmp_path / "report" / "report.json").read_text())
        return [*found["warnings"], *found["headline"]]

    return run


def said(headline, start):
    return any(sentence.startswith(start) for sentence in headline)


def log(n_users, n_items, strength, n=6_000, days=4, seed=0, own=1.0):
    """Each user and each item has a taste of that strength, users `own` times as strong."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    logit = strength * (own * rng.normal(size=n_users)[user] + rng.normal(size=n_items)[item])
    click = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    day = FIRST + np.arange(n) * days // n
    return {"user": user, "item": item, "click": click, "day": day.astype(str)}


def sparse(**options):
    """Most users are seen once or twice: a second epoch learns their labels by heart."""
    return log(2_000, 20, 1.0, own=0.0, **options)


def frequent(**options):
    """Every row is seen fifty times: there is nothing to learn by heart."""
    return log(60, 60, 1.5, **options)


def test_a_log_of_rare_rows_collapses(headline):
    assert said(headline(sparse()), "Yes: a second epoch of plain training raises")


def test_a_log_of_frequent_rows_gains(headline, monkeypatch):
    monkeypatch.setattr(plan, "DENSE_LR", 1e-4)
    found = headline(frequent())
    assert said(found, "No: a second epoch of plain training lowers"), found


@pytest.mark.parametrize("n_users", [2_000, 10])
def test_there_is_nothing_to_learn_where_labels_are_drawn_at_random(headline, n_users):
    decision, *_ = headline(log(n_users, 20, 0.0))
    assert decision.startswith("No decision: nothing to learn was found")


def test_two_days_are_too_few(headline):
    (message,) = headline(sparse(days=2))
    assert "has 2 days" in message and "at least 3" in message


def test_a_column_that_gives_the_answer_is_warned_of_first(headline):
    columns = frequent()
    flipped = np.random.default_rng(1).random(len(columns["click"])) < 0.02
    columns["item"] = np.where(flipped, 1 - columns["click"], columns["click"])
    warning, *_ = headline(columns, "--seeds", "2")  # it comes before the training
    assert warning.startswith("Warning: column 'item' explains") and "'click'" in warning


def test_one_day_with_times_is_answered_by_the_hour(headline):
    columns = sparse()
    times = FIRST + np.arange(6_000) * 4 * 3_600 // 6_000 * np.timedelta64(1, "s")
    columns["day"] = pa.array(times.astype("datetime64[s]"))
    assert said(headline(columns), "Yes")


def few_ones(columns):
    columns["click"] = (np.arange(6_000) % 100 == 0).astype(int)


def another_time(columns):
    last = np.arange(6_000) >= 4_500
    columns["click"][last] = np.random.default_rng(0).random(1_500) < 0.8


@pytest.mark.parametrize(
    "spoil, why", [(few_ones, "ones in the 1,500 rows of test"), (another_time, "'click' drifts")]
)
def test_a_log_that_cannot_decide_is_told_so_before_training(headline, capsys, spoil, why):
    columns = sparse()
    spoil(columns)
    decision, *_ = headline(columns)
    assert decision.startswith("No decision: this log cannot decide.") and why in decision
    printed = capsys.readouterr().out
    assert printed.index("This log cannot decide") < printed.index("tuning: ")
