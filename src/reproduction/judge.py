"""The ledger: a verdict on each claim, as a pure function of its prediction and the evidence.

claims.toml has the claims, each with measures: a number with a threshold, written down before its
run. An experiment hands in evidence, one value per measure, point and seed. A point is a condition
that is judged by itself, such as a learning rate; a claim measured at one point has the point "".
"""

import hashlib
import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import stdtr
from tabulate import tabulate

from multiepoch_lab.stats import interval

Status = Literal["holds", "fails", "open"]
COLUMNS = ["claim", "measure", "point", "seed", "value"]  # of evidence
# The verdict if all measures hold, some do, or all fail. A claim that is decided by Holm's
# correction is judged on our prediction; the sentences beside it say what that means for the claim.
WORDS = {
    "interval": {"holds": "reproduced", "partly": "partly", "fails": "not reproduced"},
    "holm": {"holds": "as predicted", "partly": "partly as predicted", "fails": "not as predicted"},
}
PREFERRED = ("gpu", "long", "cpu")  # the profile with the most data first
OPEN = "*Open* says that the seeds cannot tell."
CORRECTED = """\
A prediction about several points holds at one of them only after Holm's correction for their \
number, so a point can be open though its interval is clear of the limit."""


@dataclass(frozen=True)
class Measure:
    """A number that decides a claim: it holds if it lies beyond the threshold."""

    name: str  # in the evidence rows
    sign: Literal["<", ">"]  # ">" if the claim needs the value above the threshold
    threshold: float
    unit: str  # "%", "points" for a difference of two values in percent, or "" for a ratio
    text: str  # the quantity, in one line


@dataclass(frozen=True)
class Claim:
    """A claim in our words, its prediction and what decides it. claims.toml explains the fields."""

    id: str
    question: str
    title: str
    text: str
    source: Literal["paper", "ours"]
    chapter: str
    prediction: str
    decide: Literal["interval", "holm"]
    records: tuple[str, ...]
    measures: tuple[Measure, ...]
    seeds: tuple[int, ...] = ()
    consequence: str = ""
    holds: Mapping[str, str] = field(default_factory=dict)


def read(text: str) -> tuple[Claim, ...]:
    """Returns the claims of a ledger in TOML."""
    found = []
    for one in tomllib.loads(text)["claim"]:
        tuples = {name: tuple(value) for name, value in one.items() if isinstance(value, list)}
        measures = tuple(Measure(**measure) for measure in one["measures"])
        found.append(Claim(**one | tuples | {"measures": measures}))
    return tuple(found)


LEDGER = Path(__file__).with_name("claims.toml")
CLAIMS = read(LEDGER.read_text(encoding="utf-8"))
QUESTIONS: dict[str, str] = tomllib.loads(LEDGER.read_text(encoding="utf-8"))["questions"]


def fingerprints(text: str) -> dict[str, str]:
    """Returns a hash, by claim of a ledger in TOML, of what is predicted and how it is decided."""
    decides = ("prediction", "decide", "seeds", "measures")
    predictions = {
        one["id"]: json.dumps([one.get(name) for name in decides])
        for one in tomllib.loads(text)["claim"]
    }
    return {id: hashlib.sha256(of.encode()).hexdigest()[:12] for id, of in predictions.items()}


def claim(id: str) -> Claim:
    """Returns the claim of that id.

    Raises:
        KeyError: If there is none. The message lists the ids.
    """
    for one in CLAIMS:
        if one.id == id:
            return one
    raise KeyError(f"no claim {id!r}; there are {', '.join(c.id for c in CLAIMS)}")


