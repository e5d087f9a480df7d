from dataclasses import replace

import pytest
import torch

from multiepoch_lab.data import DataError, Log, Schema


def make_log(n=6, day=0, users=10, p_true=True):
    generator = torch.Generator().manual_seed(day)
    p = torch.rand(n, 2, generator=generator)
    return Log(
        schema=Schema({"user": users, "item": 5}, ("hour",), ("click", "buy")),
        ids={name: torch.randint(5, (n,), generator=generator) for name in ("user", "item")},
        dense=torch.randn(n, 1, generator=generator),
        labels=(p > 0.5).float(),
        day=torch.full((n,), day, dtype=torch.int32),
        p_true=p if p_true else None,
    )


def columns(log):
    return [*log.ids.values(), log.dense, log.labels, log.day, log.p_true]


def test_rows_are_taken_by_slice_mask_and_index():
    log = make_log()
    index = torch.tensor([4, 1])
    mask = torch.tensor([False, True, False, False, True, False])
    for rows, expected in ((slice(2, 5), [2, 3, 4]), (index, [4, 1]), (mask, [1, 4])):
        taken = log[rows]
        assert len(taken) == len(expected)
        for part, whole in zip(columns(taken), columns(log)):
            assert torch.equal(part, whole[expected])
    with pytest.raises(TypeError, match="slice"):
        log[3]


def test_concat_then_days_gives_the_parts_back():
    parts = [make_log(day=0), make_log(day=1, users=20), make_log(day=2)]
    log = Log.concat(parts)
    assert log.schema.cardinality == {"user": 20, "item": 5}
    assert torch.equal(log.days(1).labels, parts[1].labels)
    assert torch.equal(log.days(0, 1).dense, torch.cat([parts[0].dense, parts[1].dense]))
    assert len(log.days(5)) == 0
    with pytest.raises(DataError, match="one source"):
        Log.concat([parts[0], make_log(p_true=False)])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda log: {"ids": {"user": log.ids["user"]}}, "item"),
        (lambda log: {"labels": log.labels.long()}, "labels is torch.int64"),
        (lambda log: {"dense": log.dense[:3]}, "dense"),
        (lambda log: {"day": log.day.long()}, "day is torch.int64"),
        (lambda log: {"p_true": log.p_true[:, :1]}, "p_true"),
    ],
)
def test_columns_that_do_not_fit_the_schema_are_named(change, message):
    log = make_log()
    with pytest.raises(DataError, match=message):
        replace(log, **change(log))
