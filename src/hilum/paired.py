"""Differences of two figures of the same images, with interval and p-value, by patient.

docs/statistics.md gives the methods and how they were tested.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hilum import intervals, resampling
from hilum.intervals import Estimate, Interval
from hilum.metrics import kappa_of, kappa_parts
from hilum.ranking import placements
from hilum.resampling import Bools, Clusters, Floats, Ints

# Sign flips of patients for a p-value; with more patients than this on which two differ, Student's
# t serves as well.
N_FLIPS = 10_000
MAX_FLIPPED = 1000

# Patients that differ, up to which all ways of flipping are tried: at most 8,192.
ALL_FLIPS = 13

# Sign flips held at once: as float64 16 MB.
_FLIPS_AT_ONCE = 2_000_000

ONE_SIDED = "no image has the class, or all have it"


@dataclass(frozen=True)
class Difference:
    """A difference of two figures, and its p-value; None where there is none."""

    estimate: Estimate
    p: float | None

    @classmethod
    def undefined(cls, reason: str, n: int) -> Difference:
        return cls(Estimate.undefined(reason, n), None)


def delong(
    true: Ints, classes: Sequence[int], scores: Sequence[tuple[Floats, Floats]], clusters: Clusters
) -> Difference:
    """Compare the AUROCs of two scores of the same images, by patient.

    Parameters
    ----------
    true : int array of shape (n_samples,)
    classes : sequence of int
        Each against the others; several: means of their AUROCs are compared.
    scores : sequence of pairs of float arrays of shape (n_samples,)
        For each class the first and the second score.
    clusters : Clusters
    """
    return compare_areas([Sides(true == k, true != k) for k in classes], scores, clusters)


class Sides(NamedTuple):
    """Images with and without a class, both bool arrays of shape (n_samples,)."""

    positive: Bools
    negative: Bools


def compare_areas(
    questions: Sequence[Sides], scores: Sequence[tuple[Floats, Floats]], clusters: Clusters
) -> Difference:
    """Compare two AUROCs, or two means of AUROCs, of the same images, by patient.

    Parameters
    ----------
    questions : sequence of Sides
        What is told apart; images on neither side are left out of that question.
    scores : sequence of pairs of float arrays of shape (n_samples,)
        For each question the first and the second score.
    clusters : Clusters

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics, 1988; Obuchowski, Nonparametric analysis of
    clustered ROC curve data, Biometrics, 1997. With one image from each patient both are the same.
    """
    n = int(np.any([side for pair in questions for side in pair], axis=0).sum()) if questions else 0
    if not questions or not all(side.any() for pair in questions for side in pair):
        return Difference.undefined(ONE_SIDED, n)
    values = np.zeros(2)
    areas: list[float] = []
    moved = np.zeros(clusters.n)
    n_patients = clusters.n
    for sides, pair in zip(questions, scores, strict=True):
        inside = sides.positive | sides.negative
        for row, (score, sign) in enumerate(zip(pair, (1.0, -1.0), strict=True)):
            placed = np.zeros(len(score))
            placed[inside] = placements(sides.positive[inside], score[inside])
            area = float(placed[sides.positive].mean())
            values[row] += area / len(questions)
            areas.append(area)
            moved += sign * _moves(placed - area, sides, clusters) / len(questions)
        patients = [int((clusters.totals(part) > 0).sum()) for part in sides]
        n_patients = min(n_patients, *patients)
    value, error = float(values[0] - values[1]), math.sqrt(float(moved @ moved))
    if n_patients < intervals.MIN_PATIENTS:
        reason = (
            f"there are fewer than {intervals.MIN_PATIENTS} patients with the class, or without it"
        )
        return Difference(Estimate(value, Interval.missing(reason), n), None)
    if error < 1e-12 and all(area in (0.0, 1.0) for area in areas):
        # Nothing varies where each image is on its right side; each AUROC has its own bound.
        least = min(resampling.kish(clusters.totals(part)) for s in questions for part in s)
        unseen = 1 - intervals.perfect_auroc(least).ci_low
        return Difference(Estimate(value, _unseen_areas(value, unseen), n), None if value else 1.0)
    if error < 1e-12:
        why = "the two put the images in the same order"
        if value:
            why = "every patient differs alike, so nothing tells how sure the difference is"
        return Difference(Estimate(value, Interval.missing(why), n), None)
    half = intervals.quantile_t(n_patients) * error
    interval = Interval(value - half, value + half, "DeLong by patient (Obuchowski)")
    return Difference(Estimate(value, interval, n), _two_sided(value / error, n_patients))


def _unseen_areas(value: float, unseen: float) -> Interval:
    """Interval of a difference of AUROCs of 0 or 1, each of which may be `unseen` from there.

    Two that are alike move the difference either way; two that are opposite only towards 0.
    """
    far = math.sqrt(2) * unseen
    low = value - (unseen if abs(value) < 1e-12 else far if value > 0 else 0.0)
    high = value + (unseen if abs(value) < 1e-12 else far if value < 0 else 0.0)
    return Interval(max(-1.0, low), min(1.0, high), "bound for unseen mistakes")


def _moves(off: Floats, sides: Sides, clusters: Clusters) -> Floats:
    """How much each patient moves an AUROC (n_clusters,), from placements less their mean.

    Squares add up to Obuchowski's variance; each sum is scaled by its own number of patients.
    """
    moves = np.zeros((2, clusters.n))
    for row, part in enumerate(sides):
        n_patients = int((clusters.totals(part) > 0).sum())
        scale = math.sqrt(n_patients / max(1, n_patients - 1)) / part.sum()
        moves[row] = scale * clusters.totals(np.where(part, off, 0.0))
    return np.asarray(moves.sum(axis=0))


def compare_kappas(true: Ints, a: Ints, b: Ints, clusters: Clusters, seed: int = 0) -> Difference:
    """Compare the quadratic kappas of two raters of the same images, by patient.

    The interval is that of the difference's jackknife over patients; the p-value is how often the
    difference is as great when the two exchange their answers for patients at random.

    Parameters
    ----------
    true, a, b : int array of shape (n_samples,)
        Grades: the truth, and what each rater gave.
    clusters : Clusters
    """
    n = len(true)
    parts = [clusters.totals(kappa_parts(true, called)) for called in (a, b)]
    whole = [float(kappa_of(part.sum(axis=0))) for part in parts]
    if any(math.isnan(value) for value in whole):
        return Difference.undefined("all grades, true and given, are one and the same", n)
    value = whole[0] - whole[1]
    if clusters.n < intervals.MIN_PATIENTS:
        short = Interval.missing(f"there are fewer than {intervals.MIN_PATIENTS} patients")
        return Difference(Estimate(value, short, n), None)
    if not np.any(a != b):
        same = Interval.missing("the two give every image the same grade")
        return Difference(Estimate(value, same, n), 1.0)
    left_out = resampling.leave_out(clusters.n, seed)
    first, second = (kappa_of(left_out @ part) for part in parts)
    moved = first - second
    if not np.isfinite(moved).all():
        lost = Interval.missing("without one block of patients all grades are the same")
        return Difference(Estimate(value, lost, n), None)
    spread = moved - moved.mean()
    error = math.sqrt((len(moved) - 1) / len(moved) * float(spread @ spread))
    half = intervals.quantile_of(moved, clusters.n) * error
    interval = Interval(value - half, value + half, "jackknife of the difference over patients")
    return Difference(Estimate(value, interval, n), _exchanged(parts[0], parts[1], value, seed))


def _exchanged(a: Floats, b: Floats, value: float, seed: int) -> float:
    """P-value of a difference of kappas whose sums over patients are exchanged at random."""
    differ = np.flatnonzero((a != b).any(axis=1))
    moved = (b - a)[differ]
    change = np.concatenate([flips @ moved for flips in _flips(len(differ), seed)])
    drawn = kappa_of(a.sum(axis=0) + change) - kappa_of(b.sum(axis=0) - change)
    as_great = np.abs(drawn) >= abs(value) - 1e-12
    if len(differ) <= ALL_FLIPS:
        return float(as_great.mean())
    return (1 + int(as_great.sum())) / (1 + N_FLIPS)


def _flips(n_patients: int, seed: int) -> Iterator[Floats]:
    """Say for whom two raters exchange answers (n_rows, n_patients): 1 for these, 0 for the others.

    Of few patients in every way; of more N_FLIPS times at random, some at once, since all would
    take 8 GB for 100,000 patients. The numbers are those of one drawing: NumPy takes four of them
    from a word, and rows by fours leave none over.
    """
    if n_patients <= ALL_FLIPS:
        yield np.array(list(itertools.product((0.0, 1.0), repeat=n_patients)))
        return
    rng = np.random.default_rng(seed)
    step = 4 * max(1, _FLIPS_AT_ONCE // (4 * n_patients))
    for start in range(0, N_FLIPS, step):
        n_rows = min(step, N_FLIPS - start)
        yield rng.integers(0, 2, size=(n_rows, n_patients), dtype=np.int8).astype(np.float64)


def mean_difference(
    a: Sequence[Floats],
    b: Sequence[Floats],
    among: Sequence[Bools],
    clusters: Clusters,
    *,
    most: float = 1.0,
) -> Difference:
    """Compare means over images, or means of such means, of the same images, by patient.

    Parameters
    ----------
    a, b : sequences of float arrays of shape (n_samples,)
        Values of the first and the second in each set of images; 0 outside of it.
    among : sequence of bool arrays of shape (n_samples,)
        The sets.
    clusters : Clusters
    most : float
        By how much the two values of one image can differ.

    References
    ----------
    Obuchowski, On the comparison of correlated proportions for clustered data, Statistics in
    Medicine, 1998: for shares and one image from each patient McNemar's test. The p-value is by
    flipping the sign of patients' differences, which exchanges the two.
    """
    if not among:
        return Difference.undefined("no label is present in some images and absent in others", 0)
    sizes = [int(part.sum()) for part in among]
    if not all(sizes):
        return Difference.undefined("there is no image of which the truth is known", 0)
    parts = len(among)
    first, second = (
        sum(float(x.sum()) / m for x, m in zip(rows, sizes, strict=True)) / parts for rows in (a, b)
    )
    value, n = first - second, int(np.any(among, axis=0).sum())
    differences = np.zeros(clusters.n)
    spread = np.zeros(clusters.n)
    n_patients = clusters.n
    for x, y, part, m in zip(a, b, among, sizes, strict=True):
        per_patient = clusters.totals(x - y) / (m * parts)
        weight = clusters.totals(part) / (m * parts)
        differences += per_patient
        spread += per_patient - parts * float(per_patient.sum()) * weight
        n_patients = min(n_patients, int((weight > 0).sum()))
    if n_patients < intervals.MIN_PATIENTS:
        short = Interval.missing(f"there are fewer than {intervals.MIN_PATIENTS} patients")
        return Difference(Estimate(value, short, n), None)
    if not np.abs(differences).max() > 1e-15:
        least = min(resampling.kish(clusters.totals(part)) for part in among)
        unseen = intervals.never_seen(least, most).ci_high
        same = Interval(-unseen, unseen, "bound for unseen differences")
        return Difference(Estimate(value, same, n), 1.0)
    error = math.sqrt(n_patients / (n_patients - 1) * float(spread @ spread))
    if error < 1e-12:
        alike = _all_alike(a, b, among, clusters, most)
        return Difference(Estimate(value, alike, n), _flipped(differences, n_patients))
    half = intervals.quantile_of(spread, n_patients) * error
    interval = Interval(value - half, value + half, "differences of patients, Student's t")
    return Difference(Estimate(value, interval, n), _flipped(differences, n_patients))


def _all_alike(
    a: Sequence[Floats],
    b: Sequence[Floats],
    among: Sequence[Bools],
    clusters: Clusters,
    most: float,
) -> Interval:
    """Bound a mean of differences that are the same for every patient of each set.

    As many patients as stay unseen with a probability of 1 in 40 may differ by `most`, either way.
    """
    low = high = 0.0
    for x, y, part in zip(a, b, among, strict=True):
        mean = float((x - y)[part].mean())
        unseen = intervals.never_seen(resampling.kish(clusters.totals(part))).ci_high
        low += (mean - unseen * (most + mean)) / len(among)
        high += (mean + unseen * (most - mean)) / len(among)
    return Interval(low, high, "bound for unseen differences")


def _flipped(differences: Floats, n_patients: int, seed: int = 0) -> float:
    """P-value of patients' differences: how often flipped signs add up to as much."""
    moved = differences[np.abs(differences) > 1e-15]
    observed = abs(float(moved.sum()))
    if len(moved) > MAX_FLIPPED:
        return _two_sided(observed / math.sqrt(float(moved @ moved)), n_patients)
    if len(moved) <= ALL_FLIPS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(moved))))
        return float((np.abs(signs @ moved) >= observed - 1e-12).mean())
    rng = np.random.default_rng(seed)
    signs = 1.0 - 2.0 * rng.integers(0, 2, size=(N_FLIPS, len(moved)), dtype=np.int8)
    as_great = int((np.abs(signs @ moved) >= observed - 1e-12).sum())
    return (1 + as_great) / (1 + N_FLIPS)


def _two_sided(t: float, n_patients: int) -> float:
    """P-value of Student's t with `n_patients` - 1 degrees of freedom."""
    from scipy.special import stdtr

    return float(2 * stdtr(max(1, n_patients - 1), -abs(t)))
