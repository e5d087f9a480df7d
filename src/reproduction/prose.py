"""Sentences that are chosen by the evidence, so that no page says what its run does not.

Numbers come with their 95 % interval over seeds; verdicts are those of `claims`.
"""

from __future__ import annotations

import math

import pandas as pd

from reproduction import claims
from reproduction.claims import Evidence, interval
from reproduction.records import folder


def display(text: str) -> None:
    """Shows Markdown in a notebook."""
    from IPython.display import Markdown
    from IPython.display import display as show

    show(Markdown(text))


def estimate(values, unit: str = "", digits: int = 2) -> str:
    """Mean and interval over seeds in words, such as "1.23 % [1.05, 1.41]"."""
    mean, low, high = interval(list(values))
    space = " " if unit else ""
    known = f" [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) else " (one seed)"
    return f"{mean:.{digits}f}{space}{unit}{known}"


def cell(values, unit: str = "", digits: int = 2) -> str:
    """The same in a table, where each cell saying that there is one seed would drown the rest."""
    return estimate(values, unit, digits).replace(" (one seed)", "")


def weighed(evidence: pd.DataFrame, claim: str, measure: str) -> Evidence:
    """One measure of a claim with its interval. KeyError where it was not run."""
    for one in claims.weigh(claims.claim(claim), evidence):
        if one.measure.name == measure:
            return one
    raise KeyError(f"the evidence has no measure {measure!r} of {claim}.")


def finding(evidence: pd.DataFrame, claim: str, measure: str, holds: str, fails: str) -> str:
    """The measure's number, then `holds` or `fails`, or that these seeds do not settle it."""
    one = weighed(evidence, claim, measure)
    values = evidence[(evidence["claim"] == claim) & (evidence["measure"] == measure)]["value"]
    what = f"{one.measure.text}: **{estimate(values, one.measure.unit)}**"
    predicted = (
        f"predicted {one.measure.sign} {one.measure.threshold:g} {one.measure.unit}".rstrip()
    )
    if len(one.seeds) < 2:
        said = "One seed gives no interval, so this run does not settle it."
    elif one.status == "open":
        said = "The interval lies across the bar: these seeds do not settle it."
    else:
        said = holds if one.status == "holds" else fails
    return f"{what[0].upper()}{what[1:]}, {predicted}. {said}"


def verdicts(ids: list[str], here: pd.DataFrame, profile: str, records: dict) -> str:
    """A table of the claims' verdicts in this run and in each record, and whether they agree.

    records: a `records.Record`, or None where there is none, by profile.
    """
    head = [f"this run ({profile})", *(f"record `{name}`" for name in records)]
    lines = [f"| claim | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    disagree = []
    for id in ids:
        one = claims.claim(id)
        found = [claims.verdict(one, claims.weigh(one, here))]
        found += [claims.verdict(one, claims.weigh(one, r.evidence)) if r else "no record"
                  for r in records.values()]  # fmt: skip
        lines.append(f"| {id} · {one.title} | {' | '.join(found)} |")
        if len(set(found) - {"no record", "not yet run"}) > 1:
            disagree.append(id)
    lines += [""]
    if disagree:
        lines.append(f"For {', '.join(disagree)} the verdicts differ. A run with fewer seeds or a "
                     "smaller world may leave open what a larger one settles; near a bar, rounding "
                     "on another machine can be enough. The summary goes by the record of the "
                     "largest world, then of the most seeds.")  # fmt: skip
    lines += ["", *(f"- `{name}`: {about(name, r)}." for name, r in records.items())]
    return "\n".join(lines)


def about(profile: str, record) -> str:
    """Where a record comes from, in words; also where there is none."""
    if record is not None:
        return str(record)
    if profile == "gpu" and folder().is_dir():
        return "not yet run on a GPU"
    return "the record is not at hand"


def lower(ours: str, theirs: str, difference) -> str:
    """Which of two methods has the lower logloss, if that can be told.

    difference: ours against theirs in %, one value a seed.
    """
    mean, low, high = interval(list(difference))
    if max(map(abs, difference)) < 0.005:
        return f"{ours} and {theirs} have the same logloss"
    if low <= 0 <= high and math.isfinite(low):
        return f"{ours} and {theirs} cannot be told apart: {estimate(difference, '%')}"
    side = "lower" if mean < 0 else "higher"
    known = f" [{low:+.2f}, {high:+.2f}]" if math.isfinite(low) else " (one seed)"
    return f"{ours} has a {side} logloss than {theirs}: {mean:+.2f} %{known}"


def table(frame: pd.DataFrame, first: str = "") -> str:
    """A Markdown table of a frame of strings, its index the first column, headed `first`."""
    head = [first, *map(str, frame.columns)]
    lines = [head, ["---"] * len(head)]
    lines += [[str(name), *map(str, row)] for name, row in zip(frame.index, frame.to_numpy())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
