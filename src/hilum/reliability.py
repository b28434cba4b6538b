"""Stated probabilities against what came true: bins, the parts of the Brier score, recalibration.

Two classes: the probability of the positive class against its truth. More: what is said of each
figure. docs/statistics.md gives definitions, sources and the coverage of the intervals.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hilum import intervals
from hilum.intervals import Estimate, Interval
from hilum.metrics import MIN_PER_BIN, equal_bins
from hilum.resampling import Bools, Clusters, Floats, Ints, Weightings

# Probabilities of exactly 0 and 1 have no logit; nearer to these than this, one tells the order of
# images and little more.
CLIP = 1e-7

_MAX_STEPS = 100


class Recalibration(NamedTuple):
    """What would make stated probabilities true: two fits of one logistic model.

    Attributes
    ----------
    slope : Estimate
        b of logit(P) = a + b · logit(stated): 1 is right, below 1 is overconfident.
    intercept : Estimate
        a of logit(P) = a + logit(stated), slope fixed at 1: 0 is right, below 0 states too much
        on the whole (calibration in the large).
    """

    slope: Estimate
    intercept: Estimate


def recalibrate(hit: Floats, stated: Floats, clusters: Clusters) -> Recalibration:
    """Fit calibration slope and intercept, with errors from leaving out each patient.

    Parameters
    ----------
    hit : float array of shape (n_samples,)
        1 where what was stated came true, 0 elsewhere.
    stated : float array of shape (n_samples,)
        Probability in [0, 1].
    clusters : Clusters

    References
    ----------
    Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine, 2019.
    Standard errors: Bell & McCaffrey, Bias reduction in standard errors for linear regression with
    multi-stage samples, Survey Methodology, 2002 (the jackknife, here in one step).
    """
    n = len(hit)
    reason = _one_sided(hit)
    if reason:
        return Recalibration(Estimate.undefined(reason, n), Estimate.undefined(reason, n))
    clipped = np.clip(stated, CLIP, 1 - CLIP)
    x = np.log(clipped) - np.log1p(-clipped)
    sides = (hit > 0, hit == 0)
    n_patients = min(int((clusters.totals(side) > 0).sum()) for side in sides)
    reason = _no_slope(hit > 0, x)
    slope = (
        Estimate.undefined(reason, n)
        if reason
        else _fitted(np.stack([np.ones(n), x], axis=1), np.zeros(n), hit, clusters, n_patients)
    )
    return Recalibration(slope, _fitted(np.ones((n, 1)), x, hit, clusters, n_patients))


def _one_sided(hit: Floats) -> str:
    """Say why nothing can be fitted, '' when something can."""
    if not len(hit):
        return "there are no images"
    if hit.min() == hit.max():
        return "all that was stated came true" if hit[0] else "nothing that was stated came true"
    return ""


def _no_slope(hit: Bools, x: Floats) -> str:
    """Say why no finite slope fits, '' when one does."""
    if x.max() - x.min() < 1e-9:
        return "all stated probabilities are alike"
    if x[hit].min() >= x[~hit].max() or x[hit].max() <= x[~hit].min():
        return "the probabilities rank without a mistake, and no finite slope fits"
    return ""


def _fitted(
    design: Floats, offset: Floats, hit: Floats, clusters: Clusters, n_patients: int
) -> Estimate:
    """Fit a logistic model and give its last coefficient, with a cluster-robust interval."""
    n, width = design.shape
    beta = _maximise(design, offset, hit)
    probs = _expit(design @ beta + offset)
    squares = (design[:, :, None] * design[:, None, :]) * (probs * (1 - probs))[:, None, None]
    scores = clusters.totals(design * (hit - probs)[:, None])  # (n_clusters, width)
    without = squares.sum(axis=0) - clusters.totals(squares)  # (n_clusters, width, width)
    value = float(beta[-1])
    if n_patients < intervals.MIN_PATIENTS:
        reason = f"fewer than {intervals.MIN_PATIENTS} patients have, or have not, what was stated"
        return Estimate(value, Interval.missing(reason), n)
    if (np.linalg.det(without) <= 1e-12 * np.linalg.det(squares.sum(axis=0))).any():
        reason = "one patient alone decides it"
        return Estimate(value, Interval.missing(reason), n)
    moved = np.linalg.solve(without, scores[:, :, None])[:, width - 1, 0]
    n_clusters = clusters.n
    spread = (n_clusters - 1) / n_clusters * float(((moved - moved.mean()) ** 2).sum())
    half = intervals.quantile_of(moved, n_patients) * math.sqrt(spread)
    return Estimate(
        value, Interval(value - half, value + half, "one-step jackknife over patients"), n
    )


def _maximise(design: Floats, offset: Floats, hit: Floats) -> Floats:
    """Maximise the likelihood by Newton's method with halved steps; a maximum must exist."""
    beta = np.zeros(design.shape[1])
    best = _log_likelihood(design @ beta + offset, hit)
    for _ in range(_MAX_STEPS):
        probs = _expit(design @ beta + offset)
        gradient = design.T @ (hit - probs)
        hessian = design.T @ (design * (probs * (1 - probs))[:, None])
        # A touch of the gradient's own direction where all probabilities are 0 or 1.
        hessian[np.diag_indices_from(hessian)] += 1e-9
        step = np.linalg.solve(hessian, gradient)
        while (now := _log_likelihood(design @ (beta + step) + offset, hit)) < best - 1e-12:
            step = step / 2
        beta, gained, best = beta + step, now - best, now
        if np.abs(step).max() < 1e-9 or gained < 1e-13 * max(1.0, abs(best)):
            break
    return beta


def _log_likelihood(eta: Floats, hit: Floats) -> float:
    return float((hit * eta - np.logaddexp(0, eta)).sum())


