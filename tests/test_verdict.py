"""The verdicts and the advice of `compare`, from made-up losses: no model is trained here."""

import numpy as np
import pytest

from multiepoch_compare import plan
from multiepoch_compare import verdict as judge
from multiepoch_compare.estimates import Estimate, Losses, difference, estimate
from multiepoch_compare.outlook import COLLAPSE
from multiepoch_compare.plan import Trial
from multiepoch_lab.train.metrics import entropy

SIZES = np.full(20, 50)
BLOCKS = {"blocks": SIZES}


def losses(*by_epoch, n_seeds=3, noise=0.0, seed=0):
    """Of a line whose one objective has those mean losses after each epoch."""
    rng = np.random.default_rng(seed)
    value = np.array(by_epoch)[None, :, None, None]
    drawn = value * (1 + noise * rng.normal(size=(n_seeds, len(by_epoch), 1, len(SIZES))))
    return Losses([{"blocks": one} for one in drawn * SIZES], BLOCKS)


def judged(constant=1.0, reasons=(), edges=(), **lines):
    """Judges lines given as (number of epochs, losses, losses on the tuning days, if others)."""
    named = {name.replace("_", " "): value for name, value in lines.items()}
    of = {name: own for name, (_, own, *_) in named.items()}
    tuning = {name: several[-1] for name, several in named.items()}
    choices = {
        name: judge.Choice(Trial(name, "plain", 1e-3, 1e-2), epochs)
        for name, (epochs, *_) in named.items()
    }
    constants = losses(constant, n_seeds=1)
    found = judge.judge(choices, of, tuning, constants, reasons=reasons, edges=edges)
    return {v.label: v for v in found.verdicts}, found


def said(judgment, start):
    (sentence,) = (one for one in judgment.headline if one.startswith(start))
    return sentence


@pytest.mark.parametrize(
    "low, high, word",
    [
        (12.6, 95.2, "worse"),
        (0.1, 0.7, "worse"),
        (-5.0, 15.0, "open"),
        (-0.2, 0.8, "open"),
        (-0.2, 0.4, "no difference"),
        (-4.2, 0.2, "open"),
        (-0.5, -0.1, "better"),
    ],
)
def test_the_word_follows_the_interval(low, high, word):
    assert Estimate((low + high) / 2, low, high).word == word


def test_the_answer_on_plain_training_follows_its_second_epoch():
    for second, start in ((0.55, "Yes: a second epoch of plain training raises"), (0.45, "No: a")):
        found, judgment = judged(plain=(1, losses(0.5, second, noise=1e-3)))
        assert found["plain"].second.mean == pytest.approx(200 * second - 100, abs=0.5)
        assert said(judgment, start)
    _, judgment = judged(plain=(1, losses(0.5, 0.5, noise=0.1)))
    assert said(judgment, "Open: a second epoch")


def test_a_plain_that_collapses_at_one_rate_and_gains_at_another_is_said_to():
    plain, slow = losses(0.5, 0.6, 0.7, noise=1e-3), losses(0.6, 0.5, 0.49, noise=1e-3)
    choices = {
        plan.PLAIN: judge.Choice(Trial(plan.PLAIN, "plain", 1e-2, 1e-2), 1),
        plan.REPEATED: judge.Choice(Trial(plan.PLAIN, "plain", 1e-3, 1e-3), 3),
    }
    of = {plan.PLAIN: plain, plan.REPEATED: slow}
    judgment = judge.judge(choices, of, of, losses(1.0, n_seeds=1))
    assert "With 0.001, the learning rate that suits more epochs" in said(judgment, "Yes")
    assert judgment.headline[0].startswith("Keep plain training for 3 epochs")


