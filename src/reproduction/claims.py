"""The ledger: what was predicted, what was measured, and the verdict, a pure function of the two.

A `Claim` has one or more `Measure`s, each a number with a threshold, written down before its run. A
chapter's experiment hands in evidence: one value a measure and seed. The interval over seeds then
lies on the predicted side of the threshold, on the other side, or across it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from multiepoch.stats import interval

POINTS = "points"  # percentage points

Verdict = Literal["reproduced", "partly", "not reproduced", "not settled", "not yet run"]


@dataclass(frozen=True)
class Measure:
    """A number that decides a claim. It holds where the interval lies beyond the threshold.

    name: what the evidence rows call it.
    text: what is measured, in one line.
    sign: ">" if the claim needs the value above the threshold, "<" below it.
    threshold: The value to compare with, in the measure's own unit.
    unit: "" for a ratio or share, "%" where values are given in percent, POINTS for a difference
    of two such.
    """

    name: str
    text: str
    sign: Literal["<", ">"]
    threshold: float
    unit: str = ""


@dataclass(frozen=True)
class Claim:
    """What is put to the test: the claim in our words, the prediction, and what decides it."""

    id: str
    title: str
    text: str
    prediction: str
    measures: tuple[Measure, ...]
    chapter: str  # what holds the evidence: a notebook, without its ending, or a page with it
    ours: bool = False  # True where the paper does not make the claim


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "Gradients are sparse",
        "A batch touches a tiny, power-law part of the embedding tables.",
        "A batch of 4,096 gives a gradient to fewer than 5 % of all rows; the most frequent tenth "
        "of the product rows gets more than half of the impressions; more than half of all rows "
        "get a gradient in fewer than one step in twenty.",
        (
            Measure("touched", "rows with a gradient in a batch of 4,096, share of all", "<", 5, "%"),
            Measure("head", "impressions on the top tenth of product rows", ">", 50, "%"),
            Measure("rare", "rows touched in fewer than 1 of 20 steps", ">", 50, "%"),
        ),
        "03_gradient_sparsity",
    ),
    Claim(
        "C2",
        "The tables want a rate of their own",
        "A higher learning rate on the tables alone converges faster and ends better than one "
        "shared rate.",
        "Against a shared rate that is itself tuned, the tables' own rate reaches the same "
        "one-epoch loss with at least 1.2 times fewer samples for click and for checkout, ends "
        "the epoch at least 0.05 % lower in logloss, and the whole network at the tables' rate "
        "does worse than the tables alone at it.",
        (
            Measure("speedup_click", "samples of the shared rate over ours, click", ">", 1.2),
            Measure("speedup_checkout", "samples of the shared rate over ours, checkout", ">", 1.2),
            Measure("one_epoch", "logloss after one epoch against the shared rate", "<", -0.05, "%"),
            Measure("control", "logloss of the whole network at the tables' rate against ours", ">", 0, "%"),
        ),
        "04_sparse_optimizer",
    ),
    Claim(
        "C3",
        "Test loss jumps when the second epoch begins",
        "Test loss jumps when the second epoch over the same data begins.",
        "A quarter into the second epoch the test logloss of each objective is at least 0.5 % "
        "above that at the end of the first.",
        tuple(
            Measure(f"jump_{name}", f"boundary jump, {words}", ">", 0.5, "%")
            for name, words in (("click", "click"), ("add_to_cart", "add-to-cart"), ("checkout", "checkout"))
        ),
        "05_multi_epoch_overfitting",
    ),
    Claim(
        "C4",
        "The sparser the label, the larger the jump",
        "Multi-epoch overfitting is worse for objectives with sparser labels.",
        "The jump grows from click to add-to-cart to checkout, and for one and the same objective "
        "when fifteen of sixteen positives are dropped.",
        (
            Measure("cart_over_click", "jump of add-to-cart minus jump of click", ">", 0, POINTS),
            Measure("checkout_over_cart", "jump of checkout minus jump of add-to-cart", ">", 0, POINTS),
            Measure("thinned", "jump of click with 1/16 of its positives minus with all", ">", 0, POINTS),
        ),
        "05_multi_epoch_overfitting",
    ),
    Claim(
        "C5",
        "Infrequent rows cause it",
        "The jump comes from infrequent rows.",
        "The jump is larger on the least frequent products than on the most frequent; with the "
        "infrequent rows frozen after the first epoch at least half of it is gone; with labels "
        "drawn anew for the second epoch, at least four fifths; with the dense layers frozen, at "
        "least half, since they are what learns to trust the rows.",
        (
            Measure("decile", "jump on the least frequent minus the most frequent tenth", ">", 0, POINTS),
            Measure("tail_frozen", "part of the jump gone with infrequent rows frozen", ">", 50, "%"),
            Measure("resampled", "part of the jump gone with labels drawn anew", ">", 80, "%"),
            Measure("dense_frozen", "part of the jump gone with the dense layers frozen", ">", 50, "%"),
        ),
        "05_multi_epoch_overfitting",
    ),
    Claim(
        "C6",
        "FAL shrinks the jump, and log beats linear",
        "A frequency-adaptive rate shrinks the boundary jump; scaling by the logarithm of the "
        "count beats scaling by the count.",
        "FAL's jump is less than half of the plain one, averaged over objectives; the best test "
        "logloss of a run is lower with the logarithm than with the count itself.",
        (
            Measure("jump_left", "FAL's jump as a part of the plain jump", "<", 50, "%"),
            Measure("log_linear", "best logloss of log against linear", "<", 0, "%"),
        ),
        "06_frequency_adaptive_rate",
    ),
    Claim(
        "C7",
        "FAL beats MEDA in most cases",
        "FAL beats MEDA in most cases.",
        "Over the map of embedding rate, cardinality, label sparsity and point of training, FAL "
        "has the lower test logloss in more than half of the cases; with both tuned it is lower "
        "at the end of the third epoch.",
        (
            Measure("cases", "cases of the map in which FAL has the lower logloss", ">", 50, "%"),
            Measure("tuned", "FAL's logloss against MEDA's, both tuned, end of epoch 3", "<", 0, "%"),
        ),
        "07_fal_versus_meda",
    ),
    Claim(
        "C8",
        "Fresh data makes the gains fade",
        "Both remedies beat the multi-epoch baseline on a fixed set; after days of continual "
        "training with fresh data the baseline catches up.",
        "Under continual training the gain of two epochs with FAL, and with MEDA, over plain two "
        "epochs shrinks from day to day: the relative logloss, negative where they gain, rises.",
        (
            Measure("fal_slope", "rise by day of FAL's logloss against plain two epochs", ">", 0, "%"),
            Measure("meda_slope", "rise by day of MEDA's logloss against plain two epochs", ">", 0, "%"),
        ),
        "08_continual_training",
    ),
    Claim(
        "C9",
        "FAL is cheap",
        "FAL costs one counter a row; what it costs in time we add to the test.",
        "An optimizer step takes less than 5 % longer with FAL; the counter takes less than 3.2 % "
        "of a row of 32 floats.",
        (
            Measure("time", "extra time of a step with FAL", "<", 5, "%"),
            Measure("memory", "bytes of the counter over bytes of the row", "<", 3.2, "%"),
        ),
        "cost.md",
    ),
    Claim(
        "C10",
        "It holds beyond one data set",
        "As we read its argument, the collapse and its remedies are no peculiarity of one company's "
        "logs.",
        "On KuaiRand with the ultra-sparse cross, click's jump is at least 0.5 %, FAL leaves less "
        "than half of it, and FAL's logloss is below MEDA's at the end of the third epoch.",
        (
            Measure("jump", "boundary jump of click", ">", 0.5, "%"),
            Measure("jump_left", "FAL's jump as a part of the plain jump, click", "<", 50, "%"),
            Measure("fal_meda", "FAL's logloss against MEDA's, end of epoch 3, click", "<", 0, "%"),
        ),
        "09_real_logs",
    ),
    Claim(
        "C11",
        "Rewinding the infrequent rows beats both",
        "Putting back only the infrequent rows before each repeated epoch beats FAL and MEDA at "
        "every point of training.",
        "With every method tuned, tail rewind's logloss, averaged over objectives, is below FAL's "
        "and below MEDA's at the worst of the points a quarter, half and end of epochs 2 to 4; "
        "under continual training it is below both on the mean of the last three days.",
        (
            Measure("worst_fal", "logloss against FAL's at the worst point", "<", 0, "%"),
            Measure("worst_meda", "logloss against MEDA's at the worst point", "<", 0, "%"),
            Measure("days_fal", "logloss against FAL's, last three days", "<", 0, "%"),
            Measure("days_meda", "logloss against MEDA's (best meaning), last three days", "<", 0, "%"),
        ),
        "07_fal_versus_meda",
        ours=True,
    ),
)  # fmt: skip


def claim(id: str) -> Claim:
    """The claim of that id. KeyError names those that exist."""
    for one in CLAIMS:
        if one.id == id:
            return one
    raise KeyError(f"no claim {id!r}; there are {', '.join(c.id for c in CLAIMS)}")


@dataclass(frozen=True)
class Evidence:
    """One measure with its values over seeds: status is "holds", "fails" or "open"."""

    measure: Measure
    seeds: tuple[int, ...]
    estimate: float
    low: float
    high: float

    @property
    def status(self) -> Literal["holds", "fails", "open"]:
        threshold, above = self.measure.threshold, self.measure.sign == ">"
        if self.low > threshold:
            return "holds" if above else "fails"
        if self.high < threshold:
            return "fails" if above else "holds"
        return "open"


def weigh(claim: Claim, rows: pd.DataFrame) -> list[Evidence]:
    """The evidence of a claim from rows with columns claim, measure, seed, value (one profile)."""
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
    """All measures hold: reproduced. Some: partly. None holds and each fails: not reproduced.

    None holds and an interval lies across its bar: not settled. Measures that were not run leave
    a claim "not yet run" when none was, and at best "partly" when some were.
    """
    if not evidence:
        return "not yet run"
    statuses = [e.status for e in evidence]
    if "holds" in statuses:
        complete = len(evidence) == len(claim.measures)
        return "reproduced" if complete and set(statuses) == {"holds"} else "partly"
    return "not settled" if "open" in statuses else "not reproduced"


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a claim and measure: prediction, estimate, interval, status, and the verdict.

    rows: columns claim, measure, seed, value, of one profile. Claims without rows are left out.
    """
    lines = []
    for one in CLAIMS:
        evidence = weigh(one, rows)
        for e in evidence:
            lines.append({
                "claim": one.id, "measure": e.measure.name, "what": e.measure.text,
                "predicted": f"{e.measure.sign} {e.measure.threshold:g}{_unit(e.measure)}",
                "estimate": e.estimate, "low": e.low, "high": e.high, "seeds": len(e.seeds),
                "status": e.status, "verdict": verdict(one, evidence),
            })  # fmt: skip
    return pd.DataFrame(lines)


