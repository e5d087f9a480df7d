"""Judges the results: does a second epoch hurt, which line to use, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from multiepoch_compare import plan
from multiepoch_compare.estimates import Estimate, Losses, difference, estimate
from multiepoch_compare.outlook import COLLAPSE
from multiepoch_compare.plan import ADAGRAD, ADDITIVE, PAIR, PLAIN, REPEATED, SPARSE, Trial
from multiepoch_lab.train.metrics import entropy


@dataclass(frozen=True)
class Choice:
    """The trial and the number of epochs that tuning chose together for a line."""

    trial: Trial
    epochs: int

    @property
    def cost(self) -> int:
        """The epochs that it takes to train."""
        return 2 if self.trial.serve == "pair" else self.epochs


def choose(
    results: list[dict], rates: dict, first: int = 1, last: int | None = None
) -> Choice | None:
    """Chooses the trial and the number of epochs with the lowest score on the tuning days.

    Epochs count from `first` to `last`. Returns None if every trial diverged, or stopped before.
    """
    scores = [score(result, rates)[first - 1 : last] for result in results]
    best = int(np.argmin([s.min(initial=np.inf) for s in scores]))
    if not np.isfinite(scores[best].min(initial=np.inf)):
        return None
    return Choice(Trial(**results[best]["trial"]), first + int(np.argmin(scores[best])))


def score(result: dict, rates: dict[str, float]) -> np.ndarray:
    """Returns the mean normalized entropy on the tuning days after each epoch, (epochs,).

    `rates` holds the share of positives of each label on those days.
    """
    if result["status"] != "ok":
        return np.full(1, np.inf)
    found: dict[int, list[float]] = {}
    for part, epoch, objective, metric, value in result["points"]:
        if part == "validation" and metric == "logloss":
            found.setdefault(int(epoch), []).append(value / entropy(rates[objective]))
    return np.array([np.mean(found[epoch]) for epoch in sorted(found)])


def quarter(several: list[dict]) -> Estimate | None:
    """Returns the change of the test logloss from the end of epoch 1 to a quarter into epoch 2.

    The mean is over the objectives, the interval over seeds alone; None if there is no epoch 2.
    """
    changes = []
    for result in several:
        found = {
            (objective, epoch): math.log(max(value, 1e-12))
            for part, epoch, objective, metric, value in result["points"]
            if (part, metric) == ("test", "logloss")
        }
        ends = [objective for objective, epoch in found if epoch == 1]
        if (ends[0], 1.25) not in found:
            return None
        changes.append(np.mean([found[one, 1.25] - found[one, 1.0] for one in ends]))
    return estimate(np.array(changes), np.zeros(2))


@dataclass(frozen=True)
class Verdict:
    """The differences in test logloss of one line, between epochs and with others.

    `epochs` is the number that the line is judged at; `trained` is that of all seeds. `second`
    compares the end of epoch 2 with that of epoch 1. `in_one_epoch` compares one epoch with the
    best plain training, and `repeats` the line's own `epochs` with its first one (None if that is
    all).
    """

    label: str
    choice: Choice
    epochs: int
    trained: int
    second: Estimate | None
    in_one_epoch: Estimate
    repeats: Estimate | None
    against_constant: Estimate
    against_plain: Estimate
    against_advised: Estimate


@dataclass(frozen=True)
class Judgment:
    """The verdicts, the plain training that gains are held against, the advice, and the headline.

    `baseline` and `advised` are a label and a number of epochs; `advised` is the cheapest of those
    that are not shown to differ from the best, and None where the data show nothing to advise.
    The headline is a list of sentences, of which the first is the decision.
    """

    verdicts: list[Verdict]
    baseline: tuple[str, int]
    advised: tuple[str, int] | None
    headline: list[str]


def judge(
    choices: dict[str, Choice],
    losses: dict[str, Losses],
    tuning: dict[str, Losses],
    constant: Losses,
    *,
    reasons: Sequence[str] = (),
    edges: Sequence[str] = (),
) -> Judgment:
    """Judges lines by label; `constant` holds the losses of predicting the training rate.

    losses, tuning: By label, on the test days and on the tuning days; the latter choose the plain
    training to compare with: one epoch, unless several are clearly better. reasons: Why the log
    cannot decide, if it cannot; then there is no advice. edges: The lines whose rate is the last
    that was tried.
    """
    epochs = {label: min(choice.epochs, losses[label].epochs) for label, choice in choices.items()}

    def against(label: str, k: int, other: tuple[str, int]) -> Estimate:
        return difference(losses[label], k, losses[other[0]], other[1])

    plain, baseline = [label for label in (PLAIN, REPEATED) if label in choices], (PLAIN, 1)
    if REPEATED in choices:
        several = difference(tuning[REPEATED], epochs[REPEATED], tuning[PLAIN], 1)
        baseline = (REPEATED, epochs[REPEATED]) if several.falls else baseline
    learned = {label: difference(losses[label], epochs[label], constant, 1) for label in choices}
    gains = {label: against(label, epochs[label], baseline) for label in choices}
    others = choices.keys() - {*plain, ADDITIVE}  # the additive model is a yardstick
    better = [k for k in choices if k in others and gains[k].falls and learned[k].falls]
    # Of those that no other is shown to beat, the cheapest. The one of the lowest loss is of these.
    pairs = [(label, epochs[label]) for label in better]
    equal = [p for p in pairs if not any(against(*other, p).falls for other in pairs)]
    rank = {label: (choices[label].cost, plan.BY_COST.index(label)) for label in better}
    best = min(equal, key=lambda p: rank[p[0]], default=baseline)
    # No line is advised because plain was badly tuned, nor for epochs that only the tuning days
    # ask for.
    rivals = [((label, k), baseline) for label in plain for k in (1, epochs[label])]
    rivals.append(((best[0], 1), best))
    refuted = [(chosen, rival) for rival, chosen in rivals if against(*rival, chosen).falls]
    found = [
        Verdict(
            label,
            choice,
            epochs=epochs[label],
            trained=losses[label].epochs,
            second=against(label, 2, (label, 1)) if losses[label].epochs > 1 else None,
            in_one_epoch=against(label, 1, baseline),
            repeats=against(label, epochs[label], (label, 1)) if epochs[label] > 1 else None,
            against_constant=learned[label],
            against_plain=gains[label],
            against_advised=against(label, epochs[label], best),
        )
        for label, choice in choices.items()
    ]
    advised = best if learned[best[0]].falls and not reasons and not refuted else None
    if reasons:
        headline = [f"No decision: this log cannot decide. {' '.join(reasons)}"]
    elif refuted:
        headline = [_days_differ(*refuted[0], against(*refuted[0][0], refuted[0][1]))]
    elif advised is None:
        headline = [_nothing_to_learn(found, baseline)]
    else:
        headline = [_advice(found, baseline, advised, losses), _certainty(found, advised, edges)]
    headline.append(_answer(found))
    if advised:
        headline += [*_attribution(found, advised), *_interplay(found, advised)]
    return Judgment(found, baseline, advised, headline)


# Sentences ----------------------------------------------------------------------------------------


def _advice(
    found: list[Verdict],
    baseline: tuple[str, int],
    advised: tuple[str, int],
    losses: dict[str, Losses],
) -> str:
    """Says the decision, its reason, its cost and its certainty."""
    ours, of = next(v for v in found if v.label == advised[0]), losses[advised[0]]
    sure = f"95 % intervals over {len(of.sums)} seeds and {of.sizes.sum():,.0f} test impressions"
    how, cost = ours.choice.trial.in_words(), ours.choice.cost
    if advised != baseline:
        price = "2 epochs of training and two models to serve"
        if ours.label != PAIR:
            price = f"{_in_words(cost)} of training"
        return (
            f"Train for {_in_words(advised[1])} with {ours.label} ({how}): its test logloss is "
            f"{ours.against_plain.size} lower than that of the best plain training, at the cost of "
            f"{price} ({sure})."
        )
    text = f"Keep plain training for {_in_words(advised[1])} ({how}): nothing is shown to be better"
    if others := [v for v in found if v.label not in (PLAIN, REPEATED, ADDITIVE)]:
        nearest = min(others, key=lambda v: v.against_plain.mean)
        text += f"; the best, {nearest.label}, differs by {nearest.against_plain}"
    return f"{text} ({sure})."


def _certainty(found: list[Verdict], best: tuple[str, int], edges: Sequence[str]) -> str:
    others = [v for v in found if v.label not in (best[0], ADDITIVE)]
    worse = [v.label for v in others if v.against_advised.rises]
    tied = [v for v in others if v.label not in worse]
    parts = [f"no difference to {_listed(v.label for v in tied)} is shown"] if tied else []
    gain = any(v.against_plain.falls and v.against_constant.falls for v in tied)
    if gain and best[0] not in (PLAIN, REPEATED):
        parts[0] += f"; of those shown to beat plain training, {best[0]} costs least"
    parts += [f"clearly worse: {_listed(worse)}"] if worse else []
    if best[0] in edges:
        parts.append(f"the rate of {best[0]} is the last that was tried, so a better one may exist")
    return f"How sure: {'; '.join(parts)}. Another day is not covered by the intervals."


def _nothing_to_learn(found: list[Verdict], baseline: tuple[str, int]) -> str:
    """Says that nothing is shown to beat a constant, or what is open about that."""
    best = min(found, key=lambda v: v.against_constant.mean)
    constant = "a constant, the rate of the training days"
    if learned := [v.label for v in found if v.against_constant.falls]:
        plain = next(v for v in found if v.label == baseline[0])
        return (
            f"No decision: plain training is not shown to predict better than {constant} "
            f"({plain.against_constant}). That is shown of {_listed(learned)}, but not that it is "
            "better than plain training, or it is logistic regression: more rows or more test days "
            "may decide."
        )
    if best.against_constant.mean <= -COLLAPSE:
        return (
            f"No decision: it is open whether there is anything to learn. {best.label} differs "
            f"from {constant}, by {best.against_constant}, which these test days cannot tell from "
            "none: test on more days (--test-days), or give more rows."
        )
    return (
        f"No decision: nothing to learn was found. No line is shown to predict better than "
        f"{constant}; the best, {best.label}, differs from it by {best.against_constant}: look for "
        "ids or features that matter, or for more rows."
    )


def _days_differ(chosen: tuple[str, int], rival: tuple[str, int], change: Estimate) -> str:
    """Says that the test days refute what the tuning days chose."""
    k, of = rival[1], "" if rival[0] == chosen[0] else f" of {rival[0]}"
    return (
        f"No decision: the tuning days chose {_in_words(chosen[1])} of {chosen[0]}, and on the "
        f"test days these are {change.size} worse than {_in_words(k)}{of}. Tune and test on more "
        "days (--test-days)."
    )


def _answer(found: list[Verdict]) -> str:
    """Answers whether a second epoch of plain training hurts, and by how much."""
    (plain,) = (v for v in found if v.label == PLAIN)
    second, what = plain.second, "a second epoch of plain training"
    assert second is not None
    if second.word == "open":
        text = f"Open: {what} changes the test logloss by {second}"
    elif second.rises:
        text = f"Yes: {what} raises the test logloss by {second.size}"
    elif second.falls:
        text = f"No: {what} lowers the test logloss by {second.size}"
    else:
        text = f"No: {what} does not raise the test logloss ({second})"
    slow = [v for v in found if v.label == REPEATED and v.choice.trial != plain.choice.trial]
    if second.rises and slow:
        rate = f"{slow[0].choice.trial.dense_lr:.2g}, the learning rate that suits more epochs"
        text += f". With {rate}, it changes it by {slow[0].second}"
    others = [v.label for v in found if v.second and v.second.rises and v.label != REPEATED]
    if others and not second.rises:
        text += f". But it hurts {_listed(others)}"
    return text + "."


def _attribution(found: list[Verdict], advised: tuple[str, int]) -> list[str]:
    """Says what of a gain is a rule and a rate for the tables, without any repetition."""
    ours = next(v for v in found if v.label == advised[0])
    if ours.repeats is not None:
        return [
            f"The first epoch of {ours.label}, in which nothing is reset, differs by "
            f"{ours.in_one_epoch} from the best plain training, and the epochs after it change its "
            f"own logloss by {ours.repeats}."
        ]
    rules = [f"{v.label} {v.in_one_epoch}" for v in found if v.label in (SPARSE, ADAGRAD)]
    what = "In one epoch, without any remedy, against the best plain training"
    return [f"{what}: {'; '.join(rules)}."] if rules else []


def _interplay(found: list[Verdict], advised: tuple[str, int]) -> list[str]:
    """Says whether the model is shown to learn more than a bias for each id."""
    change = [v.against_advised for v in found if v.label == ADDITIVE]
    if not change:
        return []
    text = "An additive model (a bias for each id: logistic regression) differs by "
    text += f"{change[0]} from {advised[0]}, so the model is "
    if change[0].rises:
        return [text + "shown to learn an interplay of ids."]
    remedy = "repeat no epochs of a model that does not beat logistic regression"
    return [f"{text}not shown to learn an interplay of ids: {remedy}."]


def _listed(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def _in_words(epochs: int) -> str:
    return f"{epochs} epoch" if epochs == 1 else f"{epochs} epochs"
