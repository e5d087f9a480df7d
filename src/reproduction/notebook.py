"""What every notebook shares: its first lines, and its last cell.

The last cell records numbers for the regression, directions and evidence:

    checks = Checks()
    checks.number("jump of click, %", 1.3)
    checks.exact("rows of the user table", 50_000)
    checks.direction("FAL's jump is below the plain one", fal < plain)
    checks.evidence(overfitting.judge(rows))
    checks.show()

`show` displays a table and keeps its content in the output's metadata, for the regression to read
from the executed notebook. Then it fails if a direction does not hold.
"""

import math
import platform
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from tabulate import tabulate

from multiepoch_lab.data import Log
from reproduction import judge
from reproduction.runs import Profile, resolve_device
from reproduction.runs import profile as profile_named

METADATA = "multiepoch_checks"


def start(
    profile: str, device: str = "auto", seeds: Sequence[int] | None = None
) -> tuple[Profile, str, Sequence[int]]:
    """Returns the sizes, the device and the seeds of a notebook, and prints them.

    Its batches are small, and a second thread would only wait for the first, so it has one.
    """
    torch.set_num_threads(1)
    sizes, device = profile_named(profile), resolve_device(device)
    seeds = seeds or sizes.seeds
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    print(f"profile {sizes.name}, device {device}, seeds {seeds}")
    return sizes, device, seeds


def small_world(seed: int) -> tuple[Log, Log]:
    """Returns a log to train on and one of a later day: a second for two epochs."""
    small = profile_named("quick")
    log, _, test = small.split(small.world(seed))
    return log, test


class Checks:
    """Collects the quantities of a notebook. It compares none of them; it only tests directions."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict] = {}
        self._directions: dict[str, bool] = {}
        self._evidence = judge.evidence([])

    def number(self, name: str, value: float) -> None:
        """Records a number that varies with the seed; the regression allows for its spread."""
        self._add(name, value, exact=False)

    def exact(self, name: str, value: float) -> None:
        """Records a number that is the same in every run: a count, a shape, a formula."""
        self._add(name, value, exact=True)

    def direction(self, name: str, holds: bool) -> None:
        """Records a condition that holds for every seed, such as one jump being below another.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._directions:
            raise ValueError(f"checks: direction {name!r} is recorded twice; use another name.")
        self._directions[name] = bool(holds)

    def directions(self, conditions: Mapping[str, bool]) -> None:
        """Records several directions by name."""
        for name, holds in conditions.items():
            self.direction(name, holds)

    def evidence(self, rows: pd.DataFrame) -> None:
        """Records evidence for the ledger, columns judge.COLUMNS, from this notebook's runs."""
        self._evidence = pd.concat([self._evidence, rows]) if len(self._evidence) else rows.copy()

    def _measures(self) -> dict[str, dict]:
        """Returns the measures of the evidence as numbers: their means over seeds."""
        means = self._evidence.groupby(["claim", "measure", "point"])["value"].mean()
        return {
            ", ".join(filter(None, [f"{claim}: {measure}", point])): {"value": mean, "exact": False}
            for (claim, measure, point), mean in means.items()
        }

    def content(self) -> dict:
        """Returns everything recorded, as plain values."""
        return {
            "numbers": self._numbers | self._measures(),
            "directions": self._directions,
        }

    def show(self) -> None:
        """Displays the quantities and the verdicts of this run.

        Raises:
            AssertionError: If a direction does not hold. The message names it.
        """
        from IPython.display import Markdown, display

        display(Markdown(self._markdown()), metadata={METADATA: self.content()})
        failed = [name for name, holds in self._directions.items() if not holds]
        if failed:
            raise AssertionError(f"does not hold: {'; '.join(failed)}.")

    def _add(self, name: str, value: float, exact: bool) -> None:
        if name in self._numbers:
            raise ValueError(f"checks: number {name!r} is recorded twice; use another name.")
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"checks: {name!r} is {value}; only finite numbers are recorded.")
        self._numbers[name] = {"value": value, "exact": exact}

    def _markdown(self) -> str:
        tables = []
        if len(self._evidence):
            tables.append(judge.table(self._evidence))
        words = {True: "holds", False: "**does not hold**"}
        recorded = [[name, f"{one['value']:.6g}"] for name, one in self._numbers.items()]
        recorded += [[name, words[holds]] for name, holds in self._directions.items()]
        if recorded:
            tables.append(tabulate(recorded, ["recorded", "value"], "pipe", disable_numparse=True))
        return "\n\n".join(tables)


def recorded(document) -> list[dict]:
    """Returns the content of every Checks in an executed notebook, an nbformat.NotebookNode."""
    return [
        output.metadata[METADATA]
        for cell in document.cells
        for output in cell.get("outputs", [])
        if METADATA in output.get("metadata", {})
    ]
