"""Mutation tests: breaks the package in one place, and runs the notebooks until one notices.

    python -m tests.mutations [NAME ...]

A mutation replaces functions in the notebook's kernel, in a cell before all others, and the quick
regression must fail in the notebook that it is listed under; if it does not, the later notebooks
run, too. Those under NONE go unnoticed: the untouched package, which must pass, and known gaps.
"""

import functools
import inspect
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from tabulate import tabulate

from multiepoch.optim import AdaptiveRegularization as AdamAR
from multiepoch.optim import EmbeddingOptimizer, SparseOptimizer, compiled
from multiepoch.optim import FrequencyAdaptiveLR as FAL
from multiepoch.remedies import Rewind
from multiepoch.remedies.blend import RowBlend
from multiepoch.remedies.undo_log import Counts, UndoLog
from multiepoch_lab import stats
from multiepoch_lab.data import AdsWorld, hashing
from multiepoch_lab.data import log as logs
from multiepoch_lab.runner import Runner
from multiepoch_lab.table_groups import TableGroups
from multiepoch_lab.train import metrics
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


def in_kernel(name: str, change: Callable) -> None:
    """Passes a field of the compiled kernel's arguments through `change`."""

    def library(real):
        kernels = real()

        def update_rows(*args):
            for struct in args:
                if hasattr(struct, name):
                    setattr(struct, name, change(getattr(struct, name)))
            kernels.update_rows(*args)

        class Changed:
            def __getattr__(self, kernel):
                return update_rows if kernel == "update_rows" else getattr(kernels, kernel)

        return kernels and Changed()

    patch(compiled, "library", library)


def option(kind: type, name: str, value: object) -> None:
    """Gives every instance of a frozen dataclass the same value of a field."""
    patch(kind, "__post_init__", lambda real, self: vars(self).update({name: value}))


def without_kernel(*arguments) -> None:
    """Patches, and updates by PyTorch operations instead of the compiled kernel."""
    patch(compiled, "library", lambda real: None)
    patch(*arguments)


def threshold(change: Callable) -> None:
    """Passes tau, the `below` of each Rewind, through `change`."""

    def init(real, self, model, optimizer, below=math.inf, *args, **options):
        real(self, model, optimizer, change(below), *args, **options)

    patch(Rewind, "__init__", init)


def once_per_step(real, self, rows, occurrences, values):
    real(self, rows, occurrences.clamp(max=1), values)


def test_for_all(real, *args, **days):
    return real(*args, **days)[2:] * 3


def swap_labels(real, *args):
    log = real(*args)
    return log.with_labels(log.labels[:, [0, 2, 1]])


def one_rate(real, model, dense_lr, embedding_lr, *args, **options):
    return real(model, dense_lr, dense_lr, *args, **options)


def at_one(real, self, count, *_, **options):
    return (count > 0).float()


def half_as_wide(real, *args):
    mean, low, high = real(*args)
    return mean, (mean + low) / 2, (mean + high) / 2


# By the number of the notebook that must fail, and by name: a function and its arguments.
MUTATIONS: dict[str, dict[str, tuple]] = {
    "02": {
        "test day in training": (patch, Profile, "split", test_for_all),
        "KuaiRand's test days in training": (patch, logs, "split_by_day", test_for_all),
        "labels swapped": (patch, AdsWorld, "_log", swap_labels),
        "AUC of the negatives": (patch, metrics, "auc", lambda f, *a: 1 - f(*a)),
        "tables at the dense rate": (patch, SparseOptimizer, "from_model", one_rate),
        "dense layers untrained": (patch, SparseOptimizer, "step", lambda f, o: o.embedding.step()),
        "logloss in bits": (patch, metrics, "logloss", lambda f, *a: f(*a) / math.log(2)),
    },
    "03": {"cross in one row": (patch, hashing, "hashed_cross", lambda f, ids, *_: 0 * ids)},
    "04": {
        "Adagrad's eps at 1": (in_kernel, "eps", lambda _: 1.0),
        "Adam's bias not corrected": (in_kernel, "root_scale", lambda _: 1.0),
        "interval half as wide": (patch, stats, "interval", half_as_wide),
    },
    "05": {"jump with the wrong sign": (patch, metrics, "boundary_jump", lambda f, *a: -f(*a))},
    "06": {"labels not drawn anew": (patch, interventions, "resample", lambda f, log, _: log)},
    "07": {
        "FAL's scale at 1": (in_kernel, "count", lambda _: None),
        "FAL's scale at 1, eager": (without_kernel, FAL, "factor", at_one),
        "FAL counts steps": (option, FAL, "count", "steps"),
    },
    "08": {
        "AdamAR's decay halved": (in_kernel, "alpha", lambda alpha: alpha / 2),
        "AdamAR halved, eager": (without_kernel, AdamAR, "keep", lambda f, *a: 0.5 + f(*a) / 2),
        "MEDA resets nothing": (threshold, lambda tau: 0 if tau == math.inf else tau),
        "rewind keeps the moments": (patch, EmbeddingOptimizer, "row_state", lambda *_: {}),
        "tail rewind ignores tau": (threshold, lambda tau: math.inf if tau else 0),
        "tail rewind counts steps": (patch, Counts, "add", once_per_step),
    },
    "11": {
        "table groups never change": (patch, TableGroups, "before_epoch", lambda *_: None),
        "undo log counts steps": (patch, UndoLog, "add", once_per_step),
        "undo log loses rows": (patch, UndoLog, "put_back", lambda f, *a: list(f(*a))[:1]),
        "resuming loses the moments": (patch, SparseOptimizer, "load_state_dict", lambda *_: None),
    },
    "09": {
        "the old row is not served": (patch, RowBlend, "served", lambda f, blend: blend.trained()),
    },
    NONE: {
        "epochs not announced": (patch, EmbeddingOptimizer, "set_epoch", lambda *_: None),
        "FAL's gap stays open": (option, FAL, "gap_decay", 1.0),
        "untouched": (lambda: None,),
    },
}


def apply(expected: str, name: str) -> None:
    """Breaks the package of this process."""
    change, *arguments = MUTATIONS[expected][name]
    change(*arguments)


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
            for row in compare(outcome, reference, elsewhere=True):
                if not row.ok:
                    return path.stem[:2], f"{row.quantity}: {row.verdict}: {row.what}"
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
