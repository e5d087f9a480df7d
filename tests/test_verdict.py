"""The verdicts and the advice of `compare`, from made-up losses: no model is trained here."""

import numpy as np
import pytest

from multiepoch_compare import plan
from multiepoch_compare import verdict as judge
from multiepoch_compare.estimates import WORDS
from multiepoch_compare.plan import Trial
from multiepoch_compare.verdict import Estimate

SIZES = np.full(20, 50)
BLOCKS = {"blocks": SIZES}


def losses(*by_epoch, n_seeds=3, noise=0.0, seed=0):
    """Of a method whose one objective has those mean losses after each epoch."""
    rng = np.random.default_rng(seed)
    value = np.array(by_epoch)[None, :, None, None]
    drawn = value * (1 + noise * rng.normal(size=(n_seeds, len(by_epoch), 1, len(SIZES))))
    return judge.Losses([{"blocks": one} for one in drawn * SIZES], BLOCKS)


def choice(label, epochs, last=3):
    scores = tuple(1 + 0.1 * abs(k - epochs) for k in range(1, last + 1))
    once = label in plan.ONCE
    return judge.Choice(Trial(label, "plain", 1e-3, 1e-2), scores, 1 if once else epochs)


def judged(constant=1.0, **methods):
    """Judges methods given as (best number of epochs on the validation day, losses, losses on the
    tuning days, if these are others)."""
    named = {name.replace("_", " "): value for name, value in methods.items()}
    of = {name: own for name, (_, own, *_) in named.items()}
    tuning = {name: several[-1] for name, several in named.items()}
    choices = {name: choice(name, epochs) for name, (epochs, *_) in named.items()}
    found = judge.judge(choices, of, tuning, losses(constant, n_seeds=1))
    return {v.label: v for v in found.verdicts}, found


# Verdicts by interval: the words for more epochs, and against another method.
@pytest.mark.parametrize(
    "mean, low, high, words",
    [
        (53.9, 12.6, 95.2, ("collapses", "worse")),
        (0.6, 0.1, 1.1, ("collapses", "worse")),
        (0.4, 0.1, 0.7, ("gets slightly worse", "slightly worse")),
        (5.0, -5.0, 15.0, ("open", "open")),
        (0.0, -15.0, 15.0, ("open", "open")),
        (-9.0, -20.0, 2.0, ("open", "open")),
        (0.3, -0.2, 0.8, ("open", "open")),
        (0.1, -0.2, 0.4, ("no change", "no difference")),
        (-0.2, -0.4, 0.0, ("no change", "no difference")),
        (-2.0, -4.2, 0.2, ("no collapse", "not worse")),
        (-0.3, -0.5, -0.1, ("improves slightly", "slightly better")),
        (-5.5, -8.3, -2.7, ("improves", "better")),
        (20.0, None, None, ("open", "open")),
        (-20.0, None, None, ("open", "open")),
    ],
)
def test_the_words_follow_the_interval(mean, low, high, words):
    assert WORDS[Estimate(mean, low, high).kind] == words


def test_a_rise_is_a_collapse_of_that_size():
    found, judgment = judged(
        plain=(1, losses(0.5, 0.55, 0.6, noise=1e-3)), MEDA=(3, losses(0.5, 0.49, 0.48, noise=1e-3))
    )
    plain, meda = found.values()
    assert plain.onset == 2 and plain.second.mean == pytest.approx(10, abs=0.5)
    assert plain.last.mean == pytest.approx(20, abs=0.5) and plain.last.low < 20 < plain.last.high
    assert judgment.headline[0].startswith("Yes: a second epoch of plain training raises")
    assert meda.onset is None and meda.last.kind == "fall"
    assert meda.against_plain.mean == pytest.approx(-4, abs=0.5)


def test_a_collapse_counts_even_if_the_validation_day_prefers_the_last_epoch():
    found, judgment = judged(plain=(3, losses(0.5, 0.55, 0.6, noise=1e-3)))
    assert found["plain"].onset == 2 and found["plain"].epochs == 1
    assert judgment.headline[0].startswith("Yes")


