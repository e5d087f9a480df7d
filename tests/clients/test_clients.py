"""Seven training libraries with our optimizer: the code of book/recipes.md runs and does its work.

`make test-clients` runs these in an environment with the libraries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from multiepoch.optim import SparseOptimizer, clip_grad_norm_
from multiepoch.remedies import Rewind
from tests.clients.data import CLIENTS, Days, Names
from tests.clients.running import prepared, quiet, run, without_training
from tools.recipes import Recipe, recipes

RECIPES = {recipe.client: recipe for recipe in recipes()}
N = 20_000
each = pytest.mark.parametrize("client", RECIPES)
Start = Callable[[str], tuple[Recipe, Names]]


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days.of(0, N, tmp_path)


@pytest.fixture
def start(days: Days) -> Start:
    """Returns a recipe and the names that it needs, on `days`."""
    return lambda client: (RECIPES[client], prepared(RECIPES[client], days))


def optimizer_of(names: Names) -> SparseOptimizer:
    """Finds our optimizer where the recipe has put it."""
    model, trainer = names["model"], names.get("trainer")
    holders = [names.get("optimizer"), getattr(model, "optim", None)]
    holders += [getattr(trainer, "optimizer", None), *getattr(trainer, "optimizers", ())]
    holders += [getattr(model, "optimizer", None)]
    unwrapped = [getattr(one, "optimizer", one) for one in holders]  # Accelerate wraps it
    return next(one for one in unwrapped if isinstance(one, SparseOptimizer))


def rewind_of(names: Names) -> Rewind:
    return names["rewind"] if "rewind" in names else names["model"].rewind


def tables_of(optimizer: SparseOptimizer) -> list[Tensor]:
    return [table for group in optimizer.embedding.param_groups for table in group["params"]]


@each
def test_the_clients_own_code_runs(client, start, days):
    recipe, names = start(client)
    with quiet(days.folder):
        run(recipe.before, names, seed=0)
    assert not hasattr(names["model"], "rewind")


@each
def test_training_learns_and_changes_only_the_rows_that_were_looked_up(client, start, days):
    recipe, names = start(client)
    head, training = without_training(recipe.after)
    seen: dict[int, set[int]] = {}

    def noting(lookup: Callable) -> Callable:
        def noted(ids: Tensor, weight: Tensor, *args, **options):
            if torch.is_grad_enabled():
                seen.setdefault(id(weight), set()).update(ids.flatten().tolist())
            return lookup(ids, weight, *args, **options)

        return noted

    functional = nn.functional
    lookups = {name: noting(getattr(functional, name)) for name in ("embedding", "embedding_bag")}
    with quiet(days.folder), patch.multiple(functional, **lookups):
        run(head, names, seed=0)
        before = {id(p): p.detach().clone() for p in names["model"].parameters()}
        run(training, names)
    optimizer = optimizer_of(names)
    assert optimizer.embedding.path == "fused"
    for table in tables_of(optimizer):
        changed = (table.detach() != before[id(table)]).any(dim=1).nonzero().squeeze(1)
        assert len(table) >= 10_000
        assert 0 < len(changed) < 0.9 * len(table)
        # A row may be left as it was if a ReLU or a rounding stops its whole gradient.
        assert set(changed.tolist()) <= seen[id(table)]
        assert len(changed) > 0.9 * len(seen[id(table)])
    rate = days.label("train").mean()
    constant = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    q = torch.as_tensor(CLIENTS[client].predict(names, days, "train")).double().flatten()
    label = torch.from_numpy(days.label("train")).double()
    assert functional.binary_cross_entropy(q, label) < constant


@each
def test_a_rewind_follows_the_clients_epochs(client, start, days):
    recipe, names = start(client)
    with quiet(days.folder):
        run(without_training(recipe.after)[0], names, seed=0)
        run(recipe.repeat, names)
    rewind = rewind_of(names)
    state = rewind.state_dict()
    assert rewind.epoch == 1
    lookups = 2 if client == "torch-rechub" else 1  # of a table in an impression
    lookups *= 5 if client == "RecBole" else 1  # all fields share one table
    assert state["ended"] and state["mean"]["n"] == 1  # the end of the second epoch
    for record in state["records"]:
        assert record["counts"].sum() == lookups * N


# Lightning


def fit(
    names: Names, days: Days, module: str = "Model", path: str | None = None, **options
) -> nn.Module:
    """Trains a new model of a recipe's class with other options of the trainer."""
    torch.manual_seed(0)
    names["model"] = model = names[module]()
    settings = {"max_epochs": 1, **names["options"], **options}
    with quiet(days.folder):
        names["trainer"] = trainer = names["lightning"].Trainer(**settings)
        trainer.fit(model, names["loader"], ckpt_path=path)
    return model


