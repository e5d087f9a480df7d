"""Appendix A2: the model of chapter 2 sharded over two processes, against one process."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reproduction import findings, style, tables
from reproduction.a2_past_one_machine.training import train_all
from reproduction.measure import intervals, over_objectives, relative
from reproduction.records import Record
from reproduction.runs import Profile
from reproduction.runs import profile as profile_named

NAME = "a2_past_one_machine"
ONE, TWO = "one process", "two processes"
REVERSED = "one process, batches reversed"  # the control: other rounding, the same mathematics
ADAM, ADAGRAD = "adam", "rowwise_adagrad"
LABELS_OF = {TWO: "two processes", REVERSED: "batches reversed"}
LABELS = {"plain": "plain", "fal": "FAL", "tail_rewind": "tail rewind"}
TITLES = {ADAM: "Adam, tables data-parallel", ADAGRAD: "row-wise Adagrad, tables sharded by rows"}
KEYS = ["rule", "method", "seed", "objective", "epoch"]
ROOT = Path(__file__).parents[3]


def python() -> str | None:
    """Returns a Python that has TorchRec: this one, or that of `make test-distributed`, or None."""
    if importlib.util.find_spec("torchrec"):
        return sys.executable
    other = ROOT / ".venv-torchrec/bin/python"
    return str(other) if other.exists() else None


def runs() -> list[dict]:
    """Returns the runs by rule and method.

    FBGEMM has no Adam on a CPU, so its tables are data-parallel, as TorchRec does with small ones.
    Those of row-wise Adagrad are fused and sharded by rows.
    """
    adam = {"rule": ADAM, "sharding": "data_parallel", "embedding_lr": 1e-2}
    adagrad = {"rule": ADAGRAD, "sharding": "row_wise", "embedding_lr": 0.1}
    return [
        {"method": method, "dense_lr": 1e-3, **kind}
        for kind in (adam, adagrad)
        for method in LABELS
    ]


def settings(profile: Profile, seeds) -> dict:
    """Returns everything that a training needs, as plain values.

    Two processes on two cores are slow, so the sizes are always those of the profile quick.
    """
    small = profile_named("quick")
    return {
        "world": small.of_world(),
        "train_days": small.train_days,
        "batch_size": small.batch_size,
        "epochs": 2,
        "seeds": list(seeds or profile.seeds),
        "runs": runs(),
    }


def one_process(profile: Profile, seeds=None, controls: bool = True) -> pd.DataFrame:
    """Trains every run with this package alone: columns KEYS, value and source.

    With `controls`, each is trained a second time, as REVERSED.
    """
    todo = settings(profile, seeds)
    found = {ONE: train_all(todo)}
    if controls:
        found[REVERSED] = train_all(todo, reverse=True)
    return pd.concat(pd.DataFrame(rows).assign(source=name) for name, rows in found.items())


def two_processes(profile: Profile, seeds=None) -> pd.DataFrame:
    """Trains every run with TorchRec on two processes of this machine; as `one_process`.

    Raises:
        RuntimeError: If there is no Python with TorchRec, or the processes fail.
    """
    interpreter = python()
    if interpreter is None:
        raise RuntimeError("no TorchRec here: `make test-distributed` installs it beside the book")
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "settings.json"), Path(folder, "found.json")
        given.write_text(json.dumps(settings(profile, seeds)))
        command = [interpreter, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "2", "-m", "reproduction.a2_past_one_machine.training"]
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        how = {"env": os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}}
        done = subprocess.run([*command, given, found], capture_output=True, text=True, **how)
        if done.returncode:
            raise RuntimeError(f"the two processes failed:\n{done.stderr[-3000:]}")
        print(done.stdout, end="", flush=True)
        return pd.DataFrame(json.loads(found.read_text())).assign(source=TWO)


def run(profile: Profile, device: str = "auto", seeds=None) -> pd.DataFrame:
    """Trains every run twice, in one process and in two."""
    return pd.concat([one_process(profile, seeds), two_processes(profile, seeds)])


def apart(rows: pd.DataFrame, source: str = TWO) -> pd.Series:
    """Returns |source / one process - 1| of the logloss at each point, by KEYS."""
    by_source = rows.set_index([*KEYS, "source"])["value"].unstack("source")
    return (by_source[source] / by_source[ONE] - 1).abs()


def jumps(rows: pd.DataFrame, source: str, rule: str) -> pd.DataFrame:
    """Returns the % by which the logloss is higher at ¼ of epoch 2 than at the end of epoch 1.

    The mean over the objectives: a column for each method, a row for each seed.
    """
    rows = rows[(rows["source"] == source) & (rows["rule"] == rule)]
    loss = rows.set_index(["method", "seed", "objective", "epoch"])["value"]
    change = relative(*(loss.xs(epoch, level="epoch") for epoch in (1.25, 1.0)))
    return over_objectives(change).unstack("method")


@style.shown("fig-a2-curves")
def curves(rows: pd.DataFrame) -> Figure:
    """Draws the loss against the end of plain's epoch 1, in one process and in two."""
    fig, grid = style.figure(2, height=2.7, sharex=True)
    loss = rows.set_index(["source", "rule", "method", "seed", "objective", "epoch"])["value"]
    for axes, (rule, title) in zip(grid, TITLES.items()):
        of_rule = loss.xs(rule, level="rule")
        first = of_rule.xs((ONE, "plain", 1.0), level=["source", "method", "epoch"])
        change = over_objectives(relative(of_rule, first))
        for method, label in LABELS.items():
            for source in change.index.unique("source").intersection([ONE, TWO]):
                found = change.xs((source, method), level=["source", "method"])
                points = intervals(found, ["epoch"]).loc[0.75:]
                if source == ONE:
                    style.band(axes, points, label)
                else:
                    look = {"linestyle": "none", "marker": "o", "markersize": 4}
                    color = style.line_style(label)["color"]
                    axes.plot(points.index, points["mean"], color=color, **look)
        style.reference(axes)
        style.boundaries(axes, 2.0)
        axes.set_title(title)
        axes.set_ylabel("logloss, % above the\nend of plain's epoch 1")
    grid[1].set_xlabel("epochs over the training window")
    style.legend_outside(fig, grid[0])
    return fig


def show_apart(rows: pd.DataFrame) -> None:
    """Displays the largest relative difference from one process, by rule and method."""
    far = {source: apart(rows, source).groupby(["rule", "method"]).max() for source in LABELS_OF}
    tables.show(
        {
            f"{rule}, {LABELS[method]}": {
                LABELS_OF[source]: f"{of[rule, method]:.0e}" for source, of in far.items()
            }
            for rule, method in far[TWO].index
        },
        "rule and method",
        "Largest relative difference of a logloss from that of one process, over all seeds, "
        "objectives and quarters of epochs:",
    )


def facts(record: Record) -> dict:
    """Returns the values that the findings speak of, by name."""
    rows, change = record.rows, jumps(record.rows, TWO, ADAGRAD)
    far, control = (apart(rows, source) for source in (TWO, REVERSED))
    pairs = far.groupby(["rule", "method", "seed"]).max()
    plain = pairs.xs((ADAGRAD, "plain"), level=("rule", "method"))
    return findings.by_name(
        first=far[far.index.get_level_values("epoch") <= 1].max(),
        close=(pairs < 1e-5).sum(),
        not_close=(pairs >= 1e-5).sum(),
        runs=len(pairs),
        worst=pairs.max(),
        worst_plain=plain.max(),
        others=plain.nsmallest(len(plain) - 1).max(),
        control=control.max(),
        jump=change,
    )
