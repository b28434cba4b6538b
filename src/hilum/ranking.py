"""Samples of two classes in order of score, from which every threshold's counts follow.

The order is found once and serves many weightings, as resampling over patients needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hilum.intervals import Bools, Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """Samples of two classes in order of falling score, ready for many weightings.

    Attributes
    ----------
    order : int array of shape (n_samples,)
    positive : float array of shape (n_samples,)
        1 for the positives, in that order.
    ends : int array of shape (n_scores,)
        Last place of each distinct score in that order.
    """

    order: Ints
    positive: Floats
    ends: Ints

    @classmethod
    def of(cls, y: Ints | Bools, score: Floats) -> Ranking:
        """Put samples (n_samples,) in order; the positives are those where `y` is 1."""
        order = np.argsort(-score, kind="stable")
        falls = np.flatnonzero(np.diff(score[order]))
        ends = np.r_[falls, len(score) - 1] if len(score) else falls
        return cls(order, np.asarray(y, dtype=np.float64)[order], ends)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return true and false positives (n_weightings, n_scores) at each threshold."""
        ordered = np.take(weights, self.order, axis=1)
        everyone = np.cumsum(ordered, axis=1)
        ordered *= self.positive
        tp = np.cumsum(ordered, axis=1, out=ordered)
        if len(self.ends) < len(self.order):
            everyone, tp = everyone[:, self.ends], tp[:, self.ends]
        everyone -= tp
        return tp, everyone

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return AUROC and average precision (n_weightings,), the areas under the two curves."""
        if not len(self.ends):
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        tp, fp = self.counts(weights)
        n_positive, n_negative = tp[:, -1], fp[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            # Area by trapezoids: a tie of positives and negatives is a slope, half of its box.
            area = np.einsum("ij,ij->i", np.diff(fp, axis=1), tp[:, 1:] + tp[:, :-1])
            area += fp[:, 0] * tp[:, 0]
            area /= 2 * n_positive * n_negative
            fp += tp
            share = np.divide(tp, fp, out=np.zeros_like(tp), where=fp > 0)
            mean = np.einsum("ij,ij->i", np.diff(tp, axis=1), share[:, 1:])
            mean += tp[:, 0] * share[:, 0]
            mean /= n_positive
        # Without negatives every precision is 1, which says nothing of the classifier.
        return area, np.where(n_negative > 0, mean, np.nan)
