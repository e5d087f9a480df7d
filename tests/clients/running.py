"""Runs the blocks of a recipe in the names of its client."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch

from tests.clients.data import CLIENTS, Days, Names
from tools.recipes import Recipe


@contextlib.contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """Works in a folder, where clients leave files; hides what they print; restores torch."""
    clip = torch.nn.utils.clip_grad_norm_
    out, err = (
        redirect(io.StringIO())
        for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr)
    )
    with contextlib.chdir(folder), out, err, patch("torch.nn.utils.clip_grad_norm_", clip):
        yield


def prepared(recipe: Recipe, days: Days) -> Names:
    """Returns the names that the recipe's blocks use."""
    with quiet(days.folder):
        names = {"__name__": "recipe"} | CLIENTS[recipe.client].prepare(days)
        run(recipe.setup, names)
    return names


def run(code: str, names: Names, seed: int | None = None) -> None:
    """Runs a block; `names` is changed."""
    if seed is not None:
        torch.manual_seed(seed)
    exec(compile(code, "book/recipes.md", "exec"), names)


def without_training(code: str) -> tuple[str, str]:
    """Splits the last line, which trains, from a block."""
    head, _, last = code.rstrip().rpartition("\n")
    return head, last
