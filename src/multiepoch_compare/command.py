"""`multiepoch compare FILE`: trains every method on your log and writes a report."""

from __future__ import annotations

import argparse
import datetime
import math
import os
import re
import shlex
import time
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from multiepoch_compare import output, plan, report
from multiepoch_compare.leak import leaks
from multiepoch_compare.readers import Columns, MappedLog, files, map_log
from multiepoch_compare.record import dumps, record
from multiepoch_compare.run import Parts, Setup, rates, read_parts
from multiepoch_compare.tune import tune_and_run
from multiepoch_lab.data.log import DataError
from multiepoch_lab.files import write_text
from multiepoch_lab.runner import machine

LOOK_ROWS = 200_000


def command(arguments: list[str]) -> int:
    run(arguments, arguments)
    return 0


def run(arguments: list[str], call: list[str], source: str | None = None) -> None:
    """Compares as the arguments say; the report names the call and, by default, the file."""
    options = _parser().parse_args(arguments)
    try:
        _compare(options, call, source or str(options.file))
    except OSError as error:
        raise files.disk_error(error, options.out, output.REMEDY) from error
    except BrokenProcessPool as error:
        what = "a worker process was killed, probably for lack of memory"
        remedy = "finished trials are kept, so free some memory and repeat the command"
        raise DataError(f"{what}; {remedy}.") from error
    finally:
        read_parts.cache_clear()  # its file is deleted, so that a next call must write it