@pytest.fixture
def lightning(start: Start, days: Days) -> Names:
    recipe, names = start("Lightning")
    with quiet(days.folder):
        run(recipe.after, names, seed=0)
        run(recipe.repeat, names)
        run(*recipe.more, names)
    return names


class Batches:
    """A loader that can be resumed within an epoch, as Lightning expects one."""

    def __init__(self, loader) -> None:
        self.batches, self.at = list(loader), 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        first = self.at % len(self.batches)
        for k in range(first, len(self.batches)):
            self.at = k + 1
            yield self.batches[k]

    def state_dict(self) -> dict:
        return {"at": self.at}

    def load_state_dict(self, state: dict) -> None:
        self.at = state["at"]


@pytest.mark.parametrize("step", [40, 50], ids=["between epochs", "within an epoch"])
def test_lightning_resumes_from_a_checkpoint_bit_for_bit(lightning, days, step):
    path = str(days.folder / "stopped.ckpt")

    class Saving(lightning["Resuming"]):
        def on_train_batch_end(self, *_):
            if self.global_step == step and step % 40:
                self.trainer.save_checkpoint(path)

        def on_train_epoch_end(self):
            if self.global_step == step:
                self.trainer.save_checkpoint(path)

    batches, lightning["Saving"] = list(lightning["loader"]), Saving
    assert len(batches) == 40
    lightning["loader"] = Batches(batches)
    whole = fit(lightning, days, "Saving", max_epochs=2)
    wanted = {name: value.clone() for name, value in whole.state_dict().items()}
    lightning["loader"] = Batches(batches)
    resumed = fit(lightning, days, "Resuming", path, max_epochs=2)
    assert resumed.rewind.epoch == 1
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, wanted[name]), name


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_lightning_trains_in_bfloat16(lightning, days, precision):
    model = fit(lightning, days, gradient_clip_val=1.0, precision=precision)
    kind = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert all(table.weight.dtype == kind for table in model.tables)
    for table in tables_of(optimizer_of(lightning)):
        assert table.isfinite().all()
        assert optimizer_of(lightning).state[table]["exp_avg"].dtype == torch.float32


def test_lightning_clips_sparse_and_dense_gradients_together(lightning, days):
    norms = []

    class Watched(lightning["Model"]):
        def on_before_zero_grad(self, optimizer):
            if any(p.grad is not None for p in self.parameters()):
                norms.append(float(clip_grad_norm_(self.parameters(), math.inf)))

    lightning["Watched"] = Watched
    fit(lightning, days, "Watched", gradient_clip_val=1e-3)
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_lightning_accumulates_gradients(lightning, days):
    fit(lightning, days, gradient_clip_val=1.0, accumulate_grad_batches=2)
    steps = optimizer_of(lightning).state[lightning["model"].tables[0].weight]["step"]
    assert steps == math.ceil(len(lightning["loader"]) / 2)


# Accelerate


def test_accelerate_saves_and_resumes_bit_for_bit(start, days):
    recipe, names = start("Accelerate")
    folder = str(days.folder / "state")
    with quiet(days.folder):
        run(without_training(recipe.after)[0], names, seed=0)
        run(recipe.repeat, names)
        names["accelerator"].save_state(folder)
        names["train"]()
        wanted = {name: value.clone() for name, value in names["model"].state_dict().items()}
        names["train"]()
        names["accelerator"].load_state(folder)
        assert names["rewind"].epoch == 1
        names["train"]()
    for name, value in names["model"].state_dict().items():
        assert torch.equal(value, wanted[name]), name


@pytest.mark.parametrize("options", ['mixed_precision="bf16"', "gradient_accumulation_steps=2"])
def test_accelerate_trains_with_other_settings(start, days, options):
    from accelerate.state import AcceleratorState

    recipe, names = start("Accelerate")
    code = recipe.after.replace("cpu=True", f"cpu=True, {options}")
    loop = "    for ids, dense, label in loader:\n"
    code = code.replace(loop, f"{loop}      with accelerator.accumulate(model):\n")
    AcceleratorState._reset_state(True)
    try:
        with quiet(days.folder):
            run(code, names, seed=0)
    finally:
        AcceleratorState._reset_state(True)
    steps = {
        int(optimizer_of(names).state[table]["step"]) for table in tables_of(optimizer_of(names))
    }
    n = len(names["loader"])
    assert steps == {math.ceil(n / 2) if "accumulation" in options else n}
