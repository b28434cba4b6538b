"""Figures of merit of a classifier, one function each, on arrays.

Those for two classes (1 positive, 0 negative) agree with scikit-learn. An undefined figure is NaN
with a warning that names what is missing, never 0. `hilum.estimates` gives all of them with their
intervals.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.calibration import NEAR_ONE, below_one
from hilum.errors import DataError
from hilum.ranking import Ranking
from hilum.resampling import Floats, Ints

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
    y, score = checked_scores(y_true, y_score)
    weight = _weights(weights, len(y))
    area, _ = Ranking.of(y, score).areas(weight[None])
    return _defined(float(area[0]), "AUROC", missing_class(y, weight))


def average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Sum over thresholds of precision times the gain in sensitivity (no interpolation).

    NaN without positives or without negatives. Parameters and errors as in `auroc`.

    Examples
    --------
    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    y, score = checked_scores(y_true, y_score)
    weight = _weights(weights, len(y))
    _, area = Ranking.of(y, score).areas(weight[None])
    return _defined(float(area[0]), "average precision", missing_class(y, weight))


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, *, n_classes: int) -> NDArray[np.intp]:
    """Count samples by true class (rows) and predicted class (columns).

    Raises
    ------
    DataError
        If the lengths differ or a class is not in 0 to `n_classes` - 1.
    """
    true, pred = (
        _classes(name, values, n_classes)
        for name, values in (("y_true", y_true), ("y_pred", y_pred))
    )
    _same_length(true, pred, "y_pred", "prediction")
    return np.bincount(true * n_classes + pred, minlength=n_classes**2).reshape(
        n_classes, n_classes
    )


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
        loss = brier_losses(*checked_probs(y_true, array))
    else:
        y, score = checked_scores(y_true, array)
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
    hit, stated = hits_and_stated(y_true, probs)
    if not len(hit):
        return _defined(math.nan, "calibration error", "there is no sample")
    index, n = equal_bins(stated, n_bins)
    gaps = np.bincount(index, weights=hit - stated, minlength=n)
    return float(np.abs(gaps).sum() / len(hit))


class BrierParts(NamedTuple):
    """About reliability - resolution + uncertainty is the Brier score (Murphy 1973).

    The rest is how probabilities differ within bins (Stephenson et al. 2008).

    Attributes
    ----------
    reliability : float
        Mean squared distance of mean probability and observed share over the bins; 0 is best.
    resolution : float
        Mean squared distance of the bins' shares from the overall share; more is better.
    uncertainty : float
        Share times one minus it: the Brier score of stating the overall share of every sample.
    """

    reliability: float
    resolution: float
    uncertainty: float


def brier_decomposition(
    y_true: ArrayLike, probs: ArrayLike, *, n_bins: int | None = None
) -> BrierParts:
    """Take the Brier score apart, in bins as those of `ece`, one set for each column.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    probs : float array of shape (n_samples,) or (n_samples, n_classes)
        One column: parts of the mean of (p - y)². More: sums over all classes.
    n_bins : int, optional
        As in `ece`.
    """
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim == 2:
        true, array = checked_probs(y_true, array)
        truth = (true[:, None] == np.arange(array.shape[1])).astype(np.float64)
    else:
        y, score = checked_scores(y_true, array)
        truth, array = y[:, None].astype(np.float64), score[:, None]
    if not len(truth):
        undefined = _defined(math.nan, "Brier score", "there is no sample")
        return BrierParts(undefined, undefined, undefined)
    reliability = resolution = 0.0
    shares = truth.mean(axis=0)
    for k, share in enumerate(shares):
        index, n = equal_bins(array[:, k], n_bins)
        sizes = np.bincount(index, minlength=n)
        stated, observed = (
            np.bincount(index, weights=values[:, k], minlength=n) / sizes
            for values in (array, truth)
        )
        reliability += float(sizes @ (stated - observed) ** 2) / len(truth)
        resolution += float(sizes @ (observed - share) ** 2) / len(truth)
    if n_bins is None and len(truth) < 2 * MIN_PER_BIN:
        reason = f"fewer than {2 * MIN_PER_BIN} samples cannot be parted into bins"
        resolution = _defined(math.nan, "resolution", reason)
    return BrierParts(reliability, resolution, float((shares * (1 - shares)).sum()))


def macro_auroc(y_true: ArrayLike, probs: ArrayLike) -> float:
    """Mean one-vs-rest AUROC over the classes that are present.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    probs : float array of shape (n_samples, n_classes)
    """
    true, array = checked_probs(y_true, np.asarray(probs, dtype=np.float64))
    present = np.unique(true)
    if len(present) < 2:
        return _defined(math.nan, "AUROC", "fewer than two classes are present")
    return float(np.mean([auroc(true == k, array[:, k]) for k in present]))


def quadratic_kappa(
    y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Agreement of grades beyond chance, where a miss by d grades counts d².

    1 is perfect; 0 is what answers get that have the same shares of grades and know nothing of
    the images; below 0 is worse than that. NaN where truth and answers are all of one grade.

    Parameters
    ----------
    y_true, y_pred : int array of shape (n_samples,)
        Grades as whole numbers, neighbours 1 apart.
    weights : float array of shape (n_samples,), optional
        As in `auroc`.

    References
    ----------
    Cohen, Weighted kappa, Psychological Bulletin, 1968.

    Examples
    --------
    >>> round(quadratic_kappa([0, 1, 2, 2], [0, 1, 1, 2]), 4)
    0.8
    """
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    _same_length(true, pred, "y_pred", "prediction")
    weight = _weights(weights, len(true))
    return _defined(
        float(kappa_of(weight @ kappa_parts(true, pred))),
        "quadratic kappa",
        "all grades are one and the same" if len(true) else "there is no sample",
    )


