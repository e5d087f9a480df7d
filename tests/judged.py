"""The verdicts that made-up evidence gets, for tests of several experiments."""

import pandas as pd

from reproduction import judge


def verdicts(evidence: pd.DataFrame, *ids: str) -> dict[str, str]:
    """Returns the verdict on each claim."""
    claims = map(judge.claim, ids)
    return {one.id: judge.verdict(one, judge.weigh(one, evidence)) for one in claims}
