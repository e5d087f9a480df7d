"""Breaks the package in eight ways, each in a copy of the tree; the regression has to say so.

    python tests/mutation.py [NAME ...]

The untouched copy must pass. Each broken one must fail, and its report must say to start with the
chapter that the break belongs to. Of a broken copy the chapters up to that one are run: the later
ones cannot change where the report says to start. Reports are kept in regression/mutation/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/multiepoch")


@dataclass(frozen=True)
class Mutation:
    """What is broken, the chapter that must tell, and (file, old text, new text) that break it."""

    what: str
    chapter: str
    edits: tuple[tuple[str, str, str], ...]


MUTATIONS = {
    "fal-at-one": Mutation(
        "FAL's scale is held at 1", "06_frequency_adaptive_rate",
        (("optim/frequency.py",
          "        gap = self.gap_decay**epoch\n",
          "        factor = torch.ones_like(max_count.float() + count)\n"
          "        gap = self.gap_decay**epoch\n"),
         ("optim/compiled.py",
          "                 row_lr.gap_decay ** group[\"epoch\"])  # fmt: skip\n",
          "                 0.0)  # fmt: skip\n")),
    ),
    "meda-does-nothing": Mutation(
        "MEDA does not reset", "07_fal_versus_meda",
        (("rewind.py",
          "every table is redrawn before each repeated epoch.\"\"\"\n"
          "    return Rewind(model, optimizer, math.inf,",
          "every table is redrawn before each repeated epoch.\"\"\"\n"
          "    return Rewind(model, optimizer, 0,"),),
    ),
    "meda-keeps-state": Mutation(
        "MEDA resets the weights, not the optimizer's state", "07_fal_versus_meda",
        (("rewind.py",
          "            value[rows] = step if name == \"last_step\" else 0\n",
          "            value[rows] = step if name == \"last_step\" else value[rows]\n"),),
    ),
    "one-rate": Mutation(
        # Chapter 2 is the first that trains with two rates, and holds them against torch's own.
        "the tables learn at the dense rate", "02_model",
        (("optim/sparse.py",
          "EmbeddingOptimizer(groups, lr=embedding_lr, **embedding_options)",
          "EmbeddingOptimizer(groups, lr=dense_lr, **embedding_options)"),),
    ),
    "test-day-in-training": Mutation(
        "the test day is in the training window", "01_conversion_data",
        (("experiments/profiles.py",
          "logs = world.days(0, self.train_days - 1),",
          "logs = world.days(0, last),"),),
    ),
    "labels-swapped": Mutation(
        "the labels of add-to-cart and checkout are swapped", "01_conversion_data",
        (("data/ads_world.py",
          "labels[rows] = draw < p_true[rows]",
          "labels[rows] = (draw < p_true[rows])[:, [0, 2, 1]]"),),
    ),
    "sign-of-the-jump": Mutation(
        "the boundary jump has the wrong sign", "05_multi_epoch_overfitting",
        (("metrics.py",
          "return after / before - 1", "return 1 - after / before"),),
    ),
    "tau-ignored": Mutation(
        "tail rewind ignores tau and puts all rows back", "07_fal_versus_meda",
        (("rewind.py",
          "        self.below, self.to = below, to\n",
          "        self.below, self.to = (math.inf if below > 0 else 0), to\n"),),
    ),
}  # fmt: skip


def copy(target: Path) -> None:
    """What the regression needs of the tree."""
    for name in ("src", "notebooks", "references", "results"):
        if (ROOT / name).exists():
            leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "runs")
            shutil.copytree(ROOT / name, target / name, ignore=leave)


def apply(mutation: Mutation, root: Path) -> None:
    """SystemExit where a text to be replaced is not there exactly once."""
    for name, old, new in mutation.edits:
        path = root / PACKAGE / name
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(
                f"{mutation.what}: {PACKAGE / name} has this {text.count(old)} times, not once; "
                f"bring tests/mutation.py up to date:\n{old}"
            )
        path.write_text(text.replace(old, new))


def regression(root: Path, only: list[str]) -> dict:
    """The report of the quick regression in that tree."""
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    where = subprocess.run(
        [sys.executable, "-c", "import multiepoch; print(multiepoch.__file__)"],
        env=environment, cwd=root, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    if not Path(where).is_relative_to(root):
        sys.exit(f"the copy in {root} imports {where}, not its own package.")
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.regression.command", "regression", "--only", *only],
        env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    report = root / "regression" / "report.json"
    if not report.exists():
        sys.exit(f"the regression wrote no report:\n{outcome.stdout}")
    said = json.loads(report.read_text())
    if said["ok"] != (outcome.returncode == 0):
        sys.exit(f"report.json says ok={said['ok']} and the exit code is {outcome.returncode}.")
    return said


def main(names: list[str]) -> int:
    unknown = set(names) - MUTATIONS.keys()
    if unknown:
        sys.exit(f"no mutation {', '.join(unknown)}; there are {', '.join(MUTATIONS)}.")
    chosen = {name: MUTATIONS[name] for name in names or MUTATIONS}
    chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    kept = ROOT / "regression" / "mutation"
    missed, began = 0, time.perf_counter()
    runs: dict[str, Mutation | None] = {"untouched": None, **chosen}
    for name, mutation in runs.items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            copy(root)
            if mutation:
                apply(mutation, root)
            only = [one for one in chapters if mutation is None or one <= mutation.chapter]
            report = regression(root, only)
            shutil.rmtree(kept / name, ignore_errors=True)
            shutil.copytree(root / "regression", kept / name, ignore=shutil.ignore_patterns("runs"))
        wanted = mutation.chapter if mutation else None
        good = report["start_with"] == wanted
        missed += not good
        print(f"{name}: {'as it should be' if good else 'NOT AS IT SHOULD BE'}, "
              f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip
        print(f"  {mutation.what if mutation else 'nothing is broken'}: {report['headline']}")
        for row in report["rows"]:
            if row["notebook"] == report["start_with"] and row["verdict"] != "ok":
                print(f"  {row['quantity']}: {row['verdict']}: {row['what']}")
        if mutation is None and not good:
            print("Nothing can be said of broken copies where the untouched one fails.")
            return 1
    print(f"{len(runs) - missed} of {len(runs)} as they should be, "
          f"{time.perf_counter() - began:.0f} s; the reports are in {kept}")  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
