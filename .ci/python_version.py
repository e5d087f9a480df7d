"""Exits with one sentence where this Python is not one that pyproject.toml asks for.

Runs before anything is installed, on whatever python3 there is, so it is plain on purpose.
"""

import re
import sys

with open("pyproject.toml") as file:
    asked = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', file.read())
first, last = int(asked.group(1)), int(asked.group(2)) - 1
major, minor = sys.version_info[:2]
if not (3, first) <= (major, minor) <= (3, last):
    sys.exit(
        f"Beyond One Epoch runs on Python 3.{first} to 3.{last} and {sys.executable} is "
        f"{major}.{minor}; name another one, for example: make PYTHON=python3.{last}."
    )
