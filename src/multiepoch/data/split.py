"""Splits by time, so that no model is fitted on impressions later than those it is judged on."""

from multiepoch.data.log import DataError, Log


def split_by_day(log: Log, train: int, validation: int, test: int) -> tuple[Log, Log, Log]:
    """Splits a log into three consecutive parts, each given by its last day, from day 0 on.

    Raises:
        ValueError: If the days are not in ascending order.
        DataError: If a part has no impression.
    """
    if not 0 <= train < validation < test:
        raise ValueError(
            f"split_by_day: the last days are train={train}, validation={validation}, "
            f"test={test}; they must be in ascending order, from day 0 on."
        )
    parts = log.days(0, train), log.days(train + 1, validation), log.days(validation + 1, test)
    for k, part in zip(("train", "validation", "test"), parts):
        if len(part) == 0:
            last = int(log.day.max()) if len(log) else None
            raise DataError(
                f"split_by_day: no impression in {k}; the last day of this log is {last}."
            )
    return parts
