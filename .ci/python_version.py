"""Exits with one sentence where this Python is not one that pyproject.toml asks for.

Runs before anything is installed, on whatever Python there is, so it is plain on purpose.
"""

import re
import sys

with open("pyproject.toml") as file:
    asked = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', file.read())
first, beyond = int(asked.group(1)), int(asked.group(2))
if not (3, first) <= tuple(sys.version_info[:2]) < (3, beyond):
    sys.exit(
        "Beyond One Epoch runs on Python 3.%d to 3.%d and %s is Python %d.%d; "
        "name another one, for example: make PYTHON=python3.%d."
        % ((first, beyond - 1, sys.executable) + tuple(sys.version_info[:2]) + (beyond - 1,))
    )
