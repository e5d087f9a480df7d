"""`multiepoch compare FILE`: trains every method on your log and writes a report."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import shlex
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path

import torch

from multiepoch.data.log import DataError
from multiepoch.files import write_text
from multiepoch.runner import machine
from multiepoch_compare import output, plan, report
from multiepoch_compare.leak import leaks
from multiepoch_compare.readers import FORMATS, Columns, MappedLog, default_cache, map_log
from multiepoch_compare.readers.files import disk_error
from multiepoch_compare.record import record
from multiepoch_compare.run import Parts, Setup, rates, read_parts, tune_and_run

LOOK_ROWS = 200_000


def command(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        _compare(options, arguments)
    except OSError as error:
        raise disk_error(error, options.out, output.REMEDY) from error
    except BrokenProcessPool as error:
        what = "a worker process was killed, probably for lack of memory"
        remedy = "finished trials are kept, so free some memory and repeat the command"
        raise DataError(f"{what}; {remedy}.") from error
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multiepoch compare",
        description="Trains plain, Sparse Optimizer, FAL, MEDA, AdamAR and tail rewind on all days "
        "of a log but the last two, tunes each on the last but one, tests on the last, and writes "
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
    split = "id column of texts that hold several ids, and what separates them; repeatable"
    add("--split", nargs=2, help=split, action="append", default=[], metavar=("A", "SEPARATOR"))
    add("--weight", help="column of weights, such as one over the sampling rate")
    zone = "time zone of Unix times and of times with a zone, such as Europe/Berlin"
    add("--tz", default="UTC", help=f"{zone} (default: UTC)")
    add("--test-days", type=int, default=1, help="days to test on, and to tune on (default: 1)")
    add("--format", choices=FORMATS, help="a public data set, instead of columns")
    add("--epochs", type=int, default=3, help="number of epochs (default: 3)")
    add("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    most, steps = plan.LARGEST_BATCH, plan.LEAST_STEPS
    default = f"default: as many as leave {steps} steps an epoch, up to {most}"
    add("--batch-size", type=int, help=f"impressions per step ({default})")
    add("--out", type=Path, default=Path("report"), help="output folder (default: report)")
    quick = f"only the first {LOOK_ROWS:,} rows, two trials per method"
    add("--quick", action="store_true", help=quick)
    return parser


def _names(text: str) -> tuple[str, ...]:
    """Splits a list of names; quotes keep commas and spaces, as in a line of CSV."""
    fields = re.findall(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)', text)
    names = (f[1:-1].replace('""', '"') if f[:1] == '"' else f.strip() for f in fields)
    return tuple(name for name in names if name)


def columns_of(options: argparse.Namespace) -> Columns:
    """Returns the columns that the options name; DataError if they contradict each other."""
    if options.format:
        if options.ids or options.labels or options.day or options.dense:
            remedy = "leave out --ids, --labels, --day and --dense"
            raise DataError(f"--format {options.format} names the columns; {remedy}.")
        columns = FORMATS[options.format].columns
    else:
        if options.day is None and not options.file.is_dir():
            remedy = "name the column with the day, or give a folder with one file per day"
            raise DataError(f"--day is missing; {remedy}.")
        columns = Columns(options.ids, options.labels, options.day, options.dense)
    for pair in options.cross:
        if len(set(pair)) != 2 or len(pair) != 2:
            what = "a cross needs exactly two different id columns"
            raise DataError(f"--cross {','.join(pair)}: {what}.")
    columns = replace(columns, cross=tuple(options.cross), tz=options.tz, weight=options.weight)
    columns = replace(columns, split=tuple(map(tuple, options.split)))
    columns.check()
    return columns


def _compare(options: argparse.Namespace, arguments: list[str]) -> None:
    started = time.perf_counter()
    least = {"epochs": "2, since one epoch repeats nothing"}
    least |= dict.fromkeys(("seeds", "batch_size", "test_days"), "1")
    for name, words in least.items():
        value = getattr(options, name)
        if value is not None and value < int(words[0]):
            raise DataError(f"--{name.replace('_', '-')} is {value}; give at least {words}.")
    columns = columns_of(options)
    rows_read = LOOK_ROWS if options.quick else None
    say = output.say
    with output.folder(options.out, arguments) as out:
        path, source = options.file, str(options.file)
        if options.format:
            path = FORMATS[options.format].prepare(path, default_cache())
        mapped = map_log(path, columns, rows=rows_read, say=say)
        warnings: list[str] = []

        def warn(found: list[str]) -> None:
            for one in found:
                warnings.append(f"Warning: {one}")
                say(warnings[-1])

        warn(plan.far_days(mapped))
        cut = options.quick and mapped.n == LOOK_ROWS
        split = plan.split(mapped, source, options.quick, options.test_days, cut)
        n_train = min(split.n_rows(mapped, "train"), plan.MAX_TRAIN)
        batch_size = options.batch_size or plan.batch_size(n_train)
        shared = str(out / output.SHARED)
        say(f"splitting {mapped.n:,} impressions")
        setup = Setup(str(mapped.folder), columns, split, options.epochs, batch_size, shared)
        parts = read_parts(setup)
        data = _data(source, mapped, split, parts, rows_read)
        say(report.data_line(data))
        warn(leaks(parts.train, parts.validation))
        budget = 2 if options.quick else 4
        plain = (trial.embedding_lr for trial in plan.trials(budget)["plain"])
        expected = {lr: parts.expected(batch_size, lr) for lr in sorted(plain)}
        say(report.expected(expected))
        results, choices, control = tune_and_run(setup, out / "trials", budget, options.seeds, say)
        found = record(columns.labels, options.epochs, parts, results, choices, control)
        found |= {
            "seeds": options.seeds,
            "expected": asdict(expected[found["methods"][0]["trial"]["embedding_lr"]]),
            "warnings": warnings,
            "batch_size": batch_size,
            "steps": math.ceil(n_train / batch_size),
            "trials_a_method": len(plan.trials(budget)["plain"]),
            "call": shlex.join(["multiepoch", "compare", *arguments]),
            "data": data,
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "seconds": time.perf_counter() - started,
        }
        text = report.text(found)
        write_text(out / "report.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        write_text(out / "report.txt", text)
        write_text(out / "index.html", report.page(found))
        say(f"\n{text}\nReport: {out / 'index.html'}")


def _data(source: str, mapped: MappedLog, split: plan.Split, parts: Parts, rows_read) -> dict:
    """Describes the log and its parts; DataError if one of them cannot be measured."""
    words, logs = split.in_words(mapped), {part: getattr(parts, part) for part in plan.PARTS}
    for part, log in logs.items():
        plan.check_labels(log, part, words[part], source)
    return {
        "source": source,
        "impressions": mapped.n,
        "split": words,
        "sizes": {part: len(log) for part, log in logs.items()},
        "positives": dict(zip(parts.test.objectives, rates(parts.test))),
        "cardinality": parts.train.schema.cardinality,
        "quick": rows_read is not None,
        "rows_read": rows_read,
        "cut": [part for part, log in logs.items() if split.n_rows(mapped, part) > len(log)],
        "by_rows": split.by_rows,
        "missing": {name: n for name, n in mapped.missing.items() if n},
        "bags": list(mapped.bags),
    }
