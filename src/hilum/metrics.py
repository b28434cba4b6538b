"""Figures of merit of a classifier, each with an interval: what a table of a paper holds.

The functions at the top give one figure each for two classes (1 positive, 0 negative) and agree
with scikit-learn; an undefined figure is NaN with a warning that names what is missing, never 0.
`describe` gives all of them with intervals over patients, as written to metrics.json.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum import intervals
from hilum.errors import DataError, SettingError
from hilum.intervals import Bools, Clusters, Floats, Interval, Ints

# Bins of equal size for calibration: enough images in each that its share means something.
MAX_BINS = 10
MIN_PER_BIN = 20


class UndefinedFigureWarning(UserWarning):
    """A figure cannot be computed from these data and is NaN."""


def auroc(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores higher than a negative.

    Ties count half. NaN without positives or without negatives.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        0 for negative, 1 for positive.
    y_score : float array of shape (n_samples,)
        Higher is more likely positive.
    weights : float array of shape (n_samples,), optional
        A weight of 2 counts as the same sample twice.

    Raises
    ------
    DataError
        If the lengths differ, a label is neither 0 nor 1, or a score is NaN.

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, score, weight = _checked(y_true, y_score, weights)
    value = float(_Ranking.of(y, score).auroc(weight[None])[0])
    return _defined(value, "AUROC", _one_sided(y, weight))


def average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Sum over thresholds of precision times the gain in sensitivity (no interpolation).

    NaN without positives. Parameters and errors as in `auroc`.

    Examples
    --------
    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    y, score, weight = _checked(y_true, y_score, weights)
    value = float(_Ranking.of(y, score).average_precision(weight[None])[0])
    return _defined(value, "average precision", _one_sided(y, weight))


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, *, n_classes: int) -> NDArray[np.intp]:
    """Count samples by true class (rows) and predicted class (columns).

    Raises
    ------
    DataError
        If the lengths differ or a class is not in 0 to `n_classes` - 1.
    """
    true, pred = (
        _classes(name, values, n_classes) for name, values in (("y_true", y_true), ("y_pred", y_pred))
    )
    _same_length(true, pred, "y_pred", "prediction")
    return np.bincount(true * n_classes + pred, minlength=n_classes**2).reshape(n_classes, n_classes)


def sensitivity(y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Share of the positives that are called positive (recall); NaN without positives."""
    counts = _Counts.of(y_true, y_pred, weights)
    return _ratio(counts.tp, counts.tp + counts.fn, "sensitivity", "no positive sample")


