"""`multiepoch compare FILE`: trains every method on your log and writes a report."""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from multiepoch.data.log import DataError
from multiepoch.files import write_text
from multiepoch.runner import machine
from multiepoch_compare import output, plan, report
from multiepoch_compare.readers import FORMATS, Columns, MappedLog, default_cache, map_log
from multiepoch_compare.readers.files import disk_error
from multiepoch_compare.record import finite, record
from multiepoch_compare.run import Parts, Setup, read_parts, tune_and_run

LOOK_ROWS = 200_000
_KILLED = (
    "a worker process was killed, probably for lack of memory; finished trials are kept, so free "
    "some memory and repeat the command."
)


def command(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _compare(options, arguments)
    except DataError as error:
        problem = str(error)
    except OSError as error:
        problem = str(disk_error(error, options.out, output.REMEDY))
    except BrokenProcessPool:
        problem = _KILLED
    except KeyboardInterrupt:
        print("\nstopped; finished trials are kept: repeat the command to resume", file=sys.stderr)
        return 130
    print(f"multiepoch compare: {problem}", file=sys.stderr)
    return 2


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
    add("--ids", help="columns of ids, the user's first", default=(), **names)
    add("--labels", help="columns of zeros and ones", default=(), **names)
    add("--day", help="column with the day; in a folder without one, each file is a day")
    add("--dense", help="columns of numbers", default=(), **names)
    add(
        "--cross", help="adds an id for each pair; repeatable", action="append", default=[], **names
    )
    add("--format", choices=FORMATS, help="a public data set, instead of columns")
    add("--epochs", type=int, default=3, help="number of epochs (default: 3)")
    add("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    add("--batch-size", type=int, default=2048, help="impressions per step (default: 2048)")
    add("--out", type=Path, default=Path("report"), help="output folder (default: report)")
    quick = f"only the first {LOOK_ROWS:,} rows, two trials per method"
    add("--quick", action="store_true", help=quick)
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def columns_of(options: argparse.Namespace) -> Columns:
    """Returns the columns that the options name.

    Raises:
        DataError: If they are missing or contradict each other.
    """
    if options.format:
        if options.ids or options.labels or options.day or options.dense:
            raise DataError(
                f"--format {options.format} names the columns; leave out --ids, --labels, --day "
                "and --dense."
            )
        columns = FORMATS[options.format].columns
    else:
        if options.day is None and not options.file.is_dir():
            raise DataError(
                "--day is missing; name the column with the day, or give a folder with one file "
                "per day."
            )
        columns = Columns(options.ids, options.labels, options.day, options.dense)
    for pair in options.cross:
        if len(pair) != 2:
            raise DataError(f"--cross {','.join(pair)}: a cross needs exactly two id columns.")
    columns = replace(columns, cross=tuple(options.cross))
    columns.check()
    return columns


def _compare(options: argparse.Namespace, arguments: list[str]) -> int:
    started = time.perf_counter()
    for name, least, why in (
        ("epochs", 2, "; one epoch repeats nothing"),
        ("seeds", 1, ""),
        ("batch_size", 1, ""),
    ):
        if (value := getattr(options, name)) < least:
            option = name.replace("_", "-")
            raise DataError(f"--{option} is {value}; give at least {least}{why}.")
    columns = columns_of(options)
    say = partial(print, flush=True)
    with output.folder(options.out, arguments) as out:
        path = options.file
        if options.format:
            path = FORMATS[options.format].prepare(path, default_cache())
        mapped = map_log(path, columns, rows=LOOK_ROWS if options.quick else None, say=say)
        source = str(options.file)
        split = plan.split(mapped, source, options.quick)
        setup = Setup(str(mapped.folder), columns, split, options.epochs, options.batch_size)
        parts = read_parts(setup)
        data = _data(source, mapped, split, parts) | {
            "quick": options.quick,
            "rows_read": LOOK_ROWS if options.quick else None,
        }
        say(report.data_line(data))
        budget = 2 if options.quick else 4
        store = out / "trials"
        results, choices = tune_and_run(setup, store, source, budget, options.seeds, say)
        found = record(columns.labels, options.epochs, parts, results, choices) | {
            "seeds": options.seeds,
            "trials_a_method": len(plan.trials(budget)["plain"]),
            "call": shlex.join(["multiepoch", "compare", *arguments]),
            "data": data,
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "seconds": time.perf_counter() - started,
        }
        found = finite(found)
        text = report.text(found)
        write_text(out / "report.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        write_text(out / "report.txt", text)
        write_text(out / "index.html", report.page(found))
        say(f"\n{text}\nReport: {out / 'index.html'}")
    return 0


def _data(source: str, mapped: MappedLog, split: plan.Split, parts: Parts) -> dict:
    """Describes the three parts, and checks that each can be measured."""
    words, test = split.in_words(mapped), parts.test
    sizes = {part: len(getattr(parts, part)) for part in plan.PARTS}
    for part in plan.PARTS:
        if sizes[part] == 0:
            raise DataError(f"{source}: no impression on {words[part]} ({part}).")
        plan.check_labels(getattr(parts, part), part, words[part], source)
    return {
        "source": source,
        "impressions": mapped.n,
        "split": words,
        "sizes": sizes,
        "positives": dict(zip(test.objectives, test.labels.mean(0).tolist())),
        "cardinality": parts.train.schema.cardinality,
        "cut": [part for part in plan.PARTS if split.n_rows(mapped, part) > sizes[part]],
        "by_rows": split.by_rows,
    }
