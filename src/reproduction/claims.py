"""The ledger: a verdict on each claim, as a pure function of its prediction and the evidence.

A claim has one or more measures, each a number with a threshold, written down in claims.toml
before its run. A chapter's experiment hands in evidence: one value per measure and seed. The
interval over seeds then lies on the predicted side of the threshold, on the other side, or across.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from tabulate import tabulate

from multiepoch.stats import interval
from reproduction.records import Record

Verdict = Literal["reproduced", "partly", "not reproduced", "not settled", "not yet run"]


@dataclass(frozen=True)
class Measure:
    """A number that decides a claim: it holds if the whole interval lies beyond the threshold."""

    name: str  # in the evidence rows
    sign: Literal["<", ">"]  # ">" if the claim needs the value above the threshold
    threshold: float
    unit: str  # "%", "points" for a difference of two values in percent, or "" for a ratio
    text: str  # the quantity, in one line

    @property
    def predicted(self) -> str:
        """The prediction as tables show it, such as "< 5 %"."""
        return f"{self.sign} {self.threshold:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Claim:
    """A claim in our words, its prediction and what decides it. claims.toml explains the fields."""

    id: str
    title: str
    text: str
    prediction: str
    measures: tuple[Measure, ...]
    chapter: str
    ours: bool = False


_WRITTEN = tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(**one | {"measures": tuple(Measure(**measure) for measure in one["measures"])})
    for one in _WRITTEN["claim"]
)


def claim(id: str) -> Claim:
    """Returns the claim of that id.

    Raises:
        KeyError: If there is none. The message lists the ids.
    """
    for one in CLAIMS:
        if one.id == id:
            return one
    raise KeyError(f"no claim {id!r}; there are {', '.join(c.id for c in CLAIMS)}")


def short(value: float) -> str:
    """Formats a value with three digits at most, two of them decimals, as chapters show it."""
    return f"{value:.3g}" if abs(value) >= 1 else f"{round(value, 2) + 0.0:g}"  # no "-0"


@dataclass(frozen=True)
class Evidence:
    """One measure with its mean and interval over seeds."""

    measure: Measure
    seeds: tuple[int, ...]
    estimate: float
    low: float
    high: float

    @property
    def status(self) -> Literal["holds", "fails", "open"]:
        """The side of the threshold that the interval lies on; "open" if it lies across."""
        above, below = self.low > self.measure.threshold, self.high < self.measure.threshold
        holds, fails = (above, below) if self.measure.sign == ">" else (below, above)
        return "holds" if holds else "fails" if fails else "open"

    @property
    def found(self) -> str:
        """The estimate and its interval as tables show them."""
        known = math.isfinite(self.low)
        span = f"[{short(self.low)}, {short(self.high)}]" if known else "(one seed)"
        return " ".join(filter(None, [short(self.estimate), self.measure.unit, span]))


def weigh(claim: Claim, rows: pd.DataFrame) -> list[Evidence]:
    """Returns the evidence of a claim, one entry per measure that was run, from one profile's rows.

    Raises:
        ValueError: If a measure is unknown or has two values for a seed.
    """
    rows = rows[rows["claim"] == claim.id]
    unknown = set(rows["measure"]) - {m.name for m in claim.measures}
    if unknown:
        raise ValueError(
            f"{claim.id} has no measure {', '.join(sorted(unknown))}; "
            f"it has {', '.join(m.name for m in claim.measures)}."
        )
    found = []
    for measure in claim.measures:
        mine = rows[rows["measure"] == measure.name]
        if mine["seed"].duplicated().any():
            raise ValueError(f"{claim.id} {measure.name}: more than one value for a seed.")
        if len(mine):
            seeds = tuple(int(seed) for seed in mine["seed"])
            found.append(Evidence(measure, seeds, *interval(mine["value"])))
    return found


def verdict(claim: Claim, evidence: Sequence[Evidence]) -> Verdict:
    """Returns the verdict that the evidence allows.

    "reproduced" if every measure holds and "partly" if some do. If none holds, "not reproduced"
    if all of them fail and "not settled" if an interval lies across its threshold. A claim with a
    measure that was not run is at best "partly"; with none, it is "not yet run".
    """
    if not evidence:
        return "not yet run"
    statuses = [e.status for e in evidence]
    if "holds" in statuses:
        complete = len(evidence) == len(claim.measures)
        return "reproduced" if complete and set(statuses) == {"holds"} else "partly"
    return "not settled" if "open" in statuses else "not reproduced"


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per claim and measure that one profile's rows have evidence for."""
    lines = []
    for one in CLAIMS:
        evidence = weigh(one, rows)
        for e in evidence:
            line = {"claim": one.id, "measure": e.measure.name, "what": e.measure.text}
            line |= {"predicted": e.measure.predicted, "found": e.found, "seeds": len(e.seeds)}
            lines.append(line | {"status": e.status, "verdict": verdict(one, evidence)})
    return pd.DataFrame(lines)


def verdicts(
    ids: Sequence[str], here: pd.DataFrame, profile: str, records: Mapping[str, Record | None]
) -> str:
    """Returns a Markdown table of the verdict on each claim: of the live run, `here`, and recorded.

    A record is None if there is none.
    """
    runs = {f"this run ({profile})": here}
    runs |= {f"record `{name}`": one and one.evidence for name, one in records.items()}

    def said(one: Claim, rows: pd.DataFrame | None) -> str:
        return "no record" if rows is None else verdict(one, weigh(one, rows))

    lines = [
        [f"{one.id} · {one.title}", *(said(one, rows) for rows in runs.values())]
        for one in map(claim, ids)
    ]
    origins = [f"- `{name}`: {one or 'no record found'}" for name, one in records.items()]
    return "\n".join([tabulate(lines, ["claim", *runs], tablefmt="pipe"), "", *origins])


def table(records: Mapping[str, pd.DataFrame], chapters: str = "../notebooks/") -> str:
    """Returns the ledger in Markdown: each claim, its prediction, its evidence in each profile.

    The folder of the chapters is as seen from the page.
    """
    blocks = []
    for one in CLAIMS:
        found = {profile: weigh(one, rows) for profile, rows in records.items()}
        run = {profile: evidence for profile, evidence in found.items() if evidence}
        said = {profile: verdict(one, evidence) for profile, evidence in run.items()}
        words = ", ".join(f"**{word}** ({profile})" for profile, word in said.items())
        disagree = " The profiles disagree." if len(set(said.values())) > 1 else ""
        whose = "Ours, not the paper's" if one.ours else "The paper"
        page = f"[the chapter]({chapters}{one.chapter}.ipynb)"
        if one.chapter.endswith(".md"):
            page = f"[the page]({one.chapter})"
        blocks += [
            f"({one.id})=\n### {one.id} · {one.title}",
            f"**{whose}:** {one.text}",
            f"**Predicted before the run:** {one.prediction}",
            f"**Verdict:** {words or 'not yet run'}.{disagree} Evidence: {page}.",
        ]
        lines = [
            [e.measure.text, e.measure.predicted, profile, e.found, len(e.seeds), e.status]
            for profile, evidence in run.items()
            for e in evidence
        ]
        head = ["measure", "predicted", "profile", "estimate and 95 % interval", "seeds", ""]
        if lines:
            blocks.append(tabulate(lines, head, tablefmt="pipe", disable_numparse=True))
    return "\n\n".join(blocks) + "\n"
