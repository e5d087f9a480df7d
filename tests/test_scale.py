"""C19 on made-up losses whose slopes are known, and the sizes and searches of its runs."""

import numpy as np
import pandas as pd
import pytest

from reproduction import judge
from reproduction.ch11_new_data_every_day import scale
from reproduction.runs import profile

SLOPES = {scale.LOOKUPS: 0.0, scale.IDS: 0.5}  # points a doubling


def made_up() -> pd.DataFrame:
    """Losses of 1 after one plain epoch; four of a method end 2 % below, plus the slopes."""
    rng, rows = np.random.default_rng(0), []
    for kind, slope in SLOPES.items():
        for k, n in enumerate((100, 200, 400)):
            for remedy in scale.LABELS:
                ends = {1.0: 1.0, 2.0: 0.99, 4.0: 0.98 + slope * k / 100}
                ends = {1.0: 1.0} if remedy == "plain" else ends
                for seed in range(30, 38 if n < 400 else 34):
                    for epoch, loss in ends.items():
                        value = loss + 1e-4 * rng.standard_normal()
                        rows.append((kind, n, remedy, "click", seed, epoch, value))
    columns = ["kind", "unique", "remedy", "objective", "seed", "epoch", "value"]
    return pd.DataFrame(rows, columns=columns).assign(metric="loss", group="all")


def test_gains_and_slopes_are_those_that_were_put_in():
    gains = scale.gain(made_up())
    assert gains[scale.IDS, "meda", 200].mean() == pytest.approx(-1.5, abs=0.02)
    slopes = scale.slope(gains).groupby(["kind", "remedy"]).mean()
    assert slopes[scale.LOOKUPS, "meda"] == pytest.approx(0.0, abs=0.02)
    assert slopes[scale.IDS, scale.OWN] == pytest.approx(0.5, abs=0.02)
    found = scale.judge(made_up())
    status = {e.measure.name: e.status for e in judge.weigh(judge.claim("C19"), found)}
    assert {status[name] for name in ("grows", "fades", "denser", "left")} == {"holds"}


def test_a_world_grows_with_its_window_or_stays_and_thresholds_grow():
    whole = profile("long")
    grown, same = (scale.sized(whole, kind, 4) for kind in scale.GROWS)
    assert grown.impressions_per_day == same.impressions_per_day == 4 * whole.impressions_per_day
    assert (grown.n_users, same.n_users) == (4 * whole.n_users, whole.n_users)
    once = [scale.sized(whole, kind, 1).sizes() for kind in scale.GROWS]
    assert once[0] == once[1]
    thresholds = [scale.candidate(name, 4).threshold for name in (scale.TAIL, scale.FIXED)]
    assert thresholds[0] == 4 * thresholds[1]
    assert len({len(scale.candidate(name, 1).axes()) for name in scale.LABELS}) == 1


def test_sizes_that_are_measured_again_replace_those_of_the_record():
    kept, rows = made_up(), made_up().assign(value=2.0)
    of = rows[(rows["unique"] == 200) & (rows["kind"] == scale.IDS)]
    merged = scale.merge(kept, of)
    assert len(merged) == len(kept)
    again = merged["value"] == 2.0
    assert again.sum() == len(of)
    assert set(merged[again]["unique"]) == {200} and set(merged[again]["kind"]) == {scale.IDS}


def test_a_size_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="the same ids"):
        scale.run(profile("quick"), only="3 times")
