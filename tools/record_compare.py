"""Keeps a report of `multiepoch compare` as the record of a real log.

    multiepoch compare data/kuairand/impressions.parquet \\
        --ids user_id,video_id,author_id --labels is_click,long_view --day date \\
        --cross user_id,author_id
    python -m tools.record_compare report kuairand

Writes results/cpu/compare_NAME.json, and of KuaiRand, which book/your-logs.md shows, also the
table, a figure, the call and what inspect prints.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from multiepoch_compare import figures, report
from multiepoch_compare.inspect import inspect
from multiepoch_compare.record import loads
from multiepoch_lab.files import write_text

TARGET = Path(__file__).parents[1] / "results" / "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the --out of the call")
    parser.add_argument("name", help="of the log")
    asked = parser.parse_args()
    record = json.loads((asked.folder / "report.json").read_text())
    record["call"] = record["call"].split(" --out ")[0]
    parts = {".json": json.dumps(record, indent=1) + "\n"}
    found = loads(parts[".json"])
    if asked.name == "kuairand":
        parts |= {
            ".txt": report.text(found),
            "_call.txt": found["call"].replace(" --", " \\\n    --") + "\n",
            "_machine.txt": f"{found['machine']}, torch {found['torch']}, {found['date']}, "
            f"{found['seeds']} seeds, {found['cpu_seconds']:.0f} s of CPU time\n",
            "_inspect.txt": inspect(Path(found["data"]["source"])) + "\n",
            "_click.svg": figures.curves(found, "is_click"),
        }
    for end, text in parts.items():
        write_text(TARGET / f"compare_{asked.name}{end}", text)
    print(f"wrote {len(parts)} files to {TARGET}")


if __name__ == "__main__":
    main()
