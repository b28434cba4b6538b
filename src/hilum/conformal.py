"""Prediction sets by split conformal prediction: all classes that an image may well be of, with a
coverage that holds for new patients of the same population.

A class is in the set when its probability is at least that class's threshold ('LAC', least
ambiguous set-valued classifiers, class-conditional): with two classes these sets are the same
whatever rising calibrator came before, so the images that fitted it may set the thresholds too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum import intervals, resampling
from hilum.calibration import LOGIT_ROUNDING, ROUNDING, log_odds, sigmoid
from hilum.errors import DataError, SettingError
from hilum.intervals import Estimate, Interval
from hilum.resampling import Clusters

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

N_RESAMPLES = 1000


def patient_quantile(scores: ArrayLike, groups: ArrayLike, share: float) -> float:
    """Find the score that an image of a new patient stays at or below with the given probability.

    Parameters
    ----------
    scores : float array of shape (n_samples,)
    groups : array of shape (n_samples,)
        Patient of each sample.
    share : float in (0, 1)

    Returns
    -------
    float
        Infinite where there are fewer than `fewest_patients`.

    Raises
    ------
    DataError
        If the lengths differ or a score is NaN.
    SettingError
        If `share` is not inside (0, 1).

    Notes
    -----
    Images of one patient are not exchangeable with those of another, whole patients are. So each of
    the K patients weighs 1 / (K + 1), spread evenly over that patient's images, and the new patient
    weighs as much at infinity. The probability is that of a random image of a random patient. With
    one image each this is the usual quantile of split conformal prediction.

    References
    ----------
    Lee, Barber & Willett, Distribution-free inference with hierarchical data, 2023.
    """
    if not 0 < share < 1:
        raise SettingError(f"A share lies between 0 and 1; got {share}.")
    array = np.asarray(scores, dtype=np.float64)
    clusters = Clusters.of(groups, len(array))
    if np.isnan(array).any():
        raise DataError(f"scores is NaN at position {np.flatnonzero(np.isnan(array))[0]}.")
    sizes = clusters.totals(np.ones(len(array)))
    weights = 1 / (sizes[clusters.index] * (clusters.n + 1))
    order = np.argsort(array, kind="stable")
    reached = np.cumsum(weights[order]) >= share - 1e-9
    return float(array[order][int(np.argmax(reached))]) if reached.any() else math.inf


def fewest_patients(share: float) -> int:
    """Return the number of patients below which `patient_quantile` is infinite."""
    return math.ceil(share / (1 - share) - 1e-9)


def least_coverage(n_patients: int, coverage: float) -> float:
    """Find what thresholds set on so many patients of a class cover in 97.5 % of studies, at least.

    Thresholds cover what was wanted on average over the studies that set them; those of one study
    cover more or less. With one image a patient that is a Beta distribution; patients with several
    images tell more, so that the true bound lies higher.

    Returns
    -------
    float
        1 with fewer than `fewest_patients`, where the class belongs to every set.

    References
    ----------
    Vovk, Conditional validity of inductive conformal predictors, 2012.
    """
    from scipy.special import betaincinv

    if n_patients < fewest_patients(coverage):
        return 1.0
    rank = math.ceil(coverage * (n_patients + 1) - 1e-9)
    return float(betaincinv(rank, n_patients + 1 - rank, 0.025))


def set_thresholds(
    y_true: ArrayLike, probs: ArrayLike, groups: ArrayLike, coverage: float
) -> tuple[float, ...]:
    """Find the least probability of each class with which it belongs to a prediction set.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    probs : float array of shape (n_samples, n_classes)
    groups : array of shape (n_samples,)
        Patient of each sample.
    coverage : float in (0, 1)
        How often, at least, the set of a new patient's image holds its class, whichever it is.

    Returns
    -------
    tuple of float
        0 for a class with too few patients: it belongs to every set.
    """
    y, array = np.asarray(y_true), np.asarray(probs, dtype=np.float64)
    names = np.asarray(groups, dtype=object)
    if not len(y) == len(array) == len(names):
        raise DataError(
            f"y_true has {len(y)} samples, probs {len(array)} and groups {len(names)}: give one of "
            "each for every sample."
        )
    found = []
    for k in range(array.shape[1]):
        mine = y == k
        missed = patient_quantile(-array[mine, k], names[mine], coverage)
        found.append(0.0 if math.isinf(missed) else _a_hair_below(-missed))
    return tuple(found)


def _a_hair_below(p: float) -> float:
    """Leave room for rounding: another device may compute the very probability a hair smaller."""
    return max(p - ROUNDING, float(sigmoid(log_odds(p) - LOGIT_ROUNDING)))


def prediction_sets(probs: ArrayLike, thresholds: Sequence[float]) -> Bools:
    """Tell which classes belong to the set of each image, (n_samples, n_classes)."""
    return np.asarray(probs, dtype=np.float64) >= np.asarray(thresholds)


def describe_sets(
    y_true: ArrayLike,
    sets: ArrayLike,
    groups: ArrayLike,
    *,
    class_names: Sequence[str],
    coverage: float,
) -> dict[str, Any]:
    """Give the coverage and sizes of prediction sets, ready for metrics.json.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
    sets : bool array of shape (n_samples, n_classes)
    groups : array of shape (n_samples,)
    class_names : sequence of str
    coverage : float
        What was wanted.

    Returns
    -------
    dict
        'coverage_wanted', 'coverage', 'coverage_by_class', 'mean_set_size' and 'sets', the share of
        images by size of the set. Every image counts alike, so patients with many images count more
        than in what was promised.
    """
    y, held = np.asarray(y_true, dtype=np.intp), np.asarray(sets, dtype=bool)
    clusters = Clusters.of(groups, len(y))
    hits = held[np.arange(len(y)), y]
    sizes = held.sum(axis=1)
    everyone = np.ones(len(y), dtype=bool)
    return {
        "coverage_wanted": coverage,
        "coverage": share_figure(hits, everyone, clusters, "there are no images"),
        "coverage_by_class": {
            name: share_figure(hits, y == k, clusters, f"there is no image of {name}")
            for k, name in enumerate(class_names)
        },
        "mean_set_size": _mean_figure(sizes.astype(np.float64), clusters, len(class_names)),
        "sets": {
            str(size): share_figure(sizes == size, everyone, clusters, "there are no images")
            for size in range(len(class_names) + 1)
            if size < 2 or (sizes == size).any()
        },
    }


def share_figure(
    hits: ArrayLike, among: ArrayLike, clusters: Clusters, reason: str
) -> dict[str, Any]:
    """Give the share of hits among some images as metrics.json holds a figure.

    Parameters
    ----------
    reason : str
        Why there is none, where `among` holds no image.
    """
    hit, of = np.asarray(hits, dtype=bool), np.asarray(among, dtype=bool)
    n = int(of.sum())
    if not n:
        return Estimate.undefined(reason, 0).as_json()
    value = float((hit & of).sum() / n)
    return Estimate(value, intervals.share(hit, clusters, of), n).as_json()


def _mean_figure(values: Floats, clusters: Clusters, most: int) -> dict[str, Any]:
    if not len(values):
        return Estimate.undefined("there are no images", 0).as_json()
    if (values == values[0]).all():
        interval = Interval.missing("every set has the same size")
    else:
        counts = resampling.draw_patients(clusters.n, N_RESAMPLES, seed=0)
        interval = intervals.mean_loss(values, clusters, counts, most=float(most))
    return Estimate(float(values.mean()), interval, len(values)).as_json()
