"""Computes the numbers that book/index.md and book/summary.md interpolate.

The sentences there were written once, about the committed records. `assertions` lists what they
assert; a test fails when a record contradicts one, and then someone has to rewrite the sentence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from multiepoch.stats import interval
from reproduction import claims, records, second_round
from reproduction.ch07_fal_versus_meda.interactive_figure_runs import ONE_EPOCH, TUNED
from reproduction.ch08_continual_training import experiment as continual
from reproduction.claims import Claim, Evidence
from reproduction.findings import above, below, estimate
from reproduction.measure import at, by_seed, jump, percent_change, pick

# The summary shows the profile with the most data, then the one with the most seeds.
PREFERRED = ("gpu", "long", "cpu", "replication")
NBSP = "\u00a0"  # keeps a number, its unit and its interval together in a narrow cell
# The status of one measure that each "so what" in book/summary.md relies on.
SO_WHAT_RELIES_ON = {
    "C1": ("touched", "holds"),
    "C2": ("one_epoch", "open"),
    "C3": ("jump_click", "holds"),
    "C4": ("cart_over_click", "open"),
    "C5": ("tail_frozen", "fails"),
    "C6": ("jump_left", "fails"),
    "C7": ("tuned", "fails"),
    "C8": ("fal_slope", "holds"),
    "C9": ("time", "holds"),
    "C10": ("jump", "holds"),
    "C11": ("days_meda", "holds"),
}


def measured(results: Path) -> dict[str, pd.Series]:
    """Returns the values of the front page, in percent and by seed, from the long records.

    `jump_OBJECTIVE` and `jump` are plain training's boundary jumps at the rates for one epoch,
    `left_METHOD` is the part of them that a method leaves, `end_METHOD` its loss after three
    epochs at its own rates against one plain epoch, and `days_METHOD` its loss over the last days
    of continual training with two epochs a day against one.
    """
    rows = records.read("interactive_figure", "long", results).rows
    plain = pick(rows, "plain", ONE_EPOCH)
    found = {f"jump_{name}": of for name, of in jump(plain).groupby("objective")}
    found["jump"] = by_seed(jump(plain))
    for name in ("fal", "meda", "tail_rewind"):
        found[f"left_{name}"] = 100 * by_seed(jump(pick(rows, name, ONE_EPOCH))) / found["jump"]
        end = at(pick(rows, name, TUNED), 3.0)
        found[f"end_{name}"] = by_seed(percent_change(end, at(plain, 1.0)))
    rows = records.read("ch08_continual_training", "long", results).rows
    methods = ("plain", "fal", "meda_restored", "day_tail_rewind")
    days = {name: continual.label(name, 2) for name in methods}
    for name, setting in {**days, "more_data": continual.MORE_DATA}.items():
        found[f"days_{name}"] = continual.last_days(continual.gain(rows, setting))
    return found


def front(results: Path) -> dict[str, str]:
    """Formats the values of the front page; none if there is no record."""
    if records.read("interactive_figure", "long", results) is None:
        return {}
    return {
        name: signed(values) if name.startswith(("end_", "days_")) else estimate(values, "%", 0)
        for name, values in measured(results).items()
    }


def signed(values: Iterable[float]) -> str:
    """Formats the mean and the interval of a change in percent with their signs."""
    mean, low, high = interval(list(values))
    digits = 2 if min(map(abs, (mean, low, high))) < 0.05 else 1  # no "-0.0"
    known = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if math.isfinite(low) else " (one seed)"
    return f"{mean:+.{digits}f}{NBSP}%{known}".replace("-", "−")


def assertions(results: Path) -> dict[str, bool]:
    """Returns what the sentences of the front page and the summary assert, and whether it holds."""
    m = measured(results)
    jumps = ("jump_click", "jump_add_to_cart", "jump_checkout")
    said = {f"plain training jumps at once: {name}": above(m[name], 0.5) for name in jumps}
    said |= {
        "plain training jumps by about 40 %": 35 < m["jump"].mean() < 45,
        "FAL leaves most of the jump": above(m["left_fal"], 50),
        "MEDA leaves little of the jump": below(m["left_meda"], 20),
        "tail rewind leaves little of the jump": below(m["left_tail_rewind"], 20),
        "MEDA gains over one epoch": below(m["end_meda"]),
        "no gain is shown for FAL": not below(m["end_fal"]),
        "no gain is shown for tail rewind": not below(m["end_tail_rewind"]),
        "day by day, tail rewind gains": below(m["days_day_tail_rewind"]),
        "day by day, no gain is shown for MEDA": not below(m["days_meda_restored"]),
        "day by day, FAL loses": above(m["days_fal"]),
        "day by day, plain training loses": above(m["days_plain"]),
        "more data gains more": below(m["days_more_data"] - m["days_day_tail_rewind"]),
    }
    ledger = records.ledger(results)
    for id, (name, status) in SO_WHAT_RELIES_ON.items():
        _, evidence = _preferred(claims.claim(id), ledger)
        said[f"the so-what of {id}: {name} {status}"] = evidence[name].status == status
    return said


def ledger_cells(ledger: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Returns the computed cells of the table in book/summary.md: CLAIM_COLUMN for each claim."""
    cells, counts = {}, Counter()
    for one in claims.CLAIMS:
        profile, evidence = _preferred(one, ledger)
        counts[claims.verdict(one, list(evidence.values()))] += 1
        predicted = (f"{m.text} {m.sign}{NBSP}{m.threshold:g}{_unit(m)}" for m in one.measures)
        cells |= {
            f"{one.id}_claim": f"[{one.id}](#{one.id}) {one.title}{' (our own)' * one.ours}",
            f"{one.id}_predicted": _lettered(predicted),
            f"{one.id}_found": _found(one, evidence, profile),
            f"{one.id}_verdict": _verdicts(one, ledger),
        }
    cells["claim_count"] = str(len(claims.CLAIMS))
    cells["verdict_counts"] = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    return cells


