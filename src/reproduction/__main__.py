"""`python -m reproduction CHAPTER`: runs a chapter's experiment and writes its record."""

import sys

from reproduction.command import command

sys.exit(command(sys.argv[1:]))