def test_a_collapse_that_begins_later_is_said_to():
    _, judgment = judged(plain=(2, losses(0.5, 0.48, 0.6, noise=1e-3)))
    assert judgment.headline[0].startswith("No: a second epoch of plain training lowers")
    assert "The collapse begins with epoch 3" in judgment.headline[0]


def test_it_says_which_methods_collapse_where_plain_does_not():
    _, judgment = judged(
        plain=(3, losses(0.5, 0.49, 0.48, noise=1e-4)), FAL=(1, losses(0.5, 0.6, 0.7, noise=1e-4))
    )
    assert "But more epochs hurt FAL" in judgment.headline[0]


def test_a_plain_that_collapses_at_one_rate_and_gains_at_another_is_said_to():
    _, judgment = judged(
        **{
            "plain": (1, losses(0.5, 0.6, 0.7, noise=1e-3)),
            "plain, repeated": (3, losses(0.6, 0.5, 0.49, noise=1e-3)),
        }
    )
    answer, advice, _ = judgment.headline
    assert answer.startswith("Yes") and "the second epoch changes it by -16." in answer
    assert advice.startswith("Keep plain training") and "for 3 epochs" in advice


def test_the_advice_names_the_best_and_what_is_not_told_apart_from_it():
    found, judgment = judged(
        plain=(1, losses(0.5, 0.55, 0.6, noise=1e-4)),
        MEDA=(3, losses(0.5, 0.49, 0.48, noise=1e-4, seed=1)),
        tail_rewind=(2, losses(0.5, 0.48, 0.49, noise=1e-3, seed=2)),
        FAL=(1, losses(0.499, 0.5, 0.5, noise=1e-4, seed=3)),
    )
    _, advice, certainty = judgment.headline
    best = min(found.values(), key=lambda v: v.against_plain.mean).label
    assert judgment.advised == (best, found[best].epochs)
    assert advice.startswith("Train") and f"with {best}: its test logloss is 4.0" in advice
    other = ({"MEDA", "tail rewind"} - {best}).pop()
    assert "clearly worse: plain and FAL." in certainty
    assert f"no difference to {other} is shown" in certainty


def test_of_what_is_not_shown_to_differ_the_cheapest_is_advised():
    one = {"plain": (1, losses(0.5, 0.55, 0.6, noise=1e-4))}
    noisy = losses(0.46, 0.47, 0.48, noise=0.05, seed=2)
    one |= {"MEDA": (2, losses(0.47, 0.458, 0.47, noise=1e-4, seed=1))}
    _, judgment = judged(**one, **{"row-wise Adagrad": (1, noisy)})
    assert judgment.advised == ("row-wise Adagrad", 1)
    certainty = judgment.headline[-1]
    assert "no difference to MEDA is shown; of those shown to beat" in certainty
    assert "row-wise Adagrad costs least" in certainty
    # At the same number of epochs, what holds and serves less; and a clear loss is no tie.
    _, judgment = judged(**one, **{"row-wise Adagrad": (1, noisy), "sparsest dropped": (1, noisy)})
    assert judgment.advised == ("sparsest dropped", 1)
    worse = losses(0.49, 0.5, 0.5, noise=1e-4, seed=2)
    _, judgment = judged(**one, **{"row-wise Adagrad": (1, worse)})
    assert judgment.advised == ("MEDA", 2) and "costs least" not in judgment.headline[-1]


def test_a_trial_is_chosen_for_the_epochs_that_it_is_judged_at():
    def result(rate, *by_epoch):
        points = [["validation", k + 1.0, "y", "logloss", v] for k, v in enumerate(by_epoch)]
        trial = Trial("MEDA", "meda", 1e-3, rate).__dict__
        return {"status": "ok", "trial": trial, "points": points}

    results = [result(0.3, 0.40, 0.50, 0.60), result(0.1, 0.45, 0.44, 0.43), result(1.0, 0.9)]
    chosen = {
        epochs: judge.choose(results, {"y": 0.3}, *epochs) for epochs in ((1, 1), (2, None), (1,))
    }
    found = {epochs: (one.trial.embedding_lr, one.epochs) for epochs, one in chosen.items()}
    assert found == {(1, 1): (0.3, 1), (2, None): (0.1, 3), (1,): (0.3, 1)}
    assert judge.choose(results[2:], {"y": 0.3}, 2) is None  # it stopped before


