"""The trials of a comparison: tuning, then more seeds of each chosen setting."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multiepoch.data.log import DataError, Log
from multiepoch.files import atomic_write
from multiepoch.methods import ALL_METHODS, Around
from multiepoch.model import ConversionModel
from multiepoch.regime import Expected, expect
from multiepoch.runner import KeptRunner, in_words, run_key
from multiepoch.train import NonFiniteLoss, predict, train
from multiepoch.train.metrics import auc, logloss
from multiepoch_compare import plan, verdict
from multiepoch_compare.readers import Columns, MappedLog

# For the interval over impressions, the test day is divided into blocks: by the first id column
# (users, as a rule) with so many values that no block holds more than LARGEST_BLOCK of the day, or
# by impression if there is no such column.
BLOCKS, LARGEST_BLOCK = 20, 0.1
FREQUENCIES = (1, 3, 11, 101)  # edges of GROUPS, in times that a row was trained on
GROUPS = ("never", "1 to 2", "3 to 10", "11 to 100", "more than 100")
_CODE = ("multiepoch", "multiepoch_compare")  # a change of these makes kept trials stale
_TIMED_STEPS = 20
EVALUATE_AT = (0.25, 0.5)  # and at the end of each epoch


@dataclass(frozen=True)
class Setup:
    """The settings that all trials of one call share.

    `folder` is that of the mapped log; `shared`, the file by which processes share its parts.
    """

    folder: str
    columns: Columns
    split: plan.Split
    epochs: float
    batch_size: int
    shared: str | None = None


@dataclass
class Parts:
    """The three parts of the log, and the block and group of each test impression."""

    train: Log
    validation: Log
    test: Log
    block: Tensor  # (n_test,) int64
    group: Tensor  # (n_test,) int64
    column: str  # the id column with the most rows, bags aside; the groups are by its frequencies

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts the test impressions of each block and of each group, by weight."""
        pairs = (self.block, BLOCKS), (self.group, len(GROUPS))
        weight = self.test.weight
        return tuple(torch.bincount(of, weight, minlength=n).numpy() for of, n in pairs)

    def constant(self) -> np.ndarray:
        """Sums the test losses of predicting the training rates, (n_objectives, BLOCKS)."""
        labels = self.test.labels.double()
        constant = torch.tensor(rates(self.train), dtype=torch.float64).expand_as(labels)
        loss = F.binary_cross_entropy(constant, labels, reduction="none")
        return np.array(summed(loss, self.test.weight, self.block, BLOCKS))

    def below(self, threshold: float) -> tuple[float, float]:
        """Returns the share of trained rows that were looked up fewer times, and of lookups."""
        counts = torch.cat([torch.bincount(self.train.lookups(name)) for name in self.train.ids])
        counts = counts[counts > 0]
        low = counts < threshold
        return float(low.double().mean()), float(counts[low].sum() / counts.sum())

    def expected(self, batch_size: int, lr: float) -> Expected:
        """Says what to expect of plain training's second epoch, by the id column that has most."""
        log = self.train
        counts = (torch.bincount(log.lookups(name)).numpy() for name in log.ids)
        steps = math.ceil(len(log) / batch_size)
        several = [expect(each, steps, lr) for each in counts if each.any()]
        return max(several, key=lambda one: one.rise)

    def frequencies(self) -> dict[str, list[float]]:
        """Returns, for each id column, the share of test lookups in each of GROUPS."""
        groups = {name: frequency_group(self.train, self.test, name) for name in self.train.ids}
        return {
            # All lists of the test day may be empty, so that there is no lookup.
            name: (torch.bincount(group, minlength=len(GROUPS)) / max(len(group), 1)).tolist()
            for name, group in groups.items()
        }


@lru_cache(maxsize=1)
def read_parts(setup: Setup) -> Parts:
    """Reads the parts. The memory of `setup.shared`, which the first call writes, counts once."""
    if setup.shared is None:
        return _read_parts(setup)
    if not Path(setup.shared).exists():
        parts = _read_parts(setup)
        try:
            with atomic_write(setup.shared) as partial, partial.open("wb") as file:
                torch.save(parts, file)
        except RuntimeError as error:  # torch hides the reason
            raise error.__context__ or error from None
    return torch.load(setup.shared, mmap=True, weights_only=False)


def _read_parts(setup: Setup) -> Parts:
    mapped = MappedLog(Path(setup.folder), setup.columns)
    logs, scale = {}, None
    for part in plan.PARTS:
        logs[part], scale = plan.prepared(setup.split.read(mapped, part), scale)
    test = logs["test"]
    single = [name for name in test.ids if name not in mapped.bags]
    by_column = (_blocks(test.ids[name]) for name in setup.columns.ids if name in single)
    small = (b for b in by_column if torch.bincount(b).max() <= len(test) * LARGEST_BLOCK)
    block = next(small, _blocks(torch.arange(len(test))))
    column = max(single, key=test.schema.cardinality.get)
    group = frequency_group(logs["train"], test, column)
    return Parts(**logs, block=block, group=group, column=column)


