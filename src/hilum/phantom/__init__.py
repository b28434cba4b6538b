"""A data set made on the spot: chest phantoms with flaws planted in it, and the truth about them.

For demonstrations and tests that need images with something to learn, something to distrust, and
no patient. The folder looks like one that a hospital might hand over: a table beside its images.
"""

from __future__ import annotations

from hilum.phantom.making import draw_chest, make_phantoms
from hilum.phantom.truth import FLAWS, Flaw, Truth, compare, read_truth

__all__ = ["FLAWS", "Flaw", "Truth", "compare", "draw_chest", "make_phantoms", "read_truth"]
