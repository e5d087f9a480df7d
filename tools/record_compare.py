"""Keeps a report of `multiepoch compare` as the record that the page book/your-logs.md shows.

    multiepoch compare data/kuairand/impressions.parquet \\
        --ids user_id,video_id,author_id --labels is_click,long_view --day date \\
        --cross user_id,author_id
    python -m tools.record_compare report

Writes results/cpu/compare_kuairand.json, its table, two figures, the call and what inspect prints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from multiepoch.files import write_text
from multiepoch_compare import figures, report
from multiepoch_compare.inspect import inspect
from multiepoch_compare.record import loads

TARGET = Path(__file__).parents[1] / "results" / "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the --out of the call")
    record = (parser.parse_args().folder / "report.json").read_text()
    found = loads(record)
    parts = {
        "compare_kuairand.json": record,
        "compare_kuairand.txt": report.text(found),
        "compare_kuairand_call.txt": found["call"].replace(" --", " \\\n    --") + "\n",
        "compare_kuairand_machine.txt": f"{found['machine']}, torch {found['torch']}, "
        f"{found['date']}, {found['seeds']} seeds, {found['cpu_seconds']:.0f} s of CPU time\n",
        "compare_kuairand_inspect.txt": inspect(Path(found["data"]["source"])) + "\n",
        "compare_kuairand_click.svg": figures.curves(found, "is_click"),
        "compare_kuairand_rows.svg": figures.frequencies(found),
    }
    for name, text in parts.items():
        write_text(TARGET / name, text)
    print(f"wrote {len(parts)} files to {TARGET}")


if __name__ == "__main__":
    main()