def kappa_parts(true: NDArray[Any], pred: NDArray[Any]) -> Floats:
    """What each sample adds to the sums (n_samples, 5) that quadratic kappa is made of."""
    y, f = np.asarray(true, dtype=np.float64), np.asarray(pred, dtype=np.float64)
    return np.stack([np.ones(len(y)), (y - f) ** 2, y, f, y**2 + f**2], axis=1)


def kappa_of(sums: Floats) -> Floats:
    """Quadratic kappa of sums (..., 5) of `kappa_parts`; NaN where chance alone cannot miss."""
    n, missed, y, f, squares = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_chance = squares / n - 2 * (y / n) * (f / n)  # E(Y - F)² of independent Y and F
        return np.asarray(np.where(by_chance > 1e-9, 1 - missed / n / by_chance, np.nan))


def mean_absolute_error(
    y_true: ArrayLike, y_pred: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Mean distance of answer and truth in grades; grades are whole numbers, neighbours 1 apart."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    _same_length(true, pred, "y_pred", "prediction")
    weight = _weights(weights, len(true))
    return _ratio(
        float(weight @ np.abs(true.astype(np.float64) - pred)),
        float(weight.sum()),
        "mean absolute error",
        "there is no sample",
    )


def ranked_probability_score(
    y_true: ArrayLike, probs: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Mean squared distance of stated and true cumulative probabilities, in [0, 1]; 0 is best.

    The mean over the cuts between grades of the Brier score of "above this cut"; with two grades
    it is the Brier score.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        Grades, counted from 0 in their order.
    probs : float array of shape (n_samples, n_classes)

    References
    ----------
    Epstein, A scoring system for probability forecasts of ranked categories, Journal of Applied
    Meteorology, 1969.
    """
    loss = rank_losses(*checked_probs(y_true, np.asarray(probs, dtype=np.float64)))
    weight = _weights(weights, len(loss))
    return _ratio(
        float(weight @ loss), float(weight.sum()), "ranked probability score", "there is no sample"
    )


def auroc_by_cut(y_true: ArrayLike, probs: ArrayLike) -> list[float]:
    """AUROC of each cut between grades: how well the grades above are told from those below.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        Grades, counted from 0 in their order.
    probs : float array of shape (n_samples, n_classes)

    Returns
    -------
    list of n_classes - 1 floats
        The first of grade 1 or more against 0; NaN where one side is empty.
    """
    true, array = checked_probs(y_true, np.asarray(probs, dtype=np.float64))
    beyond = above_cuts(array)
    return [auroc(true > cut, beyond[:, cut]) for cut in range(beyond.shape[1])]


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


def roc_curve(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> Curve:
    """Sensitivity against 1 - specificity at every threshold, from (0, 0) at infinity to (1, 1).

    NaN on the axis whose class is missing.
    """
    y, score = checked_scores(y_true, y_score)
    ranking, weight = Ranking.of(y, score), _weights(weights, len(y))
    tp, fp = (np.r_[0.0, part[0]] for part in ranking.counts(weight[None]))
    thresholds = np.r_[math.inf, score[ranking.order][ranking.ends]]
    with np.errstate(invalid="ignore"):
        return Curve(fp / fp[-1], tp / tp[-1], thresholds)


def precision_recall_curve(
    y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None
) -> Curve:
    """Precision against sensitivity at every threshold that is a score, highest first."""
    y, score = checked_scores(y_true, y_score)
    ranking, weight = Ranking.of(y, score), _weights(weights, len(y))
    tp, fp = (part[0] for part in ranking.counts(weight[None]))
    with np.errstate(invalid="ignore"):
        return Curve(
            tp / (tp[-1] if len(tp) else 0.0), tp / (tp + fp), score[ranking.order][ranking.ends]
        )


def brier_losses(true: Ints, probs: Floats) -> Floats:
    """Squared distance (n_samples,) of each row of probabilities from the truth."""
    truth = true[:, None] == np.arange(probs.shape[1])
    return np.asarray(((probs - truth) ** 2).sum(axis=1))


def rank_losses(true: Ints, probs: Floats) -> Floats:
    """Squared distance (n_samples,) of cumulative probabilities from the truth, mean over cuts."""
    below = true[:, None] <= np.arange(probs.shape[1] - 1)
    return np.asarray(((probs.cumsum(axis=1)[:, :-1] - below) ** 2).mean(axis=1))


def above_cuts(probs: Floats) -> Floats:
    """Probability (n_samples, n_classes - 1) of a grade above each cut."""
    above, below = probs[:, ::-1].cumsum(axis=1)[:, -2::-1], probs.cumsum(axis=1)[:, :-1]
    is_near = (above > 0.5) & (below < NEAR_ONE)
    return np.where(is_near, below_one(below), above)


def hits_and_stated(y_true: ArrayLike, probs: ArrayLike) -> tuple[Floats, Floats]:
    """Return what was right (0 or 1) and the probability stated for it, both (n_samples,)."""
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim != 2:
        y, score = checked_scores(y_true, array)
        return y.astype(np.float64), score
    true, array = checked_probs(y_true, array)
    return (array.argmax(axis=1) == true).astype(np.float64), array.max(axis=1, initial=0.0)


def equal_bins(stated: Floats, n_bins: int | None) -> tuple[Ints, int]:
    """Put samples into bins of equal size: the bin of each, and the number of bins that are used.

    Equal probabilities share the bin of the first of them, whatever the order of the samples.
    """
    n = len(stated)
    wanted = min(MAX_BINS, max(1, n // MIN_PER_BIN)) if n_bins is None else n_bins
    first = np.searchsorted(np.sort(stated), stated, side="left")
    used, index = np.unique(first * wanted // max(n, 1), return_inverse=True)
    return index.astype(np.intp), len(used)


def checked_scores(y_true: ArrayLike, y_score: ArrayLike) -> tuple[Ints, Floats]:
    """Labels 0 and 1 and their scores, both (n_samples,), none of them NaN."""
    y = _classes("y_true", y_true, 2)
    score = np.asarray(y_score, dtype=np.float64)
    _same_length(y, score, "y_score", "score")
    _no_nan(score, "y_score")
    return y, score


def checked_probs(y_true: ArrayLike, probs: Floats) -> tuple[Ints, Floats]:
    """Classes (n_samples,) and their rows of probabilities (n_samples, n_classes), none NaN."""
    true = _classes("y_true", y_true, probs.shape[1])
    _same_length(true, probs, "probs", "row")
    _no_nan(probs, "probs")
    return true, probs


def missing_class(y: Ints, weight: Floats) -> str:
    """Say which class is missing, '' when none is."""
    n = len(y)
    if not weight @ (y == 1):
        return f"no positive among the {n} samples"
    return "" if weight @ (y == 0) else f"no negative among the {n} samples"


def _classes(name: str, values: ArrayLike, n_classes: int) -> Ints:
    """Classes as indices, checked."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}: give one label for each sample.")
    if array.dtype.kind == "f":
        _no_nan(array, name)
    wrong = [i for i, label in enumerate(array.tolist()) if label not in range(n_classes)]
    if wrong:
        raise DataError(
            f"{name} holds {array[wrong[0]].item()!r} at position {wrong[0]}: labels are whole "
            f"numbers from 0 to {n_classes - 1}."
        )
    return array.astype(np.intp)


def _same_length(y: NDArray[Any], other: NDArray[Any], name: str, thing: str) -> None:
    if len(y) != len(other):
        raise DataError(
            f"y_true has {len(y)} samples and {name} has {len(other)}: give one {thing} for each "
            "label."
        )


def _no_nan(array: NDArray[Any], name: str) -> None:
    bad = np.isnan(array)
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1) if bad.ndim == 2 else bad)
        raise DataError(
            f"{name} is NaN at position {rows[0]} ({len(rows)} of {len(array)} samples): leave out "
            "what was not predicted, or predict it again."
        )


