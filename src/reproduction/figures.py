"""Keeps the old place of two drawing helpers, which are in the style sheet now."""

from reproduction.style import line, styled

__all__ = ["line", "styled"]
