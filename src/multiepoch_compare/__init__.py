"""`multiepoch inspect` and `multiepoch compare`: does my log collapse, and what helps?"""