def test_the_decision_comes_first_with_its_cost_and_certainty():
    found, judgment = judged(
        plain=(1, losses(0.5, 0.55, 0.6, noise=1e-4)),
        MEDA=(3, losses(0.5, 0.49, 0.48, noise=1e-4, seed=1)),
        tail_rewind=(2, losses(0.5, 0.48, 0.49, noise=1e-3, seed=2)),
        FAL=(1, losses(0.499, 0.5, 0.5, noise=1e-4, seed=3)),
        edges=["tail rewind"],
    )
    decision, certainty, *_ = judgment.headline
    assert judgment.advised == ("tail rewind", 2)
    assert decision.startswith("Train for 2 epochs with tail rewind")
    assert f"{found['tail rewind'].against_plain.size} lower" in decision
    assert "at the cost of 2 epochs of training" in decision and "over 3 seeds" in decision
    assert certainty.startswith("How sure: no difference to MEDA is shown")
    assert "clearly worse: plain and FAL" in certainty
    assert "the rate of tail rewind is the last that was tried" in certainty


def test_of_what_is_not_shown_to_differ_the_cheapest_is_advised():
    one = {"plain": (1, losses(0.5, 0.55, 0.6, noise=1e-4))}
    noisy = losses(0.46, 0.47, 0.48, noise=0.05, seed=2)
    one |= {"MEDA": (2, losses(0.47, 0.458, 0.47, noise=1e-4, seed=1))}
    _, judgment = judged(**one, **{plan.ADAGRAD: (1, noisy)})
    assert judgment.advised == (plan.ADAGRAD, 1)
    assert "row-wise Adagrad costs least" in said(judgment, "How sure")
    # At the same number of epochs, what holds and serves less; and a clear loss is no tie.
    _, judgment = judged(**one, **{plan.ADAGRAD: (1, noisy), plan.DROPPED: (1, noisy)})
    assert judgment.advised == (plan.DROPPED, 1)
    worse = losses(0.49, 0.5, 0.5, noise=1e-4, seed=2)
    _, judgment = judged(**one, **{plan.ADAGRAD: (1, worse)})
    assert judgment.advised == ("MEDA", 2)


def test_two_models_cost_two_epochs():
    choice = judge.Choice(Trial(plan.PAIR, "plain", 1e-3, 1e-2, serve="pair"), 1)
    assert choice.cost == 2


def result(rate, *by_epoch, part="validation"):
    points = [[part, k + 1.0, "y", "logloss", v] for k, v in enumerate(by_epoch)]
    trial = Trial("MEDA", "meda", 1e-3, rate).__dict__
    return {"status": "ok", "trial": trial, "points": points}


def test_a_trial_is_chosen_for_the_epochs_that_it_is_judged_at():
    results = [result(0.3, 0.40, 0.50, 0.60), result(0.1, 0.45, 0.44, 0.43), result(1.0, 0.9)]
    chosen = {ends: judge.choose(results, {"y": 0.3}, *ends) for ends in ((1, 1), (2, None), (1,))}
    found = {ends: (one.trial.embedding_lr, one.epochs) for ends, one in chosen.items()}
    assert found == {(1, 1): (0.3, 1), (2, None): (0.1, 3), (1,): (0.3, 1)}
    assert judge.choose(results[2:], {"y": 0.3}, 2) is None  # it stopped before
    assert judge.choose([{"status": "diverged", "trial": {}}], {"y": 0.3}) is None


def test_tuning_looks_at_the_tuning_days_alone():
    one = result(0.1, 0.4)
    one["points"] += result(0.1, 0.9, part="test")["points"]
    assert judge.score(one, {"y": 0.3}) == pytest.approx(0.4 / entropy(0.3))


def test_a_reset_is_credited_with_what_its_repeats_add():
    found, judgment = judged(
        plain=(1, losses(0.5, 0.55, 0.6, noise=1e-4)),
        MEDA=(2, losses(0.48, 0.47, 0.48, noise=1e-4, seed=1)),
    )
    meda = found["MEDA"]
    assert meda.in_one_epoch.mean == pytest.approx(-4, abs=0.1)
    assert meda.repeats.mean == pytest.approx(-2.1, abs=0.1) and found["plain"].repeats is None
    sentence = said(judgment, "The first epoch of MEDA, in which nothing is reset")
    assert str(meda.in_one_epoch) in sentence and str(meda.repeats) in sentence