def words(options: Mapping[str, Any], source: str) -> list[str]:
    """Writes options by name, such as ids=["user"], as on the command line.

    DataError if there is no such option.
    """
    known, found = _parser()._option_string_actions, []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if option not in known:
            raise DataError(f"{source}: no option {name!r}; see multiepoch compare --help.")
        if name == "cross":
            found += [word for pair in value for word in (option, output.listed(pair))]
        elif isinstance(value, bool):
            found += [option] * value
        elif isinstance(value, list | tuple):
            found += [option, output.listed(value)]
        elif value is not None:
            found += [option, str(value)]
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="multiepoch compare",
        description="Trains plain and the methods of --methods on the days of a log but "
        "the last, tunes each on the last of them, tests on the last days, and writes "
        "OUT/index.html and OUT/report.json. An interrupted run resumes when the command is "
        "repeated. `multiepoch inspect FILE` finds the columns and prints the command.",
    )
    add, names = parser.add_argument, {"type": _names, "metavar": "A,B"}
    add("file", type=Path, help="CSV or Parquet, or a folder of them")
    quoting = "names with commas or outer spaces in double quotes"
    add("--ids", help=f"columns of ids, the user's first; {quoting}", default=(), **names)
    add("--labels", help="columns of zeros and ones", default=(), **names)
    without = "in a folder without one, each file or subfolder is a day"
    add("--day", help=f"column with the day; {without}")
    add("--dense", help="columns of numbers", default=(), **names)
    add("--cross", help="adds an id per pair; repeatable", action="append", default=[], **names)
    zone = "time zone of Unix times and of times with a zone, such as Europe/Berlin"
    add("--tz", default="UTC", help=f"{zone} (default: UTC)")
    enough = "default: as many as a verdict needs"
    add("--test-days", type=int, help=f"days to test on, and to tune on ({enough})")
    but = f"default: all but {', '.join(plan.ON_REQUEST)}"
    beside = f"methods beside plain: {', '.join(plan.TABLE_RATE_METHODS)} ({but})"
    add("--methods", help=beside, default=(), **names)
    add("--epochs", type=int, default=3, help="number of epochs (default: 3)")
    add("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    most, steps = plan.LARGEST_BATCH, plan.LEAST_STEPS
    default = f"default: as many as leave {steps} steps an epoch, up to {most}"
    add("--batch-size", type=int, help=f"impressions per step ({default})")
    add("--out", type=Path, default=Path("report"), help="output folder (default: report)")
    share = "share of the values of the first id column, such as users, to read, with all rows"
    add("--sample", type=float, default=1.0, metavar="SHARE", help=share)
    quick = f"only as many users as have about {LOOK_ROWS:,} rows, two trials per method"
    add("--quick", action="store_true", help=quick)
    return parser


def _names(text: str) -> tuple[str, ...]:
    """Splits a list of names; quotes keep commas and spaces, as in a line of CSV."""
    fields = re.findall(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)', text)
    names = (f[1:-1].replace('""', '"') if f[:1] == '"' else f.strip() for f in fields)
    return tuple(name for name in names if name)


def columns_of(options: argparse.Namespace) -> Columns:
    """Returns the columns that the options name; DataError if they contradict each other."""
    if options.day is None and not options.file.is_dir():
        remedy = "name the column with the day, or give a folder with one file per day"
        raise DataError(f"--day is missing; {remedy}.")
    for pair in options.cross:
        if len(set(pair)) != 2 or len(pair) != 2:
            what = "a cross needs exactly two different id columns"
            raise DataError(f"--cross {','.join(pair)}: {what}.")
    named = options.ids, options.labels, options.day, options.dense
    columns = Columns(*named, cross=tuple(options.cross), tz=options.tz)
    columns.check()
    return columns


def _compare(options: argparse.Namespace, arguments: list[str], source: str) -> None:
    started = time.perf_counter()
    _check(options)
    columns, say = columns_of(options), output.say
    with output.folder(options.out, arguments) as out:
        path, share = options.file, options.sample
        if options.quick:
            share = min(share, LOOK_ROWS / max(files.about_rows(files.find(path)), 1))
        mapped = map_log(path, columns, share=share, say=say)
        warnings: list[str] = []

        def warn(found: list[str]) -> None:
            for one in found:
                warnings.append(f"Warning: {one}")
                say(warnings[-1])

        warn(plan.far_days(mapped) + plan.odd_ids(mapped))
        split = plan.split(mapped, source, options.quick, options.test_days)
        n_train = min(split.n_rows(mapped, "train"), plan.MAX_TRAIN)
        batch_size = options.batch_size or plan.batch_size(n_train)
        if (steps := math.ceil(n_train / batch_size)) < 4:
            what = f"{n_train:,} training impressions are {steps} steps of {batch_size:,}"
            remedy = "at least 4 are needed: give a smaller --batch-size"
            raise DataError(f"{source}: {what}; {remedy}.")
        shared = str(out / output.SHARED)
        say(f"splitting {mapped.n:,} impressions")
        folder = str(mapped.folder)
        setup = Setup(folder, columns, split, options.epochs, batch_size, shared)
        parts = read_parts(setup)
        data = _data(source, mapped, split, parts) | {"quick": options.quick, "share": share}
        say(report.data_line(data))
        warn(leaks(parts.train, parts.validation) + plan.repeated(parts.train))
        methods = options.methods or plan.labels()
        if len(parts.train.ids) == 1:
            methods = [name for name in methods if name != plan.DROPPED]
        search = {"budget": 2 if options.quick else 6, "methods": methods}
        results, choices, control = tune_and_run(
            setup,
            out / "trials",
            plan.trials(**search),
            partial(plan.around, **search),
            options.seeds,
            say,
        )
        found = record(columns.labels, options.epochs, parts, results, choices, control)
        found |= {
            "seeds": options.seeds,
            # Not shown: the book counts how often the rule of thumb of claim C14 is right.
            "expected": asdict(
                parts.expected(batch_size, found["methods"][0]["trial"]["embedding_lr"])
            ),
            "warnings": warnings,
            "batch_size": batch_size,
            "steps": steps,
            "call": shlex.join(["multiepoch", "compare", *arguments]),
            "data": data,
            "machine": machine("cpu"),
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": sum(os.times()[:4]),  # of this process and its workers
        }
        text = report.text(found)
        write_text(out / "report.json", dumps(found))
        write_text(out / "report.txt", text)
        write_text(out / "index.html", report.page(found))
        say(f"\n{text}\nReport: {out / 'index.html'}")


def _check(options: argparse.Namespace) -> None:
    """Raises DataError if a number is out of range, or options contradict each other."""
    least = {"epochs": "2, since one epoch repeats nothing"}
    least |= dict.fromkeys(("seeds", "batch_size", "test_days"), "1")
    for name, words in least.items():
        value = getattr(options, name)
        if value is not None and value < int(words[0]):
            raise DataError(f"--{name.replace('_', '-')} is {value}; give at least {words}.")
    if not 0 < options.sample <= 1:
        raise DataError(f"--sample is {options.sample}; give a share above 0, up to 1.")
    for name in options.methods:
        if name not in plan.TABLE_RATE_METHODS:
            known = ", ".join(plan.TABLE_RATE_METHODS)
            raise DataError(f"--methods: {name!r} is unknown; choose from {known}.")


def _data(source: str, mapped: MappedLog, split: plan.Split, parts: Parts) -> dict:
    """Describes the log and its parts; DataError if one of them cannot be measured."""
    words, logs = split.in_words(mapped), {part: getattr(parts, part) for part in plan.PARTS}
    for part, log in logs.items():
        plan.check_labels(log, part, words[part], source)
    first, last = split.ends[-1]
    return {
        "source": source,
        "impressions": mapped.n,
        "split": words,
        "test_days": None if split.by_rows else last - first + 1,
        "sizes": {part: len(log) for part, log in logs.items()},
        "positives": dict(zip(parts.test.objectives, rates(parts.test))),
        "cardinality": parts.train.schema.cardinality,
        "user": mapped.columns.ids[0],
        "cut": [part for part, log in logs.items() if split.n_rows(mapped, part) > len(log)],
        "by_rows": split.by_rows,
        "missing": {name: n for name, n in mapped.missing.items() if n},
    }
