"""The heart of the page of claims: what the paper reports, and what was found in both settings.

A line a quantity: under row-wise Adagrad on the tables, the default setting, and under Adam on
them, on AdsWorld and on KuaiRand, at the tables' rate that is best for one epoch there. The verdict
is that of the claim's reading in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from multiepoch_lab.files import write_text
from reproduction import judge, records
from reproduction.ch04_sparse_optimizer import rules
from reproduction.dose_response import experiment as dose
from reproduction.dose_response import production
from reproduction.findings import estimate
from reproduction.measure import by_seed
from reproduction.style import signed


@dataclass(frozen=True)
class Setting:
    """A rule of the tables, with its records and the rates that are best for one epoch.

    Attributes:
        rule: Of the tables; the dense layers learn by Adam.
        rows: The dose and response under it.
        best: The tables' rate.
        one_epoch: The record of one epoch under each rule.
    """

    rule: str
    rows: pd.DataFrame
    best: float
    one_epoch: pd.DataFrame

    def at_best(self, values: pd.DataFrame | pd.Series):
        """Returns the values at the best rate."""
        return values.xs(self.best, level="rate")

    def against(self, source: str, ours: str, theirs: str, epoch: float) -> pd.Series:
        """Returns one method's loss against another's in %."""
        return self.at_best(dose.against(self.rows, source, ours, theirs))[epoch]

    def to_one_epoch(self, source: str, method: str) -> pd.Series:
        """Returns a method's loss after three epochs against one plain epoch in %."""
        change = self.at_best(dose.to_one_epoch(self.rows, source))
        return change.xs((method, 3.0), level=["method", "epoch"])


def _own_rate(at: Setting, source: str) -> pd.Series:
    return by_seed(rules.gains(at.one_epoch).xs((source, at.rule), level=["data", "rule"]))


def _rule(at: Setting, source: str) -> pd.Series | None:
    found = rules.against_adam(at.one_epoch).xs(source, level="data")
    return by_seed(found) if at.rule == rules.PRODUCTION else None


def _jump(at: Setting, source: str) -> pd.Series:
    return at.at_best(dose.dose(at.rows, source))


def _apart(at: Setting, source: str) -> pd.Series:
    jumps = at.at_best(dose.jumps(at.rows, source, method="plain")).unstack("objective")
    return jumps[dose.SPARSEST[source]] - jumps["click"]


def _left(start: str) -> Callable[[Setting, str], pd.Series]:
    return lambda at, source: at.at_best(dose.share_left(at.rows, source, start=start))


# Claim, quantity, unit, what the paper is reported to say, and the values by setting and source.
LINES: tuple[tuple[str, str, str, str, Callable[[Setting, str], pd.Series | None]], ...] = (
    ("C2", "one epoch, the tables' own rate against a shared one", "%", "better", _own_rate),
    ("C17", "one epoch, row-wise Adagrad against Adam", "%", "–", _rule),
    ("C3", "plain's jump, ¼ into epoch 2", "%", "+1.19 %", _jump),
    ("C4", "jump of the sparsest objective minus click's", "points", "above 0", _apart),
    ("C6", "part of the jump that FAL leaves", "%", "0.23 of 1.19", _left("fal")),
    ("C6", "the same, from plain's first epoch", "%", "–", _left("plain")),
    ("C7", "FAL against MEDA, end of epoch 2", "%", "below 0",
     lambda at, source: at.against(source, "fal", "meda", 2.0)),
    ("C11", "tail rewind against MEDA, ¼ into epoch 2", "%", "–",
     lambda at, source: at.against(source, "tail_rewind", "meda", 1.25)),
    ("C11", "tail rewind, three epochs against one", "%", "–",
     lambda at, source: at.to_one_epoch(source, "tail_rewind")),
)  # fmt: skip


def settings(results: Path) -> list[Setting]:
    """Returns the default setting, and Adam on the tables."""
    rows = {
        name: records.read(name, "long", results).rows
        for name in (rules.NAME, production.NAME, dose.NAME)
    }
    return [
        Setting(rules.PRODUCTION, rows[production.NAME], production.BEST, rows[rules.NAME]),
        Setting("Adam", rows[dose.NAME], dose.RATES[-1], rows[rules.NAME]),
    ]


def generate(results: Path, generated: Path) -> None:
    """Writes the table."""
    known, evidence = settings(results), records.ledger(results)
    head = ["", "quantity", "reported"]
    head += [f"{source}, {at.rule}" for source in dose.SPARSEST for at in known]
    lines = []
    for id, quantity, unit, reported, values in LINES:
        cells = []
        for source in dose.SPARSEST:
            for at in known:
                found = values(at, source)
                digits = 0 if "part of" in quantity or "the same" in quantity else 1
                cells.append("–" if found is None else _cell(found, unit, digits))
        said = judge.verdict(judge.claim(id), judge.preferred(judge.claim(id), evidence))
        lines.append([f"[{id}](#{id})", quantity, reported, *cells, said])
    table = tabulate(lines, [*head, "verdict"], tablefmt="pipe", disable_numparse=True)
    write_text(generated / "settings.md", f"{table}\n")


def _cell(values: pd.Series, unit: str, digits: int) -> str:
    return signed(estimate(values, unit, digits)).replace(" %", "\u00a0%")
