"""Confidence intervals for figures of clustered images: how far chance alone may carry a number.

Images of one patient resemble each other, so the patient is the unit of chance everywhere: patients
are resampled, and shares are judged by how they vary between patients. docs/statistics.md gives
the formulas, their sources and how often the intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hilum.resampling import Bools, Clusters, Floats, Weightings, kish

LEVEL = 0.95

# With fewer patients on one side Student's t gives intervals that say nothing, and more than 1 in
# 20 resamples would lack that side altogether.
MIN_PATIENTS = 3

# Observed effects are scaled up to this; greater ones are lost in rounding beside chance.
_MOST_SCALED = 2.0**20


class Interval(NamedTuple):
    """Bounds of a figure, both NaN where none can be given.

    Attributes
    ----------
    ci_low, ci_high : float
    method : str
        How the bounds were found, '' without bounds.
    reason : str
        Why there are none, '' with bounds.
    """

    ci_low: float
    ci_high: float
    method: str = ""
    reason: str = ""

    @classmethod
    def missing(cls, reason: str) -> Interval:
        return cls(math.nan, math.nan, "", reason)

    def mirrored(self, most: float) -> Interval:
        """Turn the bounds of a figure x into those of `most` - x."""
        return self._replace(ci_low=most - self.ci_high, ci_high=most - self.ci_low)


@dataclass(frozen=True)
class Estimate:
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
    def undefined(cls, reason: str, n: int) -> Estimate:
        return cls(math.nan, Interval.missing(reason), n, reason)

    def as_json(self) -> dict[str, Any]:
        """Give the figure as metrics.json holds it."""
        low, high, method, why = self.interval
        known, bounded = not math.isnan(self.value), not math.isnan(low)
        entry: dict[str, Any] = {
            "value": self.value if known else None,
            "ci_low": low if bounded else None,
            "ci_high": high if bounded else None,
            "n": self.n,
        }
        return entry | ({"method": method} if bounded else {"reason": self.reason or why})


def quantile_t(n_clusters: float) -> float:
    """Return the 97.5 % point of Student's t with `n_clusters` - 1 degrees of freedom."""
    # scipy.special costs 0.2 s, and who never asks for an interval should not pay it.
    from scipy.special import stdtrit

    return float(stdtrit(max(1.0, n_clusters - 1), (1 + LEVEL) / 2))


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share out of `n` (need not be whole)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At a share of 0 or 1 one bound is that very value, and rounding must not move it.
    return (
        0.0 if share == 0 else max(0.0, centre - half),
        1.0 if share == 1 else min(1.0, centre + half),
    )


def share(hits: ArrayLike, clusters: Clusters, among: Bools) -> Interval:
    """Interval of a share of images: Wilson's, with the number of images that patients leave.

    Parameters
    ----------
    hits : bool array of shape (n_samples,)
        Which images count.
    clusters : Clusters
    among : bool array of shape (n_samples,)
        Out of which images; at least one.
    """
    sizes = clusters.totals(among)
    found = clusters.totals(np.asarray(hits, dtype=bool) & among)
    present = sizes > 0
    sizes, found = sizes[present], found[present]
    n, n_clusters = float(sizes.sum()), len(sizes)
    value = float(found.sum() / n)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    if n_clusters < 2:
        low, high = wilson(value, 1.0, z)
        return Interval(
            min(low, value), max(high, value), "Wilson, one patient counted as one image"
        )
    # Without any failure (or success) nothing tells how alike a patient's images are: fully alike
    # is the cautious assumption, and the least that any number of images counts for.
    effective = least = kish(sizes)
    spread = n_clusters / (n_clusters - 1) * float(((found - value * sizes) ** 2).sum()) / n**2
    if 0 < value < 1:
        estimated = value * (1 - value) / spread if spread > 0 else n
        if n > n_clusters:
            # An estimated spread is uncertain itself: Student's t, as Korn and Graubard do.
            estimated = min(estimated, n) * (z / quantile_t(n_clusters)) ** 2
        effective = min(max(estimated, least), n)
    low, high = wilson(value, effective, z)
    method = "Wilson" if n == n_clusters else "Wilson with the effective number of images"
    return Interval(low, high, method)