def _weights(weights: ArrayLike | None, n_samples: int) -> Floats:
    if weights is None:
        return np.ones(n_samples)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (n_samples,):
        raise DataError(
            f"weights has shape {array.shape} and there are {n_samples} samples: give one weight "
            "for each sample."
        )
    if not (array >= 0).all():
        raise DataError("weights holds a negative number or NaN: weights are 0 or more.")
    return array


class _Counts(NamedTuple):
    """Weights of the four cells for two classes."""

    tp: float
    fp: float
    fn: float
    tn: float

    @classmethod
    def of(cls, y_true: ArrayLike, y_pred: ArrayLike, weights: ArrayLike | None) -> _Counts:
        true, pred = (
            _classes(name, values, 2) for name, values in (("y_true", y_true), ("y_pred", y_pred))
        )
        _same_length(true, pred, "y_pred", "prediction")
        weight = _weights(weights, len(true))
        cells = np.bincount(2 * true + pred, weights=weight, minlength=4)
        tn, fp, fn, tp = (float(cell) for cell in cells)
        return cls(tp, fp, fn, tn)


def _ratio(above: float, below: float, figure: str, reason: str) -> float:
    return _defined(above / below if below > 0 else math.nan, figure, reason)


def _defined(value: float, figure: str, reason: str) -> float:
    """Return the value, with a warning when it is NaN."""
    if math.isnan(value):
        warnings.warn(f"The {figure} is undefined: {reason}.", UndefinedFigureWarning, stacklevel=3)
    return value
