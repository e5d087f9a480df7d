"""Which room may know which: imports run downwards only, and no two files import each other.

A chapter of the book is its folder and its notebook.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "multiepoch": set(),
    "multiepoch_lab": {"multiepoch"},
    "multiepoch_compare": {"multiepoch", "multiepoch_lab"},
    "reproduction": {"multiepoch", "multiepoch_lab"},
    "notebooks": {"multiepoch", "multiepoch_lab", "reproduction"},
    "tools": {"multiepoch", "multiepoch_lab", "multiepoch_compare", "reproduction"},
}
# Of the library: what works with torch and NumPy alone.
BARE = (
    "multiepoch.optim",
    "multiepoch.remedies",
    "multiepoch_lab.model",
    "multiepoch_lab.methods",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    return ".".join(parts).removesuffix(".__init__")


def files() -> dict[str, Path]:
    roots = [top / room for room in MAY_IMPORT for top in (ROOT, ROOT / "src")]
    kinds = ("*.py", "*.ipynb")
    return {module_name(p): p for root in roots for kind in kinds for p in sorted(root.rglob(kind))}


FILES = files()


def code(path: Path) -> str:
    """The code of a file, or of a notebook's cells one after another."""
    text = path.read_text()
    if path.suffix == ".py":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join("".join(lines) for lines in cells)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports; for `from package import module`, that module."""
    for node in ast.walk(ast.parse(code(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room):
    allowed = MAY_IMPORT[room] | {room}
    for name, path in FILES.items():
        if name.partition(".")[0] == room:
            ours = {one for one in imports(path) if one.partition(".")[0] in {*MAY_IMPORT, "tests"}}
            above = {one for one in ours if one.partition(".")[0] not in allowed}
            assert not above, f"{name} imports {', '.join(sorted(above))}"


def test_no_chapter_imports_another():
    of_chapter = re.compile(r"reproduction\.((?:ch\d\d|a\d)_\w+)")
    for name, path in FILES.items():
        if number := of_chapter.match(name):
            found = {one: of_chapter.match(one) for one in imports(path)}
            others = [one for one, its in found.items() if its and its[1] != number[1]]
            assert not others, f"{name} imports {', '.join(others)}"


def test_no_two_files_import_each_other():
    graph = {}
    for name, path in FILES.items():
        # A package's own __init__ may collect what its modules define.
        ours = {one for one in imports(path) if one in FILES and one != name}
        graph[name] = {one for one in ours if not name.startswith(f"{one}.")}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def needed_by(*names: str) -> set[str]:
    """The installed distributions that these need, themselves included."""
    found, todo = set(), set(names)
    while todo:
        name = todo.pop()
        try:
            requirements = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:  # on another platform, say
            continue
        found.add(name)
        todo |= {
            one.name for one in requirements if not one.marker or one.marker.evaluate({"extra": ""})
        } - found
    return found


IN_A_BARE_PLACE = """
import sys
sys.path[:0] = {paths}
import multiepoch, {modules}
print(multiepoch_lab.data.AdsWorld(n_users=9, n_products=9).day(0, n=3).day)
for needs_more in ("import multiepoch_lab.train", "from multiepoch_lab.data import load_kuairand"):
    try:
        exec(needs_more)
    except ImportError as error:
        print(error)
"""


@pytest.mark.slow
def test_the_library_works_where_torch_and_numpy_alone_are_installed(tmp_path):
    for name in needed_by("torch", "numpy"):
        one = distribution(name)
        for top in {path.parts[0] for path in one.files} - {"..", "__pycache__"}:
            if not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(one.locate_file(top))
    code = IN_A_BARE_PLACE.format(
        paths=[str(ROOT / "src"), str(tmp_path)], modules=", ".join(["multiepoch_lab.data", *BARE])
    )
    # -S: without the packages of this interpreter
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "tensor([0, 0, 0], dtype=torch.int32)",
        "multiepoch_lab.train needs pandas: pip install 'multiepoch[lab]'.",
        "KuaiRand needs pandas and PyArrow: pip install 'multiepoch[lab]'.",
    ]