def _unit(measure: Measure) -> str:
    return f" {measure.unit}" if measure.unit else ""


def table(records: dict[str, pd.DataFrame], chapters: str = "../notebooks/") -> str:
    """The ledger in Markdown: each claim, its prediction, and its evidence in each profile.

    records: evidence rows by profile (columns claim, measure, seed, value), in the order shown.
    chapters: where the chapters lie, seen from the page.
    """
    blocks = []
    for one in CLAIMS:
        verdicts = {p: verdict(one, weigh(one, rows)) for p, rows in records.items()}
        run = {p: v for p, v in verdicts.items() if v != "not yet run"}
        whose = "Ours, not the paper's" if one.ours else "The paper"
        lines = [
            f"({one.id})=",
            f"## {one.id} · {one.title}",
            "",
            f"**{whose}:** {one.text}",
            "",
            f"**Predicted before the run:** {one.prediction}",
            "",
            f"**Verdict:** {_verdicts(run)} Evidence: {_evidence_link(one, chapters)}.",
            "",
        ]
        if run:
            lines += _evidence_table(one, {p: records[p] for p in run})
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _evidence_link(one: Claim, chapters: str) -> str:
    if one.chapter.endswith(".md"):
        return f"[the page]({one.chapter})"
    return f"[the chapter]({chapters}{one.chapter}.ipynb)"


def _verdicts(run: dict[str, Verdict]) -> str:
    if not run:
        return "not yet run."
    words = ", ".join(f"**{verdict}** ({profile})" for profile, verdict in run.items())
    if len(set(run.values())) > 1:
        return f"{words}. The profiles disagree."
    return f"{words}."


def _evidence_table(one: Claim, records: dict[str, pd.DataFrame]) -> list[str]:
    lines = [
        "| measure | predicted | profile | estimate and 95 % interval | seeds | |",
        "|---|---|---|---|---|---|",
    ]
    for profile, rows in records.items():
        for e in weigh(one, rows):
            unit = _unit(e.measure)
            span = f"[{e.low:.3g}, {e.high:.3g}]" if len(e.seeds) > 1 else "(one seed, no interval)"
            lines.append(
                f"| {e.measure.text} | {e.measure.sign} {e.measure.threshold:g}{unit} | {profile} "
                f"| {e.estimate:.3g}{unit} {span} | {len(e.seeds)} | {e.status} |"
            )
    return [*lines, ""]