def rates(log: Log) -> list[float]:
    """Returns the share of ones of each label, by weight."""
    weight = torch.ones(len(log)) if log.weight is None else log.weight
    return ((weight.double() @ log.labels.double()) / weight.double().sum()).tolist()


def summed(loss: Tensor, weight: Tensor | None, of: Tensor, n: int) -> list[list[float]]:
    """Sums losses, (n_rows, n_objectives), over each of n groups, to (n_objectives, n)."""
    loss = loss.double() if weight is None else loss.double() * weight[:, None]
    total = torch.zeros(n, loss.shape[1], dtype=torch.float64)
    return total.index_add_(0, of, loss).T.tolist()


def _blocks(ids: Tensor) -> Tensor:
    """Assigns each id to a block, (n,)."""
    return (ids * 2_654_435_761 >> 7) % BLOCKS


def frequency_group(train_log: Log, test: Log, column: str) -> Tensor:
    """Returns which of GROUPS each test lookup is in, by its row's training frequency, (n,)."""
    n_rows = train_log.schema.cardinality[column]
    counts = torch.bincount(train_log.lookups(column), minlength=n_rows)
    return torch.searchsorted(torch.tensor(FREQUENCIES), counts[test.lookups(column)], right=True)


class _Ends(Around):
    """Measures the model at the end of each epoch, before the method acts between epochs."""

    def __init__(self, inner, model: ConversionModel, parts: Parts) -> None:
        super().__init__(inner)
        self.model, self.parts = model, parts
        self.points: list[list] = []  # as in the result of `execute`
        self.blocks: list[list] = []  # by epoch: (n_objectives, BLOCKS)
        self.groups: list[list] = []  # by epoch: (n_objectives, len(GROUPS))

    def before_epoch(self, index: int) -> None:
        if index > 0:
            self.add(index)
        super().before_epoch(index)

    def add(self, epoch: int) -> None:
        parts = self.parts
        logits = {part: self._logits(part) for part in ("validation", "test")}
        for part, metric in ("validation", logloss), ("test", logloss), ("test", auc):
            log = getattr(parts, part)
            for k, objective in enumerate(log.objectives):
                value = metric(logits[part][:, k], log.labels[:, k], log.weight)
                self.points.append([part, float(epoch), objective, metric.__name__, value])
        test = parts.test
        loss = F.binary_cross_entropy_with_logits(logits["test"], test.labels, reduction="none")
        blocks, groups = (self.blocks, parts.block, BLOCKS), (self.groups, parts.group, len(GROUPS))
        for sums, of, n in (blocks, groups):
            sums.append(summed(loss, test.weight, of, n))

    def _logits(self, part: str) -> Tensor:
        with self.serving():
            logits = predict(self.model, getattr(self.parts, part))
        if not torch.isfinite(logits).all():
            raise NonFiniteLoss(f"a logit on {part!r} is not finite")
        return logits


def execute(trial: plan.Trial, setup: Setup) -> dict:
    """Trains one model and returns its result as JSON values.

    "points" are the curves as (split, epoch, objective, metric, value); "blocks" and "groups" are
    test losses summed after each epoch; "seconds" are of CPU time.
    """
    parts = read_parts(setup)
    torch.manual_seed(trial.seed)
    model = ConversionModel(parts.train.schema)
    settings = asdict(trial)
    del settings["label"]
    optimizer, every_epoch = ALL_METHODS[settings.pop("method")].build(model, **settings)
    ends = _Ends(every_epoch, model, parts)
    started = time.process_time()  # unaffected by other processes
    rows = train(
        model,
        optimizer,
        parts.train,
        epochs=setup.epochs,
        batch_size=setup.batch_size,
        seed=trial.seed,
        evaluate=parts.test,
        evaluate_at=EVALUATE_AT,
        between_epochs=ends,
        progress=None,
    )
    if setup.epochs == int(setup.epochs):
        ends.add(int(setup.epochs))
    seconds = time.process_time() - started
    rows = rows[(rows["split"] == "test") & rows["metric"].isin(["logloss", "auc"])]
    within = rows[["split", "epoch", "objective", "metric", "value"]].values.tolist()
    state = optimizer.embedding.state_dict()
    return {
        "points": within + ends.points,
        "blocks": ends.blocks,
        "groups": ends.groups,
        "seconds": seconds,
        "bytes": {"tables": _n_bytes(model.table_parameters()), "row state": _n_bytes(state)},
    }


def _n_bytes(state) -> int:
    """Adds up the tensors in nested dicts and lists."""
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return sum(map(_n_bytes, state))
    return state.nbytes if isinstance(state, Tensor) else 0


# Many trials --------------------------------------------------------------------------------------


def keep(item: tuple[plan.Trial, Setup], path: Path) -> None:
    """Writes the trial, its status ("ok" or "diverged") and its result to a JSON file."""
    trial, setup = item
    try:
        result = {"status": "ok", **execute(trial, setup)}
    except NonFiniteLoss:
        result = {"status": "diverged"}
    path.write_text(json.dumps({"trial": asdict(trial), **result}))


