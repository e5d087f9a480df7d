"""What each remedy adds on N hosts, computed from sizes and from constants measured on two.

Tables are sharded by rows and have a state of 4 bytes a row (row-wise Adagrad). A host has 1/N of
everything; "moved" is what it sends in a step or an epoch.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction import records, style

FLOAT, STATE = 4, 4  # bytes of a weight, and of a row's state


@dataclass(frozen=True)
class Job:
    """A training job."""

    hosts: int
    rows: float  # of all tables together
    dim: int = 64  # width of a row
    batch: int = 2048  # impressions of a host in a step
    features: int = 100  # lookups of an impression
    steps: int = 10_000  # of an epoch
    touched: float = 0.5  # the share of the rows that an epoch looks up
    rewound: float = 0.9  # the share of the touched rows that are looked up fewer than tau times
    tables: int = 100

    @property
    def row_bytes(self) -> int:
        """The bytes of a row: its weights and its state."""
        return FLOAT * self.dim + STATE

    @property
    def lookups(self) -> int:
        """The lookups that a host serves in a step, on average: those of as many impressions."""
        return self.batch * self.features


@dataclass(frozen=True)
class Constants:
    """Seconds of one core of a host: for each lookup, restored row or drawn weight."""

    fal: float
    undo_log: float
    restore: float
    draw: float


def measured(path: Path | None = None) -> Constants | None:
    """Returns the constants in the record of `make bench-distributed`; None without a record.

    They are medians over its runs of the largest table. Those of a step are times of a process on
    the cores, summed over its threads.
    """
    path = path or records.folder() / "bench/distributed.json"
    if not path.exists():
        return None
    runs = json.loads(path.read_text())["runs"]
    largest = max(one["n_rows"] for one in runs)
    found = []
    for one in [one for one in runs if one["n_rows"] == largest]:
        cpu = pd.DataFrame(one["cpu_seconds"])
        above_plain = cpu.sub(cpu["plain"], axis=0).median() / one["lookups"]
        restore = one["rewind"] / one["rewound_rows"]
        found.append(
            (above_plain["FAL"], above_plain["undo log"], restore, one["redraw_seconds_a_weight"])
        )
    return Constants(*np.median(found, axis=0).tolist())


def plain(job: Job) -> dict[str, float]:
    """Returns what a host holds and sends in a step without a remedy, in bytes.

    Of the lookups and the vectors, (N - 1) / N leave the host: ids of 8 bytes on the way there,
    vectors on the way back, and their gradients.
    """
    away = (job.hosts - 1) / job.hosts
    moved = away * job.lookups * (8 + 2 * FLOAT * job.dim)
    return {"memory": job.rows * job.row_bytes / job.hosts, "moved": moved}


def added(job: Job, constants: Constants | None = None) -> pd.DataFrame:
    """Returns what each remedy adds on a host.

    The columns: memory in bytes; moved_step and moved_epoch in bytes; and, if there are constants,
    step and epoch in seconds of a core.
    """
    here = 1 / job.hosts
    touched = job.touched * job.rows * here
    rewound = job.rewound * touched
    ring = 2 * (job.hosts - 1) / job.hosts  # what an all-reduce sends for each byte
    c = constants or Constants(*[float("nan")] * 4)
    nothing = dict.fromkeys(("memory", "moved_step", "moved_epoch", "step", "epoch"), 0.0)
    rows: dict[str, dict[str, float]] = {
        "FAL": {
            "memory": 4 * job.rows * here,
            "moved_step": ring * 4 * job.tables,
            "step": c.fal * job.lookups,
        },
        "AdamAR": {"memory": 4 * job.rows * here},
        "MEDA": {"epoch": c.draw * job.rows * job.dim * here},
        "tail rewind, drawn": {
            "memory": 4 * job.rows * here,
            "step": c.undo_log * job.lookups,
            "epoch": c.draw * rewound * job.dim,
        },
        "tail rewind, undo log": {
            "memory": touched * (20 + job.row_bytes),
            "step": c.undo_log * job.lookups,
            "epoch": c.restore * rewound,
        },
        "blended serving, besides": {
            "memory": rewound * (16 + FLOAT * job.dim),
            "moved_epoch": ring * 2 * 8,
            "step": c.undo_log * job.lookups,
        },
        "leave-one-out rows (chapter 9)": {
            "memory": job.rewound * job.lookups * job.steps * FLOAT * job.dim
        },
    }
    frame = pd.DataFrame.from_dict({k: nothing | v for k, v in rows.items()}, orient="index")
    return frame if constants else frame.drop(columns=["step", "epoch"])


def largest(job: Job, memory: float) -> pd.Series:
    """Returns the most rows with which hosts of that memory, in bytes, afford each remedy."""
    extra = added(job)["memory"]
    vectors = extra.pop("leave-one-out rows (chapter 9)")  # whatever the number of rows
    blended = extra.pop("blended serving, besides")
    extra["tail rewind, undo log, blended"] = extra["tail rewind, undo log"] + blended
    extra["no remedy"] = 0.0
    found = memory / (extra / job.rows + job.row_bytes / job.hosts)
    left = max(0.0, memory - vectors)
    found["leave-one-out rows (chapter 9)"] = left * job.hosts / job.row_bytes
    return found.sort_values(ascending=False)


def size(n_bytes: float) -> str:
    """Writes bytes in the unit that fits."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB"


def seconds(value: float) -> str:
    """Writes a duration in the unit that fits."""
    if value == 0:
        return "0"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _percent(share: float) -> str:
    return f"{100 * share:,.0f}" if share >= 1 else f"{100 * share:.3g}"


def table(job: Job, constants: Constants | None) -> dict[str, dict[str, str]]:
    """Returns `added` as cells, with what each remedy adds to memory in % of table and state."""
    held, found = plain(job)["memory"], {}
    for name, one in added(job, constants).iterrows():
        cells = {
            "memory": f"{size(one['memory'])} ({_percent(one['memory'] / held)} %)",
            "moved a step": size(one["moved_step"]),
            "moved an epoch": size(one["moved_epoch"]),
        }
        if constants:
            cells |= {"core time a step": seconds(one["step"])}
            cells |= {"at the reset": seconds(one["epoch"])}
        found[str(name)] = cells
    return found


@style.shown("fig-a2-memory")
def memory(job: Job) -> Figure:
    """Draws the memory of a host against the share of the rows that an epoch looks up."""
    fig, axes = style.figure(height=3.2)
    shares = np.linspace(0.02, 1, 50)
    jobs = [Job(job.hosts, job.rows, job.dim, touched=share) for share in shares]
    held = plain(job)["memory"] / 1e9
    extra = pd.DataFrame([added(one)["memory"] for one in jobs], index=shares) / 1e9
    lines = {
        "FAL": (extra["FAL"], "FAL"),
        "tail rewind, undo log": (extra["tail rewind, undo log"], "tail rewind"),
        "with blended serving": (
            extra["tail rewind, undo log"] + extra["blended serving, besides"],
            "FAL + tail rewind",
        ),
    }
    style.reference(axes, held, "no remedy")
    for label, (values, look) in lines.items():
        axes.plot(100 * shares, held + values, label=label, **style.line_style(look))
    axes.set(xlabel="rows that an epoch looks up, %", ylabel="memory of a host, GB")
    axes.set_ylim(0)
    axes.legend()
    return fig
