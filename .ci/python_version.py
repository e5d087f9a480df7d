"""Exits with one sentence if this Python is not one that pyproject.toml supports.

Runs before anything is installed, on any python3, so it uses the standard library alone.
"""

import re
import sys

with open("pyproject.toml") as file:
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', file.read())
first, last = int(supported.group(1)), int(supported.group(2)) - 1
major, minor = sys.version_info[:2]
if not (3, first) <= (major, minor) <= (3, last):
    sys.exit(
        f"The Second Epoch runs on Python 3.{first} to 3.{last}, but {sys.executable} is "
        f"{major}.{minor}; choose another, for example with make PYTHON=python3.{last}."
    )