def test_a_reset_is_credited_with_what_its_repeats_add():
    found, judgment = judged(
        plain=(1, losses(0.5, 0.55, 0.6, noise=1e-4)),
        MEDA=(2, losses(0.48, 0.47, 0.48, noise=1e-4, seed=1)),
    )
    meda, advice = found["MEDA"], judgment.headline[1]
    assert meda.in_one_epoch.mean == pytest.approx(-4, abs=0.1)
    assert meda.repeats.mean == pytest.approx(-2.1, abs=0.1)
    assert f"nothing is reset, differs by {meda.in_one_epoch}" in advice
    assert f"change its own logloss by {meda.repeats}." in advice
    assert found["plain"].repeats is None


def test_without_a_clear_gain_plain_stays():
    _, judgment = judged(
        plain=(1, losses(0.5, 0.5, 0.5, noise=0.02)),
        MEDA=(1, losses(0.499, 0.5, 0.5, noise=0.02, seed=5)),
    )
    assert judgment.headline[1].startswith("Keep plain training") and judgment.advised[0] == "plain"


def test_one_seed_gives_no_interval_and_so_no_advice_to_change():
    found, judgment = judged(
        plain=(1, losses(0.5, 0.6, 0.7, n_seeds=1)), MEDA=(1, losses(0.4, 0.4, 0.4, n_seeds=1))
    )
    assert "one seed, no interval" in str(found["MEDA"].against_plain)
    assert judgment.headline[0].startswith("Open")
    assert judgment.headline[1].startswith("No advice: one seed") and judgment.advised is None


def test_gains_are_held_against_the_best_plain_at_any_number_of_epochs():
    both = {
        "plain": (1, losses(0.5, 0.6, 0.7)),
        "plain, repeated": (3, losses(0.6, 0.5, 0.4)),
        "MEDA": (1, losses(0.45, 0.5, 0.5)),
    }
    found, judgment = judged(**both)
    assert judgment.baseline == ("plain, repeated", 3)
    assert found["MEDA"].against_plain.mean == pytest.approx(12.5)
    # It is the better one of the tuning days, whatever the test days say.
    tuning, test = losses(0.6, 0.5, 0.4, noise=1e-3), losses(0.6, 0.5, 0.49, noise=1e-2)
    both["plain, repeated"] = (3, test, tuning)
    both["plain"] = (1, losses(0.49, 0.6, 0.7, noise=1e-2))
    found, judgment = judged(**both)
    assert judgment.baseline == ("plain, repeated", 3)


def test_there_is_no_advice_where_the_test_days_refute_what_the_tuning_days_chose():
    better, worse = losses(0.5, 0.45, 0.4, noise=1e-3), losses(0.5, 0.52, 0.55, noise=1e-3)
    refuted = {"plain": (1, worse, better), "plain, repeated": (3, worse, better)}
    for methods in (refuted, {**refuted, "FAL": (1, losses(0.3, 0.31, 0.32, noise=1e-3))}):
        _, judgment = judged(**methods)
        assert judgment.baseline == ("plain, repeated", 3) and judgment.advised is None
        assert judgment.headline[1].startswith("No advice: the tuning days chose 3 epochs of plain")
    _, judgment = judged(plain=(1, losses(0.6, 0.7, 0.8, noise=1e-3)), MEDA=(3, worse, better))
    assert judgment.advised is None and "3 epochs of MEDA" in judgment.headline[1]
    assert "worse than 1 epoch." in judgment.headline[1]


def test_where_nothing_beats_the_constant_that_is_the_headline():
    _, judgment = judged(
        constant=0.4,
        plain=(1, losses(0.5, 0.6, 0.7, noise=1e-3)),
        MEDA=(1, losses(0.41, 0.4, 0.4, noise=1e-3)),
    )
    assert judgment.headline[0].startswith("Nothing to learn") and judgment.advised is None
    assert not any("Train" in sentence or "Keep" in sentence for sentence in judgment.headline)