def change_of_share(hits: ArrayLike, clusters: Clusters, one: Bools, other: Bools) -> float:
    """P-value of two sets of images having one share of hits, by patient.

    A score test: deviations from the share of both together, added up over each patient; Student's
    t with the smaller set's patients minus one. 1 where a set has fewer than two patients.

    Parameters
    ----------
    hits, one, other : bool arrays of shape (n_samples,)
    clusters : Clusters
    """
    from scipy.special import stdtr

    found = np.asarray(hits, dtype=np.float64)
    pooled = float(found[one | other].mean()) if (one | other).any() else 0.0
    change, variance, fewest = 0.0, 0.0, clusters.n
    for part, sign in ((one, 1.0), (other, -1.0)):
        n_patients = int((clusters.totals(part) > 0).sum())
        if n_patients < 2:
            return 1.0
        moved = clusters.totals(np.where(part, found - pooled, 0.0)) / part.sum()
        change += sign * float(moved.sum())
        variance += n_patients / (n_patients - 1) * float(moved @ moved)
        fewest = min(fewest, n_patients)
    if variance == 0:
        return 1.0
    return float(2 * stdtr(fewest - 1, -abs(change) / math.sqrt(variance)))


def logit_t(value: float, left_out: Floats, *, n_patients: int) -> Interval:
    """Interval of a figure in (0, 1) from its jackknife over patients, even on the logit scale.

    Parameters
    ----------
    value : float
        In (0, 1).
    left_out : float array of shape (n_blocks,)
        The figure without each patient (or block of patients) in turn.
    n_patients : int
        Patients that the spread rests on, the smaller side where there are two: Student's t has at
        most one degree of freedom less, and fewer where a few patients make most of the spread.

    References
    ----------
    Efron & Stein, The jackknife estimate of variance, Annals of Statistics, 1981. For the AUROC
    the error is close to that of Obuchowski, Nonparametric analysis of clustered ROC curve data,
    Biometrics, 1997.
    """
    if n_patients < MIN_PATIENTS:
        return Interval.missing(
            f"there are fewer than {MIN_PATIENTS} patients with the class, or without it"
        )
    n = len(left_out)
    if not np.isfinite(left_out).all():
        return Interval.missing("one block of patients holds all of one side")
    error = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    if error < 1e-12:
        return Interval.missing("no patient changes the figure: the probabilities are alike")
    centre = math.log(value / (1 - value))
    half = quantile_of(left_out, n_patients) * error / (value * (1 - value))
    return Interval(
        _expit(centre - half), _expit(centre + half), "jackknife over patients, logit scale"
    )


def fisher_t(value: float, left_out: Floats, *, n_patients: int) -> Interval:
    """Interval of a figure in (-1, 1) from its jackknife over patients, even on Fisher's scale.

    Parameters are those of `logit_t`, the figure's range apart.
    """
    if n_patients < MIN_PATIENTS:
        return Interval.missing(f"there are fewer than {MIN_PATIENTS} patients")
    if not np.isfinite(left_out).all():
        return Interval.missing("without one block of patients all grades are the same")
    n = len(left_out)
    error = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    if error < 1e-12:
        return Interval.missing("no patient changes the figure")
    if abs(value) >= 1:
        return Interval.missing("it lies at the end of its range")
    half = quantile_of(left_out, n_patients) * error / (1 - value**2)
    centre = math.atanh(value)
    return Interval(
        math.tanh(centre - half), math.tanh(centre + half), "jackknife over patients, Fisher's z"
    )


def quantile_of(moved: Floats, n_patients: int) -> float:
    """Return the 97.5 % point of Student's t for an error that patients make unequal parts of.

    Where a few patients make most of the spread, as the few mistakes of a nearly perfect classifier
    do, the spread is known no better than from so few: Satterthwaite's degrees of freedom, 2 · sum²
    / variance of the sum, for squares whose kurtosis is that observed.

    Parameters
    ----------
    moved : float array of shape (n_blocks,)
        The figure without each patient, or how much each moves it.
    n_patients : int
        As in `logit_t`; there are at most one fewer degrees of freedom.
    """
    squares = (moved - moved.mean()) ** 2
    total = float(squares.sum())
    varied = float((squares**2).sum()) - total**2 / len(squares)
    degrees = 2 * total**2 / varied if varied > 1e-12 * total**2 else math.inf
    return quantile_t(min(n_patients, degrees + 1))


