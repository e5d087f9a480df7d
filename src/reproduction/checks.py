"""What a notebook's last cell records: numbers for the regression, directions, and evidence.

    checks = Checks()
    checks.number("jump of click, %", 1.3)
    checks.exact("rows of the user table", 50_000)
    checks.direction("FAL's jump is below the plain one", fal < plain)
    checks.evidence(overfitting.judge(rows))
    checks.show()

`show` displays the table and keeps the same in the output's metadata, where papermill's executed
notebook has it for the regression; then it fails if a direction does not hold.
"""

from __future__ import annotations

import math

import pandas as pd

from reproduction import claims

METADATA = "multiepoch_checks"


class Checks:
    """Collects what a notebook records; nothing is compared here but the directions."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict] = {}
        self._directions: dict[str, bool] = {}
        self._evidence = pd.DataFrame(columns=["claim", "measure", "seed", "value"])

    def number(self, name: str, value: float) -> None:
        """A number that varies with the seed; the regression allows for its spread."""
        self._add(name, value, exact=False)

    def exact(self, name: str, value: float) -> None:
        """A number that must be the same in every run: a count, a shape, a formula."""
        self._add(name, value, exact=True)

    def direction(self, name: str, holds: bool) -> None:
        """Something that must hold whatever the seed, such as one jump being below another."""
        if name in self._directions:
            raise ValueError(f"checks: direction {name!r} is recorded twice; use another name.")
        self._directions[name] = bool(holds)

    def evidence(self, rows: pd.DataFrame) -> None:
        """Evidence for the claims ledger: columns claim, measure, seed, value."""
        self._evidence = pd.concat([self._evidence, rows], ignore_index=True) \
            if len(self._evidence) else rows.copy()  # fmt: skip

    def content(self) -> dict:
        """All that was recorded, as plain values."""
        return {
            "numbers": self._numbers,
            "directions": self._directions,
            "evidence": self._evidence.to_dict("records"),
        }

    def show(self) -> None:
        """Displays what was recorded and the verdicts so far. AssertionError names what fails."""
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
        lines = []
        if len(self._evidence):
            lines += ["| claim | measure | predicted | here, with 95 % interval | verdict |",
                      "|---|---|---|---|---|"]  # fmt: skip
            for row in claims.judge(self._evidence).itertuples():
                interval = f" [{row.low:.3g}, {row.high:.3g}]" if row.seeds > 1 else ", one seed"
                lines.append(f"| {row.claim} | {row.what} | {row.predicted} "
                             f"| {row.estimate:.3g}{interval} | {row.verdict} |")  # fmt: skip
            lines.append("")
        if self._numbers or self._directions:
            lines += ["| recorded | value |", "|---|---|"]
            lines += [f"| {name} | {n['value']:.6g} |" for name, n in self._numbers.items()]
            lines += [f"| {name} | {'holds' if holds else '**does not hold**'} |"
                      for name, holds in self._directions.items()]  # fmt: skip
        return "\n".join(lines)


def recorded(document) -> list[dict]:
    """What the Checks of an executed notebook, an nbformat.NotebookNode, left in its outputs."""
    return [
        output.metadata[METADATA]
        for cell in document.cells
        for output in cell.get("outputs", [])
        if METADATA in output.get("metadata", {})
    ]