def test_a_gain_over_the_constant_that_is_not_shown_is_open():
    found, judgment = judged(
        constant=0.5, plain=(1, losses(0.47, 0.52, 0.53, noise=0.2)), MEDA=(1, losses(0.5, 0.5))
    )
    change = found["plain"].against_constant
    assert change.mean < -0.5 and not change.falls
    assert judgment.headline[0].startswith("Open whether there is anything to learn")
    assert (
        f"plain, differs from that of a constant, the rate of the training days, by {change}"
        in (judgment.headline[0])
    )
    assert judgment.advised is None and "no advice" in judgment.headline[1]


def test_a_collapse_is_said_even_where_nothing_beats_the_constant():
    _, judgment = judged(constant=0.4, plain=(1, losses(0.5, 0.53, 0.6, noise=1e-3)))
    assert judgment.headline[0].startswith("Nothing to learn")
    assert any("raises the test logloss by" in sentence for sentence in judgment.headline)
    assert not any("cannot show" in sentence for sentence in judgment.headline)


def test_a_model_not_shown_to_beat_the_constant_is_not_kept():
    found, judgment = judged(
        constant=0.5,
        plain=(1, losses(0.499, 0.52, 0.53, noise=0.08)),
        MEDA=(1, losses(0.49, 0.49, 0.49, noise=0.01, seed=1)),
    )
    assert found["MEDA"].against_constant.falls and not found["MEDA"].against_plain.falls
    assert judgment.advised is None and judgment.headline[1].startswith("No advice: plain")
    assert not any("Keep" in sentence for sentence in judgment.headline)
    # Nor is one advised that only beats a plain that is worse than the constant.
    _, judgment = judged(
        constant=0.4,
        plain=(1, losses(0.5, 0.52, 0.53, noise=1e-3)),
        MEDA=(1, losses(0.45, 0.45, 0.45, noise=1e-3, seed=1)),
        FAL=(1, losses(0.39, 0.4, 0.41, noise=1e-3, seed=1)),
    )
    assert judgment.advised == ("FAL", 1)


def test_what_one_epoch_of_the_sparse_optimizer_gives_is_a_line_of_its_own():
    found, judgment = judged(
        **{
            "plain": (1, losses(0.5, 0.55, 0.6, noise=1e-4)),
            "sparse optimizer": (1, losses(0.49, 0.55, 0.6, noise=1e-4)),
            "MEDA": (2, losses(0.49, 0.485, 0.49, noise=1e-4)),
        }
    )
    assert found["sparse optimizer"].in_one_epoch.mean == pytest.approx(-2, abs=0.05)
    assert found["MEDA"].against_plain.mean == pytest.approx(-3, abs=0.05)
    (line,) = (one for one in judgment.headline if one.startswith("In one epoch"))
    assert f"sparse optimizer {found['sparse optimizer'].in_one_epoch}" in line


def test_the_additive_model_is_a_baseline_and_no_advice():
    of = {"plain": (1, losses(0.5, 0.6, 0.7, noise=1e-4))}
    _, judgment = judged(**of, additive=(1, losses(0.49, 0.49, 0.5, noise=1e-4, seed=1)))
    assert judgment.advised == ("plain", 1)
    label, share = judgment.interplay
    assert label == "plain" and share.mean == pytest.approx(-2, abs=0.1)
    assert "the model is not shown to learn an interplay of ids" in judgment.headline[-1]
    assert "repeat no epochs" in judgment.headline[-1]
    _, judgment = judged(**of, additive=(1, losses(0.52, 0.53, 0.54, noise=1e-4, seed=1)))
    assert "the model is shown to learn an interplay of ids" in judgment.headline[-1]


def test_where_the_additive_model_alone_learns_it_says_so():
    _, judgment = judged(
        constant=0.5,
        plain=(1, losses(0.499, 0.52, 0.53, noise=0.08)),
        additive=(1, losses(0.45, 0.46, 0.47, noise=1e-3, seed=1)),
    )
    assert judgment.advised is None
    assert judgment.headline[1].endswith("That is shown of the additive model alone, the baseline.")