def _expit(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


class Parts(NamedTuple):
    """Parts of a Brier score: about reliability - resolution + uncertainty.

    Attributes
    ----------
    reliability : Estimate
        Mean squared distance of stated probability and observed share, over bins; 0 is best.
    resolution : Estimate
        Mean squared distance of the bins' shares from the overall share; more is better.
    uncertainty : Estimate
        Brier score of stating the overall share of each image; says nothing of the model.
    """

    reliability: Estimate
    resolution: Estimate
    uncertainty: Estimate


def decompose(
    truth: Floats, stated: Floats, clusters: Clusters, counts: Weightings, left_out: Weightings
) -> Parts:
    """Take a Brier score apart, in the bins of the calibration error (Murphy 1973).

    With several columns the parts are sums over them, as Brier's own score is.

    Parameters
    ----------
    truth, stated : float arrays of shape (n_samples, n_columns)
    clusters : Clusters
    counts, left_out : Weightings
        Resamples of patients, and patients left out in turn.
    """
    n = len(truth)
    if not n:
        return Parts(*(Estimate.undefined("there are no images", 0) for _ in range(3)))
    gaps, drawn_gaps = [], []
    too_few = n < 2 * MIN_PER_BIN  # all lie in one bin
    resolution, without = 0.0, np.zeros(len(left_out))
    for k in range(truth.shape[1]):
        index, n_bins = equal_bins(stated[:, k], None)
        totals = _bin_totals(truth[:, k], stated[:, k], index, n_bins, clusters)
        gaps.append(_gaps(totals.sum(axis=0)[None]))
        drawn_gaps.append(_gaps(counts @ totals))
        resolution += float(_resolution(totals.sum(axis=0)[None])[0])
        without += _resolution(left_out @ totals)
    effects = np.concatenate(gaps, axis=1)[0]
    of_gaps = intervals.size_of_effects(
        effects, np.concatenate(drawn_gaps, axis=1), _sum_of_squares, n_patients=clusters.n
    )
    sides = np.stack([clusters.totals(truth), clusters.totals(1 - truth)])  # (2, n_clusters, n)
    sizes = (sides > 0).sum(axis=1)[:, truth.any(axis=0)]  # a class that is absent says nothing
    n_patients = int(sizes.min()) if sizes.size else 0
    return Parts(
        Estimate(float((effects**2).sum()), of_gaps, n),
        Estimate.undefined(f"fewer than {2 * MIN_PER_BIN} images cannot be parted into bins", n)
        if too_few
        else Estimate(
            resolution, intervals.unbiased_t(resolution, without, n_patients=n_patients), n
        ),
        _uncertainty(truth, clusters, left_out),
    )


def _sum_of_squares(parts: Floats) -> Floats:
    return np.asarray((parts**2).sum(axis=1))


def _bin_totals(
    truth: Floats, stated: Floats, index: Ints, n_bins: int, clusters: Clusters
) -> Floats:
    """Images, hits and stated probabilities of each patient in each bin: (n_clusters, 3·n_bins)."""
    place = clusters.index * n_bins + index
    parts = [
        np.bincount(place, weights=values, minlength=clusters.n * n_bins).reshape(-1, n_bins)
        for values in (np.ones(len(truth)), truth, stated)
    ]
    return np.concatenate(parts, axis=1)


def _gaps(totals: Floats) -> Floats:
    """Gap of each bin, by the root of its share of images: squares add up to the reliability."""
    n, hits, stated = np.split(totals, 3, axis=1)
    scale = np.sqrt(n * n.sum(axis=1, keepdims=True))
    return np.asarray(np.divide(hits - stated, scale, out=np.zeros_like(n), where=n > 0))


def _resolution(totals: Floats) -> Floats:
    """Resolution (n_rows,) in these bins; NaN where nobody is left."""
    n, hits, _ = np.split(totals, 3, axis=1)
    everyone = n.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = hits.sum(axis=1, keepdims=True) / everyone
        squares = np.divide((hits - n * share) ** 2, n, out=np.zeros_like(n), where=n > 0)
        return np.asarray((squares / everyone).sum(axis=1))


def _uncertainty(truth: Floats, clusters: Clusters, left_out: Weightings) -> Estimate:
    """Sum of s (1 - s) over the columns' shares s."""
    shares = truth.mean(axis=0)
    among = np.ones(len(truth), dtype=bool)
    sums = left_out @ clusters.totals(np.column_stack([truth, np.ones(len(truth))]))
    with np.errstate(divide="ignore", invalid="ignore"):
        without = sums[:, :-1] / sums[:, -1:]
    values = shares * (1 - shares)
    parts = [
        _of_share(float(s), intervals.share(truth[:, k] > 0, clusters, among))
        for k, s in enumerate(shares)
    ]
    if len(parts) == 1:
        return Estimate(float(values[0]), parts[0], len(truth))
    mean = intervals.mean_of(values, parts, without * (1 - without))
    n_parts = len(parts)
    scaled = mean._replace(ci_low=n_parts * mean.ci_low, ci_high=n_parts * mean.ci_high)
    return Estimate(float(values.sum()), scaled, len(truth))


def _of_share(share: float, interval: Interval) -> Interval:
    """Turn the interval of a share s into that of s (1 - s), greatest at one half."""
    low, high, method, _ = interval
    ends = [low * (1 - low), high * (1 - high)]
    top = 0.25 if low <= 0.5 <= high else max(ends)
    value = share * (1 - share)
    return Interval(min(*ends, value), max(top, value), method)


def as_json(parts: Parts) -> dict[str, Any]:
    """Give the parts as metrics.json holds them."""
    return {name: part.as_json() for name, part in parts._asdict().items()}
