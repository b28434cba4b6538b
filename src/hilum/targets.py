"""The kinds of target: one class an image, a grade of an order, or several labels of their own."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

TargetKind = Literal["classes", "multilabel", "ordinal"]

Labels = NDArray[Any]
"""Class indices (n,), or for multi-label data 0, 1 and NaN (unknown) of shape (n, n_labels)."""


def median_grade(probs: ArrayLike) -> NDArray[np.intp]:
    """Return the grade that half of the probability reaches: the least expected distance.

    Parameters
    ----------
    probs : float array of shape (n_samples, n_grades)

    Returns
    -------
    int array of shape (n_samples,)
    """
    reached = np.cumsum(np.asarray(probs, dtype=np.float64), axis=1)
    # The last is 1 but for rounding.
    return np.asarray((reached[:, :-1] < 0.5).sum(axis=1), dtype=np.intp)
