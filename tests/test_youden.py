"""Youden's index by hand, and its rule where normal distributions fit and where not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from hilum.calibration import sigmoid
from hilum.operating_points import choose_operating_point
from hilum.youden import Sides, thresholds_between
from studies import bells


def test_index_and_error_as_counted_by_hand() -> None:
    # At .25 two of three positives are found, and one of two negatives is a false alarm.
    sides = Sides.of(np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.1, 0.5, 0.3, 0.2]))
    thresholds = np.array([0.05, 0.25, 0.95])
    assert sides.youden(thresholds) == pytest.approx([0, 2 / 3 - 1 / 2, 0])
    variance = (2 / 3) * (1 / 3) / 3 + (1 / 2) * (1 / 2) / 2
    assert sides.error(thresholds) == pytest.approx([0, math.sqrt(variance), 0])
    # One sample more on either side: 4, 3 and 1 of 5 positives, 3, 2 and 1 of 4 negatives.
    counts = [(4, 3), (3, 2), (1, 1)]
    errors = [math.sqrt(a * (5 - a) / 5**3 + b * (4 - b) / 4**3) for a, b in counts]
    assert sides.adjusted_error(thresholds) == pytest.approx(errors)


def test_thresholds_lie_midway_and_part_nothing_that_rounding_may_swap() -> None:
    scores = np.array([0.7, 0.1, 0.3, 0.3 + 1e-9, 0.1])
    assert thresholds_between(scores) == pytest.approx([0.2, 0.5])
    assert len(thresholds_between(scores[:1])) == 0


def test_uses_normal_distributions_where_they_fit() -> None:
    """With equal deviations the best cut of two normal distributions is midway."""
    z, y = bells(400, separation=2.0, ratio=1.0, seed=0)
    found = choose_operating_point(y, sigmoid(z))
    midway = (z[y == 0].mean() + z[y == 1].mean()) / 2
    assert math.log(found.threshold / (1 - found.threshold)) == pytest.approx(midway, abs=0.15)
    assert "normally distributed" in found.reason


@pytest.mark.parametrize("ratio", [1.0, 1.6])
def test_the_smooth_choice_errs_less_than_the_counted_one(ratio: float) -> None:
    """What either loses of the true sum, on small validation sets whose truth is known."""
    lost: dict[str, list[float]] = {"smooth": [], "counted": []}

    def true_sum(cut: float) -> float:
        return float(ndtr((2.0 - cut) / ratio) + ndtr(cut))

    best = max(true_sum(cut) for cut in np.linspace(-3, 5, 2001))
    for seed in range(60):
        z, y = bells(30, separation=2.0, ratio=ratio, seed=seed)
        p = sigmoid(z)
        smooth = choose_operating_point(y, p).threshold
        cuts = (np.sort(p)[1:] + np.sort(p)[:-1]) / 2
        sums = [(p >= c)[y == 1].mean() + (p < c)[y == 0].mean() for c in cuts]
        for name, cut in (("smooth", smooth), ("counted", cuts[int(np.argmax(sums))])):
            lost[name].append(best - true_sum(math.log(cut / (1 - cut))))
    assert np.mean(lost["smooth"]) < 0.6 * np.mean(lost["counted"])


def test_counts_where_normal_distributions_do_not_fit() -> None:
    """Most positives far off, the rest just above all negatives: the bells meet elsewhere."""
    z = np.r_[np.linspace(-1, 0, 50), np.linspace(0.1, 0.4, 25), np.linspace(9, 12, 75)]
    y = np.r_[np.zeros(50, int), np.ones(100, int)]
    found = choose_operating_point(y, sigmoid(z))
    assert found.sensitivity == found.specificity == 1
    assert "normally" not in found.reason


def test_the_small_scores_of_a_rare_disease_are_parted() -> None:
    scores = 5e-4 + 4e-8 * np.arange(10.0)
    assert len(thresholds_between(scores)) == 0
    assert len(thresholds_between(1e-4 + 4e-8 * np.arange(10.0))) == 9


def test_great_scores_of_a_sharpened_model_are_parted() -> None:
    assert len(thresholds_between(1 - 5e-4 + 4e-8 * np.arange(10.0))) == 0
    scores = sigmoid(np.arange(16.0, 600.0))
    assert len(np.unique(scores)) == len(scores)
    between = thresholds_between(scores)
    assert len(between) == len(scores) - 1
    assert ((scores[:-1] < between) & (between <= scores[1:])).all()


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_threshold_parts_the_same_images_however_sharp_probabilities_are(
    sharpness: float,
) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 150)
    z = np.r_[rng.normal(2, 2.5, 150), rng.normal(7, 2.5, 150)]
    expected = choose_operating_point(y, sigmoid(z)).threshold
    found = choose_operating_point(y, sigmoid(sharpness * z)).threshold
    assert np.array_equal(sigmoid(sharpness * z) >= found, sigmoid(z) >= expected)
