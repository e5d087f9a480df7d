"""Every sentence about the committed records, the values in it, and what must hold.

A value has one name, written whole wherever it is used: the record's, a dot, and what `facts` of
the module with that NAME calls it, as in dose_production.at_best/KuaiRand. What a claim's evidence
says is C7.fal_meda_end/ and the point.

A file of sentences is TOML. A table in it may have texts, with values in braces, and `holds`, the
conditions under which they may stand, by what they assert (`findings.is_true` says what one is).
`of` says what a finding is about that is not about one record; it is checked where it is shown.
Pages of the book and the README have values in double braces, in the same formats.
"""

import functools
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reproduction import judge, records, tuning
from reproduction.a1_ab_test import experiment as ab_test
from reproduction.ch02_data_and_model import experiment as model
from reproduction.ch03_gradient_sparsity import experiment as sparsity
from reproduction.ch04_sparse_optimizer import experiment as two_rates
from reproduction.ch04_sparse_optimizer import rules
from reproduction.ch10_board import anatomy
from reproduction.ch10_board import experiment as board
from reproduction.ch11_new_data_every_day import delay, scale, worth
from reproduction.ch11_new_data_every_day import experiment as days
from reproduction.ch12_real_logs import experiment as kuairand
from reproduction.ch12_real_logs import penalty, windows
from reproduction.dose_response import experiment as dose_response
from reproduction.dose_response import production
from reproduction.findings import Facts, OfRecords, by_name, fill, is_true, whole
from reproduction.first_step import experiment as first_step
from reproduction.interplay import experiment as interplay
from reproduction.own_label import experiment as own_label
from reproduction.own_label import served
from reproduction.records import Record
from reproduction.second_epoch import causes
from reproduction.second_epoch import experiment as second_epoch

NBSP = "\u00a0"  # keeps a number, its unit and its interval together in a narrow cell
FACTS: dict[str, Callable[[Record], Mapping]] = {
    module.NAME: module.facts
    for module in (
        ab_test,
        anatomy,
        board,
        causes,
        days,
        delay,
        dose_response,
        first_step,
        interplay,
        kuairand,
        model,
        own_label,
        penalty,
        production,
        rules,
        scale,
        second_epoch,
        served,
        sparsity,
        two_rates,
        windows,
        worth,
    )
} | {production.NO_CROSS_NAME: production.facts, tuning.NAME: board.facts_of_search}
PERCENT = re.compile(r"(?<=\d) %")
ON_A_PAGE = re.compile(r"\{\{ (\w+\.[^{}]+) \}\}")


@functools.cache
def values(results: Path) -> OfRecords:
    """Returns the values of the records in a folder, each of which is read when it is asked for."""
    return OfRecords(functools.partial(_of, results=results))


def _of(source: str, results: Path) -> Facts:
    if source in FACTS:
        record = records.read(source, "long", results)
        if record is None:
            raise KeyError(f"there is no record {source} in {results / 'long'}")
        return whole(source, FACTS[source](record))
    rows = judge.decisive(judge.claim(source), records.ledger(results))
    found = {
        name: {point: of.set_index("seed")["value"] for point, of in one.groupby("point")}
        for name, one in rows.groupby("measure")
    }
    return whole(source, by_name(**{n: of.get("", of) for n, of in found.items()}))


def are_there(results: Path) -> bool:
    """Returns whether a folder has the records that the sentences of the book are about."""
    return (results / "long" / f"{production.NAME}.parquet").exists()


def asserted(path: Path) -> dict[str, str]:
    """Returns the conditions of a file of sentences, by what they assert and where."""
    return dict(_holds(tomllib.loads(path.read_text(encoding="utf-8")), ""))


def _holds(table: Mapping, where: str) -> Iterator[tuple[str, str]]:
    if "of" in table:
        return
    for key, one in table.items():
        if key == "holds":
            yield from ((f"{where}{words}", condition) for words, condition in one.items())
        elif isinstance(one, Mapping):
            yield from _holds(one, f"{where}{key}, ")
        elif isinstance(one, list) and one and isinstance(one[0], Mapping):
            for each in one:
                name = each.get("id") or each.get("question") or each.get("ask", "")
                yield from _holds(each, f"{where}{key}: {name}, ")


def contradicted(path: Path, values: Mapping) -> list[str]:
    """Returns what a file of sentences asserts and the records do not bear out."""
    conditions = asserted(path).items()
    return [f"{words} ({one})" for words, one in conditions if not is_true(one, values)]


def on_a_page(text: str, values: Mapping) -> str:
    """Returns the text of a page with the values in place of their names in double braces."""
    return ON_A_PAGE.sub(lambda found: shown(f"{{{found[1]}}}", values), text)


def shown(text: str, values: Mapping) -> str:
    """Returns a text with its values, whose signs and units are as pages have them."""
    return PERCENT.sub(f"{NBSP}%", fill(text, values, lambda one: one.replace("-", "−")))
