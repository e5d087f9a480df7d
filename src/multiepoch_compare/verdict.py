"""Judges the results: does a second epoch hurt, which method to train with, and how sure is that?

Two things make a difference on one test day uncertain: the seed of the training, and the
impressions that the day happens to hold. The first is measured over seeds, the second over blocks
of the day with different users. The squared half widths of the two intervals add up.

Differences are means of log ratios, so they add up, and their half widths obey the triangle
inequality. Hence if A is clearly better than B and B than C, A is clearly better than C: the best
of those that clearly beat plain training is not clearly beaten by any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from multiepoch.stats import interval
from multiepoch.train.metrics import entropy
from multiepoch_compare.plan import Trial

RETUNED = "plain (retuned)"
PLAIN = ("plain", RETUNED)
COLLAPSE = 0.5  # %: a rise of the logloss by at least this, clearly above 0, is a collapse

# The verdicts by the kind of a difference in logloss: on more epochs, and on a method against
# another. `Estimate.kind` tells the kind by the interval.
WORDS = {
    "rise": ("collapses", "worse"),
    "slight rise": ("gets slightly worse", "slightly worse"),
    "same": ("no change", "no difference"),
    "no rise": ("no collapse", "not worse"),
    "open": ("open", "open"),
    "slight fall": ("improves slightly", "slightly better"),
    "fall": ("improves", "better"),
}


@dataclass(frozen=True)
class Estimate:
    """A difference in % with its 95 % interval; for one seed, the bounds are None."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.mean:+.2f} % (one seed, no interval)"
        return f"{self.mean:+.2f} % [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def kind(self) -> str:
        """Classifies the difference by its interval, as a key of WORDS."""
        if self.low is None:
            return "open"
        if self.low > 0:
            return "rise" if self.mean >= COLLAPSE else "slight rise"
        if self.high < 0:
            return "fall" if self.mean <= -COLLAPSE else "slight fall"
        if self.high >= COLLAPSE:
            return "open"
        return "same" if self.low > -COLLAPSE else "no rise"

    @property
    def falls(self) -> bool:
        return self.high is not None and self.high < 0

    @property
    def size(self) -> str:
        """Describes a rise or fall without its sign."""
        low, high = sorted((abs(self.low), abs(self.high)))
        return f"{abs(self.mean):.2f} % [{low:.2f}, {high:.2f}]"


def estimate(by_seed: np.ndarray, by_block: np.ndarray) -> Estimate:
    """Combines log ratios by seed, (n_seeds,), and by block, (n_blocks,), to a difference in %."""
    mean, low, _ = interval(by_seed)
    _, block_low, _ = interval(by_block)
    half = math.hypot(mean - low, float(np.mean(by_block)) - block_low)
    if not math.isfinite(half):
        return Estimate(100 * math.expm1(mean), None, None)
    return Estimate(*(100 * math.expm1(min(x, 50)) for x in (mean, mean - half, mean + half)))


def score(result: dict, rates: dict[str, float]) -> np.ndarray:
    """Returns the mean normalized entropy on the validation day after each epoch, (epochs,).

    `rates` holds the share of positives of each label on that day.
    """
    if result["status"] != "ok":
        return np.full(1, np.inf)
    found: dict[int, list[float]] = {}
    for part, epoch, objective, metric, value in result["points"]:
        if part == "validation" and metric == "logloss" and epoch == int(epoch):
            found.setdefault(int(epoch), []).append(value / entropy(rates[objective]))
    return np.array([np.mean(found[epoch]) for epoch in sorted(found)])


@dataclass(frozen=True)
class Choice:
    """The trial that tuning chose for a method, and its validation score after each epoch."""

    trial: Trial
    scores: tuple[float, ...]

    def best(self, last: int | None = None) -> int:
        """Returns the number of epochs with the best score, of at most `last`."""
        return int(np.argmin(self.scores[:last])) + 1


def choose(results: list[dict], rates: dict, for_one_epoch: bool = False) -> Choice | None:
    """Chooses the trial with the lowest validation score; None if every trial diverged.

    With `for_one_epoch`, that is the score after the first epoch, else after the best one.
    """
    scores = [score(result, rates) for result in results]
    best = int(np.argmin([s[0] if for_one_epoch else s.min() for s in scores]))
    if not np.isfinite(scores[best].min()):
        return None
    return Choice(Trial(**results[best]["trial"]), tuple(scores[best].tolist()))


@dataclass(frozen=True)
class OwnLabel:
    """The share in % of plain training's jump that is labels that rows have seen.

    `jump` is the change of the test logloss from the end of epoch 1 to a quarter into epoch 2, and
    `control` is that of two-fold tables.
    """

    share: Estimate
    jump: Estimate
    control: Estimate


