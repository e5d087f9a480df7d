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
    "half an interval: expected, measured",
    "plain, ¼ into epoch 2",
    "plain, end of epoch 2",
    "one epoch: row-wise Adagrad against plain",
    "mean of ends against plain",
    "additive against plain",
    "advice",
)


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "–"
    text = f"{found.mean:+.1f}\u00a0% [{found.low:.1f}, {found.high:.1f}]"
    return signed(text).replace("+0.0", "0.0").replace("−0.0", "0.0")


def line(name: str, found: dict) -> list[str]:
    """Returns the cells of one log, in the order of HEADS."""
    lines = {one["label"]: one for one in found["methods"]}
    plain, advised = lines["plain"], found["advised"]
    return [
        name,
        f"±{found['outlook']['half']:.1f}, ±{found['half_measured']:.1f}\u00a0%",
        _cell(plain["quarter"]),
        _cell(plain["second"]),
        *(
            _cell(lines[k]["against_plain"])
            for k in ("row-wise Adagrad", "mean of ends", "additive")
        ),
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
