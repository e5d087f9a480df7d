"""Writes the report: a page that needs nothing beside it, JSON, JUnit XML, a table for a terminal.

The page is for a person who wants to know what broke; JSON and XML hold the same for machines.
"""

from __future__ import annotations

import html
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.regression.compare import FALSE_ALARMS, WHOLE, Row, start_with
from tests.regression.execution import Outcome


@dataclass(frozen=True)
class Report:
    """All that the three files say.

    about: profile, device, machine, versions, date; reference: the same of the reference.
    """

    about: dict
    reference: dict
    outcomes: Sequence[Outcome]
    rows: Sequence[Row]

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def start_with(self) -> str | None:
        return start_with(self.rows)

    def headline(self) -> str:
        failed = [row for row in self.rows if not row.ok]
        n_notebooks = len({row.notebook for row in self.rows})
        if not failed:
            return f"All {len(self.rows)} quantities of {n_notebooks} notebooks are as they were."
        broken = list(dict.fromkeys(row.notebook for row in failed))
        return (
            f"{len(failed)} of {len(self.rows)} quantities fail, in {len(broken)} of "
            f"{n_notebooks} notebooks. Start with {self.start_with}."
        )


def write(report: Report, folder: Path) -> None:
    """report.html, report.json and junit.xml in `folder`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("report.json", as_json(report, folder)),
        ("junit.xml", as_junit(report)),
        ("report.html", as_html(report, folder)),
    ):
        partial = folder / f".{name}.part"
        partial.write_text(text)
        os.replace(partial, folder / name)


def as_json(report: Report, folder: Path) -> str:
    def outcome(one: Outcome) -> dict:
        said = asdict(replace(one, recorded=[], executed=None))
        del said["recorded"]
        return said | {"executed": _link(one, folder)}

    content = {
        "ok": report.ok,
        "headline": report.headline(),
        "start_with": report.start_with,
        "about": report.about,
        "reference": report.reference,
        "notebooks": [outcome(one) for one in report.outcomes],
        "rows": [asdict(row) for row in report.rows],
    }
    return json.dumps(content, indent=1) + "\n"


def as_junit(report: Report) -> str:
    """One suite a notebook, one case a quantity."""
    suites = ET.Element("testsuites", name=f"regression {report.about['profile']}")
    seconds = {one.notebook: one.seconds for one in report.outcomes}
    for notebook in dict.fromkeys(row.notebook for row in report.rows):
        rows = [row for row in report.rows if row.notebook == notebook]
        failed = [row for row in rows if not row.ok]
        suite = ET.SubElement(
            suites, "testsuite", name=notebook, tests=str(len(rows)), failures=str(len(failed)),
            errors="0", time=f"{seconds.get(notebook, 0.0):.1f}",
        )  # fmt: skip
        for row in rows:
            case = ET.SubElement(suite, "testcase", classname=notebook, name=row.quantity)
            if not row.ok:
                failure = ET.SubElement(case, "failure", type=row.verdict, message=_xml(row.what))
                failure.text = _xml(f"reference {text(row.reference)}, now {text(row.now)}")
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Notebook, quantity, reference, now, allowed, verdict, in columns for a terminal."""
    heads = ("notebook", "quantity", "reference", "now", "allowed", "verdict")
    cells = [
        (row.notebook[:2] if row.notebook[:2].isdigit() else row.notebook, row.quantity,
         text(row.reference), text(row.now), _allowed(row), row.verdict)
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[k]) for line in [heads, *cells]) for k in range(5)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[5]])
        for line in [heads, ["-" * width for width in widths] + ["-------"], *cells]
    ]
    return "\n".join(lines)


def failures(report: Report) -> str:
    """What fails, by notebook, for a terminal."""
    lines = []
    for row in report.rows:
        if not row.ok:
            lines.append(f"{row.notebook}: {row.quantity}: {row.verdict}: {row.what}")
    return "\n".join(lines)


def text(value: float | str | None) -> str:
    """A value as tables show it; a dash where there is none."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.6g}"


def _allowed(row: Row) -> str:
    if row.allowed is None:
        return "-"
    low, high = row.allowed
    return "exactly" if low == high else f"{low:.4g} to {high:.4g}"


def _link(outcome: Outcome, folder: Path) -> str | None:
    """Where the executed notebook is, seen from the report."""
    if outcome.executed is None:
        return None
    return Path(os.path.relpath(outcome.executed, folder)).as_posix()


def _xml(value: str) -> str:
    """Without the control characters that XML has no way to hold."""
    return "".join(c for c in value if c >= " " or c in "\n\t")


STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c0392b; --good: #2e7d4f; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
td, th { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; } pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line);
  font-size: .8rem; } summary { cursor: pointer; } .note { opacity: .8; font-size: .88rem; }
svg { vertical-align: middle; }
"""


