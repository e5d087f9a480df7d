"""The second round of the ledger: claims judged along a curve, at every point by itself."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from tabulate import tabulate

from multiepoch.stats import holm, interval, t_test
from reproduction.claims import Measure, claim, short
from reproduction.records import Record

Status = Literal["holds", "fails", "open"]
# On our prediction. Whether the paper's claim holds is for the sentences beside it to say.
Verdict = Literal[
    "as predicted", "partly as predicted", "not as predicted", "not settled", "not yet run"
]


@dataclass(frozen=True)
class Prediction:
    """What the second round predicts about a claim. second_round.toml holds them."""

    id: str
    prediction: str
    measures: tuple[Measure, ...]
    title: str = ""  # of a claim that is new in this round


def read(path: Path) -> tuple[Prediction, ...]:
    """Returns the predictions in a TOML file."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))["claim"]
    return tuple(
        Prediction(**one | {"measures": tuple(Measure(**m) for m in one["measures"])})
        for one in found
    )


PREDICTIONS = read(Path(__file__).with_name("second_round.toml"))


@dataclass(frozen=True)
class PointEvidence:
    """One measure at one point, with its mean, interval and p-value over seeds.

    Attributes:
        p: The p-value that the mean equals the threshold, adjusted for the points of the claim.
    """

    measure: Measure
    point: str
    seeds: tuple[int, ...]
    estimate: float
    low: float
    high: float
    p: float

    @property
    def status(self) -> Status:
        """The side of the threshold; "open" if the adjusted p-value is 5 % or more."""
        if self.p >= 0.05:
            return "open"
        above = self.estimate > self.measure.threshold
        return "holds" if above == (self.measure.sign == ">") else "fails"


def weigh(prediction: Prediction, rows: pd.DataFrame) -> list[PointEvidence]:
    """Returns the evidence of a claim, one entry per measure and point.

    Args:
        prediction: The prediction.
        rows: Columns claim, measure, point, seed, value.
    """
    rows = rows[rows["claim"] == prediction.id]
    measures = {measure.name: measure for measure in prediction.measures}
    groups = list(rows.groupby(["measure", "point"], sort=False))
    adjusted = holm([t_test(g["value"], measures[name].threshold) for (name, _), g in groups])
    found = [
        PointEvidence(
            measures[name], point, tuple(group["seed"]), *interval(group["value"]), float(p)
        )
        for ((name, point), group), p in zip(groups, adjusted)
    ]
    order = list(measures)
    return sorted(found, key=lambda one: order.index(one.measure.name))


def status(evidence: Sequence[PointEvidence]) -> Status:
    """Returns the status of one measure over its points."""
    statuses = {one.status for one in evidence}
    if "fails" in statuses:
        return "fails"
    return "holds" if statuses == {"holds"} else "open"


def verdict(evidence: Sequence[PointEvidence]) -> Verdict:
    """Judges a prediction by those of its measures that apply at some point."""
    if not evidence:
        return "not yet run"
    by_measure: dict[str, list[PointEvidence]] = {}
    for one in evidence:
        by_measure.setdefault(one.measure.name, []).append(one)
    statuses = {status(points) for points in by_measure.values()}
    if statuses == {"holds"}:
        return "as predicted"
    if "holds" in statuses:
        return "partly as predicted"
    return "not settled" if "open" in statuses else "not as predicted"


def by_quantity(evidence: Sequence[PointEvidence]) -> list[list[PointEvidence]]:
    """Groups the evidence of a claim by what it measures: a prediction may have two limits."""
    groups: dict[str, list[PointEvidence]] = {}
    for one in evidence:
        groups.setdefault(one.measure.text, []).append(one)
    return list(groups.values())


def by_point(evidence: Sequence[PointEvidence]) -> list[list[PointEvidence]]:
    """Groups the evidence of one quantity by point: one entry a point, two with two limits."""
    groups: dict[str, list[PointEvidence]] = {}
    for one in evidence:
        groups.setdefault(one.point, []).append(one)
    return list(groups.values())


def predicted(evidence: Sequence[PointEvidence]) -> str:
    """Returns the prediction about one quantity, such as "< 5 %" or "-1 to 1 %"."""
    first, *others = dict.fromkeys(one.measure for one in evidence)
    if not others:
        return first.predicted
    low, high = sorted([first.threshold, *(other.threshold for other in others)])
    return f"{low:g} to {high:g} {first.unit}".rstrip()


def range_and_statuses(evidence: Sequence[PointEvidence]) -> tuple[str, str]:
    """Returns what was found of one quantity and at how many points it holds, in words.

    With one point that is the estimate with its interval, with several the range of estimates.
    """
    statuses = [status(point) for point in by_point(evidence)]
    if len(statuses) == 1:
        return _estimate(evidence[0]), statuses[0]
    words = ", ".join(f"{name} at {n} of {len(statuses)}" for name, n in Counter(statuses).items())
    values = sorted({short(one.estimate) for one in evidence}, key=float)
    found = " to ".join(values[:: max(1, len(values) - 1)])
    return f"{found} {evidence[0].measure.unit}".strip(), words


def verdicts(
    ids: Sequence[str],
    *records: Record | None,
    predictions: Sequence[Prediction] = PREDICTIONS,
) -> str:
    """Returns a Markdown table of the second round's verdicts, with a row for each quantity."""
    found = [record.evidence for record in records if record is not None]
    if not found:
        return "Second round: no record found."
    rows, lines = pd.concat(found, ignore_index=True), []
    for one in (one for one in predictions if one.id in ids):
        evidence = weigh(one, rows)
        title = one.title or claim(one.id).title
        first = f"{one.id} · {title}: **{verdict(evidence)}**"
        for points in by_quantity(evidence):
            found, words = range_and_statuses(points)
            text = points[0].measure.text
            lines.append([first, text, predicted(points), f"**{found}**, {words}"])
            first = ""
        if not evidence:
            lines.append([first, "", "", ""])
    head = ["claim, second round", "measure", "predicted", "found"]
    return tabulate(lines, head, tablefmt="pipe", disable_numparse=True)


def table(rows: pd.DataFrame, profile: str) -> str:
    """Returns the second round in Markdown: each prediction, its verdict and its evidence."""
    blocks = []
    for one in PREDICTIONS:
        evidence = weigh(one, rows)
        blocks += [
            f"({one.id}-second)=\n### {one.id} · {one.title or claim(one.id).title}",
            f"**Predicted before the run:** {one.prediction}",
            f"**Verdict:** **{verdict(evidence)}** ({profile}).",
        ]
        lines = [
            [e.measure.text, e.point, e.measure.predicted, _estimate(e), len(e.seeds), e.status]
            for e in evidence
        ]
        head = ["measure", "point", "predicted", "estimate and 95 % interval", "seeds", ""]
        if lines:
            blocks.append(tabulate(lines, head, tablefmt="pipe", disable_numparse=True))
    return "\n\n".join(blocks) + "\n"


def _estimate(evidence: PointEvidence) -> str:
    e = evidence
    found = f"{short(e.estimate)} {e.measure.unit}".strip()
    return f"{found} [{short(e.low)}, {short(e.high)}]"
