"""The rule 'robust': one threshold for the samples as they are and under corruptions.

What another scanner does to images may move the scores of both classes alike; then they can be
parted as well as before, but not where they were parted best.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.calibration import (
    ROUNDING,
    Floats,
    Ints,
    check_probabilities,
    checked_labels,
)
from hilum.errors import DataError
from hilum.youden import MIN_PER_CLASS, Sides, thresholds_between


class CorruptedScores(NamedTuple):
    """Some of the samples, as scored under corruptions such as another scanner would bring.

    Attributes
    ----------
    y_true : int array of shape (n_corrupted,)
    y_scores : float array of shape (n_corruptions, n_corrupted)
        Probabilities of the positive class, a row a corruption.
    """

    y_true: Ints
    y_scores: Floats

    def checked(self) -> CorruptedScores:
        """Return them as arrays, after checks that they belong together."""
        rows = np.asarray(self.y_scores, dtype=np.float64)
        if rows.ndim != 2:
            raise DataError(f"y_scores has shape {rows.shape}: give (n_corruptions, n_samples).")
        check_probabilities(rows, "y_scores")
        return CorruptedScores(checked_labels(np.asarray(self.y_true), rows.T, "y_scores", 2), rows)

    def too_few(self, unit: str) -> str:
        """Say why they cannot choose a threshold, '' when they can.

        A few would outweigh all samples as they are, for there are many corruptions of each.
        """
        counts = [int((self.y_true == k).sum()) for k in (1, 0)]
        if len(self.y_scores) and min(counts) >= MIN_PER_CLASS:
            return ""
        return (
            f" The rule 'robust' needs {MIN_PER_CLASS} {unit}s of each class that were changed; "
            f"there were {counts[0]} positive and {counts[1]} negative ones."
        )


NONE_CORRUPTED = CorruptedScores(np.zeros(0, dtype=np.intp), np.zeros((0, 0)))


def robust_threshold(y: Ints, score: Floats, corrupted: CorruptedScores) -> float:
    """Find the threshold of the greatest mean index over samples as they are and corrupted.

    The samples as they are count as one corruption, for elsewhere they are the exception; that
    they must keep their greatest index, but for its adjusted standard error, bounds the price.

    Parameters
    ----------
    y, score : arrays of shape (n_samples,)
        Of both classes, with at least two scores.
    corrupted : CorruptedScores
        Checked, and not too few.
    """
    sides = Sides.of(y, score)
    parts = [sides, *(Sides.of(corrupted.y_true, row) for row in corrupted.y_scores)]
    every = thresholds_between(np.r_[score, corrupted.y_scores.ravel()])
    within = every[(every > score.min()) & (every < score.max())]
    candidates = np.union1d(thresholds_between(score), within)
    index, error = sides.youden(candidates), sides.adjusted_error(candidates)
    kept = index >= index.max() - error - ROUNDING
    candidates, error = candidates[kept], error[kept]
    # Rounded, so that equal sums are equal to the last digit: the lowest of them is taken.
    counted = np.mean([part.youden(candidates) for part in parts], axis=0).round(9)
    smooth = [part.smooth_youden(candidates) for part in parts]
    fitted = [each for each in smooth if each is not None]
    if len(fitted) == len(parts):
        best = int(np.mean(fitted, axis=0).argmax())
        if counted.max() - counted[best] <= error[best]:
            return float(candidates[best])
    return float(candidates[counted.argmax()])


def robust_reason(n: int, corrupted: CorruptedScores, unit: str) -> str:
    """Say in one sentence what `robust_threshold` was chosen by, among `n` samples as they are."""
    n_corruptions, n_corrupted = corrupted.y_scores.shape
    some = "the same" if n_corrupted == n else f"{n_corrupted:,} of them"
    return (
        f"It gives the greatest sum of sensitivity and specificity on {n:,} validation {unit}s as "
        f"they are and {some} under {n_corruptions} changes of exposure, sharpness and place, as "
        "the mean of all these; no less on those as they are than the standard error allows."
    )
