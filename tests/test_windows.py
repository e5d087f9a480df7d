"""The windows of KuaiRand on made-up losses of blocks of users."""

import numpy as np
import pandas as pd
import pytest

from reproduction.ch12_real_logs import windows
from reproduction.runs import N_BLOCKS


def made_up(by_block: float) -> pd.DataFrame:
    """Plain training ends epoch 3 a tenth above epoch 1, more or less by block of users."""
    rows = []
    for seed in range(8):
        for block in range(N_BLOCKS):
            for objective, size in (("click", 0.6), ("like", 0.08)):
                for epoch, harm in ((1.0, 0.0), (3.0, 0.1 + by_block * (-1) ** block)):
                    loss = size * (1 + harm + 0.001 * np.sin(seed))
                    rows.append(("late", "plain", seed, objective, epoch, str(block), loss))
    columns = ["window", "method", "seed", "objective", "epoch", "group", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_intervals_count_the_users():
    mean, low, high = windows.change(made_up(0.0), "late", "plain", 3.0)
    assert mean == pytest.approx(10, abs=0.02) and high - low < 0.1
    mean, low, high = windows.change(made_up(0.1), "late", "plain", 3.0)
    assert mean == pytest.approx(10, abs=0.02)
    # One block's harm varies by 10 %, and there are twenty of them.
    assert high - low == pytest.approx(2 * 1.96 * 10 / 20**0.5, rel=0.1)
