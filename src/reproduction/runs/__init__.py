"""One training run as data, and many of them: profiles, interventions, execution."""

from multiepoch.runner import resolve_device
from reproduction.runs.profiles import PROFILES, Profile, profile
from reproduction.runs.run import (
    COLUMNS,
    KUAIRAND_BATCH,
    Run,
    default_store,
    execute,
    over_seeds,
    run_all,
    workers,
)

__all__ = [
    "COLUMNS",
    "KUAIRAND_BATCH",
    "PROFILES",
    "Profile",
    "Run",
    "default_store",
    "execute",
    "over_seeds",
    "profile",
    "resolve_device",
    "run_all",
    "workers",
]
