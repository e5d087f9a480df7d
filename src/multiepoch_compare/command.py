"""`multiepoch compare FILE`: every method on your log, and a page that says what came of it."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from multiepoch.data.log import DataError
from multiepoch.files import write_text
from multiepoch.runner import machine
from multiepoch_compare import plan, report
from multiepoch_compare import verdict as judge
from multiepoch_compare.readers import ali_ccp, avazu, criteo
from multiepoch_compare.readers.tabular import Columns, default_cache, disk_error, map_log
from multiepoch_compare.run import (
    GROUPS,
    Data,
    Job,
    TrialRunner,
    block_sizes,
    data,
    describe,
    frequencies,
)

FORMATS = {"criteo": criteo.COLUMNS, "avazu": avazu.COLUMNS, "ali-ccp": ali_ccp.COLUMNS}
LOOK_ROWS = 200_000


def command(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _compare(options, arguments)
    except DataError as error:
        print(f"multiepoch compare: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"multiepoch compare: {disk_error(error, options.out, 'give another --out')}",
              file=sys.stderr)  # fmt: skip
        return 2
    except BrokenProcessPool:
        print("multiepoch compare: a worker process was killed, as a rule for want of memory; "
              "finished trials are kept, so free some and give the same call again.",
              file=sys.stderr)  # fmt: skip
        return 2
    except KeyboardInterrupt:
        print("\nstopped; finished trials are kept, the same call goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multiepoch compare",
        description="Trains plain, Sparse Optimizer, FAL, MEDA, AdamAR and tail rewind on all days "
        "of a log but two, tunes each on the next to last day, tests on the last, and writes "
        "OUT/index.html and OUT/report.json. Stopped anywhere, the same call goes on. "
        "`multiepoch inspect FILE` finds the columns and prints the call.",
    )
    names = {"type": _names, "default": (), "metavar": "A,B"}
    parser.add_argument("file", type=Path, help="CSV or Parquet, or a folder of them")
    parser.add_argument("--ids", help="columns of ids, the user's first", **names)
    parser.add_argument("--labels", help="columns of zeros and ones", **names)
    parser.add_argument("--day", help="the column with the day; in a folder without one, "
                        "each file is a day")  # fmt: skip
    parser.add_argument("--dense", help="columns of numbers", **names)
    parser.add_argument("--cross", action="append", type=_names, default=[], metavar="A,B",
                        help="one more id, of the pair; may be given several times")  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, help="a public data set, in place of columns")
    parser.add_argument("--epochs", type=int, default=3, help="epochs at most (3)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (3)")
    parser.add_argument("--batch-size", type=int, default=2048, help="impressions a step (2048)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder (report)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a look: the first {LOOK_ROWS:,} rows, two trials a method",
    )
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def columns_of(options: argparse.Namespace) -> Columns:
    if options.format:
        if options.ids or options.labels or options.day or options.dense:
            raise DataError(f"--format {options.format} names the columns; leave out --ids, "
                            "--labels, --day and --dense.")  # fmt: skip
        columns = FORMATS[options.format]
    else:
        if options.day is None and not options.file.is_dir():
            raise DataError("--day is missing; name the column with the day, or give a folder "
                            "with a file a day.")  # fmt: skip
        columns = Columns(options.ids, options.labels, options.day, options.dense)
    for pair in options.cross:
        if len(pair) != 2:
            raise DataError(f"--cross {','.join(pair)}: a cross is of two id columns; give two.")
    columns = replace(columns, cross=tuple(options.cross))
    columns.check()
    return columns


def _compare(options: argparse.Namespace, arguments: list[str]) -> int:
    started = time.perf_counter()
    for name, value, least in (("--epochs", options.epochs, 2), ("--seeds", options.seeds, 1),
                               ("--batch-size", options.batch_size, 1)):  # fmt: skip
        if value < least:
            why = "; nothing is seen twice in one epoch" if name == "--epochs" else ""
            raise DataError(f"{name} is {value}; give at least {least}{why}.")
    columns = columns_of(options)
    call = [word for word in arguments]
    with folder(options.out, call) as out:
        say = lambda line: print(line, flush=True)  # noqa: E731
        path = options.file
        if options.format == "ali-ccp":
            path = ali_ccp.join(path, default_cache() / f"ali-ccp-{ali_ccp.stamp(path)}")
        mapped = map_log(path, columns, rows=LOOK_ROWS if options.quick else None, say=say)
        source = str(options.file)
        job = Job(str(mapped.folder), columns, plan.split(mapped, source, options.quick),
                  options.epochs, options.batch_size)  # fmt: skip
        of = data(job)
        words = job.split.in_words(mapped)
        for part, log in (("train", of.train), ("validation", of.validation), ("test", of.test)):
            if len(log) == 0:
                raise DataError(f"{source}: no impression on {words[part]} ({part}).")
            plan.check_labels(log, part, words[part], source)
        say(f"{mapped.n:,} impressions; train on {words['train']} ({len(of.train):,}), tune on "
            f"{words['validation']} ({len(of.validation):,}), test on {words['test']} "
            f"({len(of.test):,})")  # fmt: skip
        results, choices = _run(options, job, of, out, say)
        found = _judged(options, job, of, results, choices)
        found |= {
            "call": " ".join(["python -m multiepoch compare", *call]),
            "data": {"source": source, "impressions": mapped.n, "split": words,
                     "sizes": {"train": len(of.train), "validation": len(of.validation),
                               "test": len(of.test)},
                     "positives": dict(zip(columns.labels, of.test.labels.mean(0).tolist())),
                     "cardinality": of.train.schema.cardinality, "quick": options.quick,
                     "rows_read": LOOK_ROWS if options.quick else None,
                     "cut": [part for part in plan.PARTS
                             if job.split.n_rows(mapped, part) > len(getattr(of, part))],
                     "by_rows": job.split.by_rows},
            "machine": machine(), "date": datetime.date.today().isoformat(),
            "torch": torch.__version__, "seconds": time.perf_counter() - started,
        }  # fmt: skip
        plain = json.dumps(_finite(found), indent=1, allow_nan=False)
        write_text(out / "report.json", plain + "\n")
        text = report.text(found)
        write_text(out / "report.txt", text)
        write_text(out / "index.html", report.page(found))
        print("\n" + text + f"\nThe page: {out / 'index.html'}")
    return 0


def _run(options, job: Job, of: Data, out: Path, say) -> tuple[dict, dict]:
    """Tunes every method with as many trials, then runs what was chosen with the other seeds."""
    candidates = plan.trials(budget=2 if options.quick else 4)
    total = sum(map(len, candidates.values())) + len(candidates) * (options.seeds - 1)
    rates = dict(zip(of.validation.objectives, of.validation.labels.double().mean(0).tolist()))
    with TrialRunner(job, out / "trials", total, say) as runner:
        flat = runner([trial for several in candidates.values() for trial in several])
        tuned, choices, results = {}, {}, {}
        for label, several in candidates.items():
            tuned[label], flat = flat[: len(several)], flat[len(several) :]
            # Plain's rate is that of one epoch, as one trains today; whether another rate makes
            # several epochs worth it is a method of its own.
            choice = judge.choose(tuned[label], rates, for_one_epoch=label == "plain")
            if choice is None:
                raise DataError(
                    f"{options.file}: {label} found no rate at which the loss stays "
                    "finite; look for extreme values in the dense features."
                )
            choices[label] = choice
            if label == "plain":
                again = judge.choose(tuned[label], rates)
                if again.trial != choice.trial:
                    choices[judge.RETUNED], tuned[judge.RETUNED] = again, tuned[label]
                    runner.total += options.seeds - 1
        more = {label: [replace(c.trial, seed=s) for s in range(1, options.seeds)]
                for label, c in choices.items()}  # fmt: skip
        rest = runner([trial for several in more.values() for trial in several])
        for label, choice in choices.items():
            first = next(r for r in tuned[label] if r["trial"] == choice.trial.__dict__)
            n = len(more[label])
            results[label], rest = [first, *rest[:n]], rest[n:]
            failed = [r for r in results[label] if "failed" in r]
            if failed:
                raise DataError(f"{options.file}: {label}, seed {failed[0]['trial']['seed']}: "
                                "the loss is no longer finite; look for extreme values in the "
                                "dense features.")  # fmt: skip
    return results, choices


def _judged(options, job: Job, of: Data, results: dict, choices: dict) -> dict:
    """Everything that the report shows, as plain values."""
    sizes, group_sizes = block_sizes(of)
    losses = {label: judge.Losses(several, sizes) for label, several in results.items()}
    found = judge.verdicts(choices, losses, options.epochs)
    sentence, ties = judge.recommend(found, losses)
    objectives = list(job.columns.labels)
    methods = []
    for v in found:
        own, several = losses[v.label], results[v.label]
        by_epoch = [own.at(p)[0].mean(0).tolist() for p in range(1, options.epochs + 1)]
        groups = np.array([r["groups"] for r in several]).mean(0)  # (epochs, objectives, groups)
        p = v.choice.epochs
        methods.append({
            "label": v.label,
            "setting": v.label + describe(v.choice.trial).rpartition(", seed")[0].removeprefix(
                v.choice.trial.label),
            "epochs": p, "against_plain": v.against_plain.__dict__,
            "later": v.later.__dict__ if v.later else None, "second": v.second.__dict__,
            "collapses": v.collapses, "words": v.in_words(options.epochs),
            "second_by_objective": {
                name: judge.difference(own, 2, own, 1, k).__dict__
                for k, name in enumerate(objectives)},
            "logloss_by_epoch": by_epoch,
            "curves": _curves(several),
            "groups": (groups / np.maximum(group_sizes, 1)).tolist(),
            "seconds_an_epoch": float(np.median([r["seconds"] for r in several])) / options.epochs,
            "bytes": several[0]["bytes"],
        })  # fmt: skip
    return {
        "baseline": judge.baseline(choices), "recommendation": sentence, "ties": ties,
        "objectives": objectives,
        "epochs": options.epochs, "seeds": options.seeds, "methods": methods,
        "trials_a_method": len(plan.trials(2 if options.quick else 4)["plain"]),
        "group_column": of.column, "group_names": list(GROUPS),
        "group_sizes": group_sizes.tolist(), "frequencies": frequencies(of),
    }  # fmt: skip


def _finite(value):
    """The same with None for what JSON has no number for: the bounds of an interval of one seed."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _curves(several: list[dict]) -> dict:
    """metric -> objective -> [[epoch, value of each seed ...], ...] on the test day."""
    curves: dict = {}
    for result in several:
        for part, epoch, objective, metric, value in result["points"]:
            if part == "test":
                points = curves.setdefault(metric, {}).setdefault(objective, {})
                points.setdefault(epoch, []).append(value)
    return {metric: {objective: [[epoch, *values] for epoch, values in sorted(points.items())]
                     for objective, points in by_objective.items()}
            for metric, by_objective in curves.items()}  # fmt: skip


