"""The real logs side by side, and a report of each, from the records of `multiepoch compare`.

`tools.record_compare` keeps them.
"""

from __future__ import annotations

from pathlib import Path

from tabulate import tabulate

from multiepoch_compare import report
from multiepoch_compare.estimates import Estimate
from multiepoch_compare.record import loads
from multiepoch_lab.files import write_text
from reproduction.style import signed

LOGS = {
    "kuairand": "KuaiRand",
    "retailrocket": "RetailRocket",
    "tmall": "Tmall",
    "movielens": "MovieLens 100k",
    "open_bandit": "Open Bandit",
}
HEADS = (
    "log",
    "plain, ¼ into epoch 2",
    "the same, own label left out",
    "plain, end of epoch 2",
    "expected by rule of thumb",
    "one epoch: row-wise Adagrad against plain",
    "additive model against full",
    "second epoch with tail rewind",
    "advice",
)


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "–"
    text = f"{found.mean:+.1f}\u00a0% [{found.low:.1f}, {found.high:.1f}]"
    return signed(text).replace("+0.0", "0.0").replace("−0.0", "0.0")


def line(name: str, found: dict) -> list[str]:
    """Returns the cells of one log, in the order of HEADS."""
    methods = {one["label"]: one for one in found["methods"]}
    plain, tail = methods["plain"], methods.get("tail rewind")
    control, advised = found["own_label"], found["advised"]
    rise = f"{found['expected']['rise']:+.0f}\u00a0%" if found["expected"] else "–"
    interplay = found["interplay"]
    return [
        name,
        _cell(plain["quarter"]),
        _cell(control and control["control"]),
        _cell(plain["second"]),
        rise,
        _cell(methods["row-wise Adagrad"]["in_one_epoch"]),
        _cell(interplay and interplay[1]),
        _cell(tail and tail["second"]),
        f"{advised[0]}, {advised[1]} epoch{'s' * (advised[1] > 1)}" if advised else "none",
    ]


def generate(results: Path, generated: Path, static: Path) -> None:
    """Writes real_logs.md, a table with a line for each log, and its reports."""
    lines, folder = [], static / "reports"
    folder.mkdir()
    for name, words in LOGS.items():
        found = loads((results / "cpu" / f"compare_{name}.json").read_text(encoding="utf-8"))
        write_text(folder / f"{name}.html", report.page(found))
        lines.append(line(f'<a href="../_static/reports/{name}.html">{words}</a>', found))
    table = tabulate(lines, HEADS, tablefmt="pipe", disable_numparse=True)
    write_text(generated / "real_logs.md", f"{table}\n")
