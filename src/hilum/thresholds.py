"""Thresholds, chosen on validation data by a rule and locked: one for images or patients of whom it
is known whether they have what is looked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hilum.model import LockedPoint, seal_point
from hilum.operating_points import choose_operating_point
from hilum.robust_threshold import CorruptedScores

Floats = NDArray[np.float64]


class Scored(NamedTuple):
    """Validation images or patients with the probability of a finding.

    Attributes
    ----------
    truth : float array of shape (n,)
        1 with the finding, 0 without it, NaN where that is unknown.
    probs : float array of shape (..., n)
        Of the finding.
    """

    truth: NDArray[np.floating]
    probs: Floats

    def known(self) -> tuple[NDArray[np.intp], Floats]:
        """Return truth and probabilities of those of whom it is known."""
        is_known = ~np.isnan(self.truth)
        return self.truth[is_known].astype(np.intp), self.probs[..., is_known]


def lock_point(
    scored: Scored, corrupted: Scored | None, rule: str, *, now: str, unit: str = "image"
) -> LockedPoint:
    """Choose a threshold by a rule, and seal it with the time and a hash.

    Parameters
    ----------
    corrupted : Scored, optional
        Some of them under each corruption, probabilities of shape (n_corruptions, n), for the rule
        'robust'.
    now : str
        When it is locked.
    unit : str
        What they are: 'image' or 'patient'.
    """
    some = None if corrupted is None else CorruptedScores(*corrupted.known())
    point = choose_operating_point(*scored.known(), rule, corrupted=some, unit=unit)
    return seal_point(point, now=now)