def evidence(found: Iterable[tuple[str, str, str, pd.Series]]) -> pd.DataFrame:
    """Returns evidence, columns COLUMNS, from claim, measure, point and values over seeds."""
    rows = [
        (claim, measure, point, int(seed), float(value))
        for claim, measure, point, values in found
        for seed, value in values.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class Evidence:
    """One measure at one point, with its mean and 95 % interval over seeds."""

    measure: Measure
    point: str
    seeds: tuple[int, ...]
    estimate: float
    low: float
    high: float
    p: float  # the p-value that the mean equals the threshold
    adjusted: float  # the same, adjusted as the claim is decided

    @property
    def status(self) -> Status:
        """The side of the threshold; "open" if the p-value is 5 % or more.

        A correction for many points protects what a prediction claims, not its failures: it decides
        "holds" alone. Without one, it is open if and only if the interval contains the threshold.
        """
        above = self.estimate > self.measure.threshold
        side: Status = "holds" if above == (self.measure.sign == ">") else "fails"
        return side if (self.adjusted if side == "holds" else self.p) < 0.05 else "open"

    @property
    def found(self) -> str:
        """The estimate and its interval as tables show them."""
        known = math.isfinite(self.low)
        span = f"[{short(self.low)}, {short(self.high)}]" if known else "(one seed)"
        return " ".join(filter(None, [short(self.estimate), self.measure.unit, span]))


def weigh(claim: Claim, rows: pd.DataFrame) -> list[Evidence]:
    """Returns the evidence of a claim, one entry per measure and point, from one profile's rows.

    Raises:
        ValueError: If a measure is unknown or has two values for a point and seed.
    """
    rows = rows[rows["claim"] == claim.id]
    measures = {measure.name: measure for measure in claim.measures}
    if unknown := set(rows["measure"]) - measures.keys():
        names = ", ".join(sorted(unknown))
        raise ValueError(f"{claim.id} has no measure {names}; it has {', '.join(measures)}.")
    if twice := rows[rows.duplicated(["measure", "point", "seed"])].to_dict("records"):
        raise ValueError(f"{claim.id} {twice[0]['measure']}: more than one value for a seed.")
    groups = list(rows.groupby(["measure", "point"], sort=False))
    alone = [t_test(group["value"], measures[name].threshold) for (name, _), group in groups]
    adjusted = holm(alone) if claim.decide == "holm" else alone
    found = [
        Evidence(
            measures[name],
            point,
            tuple(map(int, group["seed"])),
            *interval(group["value"]),
            *p_values,
        )
        for ((name, point), group), p_values in zip(groups, zip(alone, adjusted))
    ]
    return sorted(found, key=lambda one: list(measures).index(one.measure.name))


def decisive(claim: Claim, ledger: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns the evidence rows of a claim in the profile with the most data that has some."""
    for profile in PREFERRED:
        rows = ledger.get(profile, evidence([]))
        if (mine := rows[rows["claim"] == claim.id]).size:
            return mine
    return evidence([])


def preferred(claim: Claim, ledger: Mapping[str, pd.DataFrame]) -> list[Evidence]:
    """Returns the evidence of a claim by which it is judged: of one profile."""
    return weigh(claim, decisive(claim, ledger))


def status(points: Iterable[Evidence]) -> Status:
    """Returns the status of one measure, or of one point with two limits, over its evidence."""
    statuses = {one.status for one in points}
    if "fails" in statuses:
        return "fails"
    return "holds" if statuses == {"holds"} else "open"


def verdict(claim: Claim, evidence: Sequence[Evidence]) -> str:
    """Returns the verdict that the evidence allows, one of WORDS, "not settled" or "not yet run".

    It is "partly" if some measures hold. If none does, it is "not settled" if one is open. A claim
    that is decided by the interval is at best "partly" if a measure was not run; a prediction with
    Holm's correction is judged by those of its measures that apply at some point.
    """
    if not evidence:
        return "not yet run"
    statuses = [status(points) for points in grouped(evidence, lambda one: one.measure.name)]
    if "holds" in statuses:
        complete = claim.decide == "holm" or len(statuses) == len(claim.measures)
        whole = complete and set(statuses) == {"holds"}
        return WORDS[claim.decide]["holds" if whole else "partly"]
    return "not settled" if "open" in statuses else WORDS[claim.decide]["fails"]


def short(value: float) -> str:
    """Formats a value with three digits at most, two of them decimals, as chapters show it."""
    return f"{value:.3g}" if abs(value) >= 1 else f"{round(value, 2) + 0.0:g}"  # no "-0"


def grouped(evidence: Iterable[Evidence], by: Callable[[Evidence], str]) -> list[list[Evidence]]:
    """Returns the evidence in groups, in the order in which they first occur."""
    groups: dict[str, list[Evidence]] = {}
    for one in evidence:
        groups.setdefault(by(one), []).append(one)
    return list(groups.values())


def by_quantity(evidence: Iterable[Evidence]) -> list[list[Evidence]]:
    """Groups the evidence of a claim by what it measures: a prediction may have two limits."""
    return [list(same) for _, same in groupby(evidence, lambda one: one.measure.text)]


def by_point(evidence: Iterable[Evidence]) -> list[list[Evidence]]:
    """Groups the evidence of one quantity by point: one entry a point, two with two limits."""
    return grouped(evidence, lambda one: one.point)


def predicted(evidence: Iterable[Evidence]) -> str:
    """Returns the prediction about one quantity, such as "< 5 %" or "-1 to 1 %"."""
    first, *others = dict.fromkeys(one.measure for one in evidence)
    if not others:
        return f"{first.sign} {first.threshold:g} {first.unit}".rstrip()
    low, high = sorted([first.threshold, *(other.threshold for other in others)])
    return f"{low:g} to {high:g} {first.unit}".rstrip()


def found(evidence: Sequence[Evidence]) -> tuple[str, str]:
    """Returns what was found of one quantity, and its status or at how many points it has which.

    With one point that is the estimate with its interval, with several the range of estimates.
    """
    statuses = [status(point) for point in by_point(evidence)]
    if len(statuses) == 1:
        return evidence[0].found, statuses[0]
    words = ", ".join(f"{name} at {n} of {len(statuses)}" for name, n in Counter(statuses).items())
    values = sorted({short(one.estimate) for one in evidence}, key=float)
    between = " to ".join(values[:: max(1, len(values) - 1)])
    return f"{between} {evidence[0].measure.unit}".strip(), words


def table(rows: pd.DataFrame, ids: Iterable[str] = ()) -> str:
    """Returns the verdicts that one profile's rows allow, in Markdown: a line for each quantity.

    Of the claims `ids`, or of all that the rows have evidence for. Explains "open" if one is.
    """
    lines, notes = [], []
    for one in map(claim, ids) if ids else CLAIMS:
        evidence = weigh(one, rows)
        first = f"{one.id} · {one.title}: **{verdict(one, evidence)}**"
        for points in by_quantity(evidence):
            value, words = found(points)
            if "open" in words:
                notes += [OPEN, CORRECTED] if one.decide == "holm" else [OPEN]
            text = points[0].measure.text
            lines.append([first, text, predicted(points), f"**{value}**, {words}"])
            first = ""
        if ids and not evidence:
            lines.append([first, "", "", ""])
    head = ["claim", "measure", "predicted", "found"]
    shown = tabulate(lines, head, tablefmt="pipe", disable_numparse=True)
    return "\n\n".join([shown, " ".join(dict.fromkeys(notes))]).rstrip()


def t_test(values: Sequence[float], mean: float) -> float:
    """Returns the two-sided p-value of Student's t-test that the values' mean is `mean`.

    With one value, nothing can be told: the p-value is 1.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return 1.0
    error = x.std(ddof=1) / math.sqrt(len(x))
    distance = abs(x.mean() - mean)
    if error == 0:
        return 1.0 if distance == 0 else 0.0
    return float(2 * stdtr(len(x) - 1, -distance / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979).

    Rejecting those below 5 % errs in any of them with a probability of at most 5 %.
    """
    p = np.asarray(p_values, dtype=float)
    order = p.argsort()
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted.tolist()