def unbiased_t(value: float, left_out: Floats, *, n_patients: int) -> Interval:
    """Interval of a figure that chance makes greater: its jackknife, centred without the bias.

    Parameters
    ----------
    value : float
        At least 0; kept inside the interval, as what was seen.
    left_out : float array of shape (n_blocks,)
        The figure without each patient (or block of patients) in turn.
    n_patients : int
        As in `logit_t`.
    """
    if n_patients < MIN_PATIENTS or not np.isfinite(left_out).all():
        return Interval.missing(
            f"there are fewer than {MIN_PATIENTS} patients with the class, or without it"
        )
    n, mean = len(left_out), float(left_out.mean())
    error = math.sqrt((n - 1) / n * float(((left_out - mean) ** 2).sum()))
    centre, half = n * value - (n - 1) * mean, quantile_of(left_out, n_patients) * error
    if error < 1e-12:
        return Interval.missing("no patient changes the figure: the probabilities are alike")
    return Interval(
        max(0.0, min(value, centre - half)), max(value, centre + half), "jackknife, bias removed"
    )


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def mean_loss(losses: Floats, clusters: Clusters, counts: Weightings, *, most: float) -> Interval:
    """Interval of a mean loss: bootstrap-t over patients on the scale of square roots.

    Each resample is divided by a standard error of its own, which follows the skewness that a few
    bad mistakes bring.

    Parameters
    ----------
    losses : float array of shape (n_samples,)
        In [0, `most`].
    clusters : Clusters
    counts : Weightings of shape (n_resamples, n_clusters)
    most : float

    References
    ----------
    Efron & Tibshirani, An introduction to the bootstrap, 1993, chapter 12.
    """
    n = clusters.n
    sums, sizes = clusters.totals(losses), clusters.totals(np.ones(len(losses)))
    mean = float(losses.mean())
    if mean in (0.0, most):
        unseen = never_seen(kish(sizes), most)
        return unseen if mean == 0 else unseen.mirrored(most)
    if n < MIN_PATIENTS:
        return Interval.missing(f"there are fewer than {MIN_PATIENTS} patients")
    root, error = _roots(np.ones((1, n)), sums, sizes)
    if error[0] < 1e-12:
        return Interval.missing("every patient gives the same value: the probabilities are alike")
    roots, errors = _roots(counts, sums, sizes)
    varied = errors > 1e-12  # a resample of one patient only has no spread
    tail = (1 - LEVEL) / 2
    low_t, high_t = np.quantile((roots[varied] - root) / errors[varied], [tail, 1 - tail])
    low = max(0.0, float(root[0] - high_t * error[0])) ** 2
    high = float(root[0] - low_t * error[0]) ** 2
    # With few mistakes some resamples have hardly any spread, and their ratios no bound. No loss
    # varies more than one that is all or nothing, fully alike within patients: a share's interval.
    widest = wilson(mean / most, kish(sizes), quantile_t(n))
    low, high = max(low, most * widest[0]), min(high, most * widest[1])
    return Interval(low, high, "bootstrap-t, square root scale")


