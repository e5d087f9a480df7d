"""Compares every notebook with references/PROFILE.json, as tests; see book/regression.md."""