# The output folder --------------------------------------------------------------------------------

_OURS = {"call.json", "trials", "report.json", "report.txt", "index.html", "lock"}


@contextlib.contextmanager
def folder(out: Path, call: list[str]) -> Iterator[Path]:
    """The output folder, made or gone on with; refused where it is in use or holds other things."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file is in the way; give another --out.")
    if out.exists():
        others = sorted(p.name for p in out.iterdir() if p.name not in _OURS and p.name[0] != ".")
        if others:
            raise DataError(f"{out}: holds other files, such as {others[0]}; give an --out that is "
                            "empty or does not exist.")  # fmt: skip
        before = _call(out / "call.json")
        if before is not None and before != call:
            raise DataError(f"{out}: holds the report of another call ({' '.join(before)}); "
                            "give another --out, or delete the folder.")  # fmt: skip
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        _lock(out / "lock")
        write_text(out / "call.json", json.dumps(call))
    except OSError as error:
        raise disk_error(error, out, "give another --out") from error
    try:
        yield out
    except DataError:
        (out / "lock").unlink(missing_ok=True)
        _remove_if_bare(out, made)
        raise
    finally:
        (out / "lock").unlink(missing_ok=True)


def _call(path: Path) -> list[str] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _lock(path: Path) -> None:
    """Held by a process id; that of a process which is gone does not count."""
    for _ in range(2):
        try:
            with path.open("x") as file:
                file.write(str(os.getpid()))
            return
        except FileExistsError:
            pid = path.read_text().strip()
            if pid.isdigit() and _alive(int(pid)):
                raise DataError(f"{path.parent}: in use by process {pid}; wait for it, or give "
                                "another --out.") from None  # fmt: skip
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_if_bare(out: Path, made: bool) -> None:
    """Leaves no trace of a call that trained nothing, so that the mended call finds no other."""
    trials = out / "trials"
    if trials.exists() and any(trials.iterdir()):
        return
    for name in ("call.json", "trials"):
        path = out / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    if made:
        with contextlib.suppress(OSError):
            out.rmdir()
