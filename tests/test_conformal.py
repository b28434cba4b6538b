"""Quantiles against a slow one, sets against the textbook, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hilum.conformal import (
    describe_sets,
    least_coverage,
    patient_quantile,
    prediction_sets,
    set_thresholds,
)
from hilum.errors import DataError, SettingError

Floats = NDArray[np.float64]


def slow_quantile(scores: list[float], groups: list[str], share: float) -> float:
    """Try every score, adding up the weight of patients at or below it."""
    names = sorted(set(groups))
    for candidate in sorted(scores):
        weight = 0.0
        for name in names:
            mine = [s for s, g in zip(scores, groups, strict=True) if g == name]
            weight += sum(s <= candidate for s in mine) / len(mine) / (len(names) + 1)
        if weight >= share - 1e-9:
            return candidate
    return math.inf


class TestQuantile:
    def test_one_image_each_is_the_quantile_of_split_conformal_prediction(self) -> None:
        scores = np.random.default_rng(0).random(19)
        # The ceil((19 + 1) * 0.9) = 18th of 19 (Vovk et al. 2005; Angelopoulos & Bates 2021).
        assert patient_quantile(scores, range(19), 0.9) == sorted(scores)[17]
        assert patient_quantile(scores, range(19), 0.95) == max(scores)
        assert patient_quantile(scores, range(19), 0.96) == math.inf

    def test_equals_a_slow_one(self) -> None:
        rng = np.random.default_rng(1)
        for _ in range(50):
            n = int(rng.integers(1, 40))
            scores = rng.integers(0, 10, n).astype(float).tolist()
            groups = rng.integers(0, 12, n).astype(str).tolist()
            share = float(rng.uniform(0.1, 0.98))
            assert patient_quantile(scores, groups, share) == slow_quantile(scores, groups, share)

    def test_a_patient_with_many_images_counts_once(self) -> None:
        scores = [0.9] * 1000 + [0.1] * 9
        groups = ["many"] * 1000 + [f"p{i}" for i in range(9)]
        assert patient_quantile(scores, groups, 0.8) == 0.1

    def test_nothing_to_learn_from(self) -> None:
        assert patient_quantile([], [], 0.5) == math.inf

    def test_bad_input(self) -> None:
        with pytest.raises(SettingError, match=r"A share lies between 0 and 1; got 1\."):
            patient_quantile([1.0], ["a"], 1)
        with pytest.raises(DataError, match="scores is NaN at position 1"):
            patient_quantile([1.0, math.nan], ["a", "b"], 0.5)
        with pytest.raises(DataError, match="groups has shape"):
            patient_quantile([1.0], ["a", "b"], 0.5)
        with pytest.raises(DataError, match="y_true has 1 samples, probs 2 and groups 2"):
            set_thresholds([1], np.ones((2, 2)), ["a", "b"], 0.9)


def draw(n: int, rng: np.random.Generator, n_classes: int = 2) -> tuple[list[int], Floats, Floats]:
    """Patients of 1 to 6 images that resemble each other: labels, probabilities, groups."""
    groups = np.repeat(np.arange(n), rng.integers(1, 7, n))
    y = rng.integers(0, n_classes, n)[groups]
    seen = 1.5 * np.eye(n_classes)[y] + rng.normal(size=(n, n_classes))[groups]
    seen += 0.7 * rng.normal(size=(len(y), n_classes))
    probs = np.exp(2 * seen)
    return y.tolist(), probs / probs.sum(axis=1, keepdims=True), groups.astype(float)


class TestSets:
    def test_by_hand(self) -> None:
        probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        found = set_thresholds([0, 0, 0, 1, 1, 1], probs, list("abcdef"), 0.5)
        # The second of three at a half: 0.8 and 0.7, a hair less for rounding.
        assert found == pytest.approx((0.8, 0.7), abs=2e-6)
        sets = prediction_sets([[0.8, 0.2], [0.5, 0.5], [0.29, 0.71]], found)
        assert sets.tolist() == [[True, False], [False, False], [False, True]]

    def test_a_class_with_too_few_patients_belongs_to_every_set(self) -> None:
        probs = np.array([[0.9, 0.1]] * 30 + [[0.1, 0.9]] * 3)
        found = set_thresholds([0] * 30 + [1] * 3, probs, range(33), 0.9)
        assert found[0] > 0
        assert found[1] == 0

    def test_what_thresholds_of_few_patients_cover_at_least(self) -> None:
        # Of 19 patients the least probability counts: it covers a share u or less in u^19 of draws.
        assert least_coverage(19, 0.95) == pytest.approx(0.025 ** (1 / 19))
        assert least_coverage(18, 0.95) == 1  # the class belongs to every set
        rng = np.random.default_rng(3)
        covered = []
        for _ in range(2000):
            p = rng.random(50)
            cut, _ = set_thresholds([0] * 50, np.stack([p, 1 - p], axis=1), range(50), 0.9)
            covered.append(1 - cut)
        # Standard error of a share of 0.025 among 2,000: 0.0035.
        assert 0.015 <= np.mean(np.array(covered) < least_coverage(50, 0.9)) <= 0.036

    def test_two_classes_do_not_depend_on_a_rising_calibrator(self) -> None:
        rng = np.random.default_rng(0)
        y, probs, groups = draw(80, rng)
        z = np.log(probs[:, 1] / probs[:, 0])
        bent = 1 / (1 + np.exp(-(0.3 * z + 1)))
        other = np.stack([1 - bent, bent], axis=1)
        sets = [
            prediction_sets(p, set_thresholds(y, p, groups, 0.9)).tolist() for p in (probs, other)
        ]
        assert sets[0] == sets[1]

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_new_patients_are_covered_as_promised_in_each_class(self, n_classes: int) -> None:
        rng = np.random.default_rng(2)
        hits: list[list[float]] = [[] for _ in range(n_classes)]
        for _ in range(300):
            y, probs, groups = draw(60, rng, n_classes)
            thresholds = set_thresholds(y, probs, groups, 0.9)
            new_y, new, of = draw(60, rng, n_classes)
            held = prediction_sets(new, thresholds)[np.arange(len(new_y)), new_y]
            for k in range(n_classes):
                means = [
                    held[of == g].mean()
                    for g in set(of.tolist())
                    if new_y[of.tolist().index(g)] == k
                ]
                hits[k] += means
        for of_class in hits:
            # Standard error of the mean of some 9,000 patients in 300 studies: about 0.003.
            assert 0.89 <= np.mean(of_class) <= 0.96

    def test_description(self) -> None:
        sets = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
        found = describe_sets(
            [0, 1, 1, 1], sets, list("abcd"), class_names=["no", "yes"], coverage=0.9
        )
        assert found["coverage_wanted"] == 0.9
        assert found["coverage"]["value"] == 0.75
        assert found["coverage"]["n"] == 4
        assert found["coverage"]["ci_low"] < 0.75 < found["coverage"]["ci_high"]
        assert found["coverage_by_class"]["no"]["value"] == 1
        assert found["coverage_by_class"]["yes"]["value"] == pytest.approx(2 / 3)
        assert found["mean_set_size"]["value"] == 1
        assert {size: figure["value"] for size, figure in found["sets"].items()} == {
            "0": 0.25,
            "1": 0.5,
            "2": 0.25,
        }

    def test_nothing_to_describe(self) -> None:
        found = describe_sets([], np.empty((0, 2)), [], class_names=["a", "b"], coverage=0.9)
        assert found["coverage"]["value"] is None
        assert found["mean_set_size"]["reason"] == "there are no images"
        same = describe_sets([0], [[True, False]], ["p"], class_names=["a", "b"], coverage=0.9)
        assert same["mean_set_size"]["value"] == 1
        assert same["mean_set_size"]["reason"] == "every set has the same size"
        assert same["coverage_by_class"]["b"]["reason"] == "there is no image of b"
