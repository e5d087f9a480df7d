"""`python -m reproduction CHAPTER`: runs an experiment without its notebook and keeps a record."""

import argparse
import os
import sys
from collections.abc import Callable
from inspect import signature
from typing import NamedTuple

import pandas as pd

from reproduction import judge, records, tuning
from reproduction.a1_ab_test import experiment as ab_test
from reproduction.ch02_data_and_model import experiment as model
from reproduction.ch03_gradient_sparsity import experiment as sparsity
from reproduction.ch04_sparse_optimizer import experiment as sparse_optimizer
from reproduction.ch04_sparse_optimizer import rules
from reproduction.ch07_frequency_adaptive_rate import experiment as frequency
from reproduction.ch10_board import anatomy
from reproduction.ch10_board import experiment as board
from reproduction.ch11_new_data_every_day import delay, scale, worth
from reproduction.ch11_new_data_every_day import experiment as continual
from reproduction.ch12_real_logs import experiment as real_logs
from reproduction.ch12_real_logs import penalty, windows
from reproduction.dose_response import experiment as dose
from reproduction.dose_response import production
from reproduction.first_step import compute, headlines
from reproduction.first_step import experiment as first_step
from reproduction.interplay import constants
from reproduction.interplay import experiment as interplay
from reproduction.own_label import served
from reproduction.runs import PROFILES, kept_runs, profile, resolve_device
from reproduction.second_epoch import causes
from reproduction.second_epoch import experiment as overfitting


class Experiment(NamedTuple):
    """What the command runs. `run` takes (profile, device, seeds) and returns a record's rows."""

    name: str  # of the record
    run: Callable[..., pd.DataFrame]
    judge: Callable[[pd.DataFrame], pd.DataFrame] | None = None  # returns the evidence in the rows
    seeds: tuple[int, ...] | None = None  # None for those of the profile
    # Adds rows to those of the record that is there; None if a run replaces them all.
    merge: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame] | None = None


EXPERIMENTS = {
    "02": Experiment(model.NAME, model.run),
    "03": Experiment(sparsity.NAME, sparsity.run, sparsity.judge),
    "04": Experiment(sparse_optimizer.NAME, sparse_optimizer.run, seeds=rules.SEEDS),
    "rules": Experiment(rules.NAME, rules.run, rules.judge, rules.SEEDS),
    "05": Experiment(overfitting.NAME, overfitting.run, seeds=production.SEEDS),
    "dose": Experiment(dose.NAME, dose.run, seeds=dose.SEEDS, merge=dose.merge),
    "production": Experiment(
        production.NAME, production.run, production.judge, production.SEEDS, dose.merge
    ),
    "no_cross": Experiment(
        production.NO_CROSS_NAME, production.run_no_cross, None, production.SEEDS, dose.merge
    ),
    "causes": Experiment(causes.NAME, causes.run, causes.judge, causes.SEEDS),
    "07": Experiment(frequency.NAME, frequency.run, seeds=production.SEEDS),
    "09": Experiment(served.NAME, served.run, served.judge, served.SEEDS),
    "10": Experiment(board.NAME, board.run, board.judge, board.SEEDS),
    "10 anatomy": Experiment(anatomy.NAME, anatomy.run, seeds=anatomy.SEEDS),
    "11": Experiment(continual.NAME, continual.run, continual.judge, continual.SEEDS),
    "worth": Experiment(worth.NAME, worth.run, worth.judge, worth.SEEDS),
    "scale": Experiment(scale.NAME, scale.run, scale.judge, scale.SEEDS, scale.merge),
    "delay": Experiment(delay.NAME, delay.run, delay.judge, delay.SEEDS),
    "interplay": Experiment(interplay.NAME, interplay.run, interplay.judge, interplay.SEEDS),
    "constants": Experiment(constants.NAME, constants.run),
    "first_step": Experiment(first_step.NAME, first_step.run, first_step.judge, first_step.SEEDS),
    "same_compute": Experiment(compute.NAME, compute.run, compute.judge, compute.SEEDS),
    "headlines": Experiment(headlines.NAME, headlines.run, headlines.judge, headlines.SEEDS),
    "12": Experiment(real_logs.NAME, real_logs.run, seeds=production.SEEDS),
    "windows": Experiment(windows.NAME, windows.run, seeds=windows.SEEDS),
    "penalty": Experiment(penalty.NAME, penalty.run, penalty.judge, penalty.SEEDS),
    "a1": Experiment(ab_test.NAME, ab_test.run, ab_test.judge, ab_test.SEEDS),
    "tuning": Experiment(tuning.NAME, tuning.run, merge=tuning.merge),
}