def test_the_share_of_interplay_is_that_of_the_full_model_that_one_epoch_suits_best():
    _, judgment = judged(
        plain=(1, losses(0.5, 0.6, 0.7, noise=1e-4)),
        additive=(1, losses(0.495, 0.49, 0.5, noise=1e-4, seed=1)),
        MEDA=(1, losses(0.47, 0.47, 0.47, noise=1e-4, seed=1)),  # a remedy
        **{"row-wise Adagrad": (1, losses(0.48, 0.6, 0.7, noise=1e-4, seed=2))},
    )
    label, share = judgment.interplay
    assert label == "row-wise Adagrad" and share.mean == pytest.approx(3.1, abs=0.1)


def test_a_dip_after_the_rewind_is_said_with_its_remedy():
    of = {"plain": losses(0.5, 0.6, noise=1e-4), "MEDA": losses(0.5, 0.48, noise=1e-4)}
    choices = {label: choice(label, 2, last=2) for label in of}
    quarters = {"plain": np.array([0.2, 0.21, 0.2]), "MEDA": np.array([0.03, 0.031, 0.03])}
    found = judge.judge(choices, of, of, losses(1.0, n_seeds=1), quarters=quarters)
    advice = found.headline[1]
    assert advice.startswith("Train for 2 epochs with MEDA") and "serve the checkpoint" in advice
    assert found.verdicts[1].quarter.mean == pytest.approx(100 * np.expm1(0.0303), abs=0.1)


def test_seeds_that_stopped_earlier_are_compared_over_the_epochs_that_all_have():
    short, long = losses(0.5, 0.6, noise=1e-3), losses(0.5, 0.6, 0.7, noise=1e-3)
    own = judge.Losses([{"blocks": short.sums[0]}, {"blocks": long.sums[1]}], BLOCKS)
    assert own.epochs == 2 and own.sums.shape[:2] == (2, 2)
    _, judgment = judged(plain=(1, short), MEDA=(3, losses(0.5, 0.49, 0.48, noise=1e-4)))
    assert [v.trained for v in judgment.verdicts] == [2, 3] and judgment.advised == ("MEDA", 3)


def test_the_interval_holds_seeds_and_impressions():
    by_seed = np.array([0.010, 0.012, 0.008])
    seeds_alone = judge.estimate(by_seed, np.full(20, 0.01))
    both = judge.estimate(by_seed, np.linspace(-0.01, 0.03, 20))
    assert both.high - both.low > 1.2 * (seeds_alone.high - seeds_alone.low) > 0


def test_tuning_looks_at_the_validation_day_alone():
    def result(validation, test):
        points = [
            ["validation", 1.0, "y", "logloss", validation],
            ["test", 1.0, "y", "logloss", test],
        ]
        trial = Trial("plain", "plain", 1e-3, 1e-3).__dict__
        return {"status": "ok", "trial": trial, "points": points}

    chosen = judge.choose([result(0.5, 0.1), result(0.4, 0.9)], {"y": 0.3})
    assert chosen.scores == (pytest.approx(0.4 / judge.entropy(0.3)),)
    assert judge.choose([{"status": "diverged", "trial": {}}], {"y": 0.3}) is None


# The advice and its own table ---------------------------------------------------------------------


def random_table(rng):
    """Losses on the test days and the tuning days that have little or nothing in common."""
    last, n_seeds = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    labels = ["plain", *(["plain, repeated"] if rng.random() < 0.5 else [])]
    labels += ["FAL", "MEDA", "AdamAR"][: rng.integers(1, 4)]
    labels += ["additive"] if rng.random() < 0.3 else []
    spread = 10 ** rng.uniform(-3, -0.5)
    of, tuning, choices, common = {}, {}, {}, rng.random()
    for k, label in enumerate(labels):
        shared, noise = common * rng.normal(size=last), 10 ** rng.uniform(-4, -0.7)
        for part in (of, tuning):
            level = 0.5 * np.exp(spread * (shared + (1 - common) * rng.normal(size=last)))
            seed = rng.integers(2**32)
            part[label] = losses(*level, n_seeds=n_seeds, noise=noise, seed=seed)
        trial = Trial(label, "plain", 10 ** -(2 + k), 1e-2)
        least = 2 if label in ("plain, repeated", "MEDA") else 1
        epochs = 1 if label in plan.ONCE else int(rng.integers(least, last + 1))
        choices[label] = judge.Choice(trial, tuple(rng.normal(size=last)), epochs)
    constant = losses(rng.choice([0.4, 0.5, 0.9], p=[0.1, 0.2, 0.7]), n_seeds=1)
    return of, tuning, judge.judge(choices, of, tuning, constant)


