"""Keeps a report of `multiepoch compare` as a record that the page book/your-logs.md shows.

    python -m multiepoch compare data/kuairand/impressions.parquet \\
        --ids user_id,video_id,author_id --labels is_click,long_view --day date \\
        --cross user_id,author_id
    python tools/record_compare.py report

Writes results/cpu/compare_kuairand.json, its table and two of its pictures, the call and what
`multiepoch inspect` says of the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from multiepoch_compare import figures, report
from multiepoch_compare.inspect import inspect

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "results" / "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the --out of the call")
    found = json.loads((parser.parse_args().folder / "report.json").read_text())
    TARGET.mkdir(parents=True, exist_ok=True)
    source = Path(found["data"]["source"])
    call = found["call"].replace(" --", " \\\n    --")
    parts = {
        "compare_kuairand.json": json.dumps(found, indent=1) + "\n",
        "compare_kuairand.txt": report.text(found),
        "compare_kuairand_call.txt": call + "\n",
        "compare_kuairand_machine.txt": f"{found['machine']}, torch {found['torch']}, "
        f"{found['date']}, {found['seeds']} seeds, {found['seconds']:.0f} s\n",
        "compare_kuairand_inspect.txt": inspect(source) + "\n",
        "compare_kuairand_click.svg": figures.curves(found, "is_click"),
        "compare_kuairand_rows.svg": figures.frequencies(found),
    }
    for name, text in parts.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    print(f"wrote {len(parts)} files to {TARGET}")


if __name__ == "__main__":
    main()