def test_without_a_clear_gain_plain_stays():
    _, judgment = judged(
        plain=(1, losses(0.5, 0.5, 0.5, noise=0.02)),
        MEDA=(2, losses(0.5, 0.499, 0.5, noise=0.02, seed=5)),
    )
    assert judgment.headline[0].startswith("Keep plain training for 1 epoch")
    assert judgment.advised == ("plain", 1)


def test_gains_are_held_against_the_plain_training_that_the_tuning_days_chose():
    tuning, test = losses(0.6, 0.5, 0.4, noise=1e-3), losses(0.6, 0.5, 0.49, noise=1e-2)
    both = {
        "plain": (1, losses(0.49, 0.6, 0.7, noise=1e-2)),
        plan.REPEATED: (3, test, tuning),
        "MEDA": (2, losses(0.45, 0.45, 0.45)),
    }
    found, judgment = judged(**both)
    assert judgment.baseline == (plan.REPEATED, 3)
    assert found["MEDA"].against_plain.mean == pytest.approx(100 * (0.45 / 0.49 - 1), abs=0.5)


def test_there_is_no_advice_where_the_test_days_refute_what_the_tuning_days_chose():
    better, worse = losses(0.5, 0.45, 0.4, noise=1e-3), losses(0.5, 0.52, 0.55, noise=1e-3)
    refuted = {"plain": (1, worse, better), plan.REPEATED: (3, worse, better)}
    for lines in (refuted, {**refuted, "FAL": (1, losses(0.3, 0.31, 0.32, noise=1e-3))}):
        _, judgment = judged(**lines)
        assert judgment.baseline == (plan.REPEATED, 3) and judgment.advised is None
        assert judgment.headline[0].startswith("No decision: the tuning days chose 3 epochs of")
    _, judgment = judged(plain=(1, losses(0.6, 0.7, 0.8, noise=1e-3)), MEDA=(3, worse, better))
    assert judgment.advised is None and "3 epochs of MEDA" in judgment.headline[0]


@pytest.mark.parametrize(
    "constant, noise, start",
    [
        (0.4, 1e-3, "No decision: nothing to learn was found."),
        (0.53, 0.3, "No decision: it is open whether there is anything to learn."),
    ],
)
def test_nothing_to_learn_is_not_said_of_what_is_open(constant, noise, start):
    found, judgment = judged(constant=constant, plain=(1, losses(0.5, 0.6, noise=noise)))
    assert judgment.headline[0].startswith(start) and judgment.advised is None
    assert (found["plain"].against_constant.mean < -COLLAPSE) == ("open" in start)


def test_a_model_not_shown_to_beat_the_constant_is_not_kept():
    found, judgment = judged(
        constant=0.5,
        plain=(1, losses(0.499, 0.52, 0.53, noise=0.08)),
        MEDA=(2, losses(0.49, 0.49, 0.49, noise=0.01, seed=1)),
    )
    assert found["MEDA"].against_constant.falls and not found["MEDA"].against_plain.falls
    assert judgment.advised is None and judgment.headline[0].startswith("No decision: plain")


def test_the_additive_model_is_a_yardstick_and_no_advice():
    of = {"plain": (1, losses(0.5, 0.6, 0.7, noise=1e-4))}
    for loss, words in ((0.49, "not shown to learn"), (0.52, "is shown to learn")):
        _, judgment = judged(**of, additive=(1, losses(loss, noise=1e-4, seed=1)))
        assert judgment.advised == ("plain", 1)
        assert f"{words} an interplay of ids" in judgment.headline[-1]


def test_a_log_that_cannot_decide_gives_no_advice():
    reasons = ["'click' has 3 ones."]
    _, judgment = judged(reasons=reasons, plain=(1, losses(0.5, 0.6)), MEDA=(2, losses(0.4, 0.3)))
    assert judgment.headline[0] == f"No decision: this log cannot decide. {reasons[0]}"
    assert judgment.advised is None


def test_seeds_that_stopped_earlier_are_compared_over_the_epochs_that_all_have():
    short, long = losses(0.5, 0.6, noise=1e-3), losses(0.5, 0.6, 0.7, noise=1e-3)
    own = Losses([{"blocks": short.sums[0]}, {"blocks": long.sums[1]}], BLOCKS)
    assert own.epochs == 2 and own.sums.shape[:2] == (2, 2)


