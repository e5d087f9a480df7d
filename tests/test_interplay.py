"""The law of interplay on made-up losses whose effects are known, and its models and logs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from multiepoch_lab.data import Schema
from reproduction import judge
from reproduction.interplay import constants, experiment
from reproduction.remedies.baselines import FactorizationMachine
from reproduction.runs import Run, profile, window

SHARES = {"click": 0.0, "long_view": 0.5, "like": 8.0, "cart": -4.0, "buy": -4.0}
SHARES |= {"bought": 0.5, "carted": 0.2}
LOGS = {"kuairand": ("click", "long_view", "like"), "retailrocket": ("cart", "buy")}
LOGS |= {"tmall": ("bought", "carted")}
GAINS = {"meda": 0.3, "tail_rewind": 0.4, experiment.OWN: 0.8}  # % for each % of interplay


def made_up() -> pd.DataFrame:
    """Losses of 1 after one plain epoch; more epochs gain in proportion to the share."""
    rng, rows = np.random.default_rng(0), []
    sizes = experiment.SIZES.items()
    worlds = [("world", size, taste) for size, (_, tastes, _) in sizes for taste in tastes]
    for data, size, taste in [*worlds, *((log, "", 0.0) for log in LOGS)]:
        for objective in LOGS.get(data, ("click", "checkout")):
            share = 2 * taste if data == "world" else SHARES[objective]
            losses = {("plain", 1.0): 1.0, ("additive", 1.0): 1 + share / 100}
            losses[("machine", 1.0)] = 1 + share / 200
            for method, gain in (GAINS | {"plain": 0.0}).items():
                loss = 1 - gain * share / 100
                losses |= {(method, epoch): loss for epoch in (1.25, 2.0, 4.0, 8.0)}
            for seed in range(30, 34):
                for (method, epoch), loss in losses.items():
                    value = loss + 1e-4 * rng.standard_normal()
                    rows.append((data, size, taste, method, objective, seed, epoch, value))
    columns = ["data", "size", "taste", "method", "objective", "seed", "epoch", "value"]
    rows = pd.DataFrame(rows, columns=columns).assign(group="all")
    metric = rows["data"].eq("world").map({True: "expected_logloss", False: "logloss"})
    rows = rows.assign(metric=metric)
    return pd.concat([rows, rows.assign(metric="calibration", value=1.1)])


def test_share_gain_and_rank_are_those_that_were_put_in():
    rows = made_up()
    share = experiment.share(rows)
    assert experiment.worlds(share).mean().to_dict() == pytest.approx(
        {taste: 2 * taste for taste in experiment.TASTES}, abs=0.05
    )
    assert experiment.labels(share)["kuairand", "like"].mean() == pytest.approx(8, abs=0.05)
    gain = experiment.gain(rows, experiment.OWN)
    assert experiment.worlds(gain)[4.0].mean() == pytest.approx(-6.4, abs=0.05)
    found = experiment.rank(experiment.labels(share), experiment.labels(gain))
    assert found.max() < -0.9
    gains = experiment.gain(rows, experiment.OWN)
    at = experiment.calibrated(experiment.share(rows), gains).mean()
    assert at["taste"] == pytest.approx(0.25), "the mean share of the labels is below the curve's"


def test_every_measure_of_c18_is_predicted_and_follows_what_was_put_in():
    found = experiment.judge(made_up())
    claim = judge.claim("C18")
    assert set(found["measure"]) == {measure.name for measure in claim.measures}
    status = {e.measure.name: e.status for e in judge.weigh(claim, found)}
    names = ("slope", "apart", "level", "rank")
    assert [status[name] for name in names] == ["holds", "holds", "holds", "fails"]
    facts = experiment.facts(SimpleNamespace(rows=made_up()))
    assert facts["world/leave_one_out_votes/4/3"].mean() == pytest.approx(-4.8, abs=0.05)
    assert facts["calibration/meda"].mean() == pytest.approx(1.1)


def test_a_factorization_machine_adds_the_products_of_pairs_to_the_additive_model():
    model = FactorizationMachine(Schema({"a": 3, "b": 4, "c": 5}, ("x",), ("click", "buy")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    ids = {"a": torch.tensor([1]), "b": torch.tensor([2]), "c": torch.tensor([4])}
    u, v, w = (rows[0] for rows in model.vectors(ids))
    meet = [one[:16] * other[:16] for one, other in ((u, v), (u, w), (v, w))]
    expected = sum(meet) @ model.mix + (u + v + w)[16:] + model.bias + 2 * model.weight[0]
    torch.testing.assert_close(model(ids, torch.tensor([[2.0]]))[0], expected)


def test_a_log_of_users_and_items_is_read_from_the_folder_named_and_missed_in_one_sentence(
    tmp_path, monkeypatch
):
    days = pd.date_range("2015-05-03", periods=139, freq="D")
    rows = {"user": range(139), "item": [7] * 139}
    rows["timestamp"] = (days - pd.Timestamp(0)) // pd.Timedelta("1s")
    log = pd.DataFrame(rows).assign(cart=1, buy=0)
    log.sample(frac=1.0, random_state=0).to_parquet(tmp_path / "retailrocket.parquet")
    monkeypatch.delenv("MULTIEPOCH_LOGS", raising=False)
    with pytest.raises(ValueError, match="set MULTIEPOCH_LOGS to a folder"):
        window(profile("quick"), "retailrocket")
    monkeypatch.setenv("MULTIEPOCH_LOGS", str(tmp_path))
    with pytest.raises(ValueError, match=r"tmall.parquet is missing; put the log there"):
        window(profile("quick"), "tmall")
    log.drop(columns="buy").to_parquet(tmp_path / "tmall.parquet")
    with pytest.raises(ValueError, match=r"tmall.parquet has no column bought, carted; it has"):
        window(profile("quick"), "tmall")
    run = Run("plain", 0, 0.1, 0.1, data="tmall")
    before = run.key(profile("quick"), "cpu")
    log.assign(bought=0, carted=0).to_parquet(tmp_path / "tmall.parquet")
    assert run.key(profile("quick"), "cpu") != before, "the file has changed"
    train, validation, test = window(profile("quick"), "retailrocket", seed=1)
    assert (len(train), len(validation), len(test)) == (101, 12, 26)
    assert train.ids["item"].max() == 0 and train.labels.mean(dim=0).tolist() == [1.0, 0.0]


def test_the_exponent_is_that_of_the_law():
    counts = np.round(1e6 * np.arange(1, 2_000) ** -0.8).astype(int)
    assert constants.exponent(counts) == pytest.approx(0.8, abs=0.01)