def second_round_cells(points: pd.DataFrame) -> dict[str, str]:
    """Returns the cells CLAIM_second of book/summary.md, from the evidence of the second round."""
    cells = {f"{one.id}_second": "not measured again" for one in claims.CLAIMS}
    for one in second_round.PREDICTIONS:
        evidence = second_round.weigh(one, points)
        found = _lettered(second_round.in_brief(evidence))
        cells[f"{one.id}_second"] = f"**{second_round.verdict(evidence)}**<br>{found}"
    return cells


def _preferred(one: Claim, ledger: dict[str, pd.DataFrame]) -> tuple[str, dict[str, Evidence]]:
    """Returns the profile that the summary shows for a claim, and its evidence by measure."""
    for profile in (name for name in PREFERRED if name in ledger):
        if evidence := claims.weigh(one, ledger[profile]):
            return profile, {e.measure.name: e for e in evidence}
    return "", {}


def _lettered(parts: Iterable[str]) -> str:
    """Puts the parts of a cell below each other, lettered so that cells can be compared."""
    parts = list(parts)
    letters = [f"{letter}) " for letter in ascii_lowercase] if len(parts) > 1 else [""]
    return "<br>".join(letter + part for letter, part in zip(letters, parts))


def _unit(measure: claims.Measure) -> str:
    return f"{NBSP}{measure.unit}" if measure.unit else ""


def _found(one: Claim, evidence: dict[str, Evidence], profile: str) -> str:
    if not evidence:
        return "not yet run"

    def words(measure: claims.Measure) -> str:
        e = evidence.get(measure.name)
        if e is None:
            return "not yet run"
        known = f" [{e.low:.3g},{NBSP}{e.high:.3g}]" if len(e.seeds) > 1 else " (one seed)"
        return f"**{e.estimate:.3g}{_unit(measure)}**{known}, {e.status}"

    return f"{_lettered(map(words, one.measures))}<br>({profile})"


def _verdicts(one: Claim, ledger: dict[str, pd.DataFrame]) -> str:
    by_verdict: dict[str, list[str]] = {}
    for profile, rows in ledger.items():
        if evidence := claims.weigh(one, rows):
            by_verdict.setdefault(claims.verdict(one, evidence), []).append(profile)
    words = [f"{verdict} ({', '.join(names)})" for verdict, names in by_verdict.items()]
    words += ["The profiles disagree."] * (len(words) > 1)
    return "<br>".join(words) or "not yet run"
