"""Figures of merit of a classifier, each with an interval: what a table of a paper holds.

The functions at the top give one figure each for two classes (1 positive, 0 negative) and agree
with scikit-learn; an undefined figure is NaN with a warning that names what is missing, never 0.
`describe` gives all of them with intervals over patients, as written to metrics.json.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
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

ROUNDING = 1e-6


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


def roc_curve(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> Curve:
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
        # On a vertical stretch of the curve np.interp takes its upper end.
        return np.interp(grid, np.r_[0.0, fp / fp[-1]], np.r_[0.0, tp / tp[-1]])

    return _band(y, score, grid, sensitivities, Clusters.of(groups, len(y)), n_resamples, seed)


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

    return _band(y, score, grid, precisions, Clusters.of(groups, len(y)), n_resamples, seed)


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
    """Compare stated probabilities with observed shares, in the bins of `ece`."""
    hit, stated = _stated(y_true, probs)
    index, n = _equal_bins(stated, n_bins)
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


def describe(
    y_true: ArrayLike,
    probs: ArrayLike,
    *,
    class_names: Sequence[str],
    positive: int | None,
    threshold: float | None,
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
) -> dict[str, Any]:
    """Give every figure of one split with its 95 % interval, ready for metrics.json.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        Class of each sample, an index into `class_names`.
    probs : float array of shape (n_samples, n_classes)
    class_names : sequence of str
    positive : int or None
        Two classes: the one whose figures are given, called where its probability is at least
        `threshold`. More: None; the most probable class is called, and figures are means over the
        classes that are present.
    threshold : float or None
    groups : array of shape (n_samples,), optional
        Patient of each sample. None where no patient is known: then samples are taken for
        independent, and 'n_patients' is None.
    seed, n_resamples : int
        Of the bootstrap over patients.

    Returns
    -------
    dict
        One part of metrics.json. A figure is {'value', 'ci_low', 'ci_high', 'n', 'method'} with n
        the samples that it rests on; what cannot be estimated is None and has a 'reason'.

    Raises
    ------
    DataError
        If lengths differ, a class is unknown, or a probability is NaN or outside [0, 1].
    SettingError
        If `positive` and `threshold` do not suit the number of classes.
    """
    n_classes = len(class_names)
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != n_classes:
        raise DataError(
            f"probs has shape {array.shape} and there are {n_classes} classes: give one column for "
            "each class."
        )
    true = _classes("y_true", y_true, n_classes)
    _same_length(true, array, "probs", "row")
    _no_nan(array, "probs")
    # A softmax in float32 may exceed 1 by its rounding.
    if len(array) and (array.min() < -ROUNDING or array.max() > 1 + ROUNDING):
        raise DataError(
            f"probs reaches from {array.min():.4g} to {array.max():.4g}: give probabilities in "
            "[0, 1], not logits."
        )
    _check_positive(n_classes, positive, threshold)
    study = _Study(
        true,
        array,
        _decide(array, positive, threshold),
        tuple(class_names),
        positive,
        Clusters.of(groups, len(true)),
        seed,
        n_resamples,
    )
    return study.describe(threshold)


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


@dataclass(frozen=True)
class _Ranking:
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
    def of(cls, y: Ints | Bools, score: Floats) -> _Ranking:
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

    def both(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return AUROC and average precision (n_weightings,) of each weighting."""
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

    def auroc(self, weights: Floats) -> Floats:
        return self.both(weights)[0]

    def average_precision(self, weights: Floats) -> Floats:
        return self.both(weights)[1]


@dataclass(frozen=True)
class _Figure:
    """A figure with its interval and its values without each patient.

    Attributes
    ----------
    value : float
        NaN when undefined.
    interval : Interval
    n : int
        Samples that it rests on.
    reason : str
        Why it is undefined.
    left_out : float array of shape (n_blocks,) or None
        The figure without each patient in turn.
    """

    value: float
    interval: Interval
    n: int
    reason: str = ""
    left_out: Floats | None = None

    @classmethod
    def undefined(cls, reason: str, n: int) -> _Figure:
        return cls(math.nan, Interval.missing(reason), n, reason)

    def as_json(self) -> dict[str, Any]:
        low, high, method, why = self.interval
        known, bounded = not math.isnan(self.value), not math.isnan(low)
        entry: dict[str, Any] = {
            "value": self.value if known else None,
            "ci_low": low if bounded else None,
            "ci_high": high if bounded else None,
            "n": self.n,
        }
        return entry | ({"method": method} if bounded else {"reason": self.reason or why})


