"""Turns the ledger into what readers look at: the summary's forest plots, and questions to guess.

Both are made from the claims and their evidence, so a claim that is added appears by itself.
so_what.toml says what follows from each.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from reproduction import claims, second_round
from reproduction.claims import Evidence, short
from reproduction.second_round import PointEvidence

# The summary shows the profile with the most data, then the one with the most seeds.
PREFERRED = ("gpu", "long", "cpu", "replication")
GUESSES = "claims_data.js"
NO_BREAK = "\N{NO-BREAK SPACE}"
NARROW, WIDE = 3, 97  # the ends of a forest plot's axis, in % of its width


@dataclass(frozen=True)
class Entry:
    """A claim of the book with the evidence of both rounds; either may be empty."""

    id: str
    title: str
    ours: bool
    first: list[Evidence]
    second: list[PointEvidence]

    @property
    def anchor(self) -> str:
        """The label of its newest round on the page of claims."""
        return f"{self.id}-second" if self.second or not self.first else self.id

    @property
    def verdict(self) -> str:
        """The verdict of each round in words, the newest first."""
        now = second_round.verdict(self.second)
        if not self.first:
            return now
        before = claims.verdict(claims.claim(self.id), self.first)
        return f"{now}; first round: {before}" if self.second else f"{before} (first round)"


def entries(evidence: dict[str, pd.DataFrame], points: pd.DataFrame) -> list[Entry]:
    """Returns every claim, in the order of their numbers."""
    again = {one.id: one for one in second_round.PREDICTIONS}
    known = {one.id: one for one in claims.CLAIMS}
    found = []
    for id in sorted(known | again, key=lambda id: int(id[1:])):
        first = preferred(known[id], evidence) if id in known else []
        title = known[id].title if id in known else again[id].title
        ours = id not in known or known[id].ours
        second = second_round.weigh(again[id], points) if id in again else []
        found.append(Entry(id, title, ours, first, second))
    return found


def preferred(one: claims.Claim, evidence: dict[str, pd.DataFrame]) -> list[Evidence]:
    """Returns the evidence of a claim that the summary shows: of one profile."""
    for profile in (name for name in PREFERRED if name in evidence):
        if found := claims.weigh(one, evidence[profile]):
            return found
    return []


def so_what() -> dict[str, dict]:
    """Returns what follows from each claim: `text`, and `relies_on`, a measure and its status."""
    path = Path(__file__).with_name("so_what.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def summary(found: Sequence[Entry], follows: dict[str, dict]) -> str:
    """Returns the summary in MyST: for each claim its verdict, what follows, and a forest plot."""
    blocks = []
    for one in found:
        whose = " (our own)" if one.ours else ""
        text = follows.get(one.id, {}).get("text", "")
        blocks.append(
            f"::::{{div}} verdict\n:::{{div}} verdict-words\n"
            f"**[{one.id}](#{one.anchor}) {one.title}**{whose}\n\n"
            f"**{one.verdict[0].upper()}{one.verdict[1:]}.** {text}\n:::\n"
            f"{_forest(one)}::::\n"
        )
    return "\n".join(blocks)


def _forest(one: Entry) -> str:
    """Draws a line for each quantity, above its points against its limits, as a list in MyST."""
    lines = [_quantity(points, "second") for points in second_round.by_quantity(one.second)]
    lines += [_quantity([e], "first") for e in one.first]
    if not lines:
        return ""
    return f":::{{div}} forest\n{''.join(lines)}:::\n"


def _quantity(evidence: Sequence[Evidence | PointEvidence], shade: str) -> str:
    if isinstance(evidence[0], PointEvidence):
        predicted = second_round.predicted(evidence)
        said = ", ".join(second_round.range_and_statuses(evidence))
    else:
        predicted = evidence[0].measure.predicted
        said = f"{evidence[0].found}, {evidence[0].status}"
    predicted = predicted.replace("-", "−").replace(" ", NO_BREAK)
    found = said.replace("-", "−").replace(" %", f"{NO_BREAK}%")
    text = evidence[0].measure.text.replace(" %", f"{NO_BREAK}%")
    strip = _strip(evidence, shade)
    return f"- {text} **{predicted}**: {found}\n\n  ```{{raw}} html\n  {strip}\n  ```\n"


def _strip(evidence: Sequence[Evidence | PointEvidence], shade: str) -> str:
    """Draws a dot with its interval for each point.

    It is as predicted right of the limit, or between the two limits.
    """
    limits = list(dict.fromkeys(e.measure for e in evidence))
    middle = sum(limit.threshold for limit in limits) / len(limits)
    side = -1 if [limit.sign for limit in limits] == ["<"] else 1

    def far(value: float) -> float:
        return side * (value - middle)

    finite = [x for e in evidence for x in (e.estimate, e.low, e.high) if math.isfinite(x)]
    largest = max(abs(far(x)) for x in (*finite, *(limit.threshold for limit in limits))) or 1.0
    half = (WIDE - NARROW) / 2

    def place(value: float) -> str:
        return f"{50 + half * far(value) / largest:.1f}%"

    points = [[evidence[0]]] if len(evidence) == 1 else second_round.by_point(evidence)
    gap = 7 if len(points) <= 12 else 4
    height = gap * (len(points) - 1) + 14
    parts = []
    for limit in limits:
        x = place(limit.threshold)
        parts.append(f'<line class="forest-threshold" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    for k, point in enumerate(points):
        y, e, status = gap * k + 7, point[0], second_round.status(point)
        where = f"{e.point}: " if isinstance(e, PointEvidence) else ""
        found = f"{short(e.estimate)} {e.measure.unit} [{short(e.low)}, {short(e.high)}]"
        about = f"{where}{found}, {status}"
        line = ""
        if math.isfinite(e.low):
            line = f'<line x1="{place(e.low)}" x2="{place(e.high)}" y1="{y}" y2="{y}"/>'
        disc = f'cx="{place(e.estimate)}" cy="{y}" r="{gap / 2:g}"'
        dot = f'<circle class="forest-{status}" {disc}/>'
        parts.append(f"<g><title>{escape(about)}</title>{line}{dot}</g>")
    about = f'class="forest-{shade}" height="{height}" aria-hidden="true"'
    return f"<svg {about}>{''.join(parts)}</svg>"


def questions(found: Sequence[Entry]) -> Iterator[dict]:
    """Yields a question for each round of a claim, about the first point of its first measure.

    The slider's range is symmetric about the threshold, so that it does not give the answer away.
    """
    for one in found:
        for anchor, evidence in ((f"{one.id}-second", one.second), (one.id, one.first)):
            if not evidence:
                continue
            e = evidence[0]
            point = f", {e.point}" if isinstance(e, PointEvidence) else ""
            ends = [x for x in (e.estimate, e.low, e.high) if math.isfinite(x)]
            reach = _round_up(1.3 * max(abs(x - e.measure.threshold) for x in ends) or 1.0)
            yield {
                "section": anchor.lower(),  # as docutils spells it
                "asks": e.measure.text + point,
                "unit": e.measure.unit,
                "predicted": e.measure.predicted,
                "found": [e.estimate, *(x if math.isfinite(x) else None for x in (e.low, e.high))],
                "range": [e.measure.threshold - reach, e.measure.threshold + reach],
                "step": reach / 20,
            }


def _round_up(value: float) -> float:
    """Returns the next of 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= value)


def generate(
    evidence: dict[str, pd.DataFrame], points: pd.DataFrame, generated: Path, static: Path
) -> None:
    """Writes summary.md, and the questions of the page of claims."""
    found = entries(evidence, points)
    (generated / "summary.md").write_text(summary(found, so_what()))
    text = json.dumps(list(questions(found)), allow_nan=False)
    (static / GUESSES).write_text(f"window.MULTIEPOCH_CLAIMS = {text};\n")
