"""Turns the ledger into what readers look at: the page of claims, with its questions.

All are made from the claims and their evidence, so a claim that is added appears by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from reproduction import judge, records
from reproduction.judge import CLAIMS, QUESTIONS, Claim, Evidence

NO_BREAK = "\N{NO-BREAK SPACE}"
NARROW, WIDE = 3, 97  # the ends of a forest plot's axis, in % of its width

Ledger = dict[str, pd.DataFrame]  # the evidence by profile, as from `records.ledger`


def by_question() -> Iterator[tuple[str, list[Claim]]]:
    """Yields each question of the summary with the claims that answer it."""
    for key, question in QUESTIONS.items():
        yield question, [one for one in CLAIMS if one.question == key]


def claims(ledger: Ledger) -> str:
    """Returns the claims in Markdown, by question: each with its prediction and its evidence."""
    blocks = []
    for question, found in by_question():
        blocks += [f"## {question}", *(_claim(one, ledger) for one in found)]
    return "\n\n".join(blocks) + "\n"


def _claim(one: Claim, ledger: Ledger) -> str:
    weighed = {profile: judge.weigh(one, rows) for profile, rows in ledger.items()}
    found = {profile: evidence for profile, evidence in weighed.items() if evidence}
    said = {profile: judge.verdict(one, evidence) for profile, evidence in found.items()}
    words = ", ".join(f"**{word}** ({profile})" for profile, word in said.items())
    disagree = " The profiles disagree." if len(set(said.values())) > 1 else ""
    page = f"[the chapter](../notebooks/{one.chapter}.ipynb)"
    if one.chapter.endswith(".md"):
        page = f"[the page]({one.chapter})"
    whose = f"**{'The paper' if one.source == 'paper' else 'Our own'}:** {one.text}"
    blocks = [
        f"({one.id})=\n### {one.id} · {one.title}",
        whose,
        f"**Predicted before the run:** {one.prediction}",
        f"**Verdict:** {words or 'not yet run'}.{disagree} Evidence: {page}.",
    ]
    if one.consequence and found:
        blocks.append(f"**What follows:** {one.consequence}")
    blocks.append(_forest(judge.preferred(one, ledger)))
    lines = [
        {
            "measure": e.measure.text,
            "point": e.point,
            "predicted": judge.predicted([e]),
            "profile": profile,
            "estimate and 95 % interval": e.found,
            "seeds": len(e.seeds),
            "": e.status,
        }
        for profile, evidence in found.items()
        for e in evidence
    ]
    if lines:
        shown = pd.DataFrame(lines)
        if not shown["point"].any():
            shown = shown.drop(columns="point")
        if len(found) == 1:
            shown = shown.drop(columns="profile")
        table = tabulate(shown, "keys", "pipe", showindex=False, disable_numparse=True)
        blocks.append(f":::{{dropdown}} The numbers at every point\n{table}\n:::")
    return "\n\n".join(filter(None, blocks))


def _forest(evidence: Sequence[Evidence]) -> str:
    """Draws a line for each quantity, above its points against its limits, as a list in MyST."""
    lines = [_quantity(points) for points in judge.by_quantity(evidence)]
    return f":::{{div}} forest\n{''.join(lines)}:::\n" if lines else ""


def _quantity(evidence: Sequence[Evidence]) -> str:
    predicted = judge.predicted(evidence).replace("-", "−").replace(" ", NO_BREAK)
    found = ", ".join(judge.found(evidence)).replace("-", "−").replace(" %", f"{NO_BREAK}%")
    text = evidence[0].measure.text.replace(" %", f"{NO_BREAK}%")
    strip = _strip(evidence)
    return f"- {text} **{predicted}**: {found}\n\n  ```{{raw}} html\n  {strip}\n  ```\n"


def _strip(evidence: Sequence[Evidence]) -> str:
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

    points = judge.by_point(evidence)
    gap = 7 if len(points) <= 12 else 4
    height = gap * (len(points) - 1) + 14
    parts = []
    for limit in limits:
        x = place(limit.threshold)
        parts.append(f'<line class="forest-threshold" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    for k, point in enumerate(points):
        y, e, status = gap * k + 7, point[0], judge.status(point)
        about = f"{e.point}{': ' if e.point else ''}{e.found}, {status}"
        line = ""
        if math.isfinite(e.low):
            line = f'<line x1="{place(e.low)}" x2="{place(e.high)}" y1="{y}" y2="{y}"/>'
        disc = f'cx="{place(e.estimate)}" cy="{y}" r="{gap / 2:g}"'
        dot = f'<circle class="forest-{status}" {disc}/>'
        parts.append(f"<g><title>{escape(about)}</title>{line}{dot}</g>")
    return f'<svg height="{height}" aria-hidden="true">{"".join(parts)}</svg>'


def generate(results: Path, generated: Path) -> None:
    """Writes the claims."""
    (generated / "claims.md").write_text(claims(records.ledger(results)))