def as_html(report: Report, folder: Path) -> str:
    about, reference = report.about, report.reference
    color = "good" if report.ok else "bad"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Regression, {_e(about['profile'])}: {'passed' if report.ok else 'failed'}</title>",
        f"<style>{STYLE}</style></head><body>",
        f"<h1>Regression, profile {_e(about['profile'])}</h1>",
        f"<p class='{color}'>{_e(report.headline())}</p>",
        _facts(about, reference),
        _overview(report, folder),
    ]
    outcomes = {one.notebook: one for one in report.outcomes}
    for notebook in dict.fromkeys(row.notebook for row in report.rows):
        rows = [row for row in report.rows if row.notebook == notebook]
        parts += _section(notebook, rows, outcomes.get(notebook), folder)
    parts.append(_legend(reference))
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _facts(about: dict, reference: dict) -> str:
    names = ("seeds", "device", "machine", "python", "torch", "date")
    rows = "".join(
        f"<tr><th>{name}</th><td>{_e(_plain(about.get(name)))}</td>"
        f"<td>{_e(_plain(reference.get(name)))}</td></tr>"
        for name in names
    )
    return ("<div class='wide'><table><tr><th></th><th>this run</th><th>reference</th></tr>"
            f"{rows}</table></div>")  # fmt: skip


def _overview(report: Report, folder: Path) -> str:
    lines = []
    for one in report.outcomes:
        rows = [row for row in report.rows if row.notebook == one.notebook]
        n_failed = sum(not row.ok for row in rows)
        verdict = _badge("ok" if not n_failed else f"{n_failed} of {len(rows)} fail", not n_failed)
        link = _link(one, folder)
        name = f"<a href='#{_e(one.notebook)}'>{_e(one.notebook)}</a>"
        notebook = f"<a href='{_e(link)}'>executed notebook</a>" if link else "nothing kept"
        seconds = f"{one.seconds:.1f} s{', kept' if one.kept else ''}"
        lines.append(f"<tr><td>{name}</td><td>{verdict}</td><td class='number'>{seconds}</td>"
                     f"<td>{notebook}</td></tr>")  # fmt: skip
    heads = "<th>notebook</th><th>verdict</th><th class='number'>time</th><th></th>"
    return ("<h2>Notebooks</h2>"
            f"<div class='wide'><table><tr>{heads}</tr>{''.join(lines)}</table></div>")  # fmt: skip


def _section(
    notebook: str, rows: Sequence[Row], outcome: Outcome | None, folder: Path
) -> list[str]:
    parts = [f"<h2 id='{_e(notebook)}'>{_e(notebook)}</h2>"]
    whole = [row for row in rows if row.quantity == WHOLE and not row.ok]
    if whole and outcome and outcome.traceback:
        parts.append(f"<details open><summary>Traceback, cell <code>{_e(outcome.where)}</code>"
                     f"</summary><pre>{_e(outcome.traceback)}</pre></details>")  # fmt: skip
    heads = "<th>quantity</th>" + "".join(
        f"<th class='number'>{name}</th>" for name in ("reference", "now", "allowed")
    ) + "<th></th><th>verdict</th>"  # fmt: skip
    lines = []
    for row in sorted(rows, key=lambda row: row.ok):  # failures first
        what = f"<br><span class='note'>{_e(row.what)}</span>" if row.what else ""
        lines.append(
            f"<tr><td>{_e(row.quantity)}</td><td class='number'>{_e(text(row.reference))}</td>"
            f"<td class='number'>{_e(text(row.now))}</td>"
            f"<td class='number'>{_e(_allowed(row))}</td>"
            f"<td>{_strip(row)}</td><td>{_badge(row.verdict, row.ok)}{what}</td></tr>"
        )
    parts.append(f"<div class='wide'><table><tr>{heads}</tr>{''.join(lines)}</table></div>")
    return parts


def _strip(row: Row) -> str:
    """Where the number lies in its band: the band a bar, the reference a tick, the number a dot."""
    if row.allowed is None or not isinstance(row.now, int | float):
        return ""
    low, high = row.allowed
    if low == high:
        return ""
    place = min(1.18, max(-0.18, (row.now - low) / (high - low)))
    color = "var(--good)" if row.ok else "var(--bad)"
    label = f"{100 * (row.now - low) / (high - low):.0f} % of the way through the band"
    return (f"<svg width='96' height='14' role='img' aria-label='{label}'>"
            "<rect x='16' y='5' width='64' height='4' fill='#8886'/>"
            "<rect x='47' y='2' width='2' height='10' fill='#888'/>"
            f"<circle cx='{16 + 64 * place:.1f}' cy='7' r='4' fill='{color}'/></svg>")  # fmt: skip


def _legend(reference: dict) -> str:
    n = len(reference.get("seeds", []))
    return (
        f"<p class='note'>Allowed: the prediction interval of Student's t for one more seed, from "
        f"the {n} seeds of the reference, wide enough that a run with other seeds, all numbers "
        f"together, fails at most once in {1 / FALSE_ALARMS:.0f} times. Counts, shapes and "
        "formulas must be the same. The bar is what is allowed, the tick its middle, the dot this "
        "run.</p>"
    )


def _badge(words: str, ok: bool) -> str:
    return f"<span class='{'good' if ok else 'bad'}'>{_e(words)}</span>"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _e(value: object) -> str:
    return html.escape(str(value), quote=True)
