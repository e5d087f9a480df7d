"""Judges the results: does a second epoch hurt, which method to use, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from multiepoch_compare.estimates import Estimate, Losses, difference, estimate
from multiepoch_compare.plan import (
    ADAGRAD,
    ADDITIVE,
    BY_COST,
    COLLAPSE,
    ENDS,
    REPEATED,
    RESETS,
    SPARSE,
    Trial,
)
from multiepoch_lab.stats import interval
from multiepoch_lab.train.metrics import entropy

AGAIN = REPEATED["plain"]
PLAIN = ("plain", AGAIN)


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
    """The trial and the number of epochs that tuning chose together for a line.

    `scores` are those of the validation day after each epoch.
    """

    trial: Trial
    scores: tuple[float, ...]
    epochs: int

    def best(self, last: int) -> int:
        """Returns the number of epochs with the best score, of at most `last`."""
        return int(np.argmin(self.scores[:last])) + 1


def choose(
    results: list[dict], rates: dict, first: int = 1, last: int | None = None
) -> Choice | None:
    """Chooses the trial and the number of epochs with the lowest validation score.

    Epochs count from `first` to `last`. Returns None if every trial diverged, or stopped before.
    """
    scores = [score(result, rates) for result in results]
    of_those = [s[first - 1 : last] for s in scores]
    best = int(np.argmin([s.min(initial=np.inf) for s in of_those]))
    if not np.isfinite(of_those[best].min(initial=np.inf)):
        return None
    epochs = first + int(np.argmin(of_those[best]))
    return Choice(Trial(**results[best]["trial"]), tuple(scores[best].tolist()), epochs)


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
    jumps = [quarter(several) for several in (plain, control)]
    found = [estimate(values, np.zeros(2)) for values in jumps]
    if found[0].kind != "rise" or (jumps[0] <= 0).any():
        return None
    return OwnLabel(Estimate(*interval(100 * (1 - jumps[1] / jumps[0]))), *found)


def quarter(several: list[dict]) -> np.ndarray:
    """Returns the change of the test logloss from the end of epoch 1 to a quarter into epoch 2.

    As log ratios by seed, mean over the objectives, (n_seeds,).
    """

    def change(result: dict) -> float:
        found = {
            (objective, epoch): math.log(max(value, 1e-12))
            for part, epoch, objective, metric, value in result["points"]
            if (part, metric) == ("test", "logloss")
        }
        return float(np.mean([found[o, 1.25] - found[o, 1.0] for o, epoch in found if epoch == 1]))

    return np.array([change(result) for result in several])


@dataclass(frozen=True)
class Verdict:
    """The differences in test logloss of one method, between epochs and with others.

    `epochs` is the number that the line is judged at; `trained` is that of all seeds.
    `second` compares the end of epoch 2 with that of epoch 1, `last` the end of the last epoch with
    that of epoch `before`, the best earlier one on the validation day. `onset` is the first epoch
    that collapses against the best before it; None if there is none. `in_one_epoch` compares one
    epoch with the best plain training, `repeats` the method's own `epochs` with its first one (None
    if that is all), and `quarter` a quarter into epoch 2 with the end of epoch 1 (over seeds
    alone).
    """

    label: str
    choice: Choice
    epochs: int
    trained: int
    before: int
    onset: int | None
    second: Estimate
    last: Estimate
    in_one_epoch: Estimate
    repeats: Estimate | None
    against_constant: Estimate
    against_plain: Estimate
    against_advised: Estimate
    quarter: Estimate | None


@dataclass(frozen=True)
class Judgment:
    """The verdicts, the plain training that gains are held against, the advice, and the headline.

    `baseline` and `advised` are a label and a number of epochs; `advised` is the cheapest of those
    that are not shown to differ from the best, and None where the data show nothing to advise.
    `interplay` is a label and by how much the additive model's loss is above its, both after one
    epoch. The headline is a list of sentences.
    """

    verdicts: list[Verdict]
    baseline: tuple[str, int]
    advised: tuple[str, int] | None
    interplay: tuple[str, Estimate] | None
    headline: list[str]


def judge(
    choices: dict[str, Choice],
    losses: dict[str, Losses],
    tuning: dict[str, Losses],
    constant: Losses,
    *,
    quarters: dict[str, np.ndarray] | None = None,
    seen: OwnLabel | None = None,
    refusal: str | None = None,
) -> Judgment:
    """Judges methods by label; `constant` holds the losses of predicting the training rate.

    losses, tuning: By label, on the test days and on the tuning days; the latter choose the plain
    training to compare with: one epoch, unless several are clearly better. quarters: As
    `quarter` returns them, by label. seen: As from `own_label`. refusal: Why the test part decides
    nothing, if it does not; then there is no advice.
    """
    epochs = {label: min(choice.epochs, losses[label].epochs) for label, choice in choices.items()}

    def against(label: str, k: int, other: tuple[str, int]) -> Estimate:
        return difference(losses[label], k, losses[other[0]], other[1])

    def tuned(pair: tuple[str, int]) -> float:
        return float(np.log(tuning[pair[0]].at(pair[1])[0]).mean())

    plain, baseline = [label for label in PLAIN if label in choices], ("plain", 1)
    if AGAIN in choices:
        several = difference(tuning[AGAIN], epochs[AGAIN], tuning["plain"], 1)
        baseline = (AGAIN, epochs[AGAIN]) if several.falls else baseline
    learned = {label: difference(losses[label], epochs[label], constant, 1) for label in choices}
    gains = {label: against(label, epochs[label], baseline) for label in choices}
    others = choices.keys() - {*PLAIN, ADDITIVE}  # the additive model is a yardstick
    better = [k for k in choices if k in others and gains[k].falls and learned[k].falls]
    # Of those that no other is shown to beat, the cheapest. The one of the lowest loss is of these.
    pairs = [(label, epochs[label]) for label in better]
    equal = [p for p in pairs if not any(against(*other, p).falls for other in pairs)]
    best = min(equal, key=lambda p: (p[1], BY_COST.index(p[0])), default=baseline)
    # No method is advised because plain was badly tuned, nor for epochs that only the tuning days
    # ask for.
    rivals = [((label, k), baseline) for label in plain for k in (1, epochs[label])]
    rivals.append(((best[0], 1), best))
    refuted = [(chosen, rival) for rival, chosen in rivals if against(*rival, chosen).falls]
    found = []
    for label, choice in choices.items():
        own, last = losses[label], losses[label].epochs
        changes = {k: difference(own, k, own, choice.best(k - 1)) for k in range(2, last + 1)}
        dip = None if quarters is None else estimate(quarters[label], np.zeros(2))
        found.append(
            Verdict(
                label,
                choice,
                epochs=epochs[label],
                trained=last,
                before=choice.best(last - 1),
                onset=next((k for k, change in changes.items() if change.kind == "rise"), None),
                second=changes[2],
                last=changes[last],
                in_one_epoch=against(label, 1, baseline),
                repeats=against(label, epochs[label], (label, 1)) if epochs[label] > 1 else None,
                against_constant=learned[label],
                against_plain=gains[label],
                against_advised=against(label, epochs[label], best),
                quarter=dip,
            )
        )
    answers = [_answer(found), *([seen_in_words(seen)] if seen else [])]
    one_seed = losses[best[0]].sums.shape[0] == 1
    shown = any(v.against_constant.falls for v in found)
    advised = best if learned[best[0]].falls and not refusal and not refuted else None
    interplay = None
    if ADDITIVE in choices:
        one_epoch = [(k, 1) for k in (*PLAIN, SPARSE, ADAGRAD) if k in choices]
        full = min(one_epoch, key=tuned)
        interplay = full[0], against(ADDITIVE, 1, full)
    if refusal:
        headline = [refusal, *answers]
    elif not shown and not (one_seed and any(v.against_constant.mean < 0 for v in found)):
        headline = [*_nothing_to_learn(found), *answers]
    elif one_seed:
        headline = [*answers, "No advice: one seed gives no interval; give at least --seeds 3."]
    else:
        differ = [_days_differ(*pair, against(*pair[0], pair[1])) for pair in refuted[:1]]
        headline = [*answers, *(differ or [_advice(found, baseline, advised)])]
        headline += _in_one_epoch(found)
        headline += [_certainty(found, advised)] if advised else []
        if interplay:
            (additive,) = (v for v in found if v.label == ADDITIVE)
            headline.append(_interplay(additive, *interplay, best[0]))
    return Judgment(found, baseline, advised, interplay, headline)


# Sentences ----------------------------------------------------------------------------------------


def too_few(n: float, half: float, needed: int) -> str:
    """Says that so many test impressions decide nothing."""
    return (
        f"No advice: a test part of {n:,.0f} impressions decides nothing. Its intervals are likely "
        f"to be ±{half:.1f} % or wider, and a verdict needs ±{COLLAPSE} %, for which about "
        f"{needed:,} impressions are needed: give more days to test on (--test-days), or more data."
    )


def _nothing_to_learn(found: list[Verdict]) -> list[str]:
    """Says that nothing is shown to beat a constant, or that it is open whether anything does."""
    best = min(found, key=lambda v: v.against_constant.mean)
    if best.against_constant.mean <= -COLLAPSE:
        return [
            f"Open whether there is anything to learn: the logloss of the best, {best.label}, "
            "differs from that of a constant, the rate of the training days, by "
            f"{best.against_constant}, which these test days cannot tell from none.",
            "So there is no advice: test on more days (--test-days), or give more rows.",
        ]
    return [
        "Nothing to learn was found: no method is shown to predict the test day better than a "
        f"constant, the rate of the training days. The logloss of the best, {best.label}, differs "
        f"from the constant's by {best.against_constant}.",
        "So there is no advice: look for ids or features that matter, for more rows, or test on "
        "more days (--test-days).",
    ]


def _answer(found: list[Verdict]) -> str:
    """Answers whether a second epoch hurts, by how much, and from where on."""
    (plain,) = (v for v in found if v.label == "plain")
    last, second = plain.trained, plain.second
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
    slow = [v for v in found if v.label == AGAIN and v.choice.trial != plain.choice.trial]
    if plain.onset and slow:
        rate = f"{slow[0].choice.trial.dense_lr:.2g}, the learning rate that suits more epochs"
        text += f". With {rate}, the second epoch changes it by {slow[0].second}"
    if plain.onset is None:
        others = [v.label for v in found if v.onset]
        text += f". But more epochs hurt {_listed(others)}" if others else ""
    return text + "."


def seen_in_words(seen: OwnLabel) -> str:
    share = seen.share
    most, low, high = (f"{min(x, 100):.0f}" for x in (share.mean, share.low, share.high))
    less = "nothing is left of it" if share.mean > 100 else "this is what is left of it"
    return (
        f"About {most} % [{low}, {high}] of the jump on this log is labels that rows have seen: a "
        "quarter into epoch 2, the test logloss of plain training differs from that of epoch 1 by "
        f"{seen.jump}, and by {seen.control} if each impression is predicted from rows that have "
        f"not seen its label (two-fold tables): {less}."
    )


def _advice(
    found: list[Verdict], baseline: tuple[str, int], advised: tuple[str, int] | None
) -> str:
    by_label = {v.label: v for v in found}
    plain = by_label[baseline[0]]
    against = f"at one shared learning rate ({plain.choice.trial.dense_lr:.2g}) for "
    against += _in_words(baseline[1])
    if advised is None:
        learned = [v.label for v in found if v.against_constant.falls and v.label != ADDITIVE]
        text = "No advice: plain training is not shown to predict better than a constant "
        text += f"({plain.against_constant}). "
        if not learned:
            return f"{text}That is shown of the additive model alone, the baseline."
        return (
            f"{text}That is shown of {_listed(learned)}, but not that it is better than plain "
            "training: more rows or more test days may decide."
        )
    if advised != baseline:
        ours = by_label[advised[0]]
        text = (
            f"Train for {_in_words(advised[1])} with {ours.label}: its test logloss is "
            f"{ours.against_plain.size} lower than that of the best plain training, {against}."
        )
        if advised[0] in (*RESETS, ENDS):
            text += (
                f" Its first epoch, in which nothing is reset, differs by {ours.in_one_epoch} from "
                "that plain training, and the epochs after it change its own logloss by "
                f"{ours.repeats}."
            )
        if advised[1] > 1 and ours.quarter and ours.quarter.mean > 0:
            text += f" A quarter into epoch 2 it differs by {ours.quarter} from that of epoch 1: "
            text += "until an epoch ends, serve the checkpoint of the end before it."
        return text
    others = [v for v in found if v.label not in (*PLAIN, ADDITIVE)]
    text = f"Keep plain training {against}: no method is shown to be better."
    if others:
        nearest = min(others, key=lambda v: v.against_plain.mean)
        text += f" The test logloss of the best, {nearest.label}, differs by "
        text += f"{nearest.against_plain}."
    return text


def _in_one_epoch(found: list[Verdict]) -> list[str]:
    """Says what a rule and a rate for the tables give without any repetition."""
    rules = [f"{v.label} {v.in_one_epoch}" for v in found if v.label in (SPARSE, ADAGRAD)]
    what = "In one epoch, without any remedy, against the best plain training"
    return [f"{what}: {'; '.join(rules)}."] if rules else []


def _certainty(found: list[Verdict], best: tuple[str, int]) -> str:
    others = [v for v in found if v.label not in (best[0], ADDITIVE)]
    worse = [v.label for v in others if v.against_advised.kind in ("rise", "slight rise")]
    tied = [v.label for v in others if v.label not in worse]
    parts = [f"no difference to {_listed(tied)} is shown"] if tied else []
    rivals = [v for v in others if v.label in tied and v.against_plain.falls]
    if best[0] not in PLAIN and any(v.against_constant.falls for v in rivals):
        parts[0] += "; of those shown to beat plain training and the "
        parts[0] += f"constant, {best[0]} costs least"
    parts += [f"clearly worse: {_listed(worse)}"] if worse else []
    return f"How sure: {'; '.join(parts)}. Another day is not covered by the intervals."


def _days_differ(chosen: tuple[str, int], rival: tuple[str, int], change: Estimate) -> str:
    """Says that the test days refute what the tuning days chose."""
    k, of = rival[1], "" if rival[0] == chosen[0] else f" of {rival[0]}"
    return (
        f"No advice: the tuning days chose {_in_words(chosen[1])} of {chosen[0]}, and on the test "
        f"days these are {change.size} worse than {_in_words(k)}{of}. Tune and test on more days "
        "(--test-days)."
    )


def _interplay(additive: Verdict, full: str, share: Estimate, best: str) -> str:
    """Says whether the model is shown to learn more than a bias for each id."""
    change = additive.against_advised
    shown = "shown to learn an interplay of ids"
    text = (
        "As a baseline, an additive model (a bias for each id: logistic regression): after one "
        f"epoch, its test logloss differs by {share} from that of {full}, the share of interplay; "
        f"after {_in_words(additive.epochs)}, by {change} from that of {best}. "
    )
    if change.low > 0:
        return f"{text}So the model is {shown}; how much, does not say what more epochs would gain."
    return (
        f"{text}So the model is not {shown}: repeat no epochs of a model that does not beat "
        "logistic regression."
    )


def _listed(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def _in_words(epochs: int) -> str:
    return f"{epochs} epoch" if epochs == 1 else f"{epochs} epochs"
