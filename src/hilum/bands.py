"""Curves with 95 % bounds: ROC, precision-recall and reliability.

Bounds are pointwise, over patients; docs/statistics.md tells how they are found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hilum import intervals, resampling
from hilum.errors import DataError
from hilum.metrics import checked_scores, equal_bins, hits_and_stated, missing_class
from hilum.ranking import Ranking
from hilum.resampling import Clusters, Floats, Ints


class Band(NamedTuple):
    """A curve on a grid with pointwise 95 % bounds.

    Attributes
    ----------
    x, y, ci_low, ci_high : float array of shape (n_grid,)
    """

    x: Floats
    y: Floats
    ci_low: Floats
    ci_high: Floats


def roc_band(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_grid: int = 101,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Band:
    """Sensitivity at equally spaced 1 - specificity (linear between points), bounds over patients.

    Raises
    ------
    DataError
        If there is no positive or no negative, or as in `hilum.metrics.auroc`.
    """
    return _band(y_true, y_score, _sensitivities, groups, n_grid, n_resamples, seed)


def pr_band(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_grid: int = 101,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Band:
    """Precision at the highest threshold that reaches each of equally spaced sensitivities.

    At the left end few images are called, and resamples agree with each other too well: no bound is
    nearer than that of a share among the images called there.

    Raises
    ------
    DataError
        If there is no positive or no negative, or as in `hilum.metrics.auroc`.
    """
    band = _band(y_true, y_score, _precisions, groups, n_grid, n_resamples, seed)
    if np.isnan(band.ci_low).any():
        return band
    y, score = checked_scores(y_true, y_score)
    clusters, ranking = Clusters.of(groups, len(y)), Ranking.of(y, score)
    tp, _ = ranking.counts(np.ones((1, len(y))))
    first = _reached(band.x, tp[0])
    low, high = np.empty(n_grid), np.empty(n_grid)
    for step in np.unique(first):
        called = score >= score[ranking.order[ranking.ends[step]]]
        bounds = intervals.share(y == 1, clusters, called)
        low[first == step], high[first == step] = bounds.ci_low, bounds.ci_high
    return Band(band.x, band.y, np.minimum(band.ci_low, low), np.maximum(band.ci_high, high))


class Reliability(NamedTuple):
    """Stated probabilities against observed shares, by bins of equal size.

    Attributes
    ----------
    stated, observed : float array of shape (n_bins,)
        Mean probability and share of the bin.
    ci_low, ci_high : float array of shape (n_bins,)
        95 % bounds of the share.
    n : int array of shape (n_bins,)
        Samples in the bin.
    """

    stated: Floats
    observed: Floats
    ci_low: Floats
    ci_high: Floats
    n: Ints


def reliability_curve(
    y_true: ArrayLike,
    probs: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_bins: int | None = None,
) -> Reliability:
    """Compare stated probabilities with observed shares, in the bins of `hilum.metrics.ece`."""
    hit, stated = hits_and_stated(y_true, probs)
    index, n = equal_bins(stated, n_bins)
    clusters = Clusters.of(groups, len(hit))
    sizes = np.bincount(index, minlength=n)
    parts = [intervals.share(hit > 0, clusters, index == k) for k in range(n)]
    return Reliability(
        np.bincount(index, weights=stated, minlength=n) / sizes,
        np.bincount(index, weights=hit, minlength=n) / sizes,
        np.array([part.ci_low for part in parts]),
        np.array([part.ci_high for part in parts]),
        sizes,
    )


def _sensitivities(grid: Floats, tp: Floats, fp: Floats) -> Floats:
    # On a vertical stretch of the curve np.interp takes its upper end.
    return np.interp(grid, np.r_[0.0, fp / fp[-1]], np.r_[0.0, tp / tp[-1]])


def _precisions(grid: Floats, tp: Floats, fp: Floats) -> Floats:
    first = _reached(grid, tp)
    # A resample may lack the samples with the highest scores: no precision is known there yet.
    first = np.maximum(first, np.searchsorted(tp + fp, 0, side="right"))
    return np.asarray(tp[first] / (tp[first] + fp[first]))


def _reached(grid: Floats, tp: Floats) -> Ints:
    """First threshold that reaches each sensitivity of the grid."""
    # Rounding must not push a sensitivity that is reached behind its point of the grid.
    return np.searchsorted(tp / tp[-1], grid - 1e-12)


def _band(
    y_true: ArrayLike,
    y_score: ArrayLike,
    heights: Callable[[Floats, Floats, Floats], Floats],
    groups: ArrayLike | None,
    n_grid: int,
    n_resamples: int,
    seed: int,
) -> Band:
    """Curve of the data, with percentiles of resamples and Wilson's bounds at heights of 0 and 1.

    At a height of exactly 0 or 1 resamples often agree with each other: there the number of
    patients bounds what was never seen.
    """
    y, score = checked_scores(y_true, y_score)
    clusters, grid = Clusters.of(groups, len(y)), np.linspace(0, 1, n_grid)
    missing = missing_class(y, np.ones(len(y)))
    if missing:
        raise DataError(f"A curve needs positives and negatives: {missing}.")
    ranking = Ranking.of(y, score)
    tp, fp = ranking.counts(np.ones((1, len(y))))
    value = heights(grid, tp[0], fp[0])
    drawn = []
    counts = resampling.draw_patients(clusters.n, n_resamples, seed)
    for _, weights in resampling.sample_weights(counts, clusters):
        tp, fp = ranking.counts(weights)
        both = (tp[:, -1] > 0) & (fp[:, -1] > 0)
        drawn += [heights(grid, t, f) for t, f in zip(tp[both], fp[both], strict=True)]
    low, high = np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    sides = [int((clusters.totals(y == k) > 0).sum()) for k in (0, 1)]
    if min(sides) >= intervals.MIN_PATIENTS:
        tail = (1 - intervals.LEVEL) / 2
        low, high = np.quantile(np.stack(drawn), [tail, 1 - tail], axis=0)
        floor, ceiling = intervals.extreme_shares(resampling.kish(clusters.totals(y)))
        low = np.where(value == 1, np.minimum(low, floor), low)
        high = np.where(value == 0, np.maximum(high, ceiling), high)
    return Band(grid, value, np.minimum(low, value), np.maximum(high, value))
