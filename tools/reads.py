"""Finds the files that a notebook's numbers depend on, from what it imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

DATA = ("data", "results")  # which any notebook may read
# Imports every experiment for the verdicts of its claims, and shows none of their sentences.
SHOWS_NOTHING = "reproduction/command.py"
MODULE = re.compile(r"[a-z]\w*(\.\w+)*")


def files(notebook: Path, root: Path) -> list[Path]:
    """Returns every file that a notebook may read besides itself, sorted.

    These are the modules in src/ that it imports, directly or through others, all else that lies in
    their folders, and the folders in DATA. The sentences beside a chapter's code (TOML) count only
    for a notebook that imports the chapter itself.
    """
    src = root / "src"
    found = closure(notebook, src)
    shown = {one.parent for one in closure(notebook, src, without=src / SHOWS_NOTHING)}
    for folder in {module.parent for module in found}:
        of_others = (".py", ".so") if folder in shown else (".py", ".so", ".toml")
        found |= {one for one in folder.iterdir() if one.is_file() and one.suffix not in of_others}
    return sorted(found.union(*(files_under(root / folder) for folder in DATA)))


def closure(notebook: Path, src: Path, without: Path | None = None) -> set[Path]:
    """Returns the modules in `src` that a notebook imports, and what these import."""
    cells = nbformat.read(notebook, as_version=4).cells
    names = [name for one in cells if one.cell_type == "code" for name in imported(one.source)]
    found: set[Path] = set()
    while names:
        for path in modules(names.pop(), src) - found - {without}:
            found.add(path)
            names += imported(path.read_text(encoding="utf-8"))
    return found


def imported(source: str) -> Iterator[str]:
    """Yields what may be the name of a module: each import, and each string, for importlib."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # which the notebook will name when it runs
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Constant) and MODULE.fullmatch(str(node.value)):
            yield str(node.value)


def modules(name: str, src: Path) -> set[Path]:
    """Returns the files of a module and of the packages around it, which an import runs."""
    parts = name.split(".")
    places = [src.joinpath(*parts[:k]) for k in range(1, len(parts) + 1)]
    files = [file for one in places for file in (one.with_suffix(".py"), one / "__init__.py")]
    return {file for file in files if file.is_file()}


def files_under(folder: Path) -> list[Path]:
    """Returns every file in a folder, sorted, except those that Python and pip create."""
    made = ("__pycache__", ".ipynb_checkpoints", ".egg-info", ".so")
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in files if not any(part.endswith(made) for part in p.parts))
