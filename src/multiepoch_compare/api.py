"""`multiepoch_compare.compare`: the comparison from Python, as a table and as figures."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from markupsafe import escape

from multiepoch_compare import command, figures
from multiepoch_compare.record import loads
from multiepoch_lab.data import check
from multiepoch_lab.data.log import DataError


def compare(
    data: str | Path | pd.DataFrame, *, out: str | Path = "report", **options: Any
) -> pd.DataFrame:
    """Trains every line on a log, writes the report, and draws it if this is a notebook.

    In a script, call it under `if __name__ == "__main__":`, since models are trained in processes
    of their own.

    Args:
        data: A DataFrame, a CSV or Parquet file, or a folder of them.
        out: The folder of the report. A call that was interrupted resumes there.
        options: Those of `multiepoch compare`, with underscores, such as ids=["user", "item"],
            labels=["click"], day="date", cross=[["user", "item"]] or test_days=2.

    Returns:
        A row per line: its epochs, its test logloss by objective, and the difference in % to the
        constant and to the best plain training, with the bounds of its interval. `attrs["report"]`
        holds the whole record.

    Raises:
        DataError: If the log or an option is not as it must be.
    """
    words = command.words({**options, "out": str(out)}, "compare")
    with tempfile.TemporaryDirectory() as folder:
        name = str(data)
        if isinstance(data, pd.DataFrame):
            name, data = "DataFrame", _written(data, Path(folder) / "DataFrame.parquet")
        command.run([str(data), *words], [name, *words], name)
    found = loads((Path(out) / "report.json").read_text(encoding="utf-8"))
    if "ipykernel" in sys.modules:
        _show(found)
    rows = []
    for method in found["methods"]:
        losses = method["logloss_by_epoch"][method["epochs"] - 1]
        row = {"method": method["label"], "epochs": method["epochs"]}
        row |= {f"logloss {name}": loss for name, loss in zip(found["objectives"], losses)}
        for other in ("constant", "plain"):
            for bound, value in vars(method[f"against_{other}"]).items():
                row[f"vs {other}, {bound}"] = value
        rows.append(row)
    table = pd.DataFrame(rows).set_index("method")
    table.attrs["report"] = found
    return table


def _written(data: pd.DataFrame, path: Path) -> Path:
    """Writes a Parquet file; names of columns become texts, and periods their first moments."""
    data = data.rename(columns=str)
    for name, kind in data.dtypes.items():
        if isinstance(kind, pd.PeriodDtype):
            data[name] = data[name].dt.start_time
    try:
        data.to_parquet(path, index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        remedy = "name each column, and give it values of one type"
        raise DataError(f"DataFrame: {check.reason(error)}; {remedy}.") from error
    return path


def _show(found: dict) -> None:
    from IPython.display import HTML, display

    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in found["headline"])
    curves = str(figures.curves(found, found["objectives"][0]))
    display(HTML(f'{sentences}<div style="max-width: 40rem">{curves}</div>'))
