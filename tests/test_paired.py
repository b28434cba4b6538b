"""Paired differences of quadratic kappa, and of AUROCs with images left out of a question."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hilum import paired
from hilum.metrics import quadratic_kappa
from hilum.paired import (
    N_FLIPS,
    Sides,
    compare_areas,
    compare_kappas,
    delong,
    mean_difference,
)
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


def test_no_image_to_compare_is_said() -> None:
    found = mean_difference([np.zeros(0)], [np.zeros(0)], [np.zeros(0, bool)], Clusters.of([], 0))
    assert found.estimate.reason == "there is no image of which the truth is known"


def test_patients_who_all_differ_alike_are_no_certainty() -> None:
    ones, n = np.ones(20), 20
    for a, b, value in ((ones, 0 * ones, 1.0), (0 * ones, ones, -1.0)):
        found = mean_difference([a], [b], [ones > 0], Clusters.of(None, n))
        low, high = found.estimate.interval.ci_low, found.estimate.interval.ci_high
        assert found.estimate.value == value
        # One patient that was not seen may differ the other way, by 2.
        assert high - low == pytest.approx(2 * (1 - 0.025 ** (1 / n)))
        assert value in (low, high)
        assert found.p is not None
        assert found.p < 0.01


def test_opposite_differences_of_two_classes_are_bounded_either_way() -> None:
    """One calls all images positive, the other none: each has a balanced accuracy of a half."""
    positive = np.arange(20) % 2 == 1
    a, b = positive.astype(float), (~positive).astype(float)
    sets = [positive, ~positive]
    found = [
        mean_difference([x * s for s in sets], [y * s for s in sets], sets, Clusters.of(None, 20))
        for x, y in ((a, b), (b, a))
    ]
    first, second = (each.estimate.interval for each in found)
    assert [each.estimate.value for each in found] == [0, 0]
    assert first.ci_low == pytest.approx(-first.ci_high) == pytest.approx(second.ci_low)


def test_unseen_differences_of_grades_may_be_larger_than_those_of_shares() -> None:
    """Errors of two raters in four grades may differ by three."""
    twos, everyone, clusters = np.full(20, 2.0), [np.ones(20, dtype=bool)], Clusters.of(None, 20)
    unseen = 1 - 0.025 ** (1 / 20)
    none = mean_difference([twos], [twos], everyone, clusters, most=3.0).estimate
    assert none.value == 0
    assert none.interval[:2] == pytest.approx((-3 * unseen, 3 * unseen))
    alike = mean_difference([twos], [0 * twos], everyone, clusters, most=3.0).estimate
    assert alike.value == 2
    # The share that was not seen may differ by 3, either way, where the others differ by 2.
    wanted = [(1 - unseen) * 2 + unseen * most for most in (-3, 3)]
    assert alike.interval[:2] == pytest.approx(wanted)


def test_exchanges_in_portions_are_those_of_one_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 37
    whole = np.random.default_rng(5).integers(0, 2, size=(N_FLIPS, n), dtype=np.int8)
    assert np.array_equal(np.concatenate(list(paired._flips(n, 5))), whole)
    true, a, b, groups = graded(60, 2)
    at_once = compare_kappas(true, a, b, Clusters.of(groups, len(true))).p
    monkeypatch.setattr(paired, "_FLIPS_AT_ONCE", 500)
    portions = list(paired._flips(n, 5))
    assert max(map(len, portions)) == 12
    assert np.array_equal(np.concatenate(portions), whole)
    assert compare_kappas(true, a, b, Clusters.of(groups, len(true))).p == at_once


def test_a_constant_score_against_a_perfect_one_is_no_equal_order() -> None:
    y = np.arange(20) % 2
    found = compare_areas(
        [Sides(y == 1, y == 0)], [(y.astype(float), np.zeros(20))], Clusters.of(None, 20)
    )
    assert found.estimate.value == 0.5
    assert "same order" not in found.estimate.reason


def test_no_label_to_compare_is_said() -> None:
    clusters = Clusters.of(None, 5)
    for found in (compare_areas([], [], clusters), mean_difference([], [], [], clusters)):
        assert np.isnan(found.estimate.value)
        assert found.p is None
