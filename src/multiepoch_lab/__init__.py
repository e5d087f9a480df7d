"""What the book and `multiepoch compare` train with: logs, synthetic worlds, a model and its loop.

Needs the extra `lab`; `multiepoch` itself needs torch and NumPy alone.
"""
