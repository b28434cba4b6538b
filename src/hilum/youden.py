"""Youden's index, sensitivity + specificity - 1, at thresholds that part scores: as counted, and of
normal distributions of the log-odds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.calibration import (
    LOGIT_ROUNDING,
    ROUNDING,
    Floats,
    Ints,
    log_odds,
    sigmoid,
)

# A class with fewer scores than this says too little to place a threshold by their distribution.
MIN_PER_CLASS = 10

N_BETWEEN = 1001  # thresholds tried between the means of two normal distributions


class Sides(NamedTuple):
    """Scores of the negatives and of the positives, each rising."""

    negative: Floats
    positive: Floats

    @classmethod
    def of(cls, y: Ints, score: Floats) -> Sides:
        return cls(np.sort(score[y == 0]), np.sort(score[y == 1]))

    def shares(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """Return sensitivity and false-positive rate at each threshold, as counted."""
        negative, positive = (1 - np.searchsorted(side, thresholds) / len(side) for side in self)
        return positive, negative

    def youden(self, thresholds: Floats) -> Floats:
        """Return Youden's index, as counted."""
        found, alarms = self.shares(thresholds)
        return found - alarms

    def error(self, thresholds: Floats) -> Floats:
        """Return the standard error of Youden's index."""
        found, alarms = self.shares(thresholds)
        of_found = found * (1 - found) / len(self.positive)
        return np.asarray(np.sqrt(of_found + alarms * (1 - alarms) / len(self.negative)))

    def adjusted_error(self, thresholds: Floats) -> Floats:
        """Return the standard error with one sample more on either side of it in each class.

        The plain one is 0 where classes are parted perfectly, as if a few samples left no doubt
        (Agresti and Caffo, Simple and effective confidence intervals for proportions and
        differences of proportions, The American Statistician 2000).
        """
        variance = np.zeros(len(thresholds))
        for share, side in zip(self.shares(thresholds), reversed(self), strict=True):
            n = len(side) + 2
            adjusted = (share * len(side) + 1) / n
            variance += adjusted * (1 - adjusted) / n
        return np.asarray(np.sqrt(variance))

    def smooth_youden(self, thresholds: Floats) -> Floats | None:
        """Return Youden's index of normal distributions of the log-odds, None where none fit.

        The place of the greatest index counted hangs on a few images near it. Normal distributions
        fitted to the log-odds of each class use all of them, and err less (Fluss, Faraggi and
        Reiser, Estimation of the Youden index and its associated cutoff point, Biometrical Journal
        2005).
        """
        if min(map(len, self)) < MIN_PER_CLASS:
            return None
        low, high = (log_odds(side) for side in self)
        if high.mean() <= low.mean() or not min(low.std(), high.std()) > 0:
            return None
        # scipy.special costs 0.2 s, and prediction chooses no threshold.
        from scipy.special import ndtr

        places = log_odds(thresholds)
        missed = ndtr((places - high.mean()) / high.std())
        alarms = ndtr((low.mean() - places) / low.std())
        return np.asarray(1 - missed - alarms)


def thresholds_between(scores: Floats) -> Floats:
    """Return the thresholds midway between neighbouring scores, rising.

    Scores closer than rounding are not parted. Those near 0, of which a rare disease has many, and
    those near 1, which a sharpened model gives, are held apart by their log-odds.
    """
    ordered = np.sort(scores)
    is_gap = (np.diff(ordered) > ROUNDING) | (np.diff(log_odds(ordered)) > LOGIT_ROUNDING)
    below = np.flatnonzero(is_gap)  # last place under each gap
    between = ordered[below] + (ordered[below + 1] - ordered[below]) / 2
    return np.asarray(between[between > ordered[below]])


def smooth_best(sides: Sides, thresholds: Floats) -> int | None:
    """Find the threshold nearest to the best one of two normal distributions.

    None where that costs more of what was counted than its standard error: then normal
    distributions fit badly, and what was counted has the word.
    """
    low, high = (float(log_odds(side).mean()) for side in sides)
    between = np.linspace(low, high, N_BETWEEN)
    smooth = sides.smooth_youden(sigmoid(between))
    if smooth is None:
        return None
    best = int(np.abs(log_odds(thresholds) - between[smooth.argmax()]).argmin())
    index = sides.youden(thresholds)
    is_alike = index.max() - index[best] <= sides.error(thresholds)[best]
    return best if is_alike else None
