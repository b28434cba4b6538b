"""Samples of two classes in order of score, from which every threshold's counts follow.

The order is found once and serves many weightings, as resampling over patients needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hilum.resampling import Bools, Floats, Ints


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


def placements(y: Ints | Bools, score: Floats) -> Floats:
    """Share of the other side (n_samples,) that each sample lies on the right side of.

    A positive is placed right of a negative by a higher score; ties count half. The mean over the
    positives, as over the negatives, is the AUROC (the structural components of DeLong, 1988).
    """
    positive = np.asarray(y, dtype=bool)
    placed = np.empty(len(score))
    for side, sign in ((positive, 1.0), (~positive, -1.0)):
        others = np.sort(sign * score[~side])
        mine = sign * score[side]
        below = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        placed[side] = below / (2 * len(others))
    return placed


def auroc_without(y: Ints | Bools, score: Floats, block: Ints, n_blocks: int) -> Floats:
    """AUROC (n_blocks,) without the samples of each block, from one sorting.

    Pairs that touch a block are taken from the sum over all pairs; NaN where a side is then empty.

    Parameters
    ----------
    y, score : arrays of shape (n_samples,)
        With at least one sample on each side.
    block : int array of shape (n_samples,)
    n_blocks : int
    """
    positive = np.asarray(y, dtype=bool)
    sizes = [np.bincount(block[side], minlength=n_blocks) for side in (positive, ~positive)]
    n_positive, n_negative = (int(size.sum()) for size in sizes)
    wins = placements(y, score) * np.where(positive, n_negative, n_positive)
    touched = np.bincount(block, weights=wins, minlength=n_blocks)
    # Pairs inside one block were counted from both ends.
    rank = np.unique(score, return_inverse=True)[1]
    place, start = block * (len(score) + 1) + rank, block * (len(score) + 1)
    others = np.sort(place[~positive])
    mine = np.searchsorted(others, place[positive], "left")
    mine = mine + np.searchsorted(others, place[positive], "right")
    inside = mine / 2 - np.searchsorted(others, start[positive], "left")
    touched -= np.bincount(block[positive], weights=inside, minlength=n_blocks)
    total = float(wins[positive].sum())
    pairs = (n_positive - sizes[0]) * (n_negative - sizes[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(pairs > 0, (total - touched) / pairs, np.nan))