def estimate(setup: Setup, n_runs: int, workers: int) -> str:
    """Describes about how long so many runs take, from the first steps of plain training."""
    first = read_parts(setup).train[: _TIMED_STEPS * setup.batch_size]
    model = ConversionModel(first.schema)
    optimizer, _ = ALL_METHODS["plain"].build(
        model, dense_lr=plan.DENSE_LR, embedding_lr=plan.DENSE_LR
    )
    go = partial(train, model, optimizer, epochs=1, batch_size=setup.batch_size, progress=None)
    go(first[: setup.batch_size])  # the first step takes as long as many
    started = time.perf_counter()
    go(first)
    a_row = (time.perf_counter() - started) / len(first)
    left = a_row * len(read_parts(setup).train) * setup.epochs * n_runs / workers
    return f"{n_runs} runs of {setup.epochs} epochs, about {in_words(left)}"


def tune_and_run(
    setup: Setup, store: Path, budget: int, seeds: int, say: Callable[[str], None]
) -> tuple[dict[str, list[dict]], dict[str, verdict.Choice], list[dict]]:
    """Tunes every method with `budget` trials, then runs its choice with the other seeds.

    Returns the results of the choice for each seed and the choice, both by label, and, if plain
    training collapses in epoch 2, the results of `plan.control` for each seed. Raises DataError if
    training diverges with each setting of a method, or with another seed.
    """
    candidates = plan.trials(budget)
    total = sum(map(len, candidates.values())) + len(candidates) * (seeds - 1)
    parts = read_parts(setup)
    of_ones = dict(zip(parts.validation.objectives, rates(parts.validation)))
    short = replace(setup, epochs=1.25)  # the jump is all that is asked of the control
    remedy = "look for extreme values in the dense features"
    tuned, choices, results = {}, {}, {}
    with KeptRunner(keep, total, lambda pair: str(pair[0]), say, total) as runner:
        if not any(store.glob("*.json")):  # none is kept from before
            runner.ask(partial(estimate, setup, total, runner.workers), say)

        def run_all(trials: Sequence[plan.Trial]) -> list[dict]:
            items = [(one, short if one.label == plan.CONTROL else setup) for one in trials]
            known = ([asdict(one), asdict(replace(its, shared=None))] for one, its in items)
            paths = [store / f"{run_key(settings, *_CODE)}.json" for settings in known]
            runner(items, paths)
            return [json.loads(path.read_text()) for path in paths]

        def jumps(several: list[dict]) -> verdict.Estimate:
            plain = verdict.Losses(several, parts.sizes()[0])
            return verdict.difference(plain, 2, plain, 1)

        flat = run_all([trial for several in candidates.values() for trial in several])
        for label, several in candidates.items():
            tuned[label], flat = flat[: len(several)], flat[len(several) :]
            # Plain keeps the learning rate that is best for one epoch, as in common practice. If
            # another rate makes several epochs better, that is a method of its own.
            choice = verdict.choose(tuned[label], of_ones, for_one_epoch=label == "plain")
            if choice is None:
                raise DataError(f"{label} diverges at every learning rate; {remedy}.")
            choices[label] = choice
            if label == "plain":
                again = verdict.choose(tuned[label], of_ones)
                if again.trial != choice.trial:
                    choices[verdict.RETUNED], tuned[verdict.RETUNED] = again, tuned[label]
                    runner.total += seeds - 1
        firsts = {
            label: next(r for r in tuned[label] if r["trial"] == asdict(choice.trial))
            for label, choice in choices.items()
        }
        # Two-fold tables know single ids alone, and hold three copies of every row and its state.
        rows = sum(parts.train.schema.cardinality.values())
        fits = not parts.train.schema.bags and rows <= plan.MAX_CONTROL_ROWS
        two_fold = plan.control(choices["plain"].trial)
        controls = [replace(two_fold, seed=seed) for seed in range(seeds if fits else 0)]
        # If it is likely to be needed, the control begins now: it takes longest.
        likely = seeds > 1 and jumps([firsts["plain"]]).mean >= verdict.COLLAPSE
        early = controls if likely else []
        runner.total += len(early)
        chosen = [choice.trial for choice in choices.values()]
        others = [replace(one, seed=seed) for one in chosen for seed in range(1, seeds)]
        rest = run_all([*early, *others])
        control, rest = rest[: len(early)], rest[len(early) :]
        for label, first in firsts.items():
            results[label], rest = [first, *rest[: seeds - 1]], rest[seeds - 1 :]
            for seed, result in enumerate(results[label]):
                if result["status"] != "ok":
                    raise DataError(f"{label} diverges with seed {seed}; {remedy}.")
        rises = jumps(results["plain"]).kind == "rise"
        if rises and not early:
            runner.total += len(controls)
            control = run_all(controls)
    return results, choices, control if rises else []
