"""Which room may know which: imports run downwards only, and no two files import each other."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "multiepoch": set(),
    "multiepoch_compare": {"multiepoch"},
    "reproduction": {"multiepoch"},
    "tools": {"multiepoch", "multiepoch_compare", "reproduction"},
}
# Of the library: what works with torch and NumPy alone.
BARE = ("multiepoch.optim", "multiepoch.remedies", "multiepoch.model", "multiepoch.methods")
HEAVY = {"pandas", "pyarrow", "matplotlib", "scipy", "pooch", "jinja2", "tabulate"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    return ".".join(parts).removesuffix(".__init__")


def files() -> dict[str, Path]:
    roots = [ROOT / "src" / room for room in MAY_IMPORT if room != "tools"] + [ROOT / "tools"]
    return {module_name(p): p for root in roots for p in sorted(root.rglob("*.py"))}


FILES = files()


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports; for `from package import module`, that module."""
    for node in ast.walk(ast.parse(path.read_text())):
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


def test_the_library_needs_torch_and_numpy_alone():
    seen, todo = set(), {name for name in FILES if name.startswith(BARE)} | {"multiepoch"}
    while todo:
        name = todo.pop()
        seen.add(name)
        needed = set(imports(FILES[name]))
        assert not {one.partition(".")[0] for one in needed} & HEAVY, name
        packages = {one.rpartition(".")[0] for one in needed}  # whose __init__ runs, too
        todo |= {one for one in needed | packages if one in FILES} - seen
