"""One training run as data, and many of them: profiles, interventions, execution."""

from multiepoch_lab.runner import resolve_device
from reproduction.runs.profiles import PROFILES, Profile, kept_runs, profile
from reproduction.runs.run import (
    COLUMNS,
    N_BLOCKS,
    NEW_IDS,
    USER_BLOCKS,
    Run,
    execute,
    kept,
    over_seeds,
    run_all,
    workers,
)
from reproduction.runs.sources import SOURCES, mapped, window