def contradictions(of, tuning, judgment):
    """What the headline says that the numbers beside it do not."""
    found = {v.label: v for v in judgment.verdicts}
    said = {sentence.split()[0].rstrip(":"): sentence for sentence in judgment.headline}
    learned = {label for label, v in found.items() if v.against_constant.falls}
    nothing = [s for s in judgment.headline if s.startswith(("Nothing to", "Open whether there"))]
    if bool(nothing) == bool(learned):
        yield "learns"
    gain = min(v.against_constant.mean for v in found.values())
    if nothing and nothing[0].startswith("Open") != (gain <= -plan.COLLAPSE):
        yield f"{nothing}, but {gain}"
    kind = found["plain"].second.kind
    expected = {"rise": "Yes", "slight rise": "Slightly", "open": "Open"}.get(kind)
    if expected not in said and (expected or "No: a second" not in "".join(judgment.headline)):
        yield f"{judgment.headline}, but {kind}"
    if (label := judgment.baseline[0]) != "plain":
        gain = judge.difference(tuning[label], found[label].epochs, tuning["plain"], 1)
        if not gain.falls:
            yield f"{label} is the baseline, but {gain}"
    if not learned:
        if judgment.advised is not None:
            yield "advice where nothing is learned"
        return
    learned.discard("additive")  # it is a baseline, and no method
    found.pop("additive", None)
    label, epochs = judgment.baseline
    plain = {"plain", "plain, repeated"} & set(found)
    rivals = [(of[other], k) for other in plain for k in (1, found[other].epochs)]
    better = [k for own, k in rivals if judge.difference(own, k, of[label], epochs).falls]
    differ = [sentence for sentence in judgment.headline if "the tuning days chose" in sentence]
    if better and not differ:
        yield f"plain training for {better} epochs is a better baseline"
    if differ:
        if judgment.advised is not None or {"Train", "Keep", "How"} & set(said):
            yield f"advice though the days differ: {judgment.headline}"
        return
    gains = [v for v in found.values() if v.against_plain.falls and v.label in learned]
    if judgment.advised is None:
        if gains or label in learned or "Train" in said or "Keep" in said:
            yield f"no advice: {judgment.headline}"
        return
    label, epochs = judgment.advised
    if label not in learned:
        yield f"{label} is advised, but not shown to beat the constant"
    second = said.get("Train") or said.get("Keep")
    if f"for {epochs} epoch" not in second:
        yield f"{epochs} epochs: {second}"
    if ("Train" in said) != bool(gains) or ("Keep" in said) == bool(gains):
        yield f"{second}, but {len(gains)} gains"
    if gains and (f"with {label}:" not in second or found[label].against_plain.mean >= 0):
        yield f"{second}, but {label}"
    if judge.difference(of[label], 1, of[label], epochs).falls:
        yield f"{label} is better after one epoch"
    tied, _, worse = said["How"].partition("clearly worse: ")
    for v in found.values():
        if v.against_advised.falls and v.label in learned:
            yield f"{v.label} is better than what is advised"
        is_worse = v.against_advised.kind.endswith("rise") and v.against_advised.kind != "no rise"
        named = v.label.replace("plain, repeated", "retuned")
        there = tied if not is_worse else worse
        if v.label != label and named not in there.replace("plain, repeated", "retuned"):
            yield f"{v.label}: {v.against_advised}, but {said['How']}"


def test_the_advice_never_contradicts_its_own_table():
    kinds = {}
    for seed in range(300):
        of, tuning, judgment = random_table(np.random.default_rng(seed))
        assert list(contradictions(of, tuning, judgment)) == [], f"table {seed}"
        start = " ".join(word.split(" ")[0] for word in judgment.headline[:2])
        kinds[start] = kinds.get(start, 0) + 1
    assert len(kinds) >= 7, f"too few kinds of advice to be a test: {kinds}"
