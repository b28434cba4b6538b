"""What a classifier is worth in use: predictive values at a prevalence, and net benefit.

Sensitivity and specificity do not depend on how common a disease is; predictive values and net
benefit do. docs/statistics.md gives the formulas and what the user must know of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum import combining, intervals
from hilum.errors import SettingError
from hilum.intervals import Estimate, Interval
from hilum.resampling import Bools, Clusters, Floats

# From screening (1 in 1,000) to a ward where every second patient is ill.
PREVALENCES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)

# Risks at which one would act; the curve has a point at each.
THRESHOLDS = tuple(round(k / 100, 2) for k in range(1, 100))


def check_prevalences(prevalences: Sequence[float]) -> tuple[float, ...]:
    """Return the prevalences, each once, in order.

    Raises
    ------
    SettingError
        If one is not between 0 and 1.
    """
    for value in prevalences:
        if not 0 < value < 1:
            raise SettingError(
                f"--prevalence {value:g}: a prevalence lies between 0 and 1, both excluded. Give "
                "2 % as 0.02."
            )
    return tuple(sorted(set(prevalences)))


def predictive_values(
    sensitivity: Estimate, specificity: Estimate, prevalences: Sequence[float]
) -> list[dict[str, Any]]:
    """Positive and negative predictive value at each prevalence.

    Parameters
    ----------
    sensitivity, specificity : Estimate
        Of the same images.
    prevalences : sequence of float in (0, 1)

    Returns
    -------
    list of dict
        {'prevalence', 'ppv', 'npv'}; figures as metrics.json holds them.

    References
    ----------
    Mercaldo, Lau & Zhou, Confidence intervals for predictive values with an emphasis to
    case-control studies, Statistics in Medicine, 2007, for the likelihood ratio's part in them;
    Donner & Zou, Closed-form confidence intervals for functions of the normal mean and standard
    deviation, Statistical Methods in Medical Research, 2012, for the ratio's interval.
    """
    n = sensitivity.n + specificity.n
    lost = sensitivity.reason or specificity.reason
    if lost:
        unknown = Estimate.undefined(lost, n).as_json()
        return [{"prevalence": p, "ppv": unknown, "npv": unknown} for p in prevalences]
    assert sensitivity.left_out is not None
    assert specificity.left_out is not None
    together = float(
        intervals.correlation(
            np.stack([sensitivity.left_out, specificity.left_out], axis=1), unknown=0.0
        )[0, 1]
    )
    found, cleared = sensitivity.value, specificity.value
    hit, right = sensitivity.interval, specificity.interval
    positive = combining.ratio(found, hit, 1 - cleared, right.mirrored(1.0), -together)
    negative = combining.ratio(cleared, right, 1 - found, hit.mirrored(1.0), -together)
    return [
        {
            "prevalence": p,
            "ppv": _posterior(found, 1 - cleared, positive, p, n).as_json(),
            "npv": _posterior(cleared, 1 - found, negative, 1 - p, n).as_json(),
        }
        for p in prevalences
    ]


def _posterior(hits: float, misses: float, ratio: Interval, prior: float, n: int) -> Estimate:
    """Share of the rightly called among the called, from the likelihood ratio hits / misses."""
    if hits == misses == 0:
        return Estimate.undefined("no image is called so", n)
    value = prior * hits / (prior * hits + (1 - prior) * misses)
    bounds = [
        1.0 if math.isinf(r) else prior * r / (prior * r + 1 - prior)
        for r in (ratio.ci_low, ratio.ci_high)
    ]
    return Estimate(value, ratio._replace(ci_low=bounds[0], ci_high=bounds[1]), n)


def net_benefit(
    positive: Bools, probs: Floats, clusters: Clusters, prevalences: Sequence[float] = ()
) -> dict[str, Any]:
    """Decision curve: what acting on the model is worth, against acting on all or on none.

    Acting where the risk is at least t means that one true positive is worth (1 - t) / t false
    ones. Net benefit is the share of true positives less the share of false positives times
    t / (1 - t): true positives for each image, free of charge.

    Parameters
    ----------
    positive : bool array of shape (n_samples,)
    probs : float array of shape (n_samples,)
        Probability of the positive class.
    clusters : Clusters
    prevalences : sequence of float in (0, 1)
        Curves at these prevalences too, from sensitivity and specificity at each threshold.

    Returns
    -------
    dict
        'prevalence' (of these images), 'thresholds', and for 'model', 'all' and 'none' {'value',
        'ci_low', 'ci_high'}, lists in the order of the thresholds; 'at_prevalences' the same for
        each of `prevalences`. Or 'reason' and no curve.

    References
    ----------
    Vickers & Elkin, Decision curve analysis, Medical Decision Making, 2006.
    """
    n = len(positive)
    n_positive = int(positive.sum())
    if n_positive in (0, n):
        which = "positive" if not n_positive else "negative"
        return {"reason": f"there is no {which} image" if n else "there are no images"}
    everyone = np.ones(n, dtype=bool)
    ill, prevalence = intervals.share(positive, clusters, everyone), n_positive / n
    points = []
    for t in THRESHOLDS:
        called = probs >= t
        points.append((called & positive, called & ~positive))
    model = [
        _weighed(*_share(tp, everyone, clusters), *_share(fp, everyone, clusters),
                 t / (1 - t), _together(tp, fp, everyone, everyone, clusters))
        for t, (tp, fp) in zip(THRESHOLDS, points, strict=True)
    ]  # fmt: skip
    return {
        "prevalence": prevalence,
        "thresholds": list(THRESHOLDS),
        "model": _curve(model),
        "all": _curve([_of_all(prevalence, ill, t) for t in THRESHOLDS]),
        "none": _curve([(0.0, Interval(0.0, 0.0))] * len(THRESHOLDS)),
        "at_prevalences": [_elsewhere(positive, points, clusters, p) for p in prevalences],
        "method": combining.METHOD,
    }


def _elsewhere(
    positive: Bools, points: Sequence[tuple[Bools, Bools]], clusters: Clusters, prevalence: float
) -> dict[str, Any]:
    """Give the curves where the disease has another prevalence, which is taken for known."""
    known = Interval(prevalence, prevalence)
    model = []
    for t, (tp, fp) in zip(THRESHOLDS, points, strict=True):
        found, called = _share(tp, positive, clusters), _share(fp, ~positive, clusters)
        model.append(
            _weighed(
                *_times(*found, prevalence),
                *_times(*called, 1 - prevalence),
                t / (1 - t),
                _together(tp, fp, positive, ~positive, clusters),
            )
        )
    return {
        "prevalence": prevalence,
        "model": _curve(model),
        "all": _curve([_of_all(prevalence, known, t) for t in THRESHOLDS]),
        "none": _curve([(0.0, Interval(0.0, 0.0))] * len(THRESHOLDS)),
    }


def _share(hits: Bools, among: Bools, clusters: Clusters) -> tuple[float, Interval]:
    return float(hits.sum() / among.sum()), intervals.share(hits, clusters, among)


def _times(value: float, interval: Interval, factor: float) -> tuple[float, Interval]:
    low, high = interval[:2]
    return factor * value, interval._replace(ci_low=factor * low, ci_high=factor * high)


def _weighed(
    tp: float, of_tp: Interval, fp: float, of_fp: Interval, odds: float, together: float
) -> tuple[float, Interval]:
    """Net benefit tp - odds · fp with its interval."""
    cost, of_cost = _times(fp, of_fp, odds)
    return tp - cost, combining.difference(tp, of_tp, cost, of_cost, together)


def _together(a: Bools, b: Bools, among_a: Bools, among_b: Bools, clusters: Clusters) -> float:
    """Correlation of two shares by how patients' images go together, 0 where one is constant."""
    residuals = []
    for hits, among in ((a, among_a), (b, among_b)):
        values = np.where(among, hits - hits.sum() / among.sum(), 0.0)
        residuals.append(np.bincount(clusters.index, weights=values, minlength=clusters.n))
    size = math.sqrt(float((residuals[0] ** 2).sum() * (residuals[1] ** 2).sum()))
    return float(residuals[0] @ residuals[1]) / size if size > 0 else 0.0


def _of_all(prevalence: float, interval: Interval, t: float) -> tuple[float, Interval]:
    """Net benefit of acting on all: prevalence - (1 - prevalence) · t / (1 - t)."""
    odds = t / (1 - t)
    low, high = (p - (1 - p) * odds for p in interval[:2])
    return prevalence - (1 - prevalence) * odds, Interval(low, high)


def _curve(points: Sequence[tuple[float, Interval]]) -> dict[str, list[float]]:
    return {
        "value": [value for value, _ in points],
        "ci_low": [interval.ci_low for _, interval in points],
        "ci_high": [interval.ci_high for _, interval in points],
    }
