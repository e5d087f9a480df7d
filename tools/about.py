"""Writes what the book says about itself: run times and records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode
from tabulate import tabulate

from reproduction import judge


def generate(root: Path, profile: str, documents: dict[str, NotebookNode], target: Path) -> None:
    """Writes runs.md and records.md."""
    (target / "runs.md").write_text(_run_times(profile, documents))
    (target / "records.md").write_text(_records_table(_records(root / "results")))


def _records(results: Path) -> list[tuple[str, dict]]:
    """Returns the name of each record and what its JSON file says about it."""
    found = []
    for path in sorted(results.glob("*/*.json")):
        content = json.loads(path.read_text())
        about = content.get("about", content)
        if "commit" in about:
            found.append((path.stem, about | {"profile": path.parent.name}))
    return found


def _table(head: Iterable[str], rows: list[list]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def _run_times(profile: str, documents: dict[str, NotebookNode]) -> str:
    if not documents:
        return "No notebook was run for these pages.\n"
    names, rows, total = ["seconds", "date", "torch", "machine"], [], 0.0
    for page, document in documents.items():
        stem, facts = Path(page).stem, document.metadata["multiepoch"]
        cells = [facts[name] for name in names]
        rows.append([f"[{stem}](../{page}.ipynb)", *cells])
        total += facts["seconds"]
    table = _table(["notebook", *names], rows)
    how = "On a CPU each notebook has one core, and up to four run side by side."
    return f"Profile `{profile}`, {total:.0f} seconds in total. {how}\n\n{table}\n"


def _records_table(found: list[tuple[str, dict]]) -> str:
    names = ("profile", "date", "machine", "torch")
    now = judge.fingerprints(judge.LEDGER.read_text(encoding="utf-8"))
    rows = []
    for name, about in found:
        seeds = ", ".join(map(str, about.get("seeds", ()))) or "–"
        about_it = [about.get(key, "–") for key in names]
        rows.append([name, *about_it, *_stamp(about, now), seeds])
    return _table(["record", *names, "commit", "predictions", "seeds"], rows) + "\n"


def _stamp(about: dict, now: dict[str, str]) -> tuple[str, str]:
    """Returns the commit and the predictions of a record, with what its stamp says of them."""
    if "started" not in about:
        return f"{about['commit']}, not stamped", "not stamped"
    calls = [about, *about.get("resumed", [])]
    trees = {True: "clean", False: "uncommitted changes", None: "no repository"}
    commits = [f"{one['commit']}, {trees[one['clean']]}" for one in calls]
    judged = ", ".join(about["predictions"]) or "none"
    if not all(one["predictions_committed"] for one in calls):
        judged += " (not committed)"
    elif any(now.get(id) != of for one in calls for id, of in one["predictions"].items()):
        judged += " (changed since)"
    return "; resumed at ".join(commits), judged
