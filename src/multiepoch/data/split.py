"""Splits by time: what a model is fitted on never comes after what it is judged on."""

from __future__ import annotations

from multiepoch.data.log import DataError, Log


def split_by_day(log: Log, train: int, validation: int, test: int) -> tuple[Log, Log, Log]:
    """Three logs, each named by its last day: all days up to and including `train`, the days from
    there to `validation`, the days from there to `test`. Each keeps the schema of the whole.
    """
    if not 0 <= train < validation < test:
        raise ValueError(
            f"split_by_day: the last days are train={train}, validation={validation}, "
            f"test={test}; each must come after the one before, from day 0 on."
        )
    parts = log.days(0, train), log.days(train + 1, validation), log.days(validation + 1, test)
    for name, part in zip(("train", "validation", "test"), parts):
        if len(part) == 0:
            last = int(log.day.max()) if len(log) else None
            raise DataError(
                f"split_by_day: no impression in {name}; the last day of this log is {last}."
            )
    return parts
