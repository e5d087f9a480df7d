"""`multiepoch compare FILE`: trains every line on your log and writes a report."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import math
import os
import re
import shlex
import time
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch

from multiepoch_compare import outlook, output, plan, report
from multiepoch_compare.leak import leaks
from multiepoch_compare.readers import Columns, WholeLog, files, read_log
from multiepoch_compare.record import dumps, record
from multiepoch_compare.run import Setup, make_parts, read_parts, share_parts
from multiepoch_compare.tune import tune_and_run
from multiepoch_lab.data.log import DataError
from multiepoch_lab.files import write_text
from multiepoch_lab.runner import machine


def command(arguments: list[str]) -> int:
    run(arguments, arguments)
    return 0


def run(arguments: list[str], call: list[str], source: str | None = None) -> None:
    """Compares as the arguments say; the report names the call and, by default, the file."""
    options = _parser().parse_args(arguments)
    try:
        _compare(options, call, source or str(options.file))
    except OSError as error:
        raise output.disk_error(error, options.out) from error
    except BrokenProcessPool as error:
        what = "a worker process was killed, probably for lack of memory"
        remedy = "finished trials are kept, so free some memory and repeat the command"
        raise DataError(f"{what}; {remedy}.") from error
    finally:
        read_parts.cache_clear()  # its file is deleted, so that a next call must read its own


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
        description="Trains plain and the lines of --methods on the days of a log but the last, "
        "tunes each on the last of them, tests on the last days, and writes OUT/index.html and "
        "OUT/report.json. An interrupted run resumes when the command is repeated. `multiepoch "
        "inspect FILE` finds the columns and prints the command.",
    )
    add, names = parser.add_argument, {"type": _names, "metavar": "A,B"}
    add("file", type=Path, help="CSV or Parquet, or a folder of them")
    quoting = "names with commas or outer spaces in double quotes"
    add("--ids", help=f"columns of ids, the user's first; {quoting}", default=(), **names)
    add("--labels", help="columns of zeros and ones", default=(), **names)
    add("--day", required=True, help="column with the day or time")
    add("--dense", help="columns of numbers", default=(), **names)
    add("--cross", help="adds an id per pair; repeatable", action="append", default=[], **names)
    enough = "default: as many as a verdict needs"
    add("--test-days", type=int, help=f"days to test on, and to tune on ({enough})")
    but = f"default: all but {', '.join(plan.ON_REQUEST)}"
    add("--methods", help=f"beside plain: {', '.join(plan.LINES)} ({but})", default=(), **names)
    add("--epochs", type=int, default=3, help="number of epochs (default: 3)")
    add("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    most, steps = plan.LARGEST_BATCH, plan.LEAST_STEPS
    default = f"default: as many as leave {steps} steps an epoch, up to {most}"
    add("--batch-size", type=int, help=f"impressions per step ({default})")
    add("--out", type=Path, default=Path("report"), help="output folder (default: report)")
    share = "share of the values of the first id column, such as users, to read, with all rows"
    add("--sample", type=float, default=1.0, metavar="SHARE", help=share)
    return parser


def _names(text: str) -> tuple[str, ...]:
    """Splits a list of names; quotes keep commas and spaces, as in a line of CSV."""
    fields = re.findall(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)', text)
    names = (f[1:-1].replace('""', '"') if f[:1] == '"' else f.strip() for f in fields)
    return tuple(name for name in names if name)


def columns_of(options: argparse.Namespace) -> Columns:
    """Returns the columns that the options name; DataError if they contradict each other."""
    named = options.ids, options.labels, options.day, options.dense
    columns = Columns(*named, cross=tuple(options.cross))
    columns.check()
    return columns


def _compare(options: argparse.Namespace, arguments: list[str], source: str) -> None:
    started, say = time.perf_counter(), output.say
    _check(options)
    columns = columns_of(options)
    with output.folder(options.out, arguments) as out:
        paths, notes = files.find(options.file), files.left_out(options.file)
        log = read_log(paths, columns, options.sample, say)
        needed = outlook.rows_needed(log.rates)
        split = plan.split(log, source, needed, options.test_days)
        expected = outlook.outlook(log, split, options.seeds)
        parts = make_parts(log, split)
        batch_size = options.batch_size or plan.batch_size(len(parts.train))
        if (steps := math.ceil(len(parts.train) / batch_size)) < 4:
            what = f"{len(parts.train):,} training impressions are {steps} steps of {batch_size:,}"
            remedy = "at least 4 are needed: give a smaller --batch-size"
            raise DataError(f"{source}: {what}; {remedy}.")
        data = _data(source, log, split, parts) | {"share": options.sample}
        data["leaks"] = leaks(parts.train, parts.validation)
        warnings = [f"Warning: {one}" for one in data["leaks"] + notes]
        for line in (report.data_line(data), expected.in_words(), *warnings):
            say(line)
        known = [files.fingerprint(paths), asdict(columns), options.sample]
        setup = Setup(_hashed(known), split, batch_size, str(out / output.SHARED))
        share_parts(parts, Path(setup.shared))
        del log, parts  # the processes share the parts' file
        parts = read_parts(setup.shared)
        lines = plan.lines(options.methods)
        if len(parts.train.ids) == 1:
            lines = [name for name in lines if name != plan.DROPPED]
        arguments_of_search = setup, out / "trials", options.epochs, lines, options.seeds, say
        found = record(parts, expected, *tune_and_run(*arguments_of_search))
        found |= {
            "epochs": options.epochs,
            "seeds": options.seeds,
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


def _hashed(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:24]


def _check(options: argparse.Namespace) -> None:
    """Raises DataError if a number is out of range, or options contradict each other."""
    least = {"epochs": "2, since one epoch repeats nothing"}
    least |= {"seeds": "2, since one gives no interval", "batch_size": "1", "test_days": "1"}
    for name, words in least.items():
        value = getattr(options, name)
        if value is not None and value < int(words[0]):
            raise DataError(f"--{name.replace('_', '-')} is {value}; give at least {words}.")
    if not 0 < options.sample <= 1:
        raise DataError(f"--sample is {options.sample}; give a share above 0, up to 1.")
    for name in options.methods:
        if name not in plan.LINES:
            known = ", ".join(plan.LINES)
            raise DataError(f"--methods: {name!r} is unknown; choose from {known}.")


def _data(source: str, log: WholeLog, split: plan.Split, parts) -> dict:
    """Describes the log and its parts."""
    return {
        "source": source,
        "impressions": log.n,
        "split": split.in_words(log),
        "sizes": {part: len(getattr(parts, part)) for part in plan.PARTS},
        "cardinality": parts.train.schema.cardinality,
        "user": log.columns.ids[0],
        "missing": {name: n for name, n in log.missing.items() if n},
    }