def command(arguments: list[str]) -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction",
        description="Runs a chapter's experiment and writes its record under results/PROFILE/. "
        "Finished runs are kept in runs/: an interrupted call resumes when repeated.",
    )
    parser.add_argument("chapter", nargs="?", choices=EXPERIMENTS, help="which experiment")
    parser.add_argument("--list", action="store_true", help="prints the experiments' names")
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the profile")
    parser.add_argument("--record", help="folder under results/ (default: the profile's name)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--only",
        help="adds to the record what is measured: of tuning and scale, what a regular expression "
        "finds in the names; of dose, production and no_cross, one stratum",
    )
    parser.add_argument(
        "--keep-rates", action="store_true", help="of a search: only the record, not tuned.json"
    )
    parser.add_argument(
        "--judge-again", action="store_true", help="trains nothing; judges the record that is there"
    )
    options = parser.parse_args(arguments)
    if options.list:
        print(*EXPERIMENTS, sep="\n")
        return 0
    if options.chapter is None:
        parser.error("which experiment? --list prints their names")
    experiment = EXPERIMENTS[options.chapter]
    if options.only and "only" not in signature(experiment.run).parameters:
        parser.error(f"--only does not apply to {options.chapter}")

    sizes = profile(options.profile)
    if sizes.toy:  # its records say nothing, and stay away from those that do
        os.environ.setdefault("MULTIEPOCH_RESULTS", str(kept_runs() / "results"))
    if options.judge_again:
        return _judge_again(experiment, options.record or sizes.name)
    own = None if sizes.toy else experiment.seeds
    seeds = tuple(options.seeds or own or sizes.seeds)
    folder = options.record or sizes.name
    which = {"only": options.only} if options.only else {}
    try:
        device = resolve_device(options.device)
        stamp = records.start(experiment.name, folder)
        if said := records.reservations(stamp):
            print(f"The record will say that it was made{said.removeprefix(',')}.")
        rows = experiment.run(sizes, device, seeds, **which)
    except ValueError as error:
        print(f"python -m reproduction: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, and the same call resumes", file=sys.stderr)
        return 130
    if options.chapter == "tuning":
        if not (options.keep_rates or sizes.toy):
            tuning.write_tuned(rows)
        seeds = sizes.tuning_seeds
    kept = records.read(experiment.name, folder) if experiment.merge else None
    if kept:
        n, rows = len(rows), experiment.merge(kept.rows, rows)
        kept = kept if len(rows) > n else None  # all of it was measured again
    evidence = experiment.judge(rows) if experiment.judge else None
    path = records.write(experiment.name, folder, rows, stamp, evidence, seeds, device, kept)
    if evidence is not None:
        print(judge.table(evidence))
    print(f"wrote {path}")
    return 0


def _judge_again(experiment: Experiment, folder: str) -> int:
    """Writes the evidence in a record anew, and prints the verdicts; returns the exit status."""
    record = records.read(experiment.name, folder)
    if record is None or experiment.judge is None:
        what = "decides no claim" if record else "is not there"
        print(f"python -m reproduction: {experiment.name} in {folder} {what}", file=sys.stderr)
        return 2
    evidence = experiment.judge(record.rows)
    print(f"wrote {records.write_evidence(experiment.name, folder, evidence)}")
    print(judge.table(evidence))
    return 0
