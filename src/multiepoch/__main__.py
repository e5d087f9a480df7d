"""The command line: `python -m multiepoch COMMAND ...`, also installed as `multiepoch`."""

from __future__ import annotations

import importlib
import sys

# One row a command: the module and the function that takes the arguments after the command's
# name and returns the exit code. A module is imported only when its command is called, so that
# the command line starts fast and asks for no extra that it does not need.
COMMANDS = {
    "book": ("multiepoch.book", "command", "run the notebooks and build the book"),
    "compare": ("multiepoch.compare.compare", "command", "every method on your own log"),
    "inspect": ("multiepoch.compare.inspect", "command", "find the columns of your own log"),
    "notebook": ("multiepoch.notebooks", "command", "run notebooks in a profile, keep the results"),
    "reference": (
        "multiepoch.regression.command",
        "reference_command",
        "record what the regression compares with",
    ),
    "regression": (
        "multiepoch.regression.command",
        "command",
        "run every notebook, compare with the reference",
    ),
    "run": (
        "multiepoch.experiments.command",
        "command",
        "run a chapter's experiment, keep a record",
    ),
    "strip": ("multiepoch.notebooks", "strip_command", "take the outputs out of the notebooks"),
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: multiepoch COMMAND [-h] ...\n")
        for name, (_, _, what) in COMMANDS.items():
            print(f"  {name:<10} {what}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"multiepoch: no command {name!r}; there are {known}.", file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[name]
    return getattr(importlib.import_module(module), function)(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
