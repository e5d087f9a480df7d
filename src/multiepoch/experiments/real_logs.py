"""Chapter 9, claim C10: the collapse and its remedies on KuaiRand, with and without the cross."""

from __future__ import annotations

import pandas as pd

from multiepoch.experiments.measure import at, evidence, jump, pick, worse
from multiepoch.experiments.methods import METHODS
from multiepoch.experiments.profiles import Profile
from multiepoch.experiments.runs import Run, over_seeds, run_all
from multiepoch.experiments.tuning import tuned

WITH, WITHOUT = "with the cross", "without the cross"
TUNED, ONE_PASS = "tuned for three passes", "rates for one pass"
SOURCES = {WITH: "kuairand", WITHOUT: "kuairand without cross"}


def setting(cross: str, rates: str) -> str:
    return f"{cross}, {rates}"


def runs(passes: int) -> list[Run]:
    """Each method at its own best rates, and plain, FAL and MEDA at plain's best for one pass.

    Rates and knobs are tuned with the cross, on the validation day.
    """
    one_pass = tuned("plain", 1, data="kuairand")
    found = []
    for cross, source in SOURCES.items():
        for name in METHODS:
            t = tuned(name, 3, data="kuairand")
            found.append(Run(name, 0, t.dense_lr, t.embedding_lr, t.knob, passes=passes,
                             data=source, setting=setting(cross, TUNED)))  # fmt: skip
        for name, knob in (("plain", None), ("fal", "log"), ("meda", None)):
            found.append(Run(name, 0, one_pass.dense_lr, one_pass.embedding_lr, knob, passes=passes,
                             data=source, setting=setting(cross, ONE_PASS)))  # fmt: skip
    return found


def run(profile: Profile, device: str = "auto", seeds=None, store=None, log=print) -> pd.DataFrame:
    """The quick profile has the runs with the cross alone."""
    todo = runs(profile.passes)
    if profile.name == "quick":
        todo = [one for one in todo if one.data == "kuairand" and one.method != "fal_tail_rewind"]
    return run_all(over_seeds(seeds or profile.seeds, todo), profile, device, store, log)


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence for C10: jumps at the rates of one pass, FAL against MEDA both tuned."""

    def click(values: pd.Series) -> pd.Series:
        return values.xs("click", level="objective").groupby("seed").mean()

    one_pass = setting(WITH, ONE_PASS)
    plain, fal = (click(jump(pick(rows, name, one_pass))) for name in ("plain", "fal"))
    end = {name: at(pick(rows, name, setting(WITH, TUNED)), 3.0) for name in ("fal", "meda")}
    return evidence(
        "C10",
        jump=plain,
        jump_left=100 * fal / plain,
        fal_meda=click(worse(end["fal"], end["meda"])),
    )
