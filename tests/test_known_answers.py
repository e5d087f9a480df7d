"""`compare` on eight small logs whose answer is known: the headline must give it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiepoch_compare import plan
from multiepoch_compare.__main__ import main

pytestmark = pytest.mark.slow

CALL = ["--ids", "user,item", "--labels", "click", "--day", "day", "--epochs", "2", "--seeds", "4"]
FIRST = np.datetime64("2024-03-01")


@pytest.fixture
def headline(tmp_path, monkeypatch, capsys):
    """Runs `compare` with few methods, trials and steps; returns warnings and headline."""
    monkeypatch.setenv("MULTIEPOCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "LEAST_STEPS", 100)
    monkeypatch.setattr(plan, "DENSE_LR", 3.2e-3)
    monkeypatch.setattr(plan, "TABLE_RATE_METHODS", {"MEDA": plan.Candidate("meda")})
    every = plan.trials
    monkeypatch.setattr(plan, "trials", lambda budget=4, methods=(): every(2))

    def run(columns, *options):
        pq.write_table(pa.table(columns), "log.parquet")
        code = main(["compare", "log.parquet", *CALL, *options])
        if code:
            return [capsys.readouterr().err]
        found = json.loads((tmp_path / "report" / "report.json").read_text())
        return [*found["warnings"], *found["headline"]]

    return run


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
    answer, *_ = headline(sparse())
    assert answer.startswith("Yes: a second epoch of plain training raises")


def test_a_log_of_frequent_rows_gains(headline, monkeypatch):
    monkeypatch.setattr(plan, "DENSE_LR", 5e-4)
    answer, *_ = headline(frequent())
    assert answer.startswith("No: a second epoch of plain training")


@pytest.mark.parametrize("n_users", [2_000, 10])
def test_there_is_nothing_to_learn_where_labels_are_drawn_at_random(headline, n_users):
    answer, consequence, *_ = headline(log(n_users, 20, 0.0))
    assert answer.startswith("Nothing to learn") and "no advice" in consequence


def test_two_days_are_too_few(headline):
    (message,) = headline(sparse(days=2))
    assert "has 2 days" in message and "at least 3" in message


def test_a_column_that_gives_the_answer_is_warned_of_first(headline):
    columns = frequent()
    flipped = np.random.default_rng(1).random(len(columns["click"])) < 0.02
    columns["item"] = np.where(flipped, 1 - columns["click"], columns["click"])
    warning, *_ = headline(columns, "--seeds", "1")  # it comes before the training
    assert warning.startswith("Warning: column 'item' explains") and "'click'" in warning


def test_one_day_with_times_is_answered_by_the_hour(headline):
    columns = sparse()
    times = FIRST + np.arange(6_000) * 4 * 3_600 // 6_000 * np.timedelta64(1, "s")
    columns["day"] = pa.array(times.astype("datetime64[s]"))
    answer, *_ = headline(columns)
    assert answer.startswith("Yes")


def test_rows_without_a_time_are_pointed_out(headline):
    columns = sparse()
    times = columns["day"].astype("datetime64[s]").astype(int)
    times[np.random.default_rng(0).random(6_000) < 0.002] = 0
    order = np.random.default_rng(0).permutation(6_000)  # not sorted by time either
    columns = {name: values[order] for name, values in columns.items()} | {"day": times[order]}
    columns["day"] = np.where(columns["day"] == 0, 100_000_000, columns["day"])  # in 1973
    warning, answer, *_ = headline(columns)
    assert "are of 1973-03-03, a year or more before the rest" in warning
    assert answer.startswith("Yes")


def test_one_seed_leaves_it_open(headline):
    answer, advice = headline(sparse(), "--seeds", "1")
    assert answer.startswith("Open") and advice.startswith("No advice: one seed")