def test_the_interval_holds_seeds_and_impressions():
    by_seed = np.array([0.010, 0.012, 0.008])
    seeds_alone = estimate(by_seed, np.full(20, 0.01))
    both = estimate(by_seed, np.linspace(-0.01, 0.03, 20))
    assert both.high - both.low > 1.2 * (seeds_alone.high - seeds_alone.low) > 0


# The advice and its own table ---------------------------------------------------------------------


def random_table(rng):
    """Losses on the test days and the tuning days that have little or nothing in common."""
    last, n_seeds = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    labels = ["plain", *([plan.REPEATED] if rng.random() < 0.5 else [])]
    labels += ["FAL", "MEDA", "tail rewind"][: rng.integers(1, 4)]
    labels += ["additive"] if rng.random() < 0.3 else []
    spread = 10 ** rng.uniform(-3, -0.5)
    of, tuning, choices, common = {}, {}, {}, rng.random()
    for k, label in enumerate(labels):
        shared, noise = common * rng.normal(size=last), 10 ** rng.uniform(-4, -0.7)
        for part in (of, tuning):
            level = 0.5 * np.exp(spread * (shared + (1 - common) * rng.normal(size=last)))
            seed = rng.integers(2**32)
            part[label] = losses(*level, n_seeds=n_seeds, noise=noise, seed=seed)
        least = 2 if label in (plan.REPEATED, *plan.RESETS) else 1
        epochs = 1 if label in plan.ONCE else int(rng.integers(least, last + 1))
        choices[label] = judge.Choice(Trial(label, "plain", 10 ** -(2 + k), 1e-2), epochs)
    constant = losses(rng.choice([0.4, 0.5, 0.9], p=[0.1, 0.2, 0.7]), n_seeds=1)
    return of, tuning, judge.judge(choices, of, tuning, constant)


def contradictions(of, tuning, judgment):
    """What the headline says that the numbers beside it do not."""
    found = {v.label: v for v in judgment.verdicts}
    learned = {label for label, v in found.items() if v.against_constant.falls} - {"additive"}
    decision, (label, epochs) = judgment.headline[0], judgment.baseline
    if (judgment.advised is None) != decision.startswith("No decision"):
        yield f"{judgment.advised}, but {decision}"
    if label != "plain" and not difference(tuning[label], epochs, tuning["plain"], 1).falls:
        yield f"{label} is the baseline, but the tuning days do not show it"
    gains = [v for v in found.values() if v.against_plain.falls and v.label in learned]
    if judgment.advised is None:
        if gains and "the tuning days chose" not in decision:
            yield f"no advice, but {[v.label for v in gains]} gain"
        return
    plain = {"plain", plan.REPEATED} & set(found)
    if any(
        difference(of[other], k, of[label], epochs).falls
        for other in plain
        for k in (1, found[other].epochs)
    ):
        yield f"{label} is a bad baseline"
    name, k = judgment.advised
    if name not in learned or (decision.startswith("Train") != bool(gains)):
        yield f"{decision}, but {len(gains)} gains"
    if f"for {k} epoch" not in decision or (gains and f"with {name} (" not in decision):
        yield f"{name} for {k} epochs, but {decision}"
    if difference(of[name], 1, of[name], k).falls:
        yield f"{name} is better after one epoch"
    tied, _, worse = judgment.headline[1].partition("clearly worse: ")
    for v in found.values():
        if v.label in (name, "additive"):
            continue
        if v.against_advised.falls and v.label in learned:
            yield f"{v.label} is better than what is advised"
        if v.label not in (worse if v.against_advised.rises else tied):
            yield f"{v.label}: {v.against_advised}, but {judgment.headline[1]}"


def test_the_advice_never_contradicts_its_own_table():
    kinds = set()
    for seed in range(300):
        of, tuning, judgment = random_table(np.random.default_rng(seed))
        assert list(contradictions(of, tuning, judgment)) == [], f"table {seed}"
        kinds.add(" ".join(judgment.headline[0].split()[:4]))
    assert len(kinds) >= 5, f"too few kinds of advice to be a test: {kinds}"
