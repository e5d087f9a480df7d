"""One module a chapter: `run(profile, device, seeds) -> table`, for notebooks and command line."""