def _roots(counts: Weightings | Floats, sums: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Square root of the mean, and its standard error, in each resample."""
    n = counts.shape[1]
    columns = np.stack([sizes, sums, sums**2, sums * sizes, sizes**2], axis=1)
    total, drawn, drawn_squares, products, size_squares = (counts @ columns).T
    mean = drawn / total
    squares = drawn_squares - 2 * mean * products + mean**2 * size_squares
    error = np.sqrt(n / (n - 1) * np.maximum(squares, 0.0)) / total
    root = np.sqrt(mean)
    return root, np.divide(error, 2 * root, out=np.zeros_like(root), where=root > 0)


def mean_of(
    values: Floats, parts: Sequence[Interval], left_out: Floats, *, least: float = -1.0
) -> Interval:
    """Interval of the mean of figures that have intervals (method of variance estimates recovery).

    Parameters
    ----------
    values : float array of shape (n_figures,)
    parts : sequence of Interval
    left_out : float array of shape (n_blocks, n_figures)
        The figures without each patient in turn, for how they go together.
    least : float
        Least correlation to believe: that of few patients may lie far below 0 by chance, and the
        interval would be too narrow.

    References
    ----------
    Zou & Donner, Construction of confidence limits about effect measures, Statistics in Medicine,
    2008.
    """
    lost = next((part.reason for part in parts if math.isnan(part.ci_low)), None)
    if lost is not None:
        return Interval.missing(lost)
    together = np.maximum(correlation(left_out), least)
    below = values - np.array([part.ci_low for part in parts])
    above = np.array([part.ci_high for part in parts]) - values
    mean, n = float(values.mean()), len(values)
    low, high = (math.sqrt(max(0.0, float(d @ together @ d))) / n for d in (below, above))
    return Interval(mean - low, mean + high, "mean of intervals, correlation by jackknife")


def correlation(left_out: Floats, *, unknown: float = 1.0) -> Floats:
    """Correlation of columns; `unknown` where it is so: for a sum, 1 makes an interval wider."""
    rows = left_out[np.isfinite(left_out).all(axis=1)]
    n_columns = left_out.shape[1]
    if len(rows) < MIN_PATIENTS:
        together = np.full((n_columns, n_columns), unknown)
    else:
        spread = rows.std(axis=0)
        varies = spread > 1e-12
        scaled = np.where(varies, (rows - rows.mean(axis=0)) / np.where(varies, spread, 1.0), 0.0)
        together = scaled.T @ scaled / len(rows)
        together[~np.outer(varies, varies)] = unknown
    np.fill_diagonal(together, 1.0)
    return np.asarray(together)


def never_seen(n: float, most: float = 1.0) -> Interval:
    """Interval of a mean loss of 0 in `n` independent cases.

    The greatest loss may befall the share of cases that stays unseen with a probability of 1 in 40.
    """
    high = most * (1 - ((1 - LEVEL) / 2) ** (1 / n))
    return Interval(0.0, high, "bound for unseen mistakes")


def extreme_shares(n: float) -> tuple[float, float]:
    """Wilson's lower bound of a share of 1 and upper bound of a share of 0, in `n` cases."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    return wilson(1.0, n, z)[0], wilson(0.0, n, z)[1]


def perfect_auroc(n_pairs: float) -> Interval:
    """Interval of an AUROC of 1 (or, turned over, of 0), which no resample can change.

    Of independent cases n_pairs disjoint pairs can be formed, as many as there are cases on the
    smaller side, and an AUROC of A orders them all rightly with probability A^n_pairs: below the
    bound this is rarer than 1 in 40.
    """
    low = ((1 - LEVEL) / 2) ** (1 / n_pairs)
    return Interval(low, 1.0, "exact bound for pairs of patients")


def pairs_in_order(value: float, n_pairs: float) -> tuple[float, float]:
    """Bounds of an AUROC were it a share of that many independent pairs (Clopper and Pearson)."""
    # Imported here for the same reason as in `quantile_t`.
    from scipy.special import betaincinv

    outside, n_ordered = (1 - LEVEL) / 2, value * n_pairs
    low = betaincinv(n_ordered, n_pairs - n_ordered + 1, outside)
    high = betaincinv(n_ordered + 1, n_pairs - n_ordered, 1 - outside)
    return float(low), float(high)


def auroc(value: float, left_out: Floats, positives: Floats, negatives: Floats) -> Interval:
    """Interval of an AUROC from its jackknife, or for perfect pairs where nothing varies.

    Where no patient stands on both sides it is not wider than that of a share of the disjoint pairs
    that can be formed, of which an AUROC has at most the variance. Where one mistake makes all of
    the spread the jackknife alone, which knows the spread from one patient then, would reach below
    0.5 for an AUROC of .98.

    Parameters
    ----------
    value : float
    left_out : float array of shape (n_blocks,)
        As in `logit_t`.
    positives, negatives : float array of shape (n_clusters,)
        Images of each patient on either side, in the same order of patients.

    References
    ----------
    Birnbaum & Klose, Bounds for the variance of the Mann-Whitney statistic, Annals of Mathematical
    Statistics, 1957: at most A (1 - A) / min(m, n).
    """
    n_pairs = min(kish(positives), kish(negatives))
    if value in (0.0, 1.0):
        perfect = perfect_auroc(n_pairs)
        return perfect if value == 1 else perfect.mirrored(1.0)
    sides = [int((side > 0).sum()) for side in (positives, negatives)]
    found = logit_t(value, left_out, n_patients=min(sides))
    if ((positives > 0) & (negatives > 0)).any():
        return found  # the two sides are not independent, and the bound does not hold
    low, high = pairs_in_order(value, n_pairs)
    if math.isnan(found.ci_low) or (low <= found.ci_low and found.ci_high <= high):
        return found
    bounds = max(low, found.ci_low), min(high, found.ci_high)
    return Interval(*bounds, f"{found.method}, not wider than by pairs of patients")


def perfect_average_precision(n_positive: float, n_negative: float, prevalence: float) -> Interval:
    """Interval of an average precision of 1: the worst ranking that would seldom look perfect.

    A share q of the positives may lie below all others (there precision is the prevalence), and a
    share r of the negatives above the positives; q and r are the greatest shares that stay unseen
    among so many cases with a probability of 1 in 80 each.
    """
    q, r = (1 - ((1 - LEVEL) / 4) ** (1 / n) for n in (n_positive, n_negative))
    precision = prevalence / (prevalence + r * (1 - prevalence))
    return Interval((1 - q) * precision + q * prevalence, 1.0, "bound for unseen mistakes")


def perfect_kappa(grades: Floats, most: float, n: float) -> Interval:
    """Interval of a quadratic kappa of 1, which no resample can change.

    The share of cases that stays unseen with a probability of 1 in 40 may miss as far as it can.

    Parameters
    ----------
    grades : float array of shape (n_samples,)
        True grades, of two kinds at least.
    most : float
        The highest grade.
    n : float
        Independent cases.
    """
    unseen = never_seen(n).ci_high * float((np.maximum(grades, most - grades) ** 2).mean())
    low = max(-1.0, 1 - unseen / (2 * float(grades.var())))
    return Interval(low, 1.0, "bound for unseen mistakes")


def calibration_gap(gaps: Floats, drawn: Floats, *, n_patients: int) -> Interval:
    """Interval of an expected calibration error, whose plain estimate is too high by chance alone.

    Parameters
    ----------
    gaps : float array of shape (n_bins,)
        Observed minus predicted share of each bin, times the share of images in it.
    drawn : float array of shape (n_resamples, n_bins)
        The same in bootstrap resamples.
    n_patients : int
    """
    found = size_of_effects(
        gaps, drawn, lambda parts: np.abs(parts).sum(axis=1), n_patients=n_patients
    )
    return found._replace(ci_high=min(1.0, found.ci_high))


def size_of_effects(
    effects: Floats, drawn: Floats, size: Callable[[Floats], Floats], *, n_patients: int
) -> Interval:
    """Interval of a size that chance makes greater: a sum of absolute values or of squares.

    Chance makes every part miss by a little, and absolute values do not cancel. Both bounds allow
    for that: the observed effects are scaled until the same chance would make a size as great as
    the observed one in only 1 of 40 studies (lower bound; 0 where chance alone can do so), or one
    as small (upper bound, never below the observed size nor what chance alone exceeds in only 1 of
    40 studies: effects of that size may hide behind it).

    Parameters
    ----------
    effects : float array of shape (n_parts,)
    drawn : float array of shape (n_resamples, n_parts)
        The same in bootstrap resamples.
    size : callable
        Turns (n_rows, n_parts) into (n_rows,); grows with the effects.
    n_patients : int
    """
    if n_patients < MIN_PATIENTS:
        return Interval.missing(f"there are fewer than {MIN_PATIENTS} patients")
    observed = float(size(effects[None])[0])
    noise = (drawn - effects) * quantile_t(n_patients) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    tail = (1 - LEVEL) / 2

    def rarely_as_great(factor: float) -> bool:
        return bool((size(factor * effects + noise) >= observed).mean() < tail)

    def often_as_small(factor: float) -> bool:
        return bool((size(factor * effects + noise) <= observed).mean() >= tail)

    least = _last(rarely_as_great, 0.0, 1.0) if rarely_as_great(0.0) else 0.0
    most = 1.0
    if observed > 0 and often_as_small(1.0):
        while often_as_small(2 * most) and most < _MOST_SCALED:
            most *= 2
        most = _last(often_as_small, most, 2 * most)
    low, high = size(np.stack([least * effects, most * effects])).tolist()
    # Effects that happen to cancel chance look small: what chance alone can make is never excluded.
    hidden = float(np.quantile(size(noise), 1 - tail))
    return Interval(low, max(high, observed, hidden), "bootstrap, corrected for chance")


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Find where a condition that holds at `low` ceases to hold, by halving."""
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
