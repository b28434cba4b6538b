"""Thresholds, chosen on validation data by a rule and locked: one for images or patients of whom it
is known whether they have what is looked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hilum.calibration import Changed, choose_operating_point
from hilum.model import LockedPoint, seal_point

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
    scored: Scored, changed: Scored | None, rule: str, *, now: str, unit: str = "image"
) -> LockedPoint:
    """Choose a threshold by a rule, and seal it with the time and a hash.

    Parameters
    ----------
    changed : Scored, optional
        Some of them after each change, probabilities of shape (n_changes, n), for the rule
        'robust'.
    now : str
        When it is locked.
    unit : str
        What they are: 'image' or 'patient'.
    """
    some = None if changed is None else Changed(*changed.known())
    point = choose_operating_point(*scored.known(), rule, changed=some, unit=unit)
    return seal_point(point, now=now)