def own_label(plain: list[dict], control: list[dict]) -> OwnLabel | None:
    """Compares the results of plain training and of `plan.control`, paired by seed.

    The intervals are over seeds. Returns None if a control is missing or diverged, or if plain
    training does not clearly jump.
    """
    if not control or any(result["status"] != "ok" for result in control):
        return None
    jumps = [np.array([_jump(result) for result in several]) for several in (plain, control)]
    found = [estimate(values, np.zeros(2)) for values in jumps]
    if found[0].kind != "rise" or (jumps[0] <= 0).any():
        return None
    return OwnLabel(Estimate(*interval(100 * (1 - jumps[1] / jumps[0]))), *found)


def _jump(result: dict) -> float:
    """Returns the jump on the test day as a log ratio, mean over the objectives."""
    found = {
        (objective, epoch): math.log(max(value, 1e-12))
        for part, epoch, objective, metric, value in result["points"]
        if (part, metric) == ("test", "logloss")
    }
    return float(np.mean([found[o, 1.25] - found[o, 1.0] for o, epoch in found if epoch == 1]))


class Losses:
    """The test losses of one method over its seeds."""

    def __init__(self, results: list[dict], sizes: np.ndarray) -> None:
        # Summed over each block: (n_seeds, epochs, n_objectives, n_blocks).
        self.sums = np.array([result["blocks"] for result in results])
        self.sizes = sizes  # impressions of each block, (n_blocks,)

    def at(self, epochs: int, objectives: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean logloss by seed, (n_seeds, n_objectives), and the sum over each block,
        averaged over seeds, (n_objectives, n_blocks)."""
        sums = self.sums[:, epochs - 1, objectives]
        means = np.maximum(sums.sum(axis=2) / self.sizes.sum(), 1e-12)  # its logarithm is taken
        return means, sums.mean(axis=0)


def difference(
    ours: Losses, epochs: int, theirs: Losses, their_epochs: int, objective: int | None = None
) -> Estimate:
    """Returns by how many % our test logloss is above theirs, paired by seed and by block.

    The result is for one objective, or the geometric mean over all of them.
    """
    pick = slice(None) if objective is None else slice(objective, objective + 1)
    full = ours.sizes > 0

    def parts(losses: Losses, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        means, blocks = losses.at(epochs, pick)
        relative = blocks[:, full] / losses.sizes[full] / means.mean(axis=0)[:, None]
        return np.log(means).mean(axis=1), relative.mean(axis=0)

    mine, other = parts(ours, epochs), parts(theirs, their_epochs)
    return estimate(mine[0] - other[0], mine[1] - other[1])


@dataclass(frozen=True)
class Verdict:
    """The differences in test logloss of one method, between epochs and with others.

    `epochs` is the number to train for: the best on the validation day, unless the test day clearly
    prefers another. `second` compares the end of epoch 2 with that of epoch 1, `last` the end of
    the last epoch with that of epoch `before`, the best earlier one on the validation day. `onset`
    is the first epoch that collapses against the best before it; None if there is none.
    """

    label: str
    choice: Choice
    epochs: int
    before: int
    onset: int | None
    second: Estimate
    last: Estimate
    against_constant: Estimate
    against_plain: Estimate
    against_advised: Estimate


@dataclass(frozen=True)
class Judgment:
    """The verdicts, the plain training that gains are held against, the advice, and the headline.

    `baseline` and `advised` are a label and a number of epochs; `advised` is None where the data
    show nothing to learn. The headline is a list of sentences.
    """

    verdicts: list[Verdict]
    baseline: tuple[str, int]
    advised: tuple[str, int] | None
    headline: list[str]


def judge(choices: dict[str, Choice], losses: dict[str, Losses], constant: Losses) -> Judgment:
    """Judges methods by label; `constant` holds the losses of predicting the training rate."""
    last = len(next(iter(choices.values())).scores)
    epochs = {label: _preferred(losses[label], one.best()) for label, one in choices.items()}
    # The best of plain with hindsight, so that no method wins because plain was badly tuned.
    plain = [(label, k) for label in PLAIN if label in choices for k in range(1, last + 1)]
    baseline = min(plain, key=lambda pair: np.log(losses[pair[0]].at(pair[1])[0]).mean())
    epochs[baseline[0]] = baseline[1]

    def against(label: str, other: tuple[str, int]) -> Estimate:
        return difference(losses[label], epochs[label], losses[other[0]], other[1])

    gains = {label: against(label, baseline) for label in choices if label not in PLAIN}
    better = [label for label, gain in gains.items() if gain.falls]
    best = min(better, key=lambda label: gains[label].mean, default=baseline[0])
    best = best, epochs[best]
    found = []
    for label, choice in choices.items():
        own = losses[label]
        changes = {k: difference(own, k, own, choice.best(k - 1)) for k in range(2, last + 1)}
        found.append(
            Verdict(
                label,
                choice,
                epochs=epochs[label],
                before=choice.best(last - 1),
                onset=next((k for k, change in changes.items() if change.kind == "rise"), None),
                second=changes[2],
                last=changes[last],
                against_constant=difference(own, epochs[label], constant, 1),
                against_plain=against(label, baseline),
                against_advised=against(label, best),
            )
        )
    learns = any(v.against_constant.falls for v in found)
    if losses[best[0]].sums.shape[0] == 1:
        learns = any(v.against_constant.mean < 0 for v in found)
    if learns:
        headline = [_answer(found), _advice(found, baseline, best), _certainty(found, best)]
    else:
        headline = _nothing_to_learn(found)
    return Judgment(found, baseline, best if learns else None, headline)


def _preferred(own: Losses, epochs: int) -> int:
    """Returns this number of epochs, or that which the test day clearly prefers to it."""
    others = {k: difference(own, k, own, epochs) for k in range(1, own.sums.shape[1] + 1)}
    clear = {k: change.mean for k, change in others.items() if change.falls}
    return min(clear, key=clear.get, default=epochs)


# Sentences ----------------------------------------------------------------------------------------


def _nothing_to_learn(found: list[Verdict]) -> list[str]:
    best = min(found, key=lambda v: v.against_constant.mean)
    return [
        "Nothing to learn was found: no method is shown to predict the test day better than a "
        f"constant, the rate of the training days. The logloss of the best, {best.label}, differs "
        f"from the constant's by {best.against_constant}.",
        "So these data cannot show whether a second epoch hurts, and there is no advice: look for "
        "ids or features that matter, for more rows, or test on more days (--test-days).",
    ]


def _answer(found: list[Verdict]) -> str:
    """Answers whether a second epoch hurts, by how much, and from where on."""
    (plain,) = (v for v in found if v.label == "plain")
    last, second = len(plain.choice.scores), plain.second
    what, kind = "a second epoch of plain training", second.kind
    if kind == "open":
        text = f"Open: {what} changes the test logloss by {second}"
    elif kind in ("same", "no rise"):
        text = f"No: {what} does not raise the test logloss ({second})"
    elif "fall" in kind:
        text = f"No: {what} lowers the test logloss by {second.size}"
    else:
        text = f"{'Yes' if kind == 'rise' else 'Slightly'}: {what} raises the test logloss by "
        text += second.size
    if last > 2:
        text += f"; after epoch {last} it differs by {plain.last} from that of epoch {plain.before}"
    if plain.onset and plain.onset > 2:
        text += f". The collapse begins with epoch {plain.onset}"
    if plain.onset and (slow := [v for v in found if v.label == RETUNED]):
        rate = f"{slow[0].choice.trial.dense_lr:.2g}, the learning rate that suits more epochs"
        text += f". With {rate}, the second epoch changes it by {slow[0].second}"
    if plain.onset is None:
        others = [v.label for v in found if v.onset]
        text += f". But more epochs hurt {_listed(others)}" if others else ""
    return text + "."


def seen_in_words(seen: OwnLabel) -> str:
    low, high = f"{seen.share.low:.0f}", f"{seen.share.high:.0f}"
    return (
        f"About {seen.share.mean:.0f} % [{low}, {high}] of the jump on this log is labels that "
        "rows have seen: a quarter into epoch 2, the test logloss of plain training differs from "
        f"that of epoch 1 by {seen.jump}, and by {seen.control} if each impression is predicted "
        "from rows that have not seen its label (two-fold tables)."
    )


def _advice(found: list[Verdict], baseline: tuple[str, int], best: tuple[str, int]) -> str:
    rates = {v.label: v.choice.trial.dense_lr for v in found}
    against = f"at one shared learning rate ({rates[baseline[0]]:.2g}) for {_in_words(baseline[1])}"
    by_label = {v.label: v for v in found}
    if best != baseline:
        gain = by_label[best[0]].against_plain
        return (
            f"Train for {_in_words(best[1])} with {best[0]}: its test logloss is {gain.size} "
            f"lower than that of the best plain training, {against}."
        )
    others = [v for v in found if v.label not in PLAIN]
    name = "plain" if baseline[0] == "plain" else "retuned plain"
    text = f"Keep {name} training {against}: no method is shown to be better."
    if others:
        nearest = min(others, key=lambda v: v.against_plain.mean)
        text += f" The test logloss of the best, {nearest.label}, differs by "
        text += f"{nearest.against_plain}."
    return text


def _certainty(found: list[Verdict], best: tuple[str, int]) -> str:
    others = [v for v in found if v.label != best[0]]
    if others and others[0].against_advised.low is None:
        return "How sure: one seed gives no interval, so nothing is shown; give --seeds 3."
    worse = [v.label for v in others if v.against_advised.kind in ("rise", "slight rise")]
    tied = [v.label for v in others if v.label not in worse]
    parts = [f"no difference to {_listed(tied)} is shown"] if tied else []
    parts += [f"clearly worse: {_listed(worse)}"] if worse else []
    return f"How sure: {'; '.join(parts)}. Another day is not covered by the intervals."


def _listed(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def _in_words(epochs: int) -> str:
    return f"{epochs} epoch" if epochs == 1 else f"{epochs} epochs"
