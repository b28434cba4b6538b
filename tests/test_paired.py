"""Paired differences of quadratic kappa, and of AUROCs with images left out of a question."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hilum.metrics import quadratic_kappa
from hilum.paired import Sides, compare_areas, compare_kappas, delong, mean_difference
from hilum.resampling import Clusters


def graded(n_patients: int, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 4, size=n_patients))
    true = rng.integers(0, 4, n_patients)[groups]
    a, b = (np.clip(true + rng.integers(-1, 2, len(true)), 0, 3) for _ in range(2))
    return true, a, b, groups


def test_difference_of_kappas_and_its_permutation() -> None:
    true, a, b, groups = graded(9, 0)
    found = compare_kappas(true, a, b, Clusters.of(groups, len(true)))
    difference = quadratic_kappa(true, a) - quadratic_kappa(true, b)
    assert found.estimate.value == pytest.approx(difference)
    assert found.estimate.interval.ci_low < difference < found.estimate.interval.ci_high
    as_great, ways = 0, 0
    for exchanged in itertools.product((False, True), repeat=9):
        swap = np.array(exchanged)[groups]
        one, other = np.where(swap, b, a), np.where(swap, a, b)
        drawn = quadratic_kappa(true, one) - quadratic_kappa(true, other)
        as_great += abs(drawn) >= abs(difference) - 1e-12
        ways += 1
    assert found.p == pytest.approx(as_great / ways)


def test_equal_raters_are_seldom_told_apart() -> None:
    p = [
        found.p
        for seed in range(100)
        for true, a, b, groups in [graded(30, seed)]
        for found in [compare_kappas(true, a, b, Clusters.of(groups, len(true)))]
    ]
    assert sum(value is not None and value < 0.05 for value in p) <= 11


def test_the_same_grades_have_no_difference() -> None:
    true, a, _, groups = graded(12, 1)
    found = compare_kappas(true, a, a, Clusters.of(groups, len(true)))
    assert (found.estimate.value, found.p) == (0.0, 1.0)
    assert found.estimate.interval.reason == "the two give every image the same grade"


def test_images_on_neither_side_are_left_out() -> None:
    rng = np.random.default_rng(0)
    y, a, b = rng.integers(0, 2, 60), rng.random(60), rng.random(60)
    known = rng.random(60) < 0.7
    whole = compare_areas(
        [Sides((y == 1) & known, (y == 0) & known)], [(a, b)], Clusters.of(None, 60)
    )
    part = delong(y[known], [1], [(a[known], b[known])], Clusters.of(None, int(known.sum())))
    assert whole.estimate.value == pytest.approx(part.estimate.value)
    assert whole.p == pytest.approx(part.p)


def test_no_label_to_compare_is_said() -> None:
    clusters = Clusters.of(None, 5)
    for found in (compare_areas([], [], clusters), mean_difference([], [], [], clusters)):
        assert np.isnan(found.estimate.value)
        assert found.p is None
