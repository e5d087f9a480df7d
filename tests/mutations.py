"""Mutation tests: breaks the package in one place, and runs the notebooks until one notices.

    python -m tests.mutations [NAME ...]

A mutation replaces a function in the notebook's kernel, in a cell before all others, and the quick
regression must fail in the notebook that it is listed under; if it does not, the later notebooks
run, too. The untouched package must pass.
"""

import functools
import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from tabulate import tabulate

from multiepoch.optim import AdaptiveRegularization, EmbeddingOptimizer, SparseOptimizer, compiled
from multiepoch.optim import FrequencyAdaptiveLR as FAL
from multiepoch.remedies.undo_log import Counts, UndoLog
from multiepoch_lab import stats
from multiepoch_lab.blended import Blended
from multiepoch_lab.data import AdsWorld, hashing
from multiepoch_lab.runner import Runner
from reproduction import measure
from reproduction.runs import Profile, interventions
from tests.regression.compare import compare
from tests.regression.reference import read
from tests.regression.run import run

ROOT = Path(__file__).resolve().parents[1]
NONE = "none"


def patch(owner, name: str, change: Callable) -> None:
    """Calls change(real, ...) in place of the function `owner.name`, whoever has imported it."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def changed(*args, **kwargs):
        return change(real, *args, **kwargs)

    setattr(owner, name, staticmethod(changed) if inspect.ismethod(real) else changed)
    for module in list(sys.modules.values()):
        if module.__name__.startswith(("multiepoch", "reproduction")):
            for alias in [key for key, value in vars(module).items() if value is real]:
                setattr(module, alias, changed)


def swap_labels(real, *args):
    log = real(*args)
    return log.with_labels(log.labels[:, [0, 2, 1]])


def once_a_step(real, self, rows, occurrences, values):
    real(self, rows, occurrences.clamp(max=1), values)


# By the number of the notebook that must fail, and by name: what is called in place of what.
MUTATIONS: dict[str, dict[str, tuple]] = {
    "03": {
        "test day in training": (Profile, "split", lambda f, *a, **days: f(*a, **days)[2:] * 3),
        "labels swapped": (AdsWorld, "_log", swap_labels),
        "dense layers untrained": (SparseOptimizer, "step", lambda f, o: o.embedding.step()),
    },
    "04": {"cross in one row": (hashing, "hashed_cross", lambda f, ids, *_: 0 * ids)},
    "06": {
        "labels not drawn anew": (interventions, "resample", lambda f, log, _: log),
        "jump with the wrong sign": (measure, "jump", lambda f, *a, **how: -f(*a, **how)),
    },
    "07": {"FAL's scale at 1": (FAL, "factor", lambda f, self, n, *_, **how: (n > 0).float())},
    "08": {
        "AdamAR halved": (AdaptiveRegularization, "keep", lambda f, *a: 0.5 + f(*a) / 2),
        "rewind keeps the moments": (EmbeddingOptimizer, "row_state", lambda *_: {}),
        "tail rewind counts steps": (Counts, "add", once_a_step),
    },
    "10": {"undo log loses rows": (UndoLog, "put_back", lambda f, *a: list(f(*a))[:1])},
    "a2": {"the old row is not served": (Blended, "_served", lambda f, one: one._trained())},
    NONE: {"untouched": (stats, "interval", lambda f, *a: f(*a))},
}
EAGER = ("FAL's scale at 1", "AdamAR halved")  # which compiled kernels would compute themselves


def apply(expected: str, name: str) -> None:
    """Breaks the package of this process."""
    if name in EAGER:
        patch(compiled, "library", lambda real: None)
    patch(*MUTATIONS[expected][name])


def first_to_fail(mutation: tuple[str, str]) -> tuple[str, str]:
    """Returns the number of the first notebook, from the expected one on, that fails, and why."""
    expected, name = mutation
    reference = read(ROOT, "quick")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            if expected != NONE and path.stem < expected:
                continue
            broken = Path(folder) / path.name
            document = nbformat.read(path, as_version=4)
            source = f"import tests.mutations\n\ntests.mutations.apply({expected!r}, {name!r})"
            document.cells.insert(0, nbformat.v4.new_code_cell(source))
            nbformat.write(document, broken)
            outcome = run(broken, Path(folder), Path(folder) / "executed", {"profile": "quick"})
            for row in compare(outcome, reference):
                if row.wrong:
                    return path.stem[:2], f"{row.quantity}: {row.wrong}"
    return NONE, ""


def main(names: list[str]) -> int:
    """Returns 1 if a mutation goes unnoticed in the notebook that must fail."""
    chosen = [(n, m) for n in MUTATIONS for m in MUTATIONS[n] if m in names or not names]
    os.environ["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    lines = []
    with Runner(first_to_fail, os.cpu_count() or 1) as runner:
        for (expected, name), (found, why) in runner.map(chosen):
            lines.append((expected, found, name, why[:90]))
            print(*lines[-1], sep="  ", flush=True)
    print(tabulate(sorted(lines), ["expected", "fails", "mutation", "because"], tablefmt="pipe"))
    return int(any(expected != found for expected, found, *_ in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
