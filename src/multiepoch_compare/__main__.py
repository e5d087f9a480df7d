"""The command line of `multiepoch`: `multiepoch compare` and `multiepoch inspect`."""

from __future__ import annotations

import importlib
import signal
import sys

# A module is imported only when its command is called, so that --help answers at once, and Ctrl-C
# ends the imports, too, which take seconds, in one line.
COMMANDS = {
    "compare": ("multiepoch_compare.command", "trains every method on your own log"),
    "inspect": ("multiepoch_compare.inspect", "finds the columns of your own log"),
}


def main(arguments: list[str] | None = None) -> int:
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: multiepoch COMMAND [-h] ...\n       multiepoch --version\n")
        for command, (_, purpose) in COMMANDS.items():
            print(f"  {command:<10} {purpose}")
        return 0
    if name not in (*COMMANDS, "--version"):
        known = ", ".join(COMMANDS)
        print(f"multiepoch: unknown command {name!r}; choose from {known}.", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):  # tidy up and say what is kept, as for Ctrl-C
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        return _run(name, rest)
    except KeyboardInterrupt:
        kept = "; finished trials are kept: repeat the command to resume" * (name == "compare")
        print(f"\nmultiepoch {name}: stopped{kept}.", file=sys.stderr)
        return 130


def _run(name: str, arguments: list[str]) -> int:
    from multiepoch import __version__
    from multiepoch_lab.data.log import DataError

    if name == "--version":
        print(f"multiepoch {__version__}")
        return 0
    try:
        return importlib.import_module(COMMANDS[name][0]).command(arguments)
    except DataError as error:
        print(f"multiepoch {name}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