def specificity(y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Share of the negatives that are called negative; NaN without negatives."""
    counts = _Counts.of(y_true, y_pred, weights)
    return _ratio(counts.tn, counts.tn + counts.fp, "specificity", "no negative sample")


def precision(y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Share of the samples called positive that are (predictive value); NaN without any."""
    counts = _Counts.of(y_true, y_pred, weights)
    return _ratio(counts.tp, counts.tp + counts.fp, "precision", "no sample is called positive")


def f1(y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Harmonic mean of precision and sensitivity; NaN without positives, called or true."""
    counts = _Counts.of(y_true, y_pred, weights)
    return _ratio(
        2 * counts.tp,
        2 * counts.tp + counts.fp + counts.fn,
        "F1",
        "no sample is positive or called so",
    )


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Share of the samples that get the right class; classes may be any integers."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    _same_length(true, pred, "y_pred", "prediction")
    weight = _weights(weights, len(true))
    return _ratio(
        float(weight @ (true == pred)), float(weight.sum()), "accuracy", "there is no sample"
    )


def balanced_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Mean over the classes in `y_true` of the share found; classes may be any integers."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    _same_length(true, pred, "y_pred", "prediction")
    weight = _weights(weights, len(true))
    shares = [
        float(weight @ ((true == k) & (pred == k)) / of)
        for k in np.unique(true)
        if (of := float(weight @ (true == k))) > 0
    ]
    return _defined(
        float(np.mean(shares)) if shares else math.nan, "balanced accuracy", "there is no sample"
    )


def brier(y_true: ArrayLike, probs: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Mean squared distance of probabilities and truth.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    probs : float array of shape (n_samples,) or (n_samples, n_classes)
        One column: probability of the positive class, and the mean of (p - y)², in [0, 1]. More:
        Brier's own sum of squares over all classes, in [0, 2]; for two columns twice the former.
    """
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim == 2:
        true = _classes("y_true", y_true, array.shape[1])
        _same_length(true, array, "probs", "row")
        _no_nan(array, "probs")
        loss = _brier_losses(true, array)
    else:
        y, score, _ = _checked(y_true, array, None)
        loss = (score - y) ** 2
    weight = _weights(weights, len(loss))
    return _ratio(float(weight @ loss), float(weight.sum()), "Brier score", "there is no sample")


def ece(y_true: ArrayLike, probs: ArrayLike, *, n_bins: int | None = None) -> float:
    """Expected calibration error: how far stated probabilities lie from observed shares.

    Samples are put in order of probability and into bins of equal size (equal probabilities stay
    together); the distances of mean probability and observed share are averaged, weighted by the
    bins' sizes.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    probs : float array of shape (n_samples,) or (n_samples, n_classes)
        One column: probability of the positive class against its share. More: probability of the
        predicted class against the share that is right (top-label confidence).
    n_bins : int, optional
        As many as leave 20 samples in each, from 1 to 10, unless given.
    """
    hit, stated = _stated(y_true, probs)
    if not len(hit):
        return _defined(math.nan, "calibration error", "there is no sample")
    index, n = _equal_bins(stated, n_bins)
    gaps = np.bincount(index, weights=hit - stated, minlength=n)
    return float(np.abs(gaps).sum() / len(hit))


def macro_auroc(y_true: ArrayLike, probs: ArrayLike) -> float:
    """Mean one-vs-rest AUROC over the classes that are present.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    probs : float array of shape (n_samples, n_classes)
    """
    array = np.asarray(probs, dtype=np.float64)
    true = _classes("y_true", y_true, array.shape[1])
    _same_length(true, array, "probs", "row")
    _no_nan(array, "probs")
    present = np.unique(true)
    if len(present) < 2:
        return _defined(math.nan, "AUROC", "fewer than two classes are present")
    return float(np.mean([auroc(true == k, array[:, k]) for k in present]))


class Curve(NamedTuple):
    """Points of a curve, from the highest threshold to the lowest.

    Attributes
    ----------
    x, y : float array of shape (n_points,)
        ROC: 1 - specificity and sensitivity. Precision-recall: sensitivity and precision.
    thresholds : float array of shape (n_points,)
        The point counts a sample as positive when its score is at least this.
    """

    x: Floats
    y: Floats
    thresholds: Floats


def roc_curve(
    y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None
) -> Curve:
    """Sensitivity against 1 - specificity at every threshold, from (0, 0) at infinity to (1, 1).

    NaN on the axis whose class is missing.
    """
    y, score, weight = _checked(y_true, y_score, weights)
    ranking = _Ranking.of(y, score)
    tp, fp = (np.r_[0.0, part[0]] for part in ranking.counts(weight[None]))
    thresholds = np.r_[math.inf, score[ranking.order][ranking.ends]]
    with np.errstate(invalid="ignore"):
        return Curve(fp / fp[-1], tp / tp[-1], thresholds)


def precision_recall_curve(
    y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None
) -> Curve:
    """Precision against sensitivity at every threshold that is a score, highest first."""
    y, score, weight = _checked(y_true, y_score, weights)
    ranking = _Ranking.of(y, score)
    tp, fp = (part[0] for part in ranking.counts(weight[None]))
    with np.errstate(invalid="ignore"):
        return Curve(
            tp / (tp[-1] if len(tp) else 0.0), tp / (tp + fp), score[ranking.order][ranking.ends]
        )


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
        If there is no positive or no negative, or as in `auroc`.
    """
    y, score, _ = _checked(y_true, y_score, None)
    grid = np.linspace(0, 1, n_grid)

    def sensitivities(tp: Floats, fp: Floats) -> Floats:
        tpr, fpr = (np.r_[0.0, part / part[-1]] for part in (tp, fp))
        return _interpolate_highest(grid, fpr, tpr)

    return _band(y, score, grid, sensitivities, groups, n_resamples, seed, among=y)


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

    Raises
    ------
    DataError
        If there is no positive or no negative, or as in `auroc`.
    """
    y, score, _ = _checked(y_true, y_score, None)
    grid = np.linspace(0, 1, n_grid)

    def precisions(tp: Floats, fp: Floats) -> Floats:
        # Rounding must not push a sensitivity that is reached behind its point of the grid.
        first = np.searchsorted(tp / tp[-1], grid - 1e-12)
        # A resample may lack the samples with the highest scores: no precision is known there yet.
        first = np.maximum(first, np.searchsorted(tp + fp, 0, side="right"))
        return np.asarray(tp[first] / (tp[first] + fp[first]))

    return _band(y, score, grid, precisions, groups, n_resamples, seed, among=y)