@dataclass(frozen=True)
class _Study:
    """One split: truth, probabilities, decisions, patients, and the resamples they share."""

    true: Ints
    probs: Floats
    pred: Ints
    class_names: tuple[str, ...]
    positive: int | None
    clusters: Clusters
    seed: int
    n_resamples: int

    @property
    def n(self) -> int:
        return len(self.true)

    @property
    def images(self) -> str:
        return f"{self.n:,} image{'s' if self.n != 1 else ''}"

    @cached_property
    def counts(self) -> Floats:
        """How often each resample holds each patient (n_resamples, n_patients)."""
        return intervals.draw_patients(self.clusters.n, self.n_resamples, self.seed)

    @cached_property
    def left_out(self) -> Floats:
        """Patients that are left out in turn for the jackknife (n_blocks, n_patients)."""
        return intervals.leave_out(self.clusters.n, self.seed)

    @property
    def independent(self) -> float:
        """How many independent images these count for if those of a patient are fully alike."""
        return intervals.kish(self.clusters.totals(np.ones(self.n)))

    @cached_property
    def present(self) -> list[int]:
        return [int(k) for k in np.unique(self.true)]

    def describe(self, threshold: float | None) -> dict[str, Any]:
        classes = [self.of_class(k) for k in range(len(self.class_names))]
        top = self.of_two(classes) if self.positive is not None else self.of_many(classes)
        tally = np.bincount(self.true, minlength=len(classes))
        over = "patients" if self.clusters.known else "images (no patient is known)"
        return {
            "n": self.n,
            "n_patients": self.clusters.n if self.clusters.known else None,
            "prevalence": {
                name: float(tally[k] / self.n) if self.n else None
                for k, name in enumerate(self.class_names)
            },
            "threshold": threshold,
            "ci": {
                "method": f"jackknife and bootstrap over {over}; each figure names its own",
                "level": intervals.LEVEL,
                "n_resamples": self.n_resamples,
                "seed": self.seed,
            },
            **{name: figure.as_json() for name, figure in top.items()},
            "classes": {
                name: {"n": int(tally[k])}
                | {figure: made.as_json() for figure, made in classes[k].items()}
                for k, name in enumerate(self.class_names)
            },
            "confusion_matrix": confusion_matrix(
                self.true, self.pred, n_classes=len(classes)
            ).tolist(),
        }

    def of_two(self, classes: list[dict[str, _Figure]]) -> dict[str, _Figure]:
        """Figures of the positive class."""
        assert self.positive is not None
        mine = classes[self.positive]
        y = (self.true == self.positive).astype(np.float64)
        return {
            "accuracy": self.accuracy(),
            "balanced_accuracy": self.mean([mine["sensitivity"], mine["specificity"]]),
            **{name: mine[name] for name in _ONE_VS_REST},
            "brier": mine["brier"],
            "ece": self.calibration(y, self.probs[:, self.positive]),
        }

    def of_many(self, classes: list[dict[str, _Figure]]) -> dict[str, _Figure]:
        """Means over the classes that are present."""
        macro = {name: self.mean([classes[k][name] for k in self.present]) for name in _ONE_VS_REST}
        return {
            "accuracy": self.accuracy(),
            "balanced_accuracy": macro["sensitivity"],
            **macro,
            "brier": self.loss(_brier_losses(self.true, self.probs), most=2.0),
            "ece": self.calibration(*_stated(self.true, self.probs)),
        }

    def of_class(self, k: int) -> dict[str, _Figure]:
        """Figures of one class against all others."""
        name, true, pred = self.class_names[k], self.true == k, self.pred == k
        none = f"no {name} among the {self.images}"
        every = f"all {self.images} are {name}" if self.n else "there are no images"
        uncalled = f"none of the {self.images} is called {name}"
        return {
            **self.ranking(true, self.probs[:, k], none if not true.any() else every),
            "sensitivity": self.share(pred, true, none),
            "specificity": self.share(~pred, ~true, every),
            "precision": self.share(true, pred, uncalled),
            "f1": self.overlap(true, pred, f"{none}, and none is called so"),
            "brier": self.loss((self.probs[:, k] - true) ** 2, most=1.0),
        }

    def accuracy(self) -> _Figure:
        return self.share(
            self.true == self.pred, np.ones(self.n, dtype=bool), "there are no images"
        )

    def share(self, hits: Bools, among: Bools, reason: str) -> _Figure:
        """Share of hits among some images."""
        n = int(among.sum())
        if not n:
            return _Figure.undefined(reason, 0)
        interval = intervals.share(hits, self.clusters, among)
        value = float((hits & among).sum() / n)
        return _Figure(value, interval, n, "", self.ratios(hits & among, among))

    def overlap(self, true: Bools, pred: Bools, reason: str) -> _Figure:
        """F1, which is 2 j / (1 + j) for the share j of true positives among true or called."""
        figure = self.share(pred & true, pred | true, reason)
        if math.isnan(figure.value):
            return figure
        assert figure.left_out is not None
        low, high, method, _ = figure.interval
        low, high, value = (2 * j / (1 + j) for j in (low, high, figure.value))
        without = 2 * figure.left_out / (1 + figure.left_out)
        return _Figure(value, Interval(low, high, method), figure.n, "", without)

    def ranking(self, true: Bools, score: Floats, reason: str) -> dict[str, _Figure]:
        """AUROC and average precision."""
        names = ("auroc", "average_precision")
        if true.all() or not true.any():
            return {name: _Figure.undefined(reason, self.n) for name in names}
        ranking = _Ranking.of(true, score)
        values = [float(value[0]) for value in ranking.both(np.ones((1, self.n)))]
        without = np.empty((2, len(self.left_out)))
        for rows, weights in intervals.sample_weights(self.left_out, self.clusters):
            without[:, rows] = ranking.both(weights)
        sizes = [self.clusters.totals(side) for side in (true, ~true)]
        n_patients = min(int((size > 0).sum()) for size in sizes)
        found = [
            intervals.logit_t(value, row, n_patients=n_patients)
            for value, row in zip(values, without, strict=True)
        ]
        positives, negatives = (intervals.kish(size) for size in sizes)
        if values[0] == 1:
            found = [
                intervals.perfect_auroc(positives, negatives),
                intervals.perfect_average_precision(positives, negatives, float(true.mean())),
            ]
        elif values[0] == 0:
            found[0] = intervals.perfect_auroc(positives, negatives).mirrored(1.0)
        return {
            name: _Figure(value, interval, self.n, "", row)
            for name, value, interval, row in zip(names, values, found, without, strict=True)
        }

    def loss(self, losses: Floats, *, most: float) -> _Figure:
        """Mean of a loss in [0, most]."""
        if not self.n:
            return _Figure.undefined("there are no images", 0)
        interval = intervals.mean_loss(losses, self.clusters, self.counts, most=most)
        return _Figure(float(losses.mean()), interval, self.n)

    def calibration(self, hit: Floats, stated: Floats) -> _Figure:
        """Expected calibration error."""
        if not self.n:
            return _Figure.undefined("there are no images", 0)
        index, n_bins = _equal_bins(stated, None)
        gaps = (hit - stated)[:, None] * (index[:, None] == np.arange(n_bins))
        totals = self.clusters.totals(gaps)
        sizes = self.clusters.totals(np.ones(self.n))
        drawn = (self.counts @ totals) / (self.counts @ sizes)[:, None]
        signed = totals.sum(axis=0) / self.n
        value = float(np.abs(signed).sum())
        if value == 0:
            return _Figure(value, intervals.never_seen(self.independent), self.n)
        interval = intervals.calibration_gap(signed, drawn, n_patients=self.clusters.n)
        return _Figure(value, interval, self.n)

    def ratios(self, above: NDArray[Any], below: NDArray[Any]) -> Floats:
        """Ratio of two sums without each patient in turn, NaN where nothing is below."""
        sums = self.left_out @ self.clusters.totals(np.stack([above, below], axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sums[:, 0] / sums[:, 1])

    def mean(self, figures: list[_Figure]) -> _Figure:
        """Mean of figures; undefined when one of them is."""
        if not figures:
            return _Figure.undefined("there are no images", 0)
        lost = next((figure for figure in figures if math.isnan(figure.value)), None)
        if lost is not None:
            return _Figure.undefined(lost.reason, self.n)
        values = np.array([figure.value for figure in figures])
        rows = [figure.left_out for figure in figures if figure.left_out is not None]
        interval = intervals.mean_of(
            values, [figure.interval for figure in figures], np.stack(rows, axis=1)
        )
        return _Figure(float(values.mean()), interval, self.n)


_ONE_VS_REST = ("auroc", "average_precision", "sensitivity", "specificity", "precision", "f1")


def _check_positive(n_classes: int, positive: int | None, threshold: float | None) -> None:
    """Two classes need a positive one and a threshold, more classes neither."""
    if n_classes == 2 and (positive not in (0, 1) or threshold is None):
        raise SettingError(
            f"Two classes need a positive one (0 or 1) and a threshold; got positive={positive} "
            f"and threshold={threshold}."
        )
    if n_classes != 2 and (positive is not None or threshold is not None):
        raise SettingError(
            f"{n_classes} classes have no positive one and no threshold; got positive={positive} "
            f"and threshold={threshold}: pass None for both."
        )


def _decide(probs: Floats, positive: int | None, threshold: float | None) -> Ints:
    """Return the class that is called."""
    if positive is None or threshold is None:
        return np.argmax(probs, axis=1) if len(probs) else np.zeros(0, dtype=np.intp)
    return np.where(probs[:, positive] >= threshold, positive, 1 - positive).astype(np.intp)


def _brier_losses(true: Ints, probs: Floats) -> Floats:
    """Squared distance (n_samples,) of each row of probabilities from the truth."""
    truth = true[:, None] == np.arange(probs.shape[1])
    return np.asarray(((probs - truth) ** 2).sum(axis=1))


def _stated(y_true: ArrayLike, probs: ArrayLike) -> tuple[Floats, Floats]:
    """Return what was right (0 or 1) and the probability stated for it, both (n_samples,)."""
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim != 2:
        y, score, _ = _checked(y_true, array, None)
        return y.astype(np.float64), score
    true = _classes("y_true", y_true, array.shape[1])
    _same_length(true, array, "probs", "row")
    _no_nan(array, "probs")
    called = _decide(array, None, None)
    return (called == true).astype(np.float64), array.max(axis=1, initial=0.0)


def _equal_bins(stated: Floats, n_bins: int | None) -> tuple[Ints, int]:
    """Put samples into bins of equal size: the bin of each, and the number of bins that are used.

    Equal probabilities share the bin of the first of them, whatever the order of the samples.
    """
    n = len(stated)
    wanted = min(MAX_BINS, max(1, n // MIN_PER_BIN)) if n_bins is None else n_bins
    first = np.searchsorted(np.sort(stated), stated, side="left")
    used, index = np.unique(first * wanted // max(n, 1), return_inverse=True)
    return index.astype(np.intp), len(used)


def _band(
    y: Ints,
    score: Floats,
    grid: Floats,
    heights: Callable[[Floats, Floats], Floats],
    clusters: Clusters,
    n_resamples: int,
    seed: int,
) -> Band:
    """Curve of the data, with percentiles of resamples and Wilson's bounds at heights of 0 and 1.

    At a height of exactly 0 or 1 resamples often agree with each other: there the number of
    patients bounds what was never seen.
    """
    missing = _one_sided(y, np.ones(len(y)))
    if missing:
        raise DataError(f"A curve needs positives and negatives: {missing}.")
    ranking = _Ranking.of(y, score)
    tp, fp = ranking.counts(np.ones((1, len(y))))
    value = heights(tp[0], fp[0])
    drawn = []
    counts = intervals.draw_patients(clusters.n, n_resamples, seed)
    for _, weights in intervals.sample_weights(counts, clusters):
        tp, fp = ranking.counts(weights)
        both = (tp[:, -1] > 0) & (fp[:, -1] > 0)
        drawn += [heights(t, f) for t, f in zip(tp[both], fp[both], strict=True)]
    low, high = np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    sides = [int((clusters.totals(y == k) > 0).sum()) for k in (0, 1)]
    if min(sides) >= intervals.MIN_PATIENTS:
        tail = (1 - intervals.LEVEL) / 2
        low, high = np.quantile(np.stack(drawn), [tail, 1 - tail], axis=0)
        floor, ceiling = intervals.extreme_shares(intervals.kish(clusters.totals(y)))
        low = np.where(value == 1, np.minimum(low, floor), low)
        high = np.where(value == 0, np.maximum(high, ceiling), high)
    return Band(grid, value, np.minimum(low, value), np.maximum(high, value))


def _checked(
    y_true: ArrayLike, y_score: ArrayLike, weights: ArrayLike | None
) -> tuple[Ints, Floats, Floats]:
    """Labels 0 and 1, scores and weights of one length, none of them NaN."""
    y = _classes("y_true", y_true, 2)
    score = np.asarray(y_score, dtype=np.float64)
    _same_length(y, score, "y_score", "score")
    _no_nan(score, "y_score")
    return y, score, _weights(weights, len(y))


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


def _one_sided(y: Ints, weight: Floats) -> str:
    """Say which class is missing, '' when none is."""
    n = len(y)
    if not weight @ (y == 1):
        return f"no positive among the {n} samples"
    return "" if weight @ (y == 0) else f"no negative among the {n} samples"


def _ratio(above: float, below: float, figure: str, reason: str) -> float:
    return _defined(above / below if below > 0 else math.nan, figure, reason)


def _defined(value: float, figure: str, reason: str) -> float:
    """Return the value, with a warning when it is NaN."""
    if math.isnan(value):
        warnings.warn(f"The {figure} is undefined: {reason}.", UndefinedFigureWarning, stacklevel=3)
    return value
