"""The short versions: three sentences for the front page, and all claims in one table.

Both are computed from the records, so they say whatever those say. What a finding means for the
reader is written here for each way in which it can turn out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from multiepoch.methods import ALL_METHODS
from reproduction import claims, prose, records
from reproduction.ch07_fal_versus_meda.interactive_figure_runs import ONE_EPOCH, TUNED
from reproduction.ch08_continual_training import experiment as continual
from reproduction.claims import Claim, Evidence, interval
from reproduction.measure import at, by_seed, jump, percent_change, pick

# Of several profiles the one with the most data, then the one with the most seeds, speaks.
PREFERRED = ("gpu", "long", "cpu", "replication")
NBSP = "\u00a0"  # in a narrow cell neither a number and its unit nor an interval breaks
OPEN = "These seeds do not settle it: decide as if nothing had been found."
# By claim, what to do: the measure that it hangs on, where that holds, where it fails.
SO_WHAT: dict[str, tuple[str, str, str]] = {
    "C1": ("touched", "An optimizer that visits touched rows alone does far less work.",
           "Sparse steps save little: much of the tables is touched."),
    "C2": ("one_epoch", "Give the tables a rate of their own, and tune it.",
           "Tune the one shared rate first: a second one gains nothing over it."),
    "C3": ("jump_click", "Do not repeat an epoch without a remedy, and look inside the epoch.",
           "A quarter into it, click has not suffered: look on from there."),
    "C4": ("cart_over_click", "Watch the sparser objectives first, and click after them.",
           "Watch every objective: the sparser label does not suffer more."),
    "C5": ("tail_frozen", "Keep the infrequent rows from learning, and most of the jump is gone.",
           "Keeping infrequent rows from learning in the second epoch is not enough: it is the leak "
           "that counts, and that the dense layers trust it."),
    "C6": ("jump_left", "FAL alone takes most of the jump away.",
           "Do not repeat an epoch on the strength of FAL alone."),
    "C7": ("tuned", "For epochs over a fixed window, FAL of the two.",
           "For epochs over a fixed window, MEDA of the two; tune both."),
    "C8": ("fal_slope", "Judge a remedy by late days: over all days its gain over plain repeats "
           "shrinks. How much of that is the first two days is in chapter 8.",
           "Over the days tried here the gain over plain repeated epochs does not fade."),
    "C9": ("time", "Cost is no reason against FAL.", "Count the time of FAL's step in."),
    "C10": ("jump", "The jump is no artefact of a synthetic world: test your own logs.",
            "Test your own logs: the jump is no law."),
    "C11": ("days_meda", "Where new data comes every day, try tail rewind first, and MEDA, "
            "restored, beside it.",
            "Where new data comes every day, try MEDA before tail rewind."),
}  # fmt: skip


def summary(ledger: dict[str, pd.DataFrame]) -> str:
    """book/_generated/summary.md. ledger: evidence by profile, as `records.ledger` gives it."""
    lines = [
        "| claim | predicted | found | verdict | so what |",
        "|---|---|---|---|---|",
    ]
    said, against, disagree = Counter(), [], []
    for one in claims.CLAIMS:
        found = {name: claims.weigh(one, rows) for name, rows in ledger.items()}
        found = {name: evidence for name, evidence in found.items() if evidence}
        verdicts = {name: claims.verdict(one, evidence) for name, evidence in found.items()}
        speaks = next((name for name in PREFERRED if name in found), None)
        evidence = found.get(speaks, [])
        said[verdicts.get(speaks, "not yet run")] += 1
        if any(e.status == "fails" for e in evidence):
            against.append(f"[{one.id}](#{one.id})")
        if len(set(verdicts.values())) > 1:
            disagree.append(f"[{one.id}](#{one.id})")
        cells = [
            f"[{one.id}](#{one.id}) {one.title}{' (our own)' if one.ours else ''}",
            _lines(f"{m.text} {m.sign}{NBSP}{m.threshold:g}{_unit(m)}" for m in one.measures),
            _found(one, evidence, speaks),
            _verdicts(verdicts),
            _so_what(one, evidence),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in said.most_common())
    text = f"Of {len(claims.CLAIMS)} claims, judged by the profile named under *found*: {counts}."
    if against:
        text += f" At least one number lies on the wrong side of its bar in {', '.join(against)}."
    if disagree:
        text += f" Another profile has another verdict on {', '.join(disagree)}."
    return "\n".join([text, "", *lines]) + "\n"


def _lines(parts) -> str:
    """Parts of a cell below each other, lettered so that two cells can be read side by side."""
    parts = list(parts)
    letters = [""] if len(parts) == 1 else [f"{chr(97 + k)}) " for k in range(len(parts))]
    return "<br>".join(letter + part for letter, part in zip(letters, parts))


def _unit(measure: claims.Measure) -> str:
    return f"{NBSP}{measure.unit}" if measure.unit else ""


def _found(one: Claim, evidence: list[Evidence], profile: str | None) -> str:
    if not evidence:
        return "not yet run"
    by_name = {e.measure.name: e for e in evidence}

    def words(measure: claims.Measure) -> str:
        e = by_name.get(measure.name)
        if e is None:
            return "not yet run"
        known = f" [{e.low:.3g},{NBSP}{e.high:.3g}]" if len(e.seeds) > 1 else " (one seed)"
        return f"**{e.estimate:.3g}{_unit(measure)}**{known}, {e.status}"

    return f"{_lines(words(m) for m in one.measures)}<br>({profile})"


def _verdicts(verdicts: dict[str, claims.Verdict]) -> str:
    if not verdicts:
        return "not yet run"
    by_verdict: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        by_verdict.setdefault(verdict, []).append(name)
    words = [f"{verdict} ({', '.join(names)})" for verdict, names in by_verdict.items()]
    return "<br>".join([*words, "The profiles disagree."] if len(words) > 1 else words)


def _so_what(one: Claim, evidence: list[Evidence]) -> str:
    name, holds, fails = SO_WHAT[one.id]
    status = {e.measure.name: e.status for e in evidence}.get(name)
    return {"holds": holds, "fails": fails, "open": OPEN, None: "–"}[status]


def front(results: Path) -> str:
    """book/_generated/front.md: what the book found, in three sentences."""
    record = records.read("interactive_figure", "long", results)
    if record is None:
        return ""
    sentences = [_hurts(record.rows), _remedies(record.rows), _day_by_day(results)]
    return "\n".join(f"1. {sentence}" for sentence in sentences) + "\n"


def _hurts(rows: pd.DataFrame) -> str:
    jumps = jump(pick(rows, "plain", ONE_EPOCH)).groupby("objective", sort=False)
    found = {name.replace("_", "-"): values for name, values in jumps}
    numbers = ", ".join(f"{prose.estimate(v, '%', 1)} for {name}" for name, v in found.items())
    rises = all(interval(values)[1] > 0 for values in found.values())
    verb = "hurts at once" if rises else "may hurt"
    return (
        f"**A second epoch over the same data {verb}.** A quarter into it, the test loss has "
        f"changed by {numbers}: plain training, at the rates that are best for one epoch."
    )


def _remedies(rows: pd.DataFrame) -> str:
    before = by_seed(jump(pick(rows, "plain", ONE_EPOCH)))
    left = {name: 100 * by_seed(jump(pick(rows, name, ONE_EPOCH))) / before
            for name in ("fal", "meda", "tail_rewind")}  # fmt: skip
    one_epoch = at(pick(rows, "plain", ONE_EPOCH), 1.0)
    end = {
        name: by_seed(percent_change(at(pick(rows, name, TUNED), 3.0), one_epoch)) for name in left
    }
    label = {name: ALL_METHODS[name].label for name in left}
    parts = [f"{label[name]} {prose.estimate(values, '%', 0)}" for name, values in left.items()]
    return (
        "**With a remedy** (FAL slows infrequent rows, MEDA draws all rows anew before a repeated "
        "epoch, tail rewind, our own, puts the infrequent ones back) this is left of it, mean over "
        "the objectives, with FAL by the logarithm: "
        f"{', '.join(parts)}. "
        "Three epochs, each method tuned for them, FAL's scale too, against one plain epoch at its "
        "best: "
        + ", ".join(f"{label[name]} {_signed(values)}" for name, values in end.items())
        + f". {_gains({label[name]: values for name, values in end.items()})}"
    )


def _day_by_day(results: Path) -> str:
    record = records.read("ch08_continual_training", "long", results)
    if record is None:
        return "**Day after day, with new data,** nothing is measured yet."
    rows = record.rows
    methods = ("plain", "fal", continual.best_meda(rows), "day_tail_rewind")
    gains = {ALL_METHODS[name].label:
             continual.last_days(continual.gain(rows, continual.label(name, 2)))
             for name in methods}  # fmt: skip
    more_data = continual.last_days(continual.gain(rows, continual.MORE_DATA))
    return (
        "**Day after day, with new data,** two epochs a day against one, test loss of the last "
        f"{continual.SPAN} days: "
        + ", ".join(f"{label} {_signed(values)}" for label, values in gains.items())
        + f". {_gains(gains)} One epoch a day over twice the data: {_signed(more_data)}."
    )


def _gains(changes: dict[str, pd.Series]) -> str:
    """Which of them beat one epoch: those whose whole interval lies below zero."""
    sure = [label for label, values in changes.items() if interval(list(values))[2] < 0]
    if not sure:
        return "No gain over one epoch is shown."
    return f"A gain over one epoch is shown for {', '.join(sure)}."


def _signed(values) -> str:
    """Mean and interval with signs, since below zero is better."""
    mean, low, high = interval(list(values))
    digits = 2 if min(map(abs, (mean, low, high))) < 0.05 else 1  # no "-0.0"
    known = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if len(values) > 1 else " (one seed)"
    return f"{mean:+.{digits}f}{NBSP}%{known}".replace("-", "−")


def generate(results: Path, ledger: dict[str, pd.DataFrame], generated: Path) -> None:
    """Writes what the front page and the summary include."""
    (generated / "summary.md").write_text(summary(ledger))
    (generated / "front.md").write_text(front(results))
