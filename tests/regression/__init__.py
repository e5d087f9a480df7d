"""The regression: every notebook, with papermill, against what `references/` holds.

execution.py runs the notebooks, compare.py judges what they recorded, report.py writes it down,
reference.py records what later runs are compared with, command.py is the command line.
"""
