"""Temperature against a grid search."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from hilum.calibration import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    NEAR_ONE,
    apply_temperature,
    class_probabilities,
    fit_temperature,
    log_odds,
    sigmoid,
    softmax,
    temperature_reason,
)
from hilum.errors import DataError, SettingError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def log_loss(logits: Floats, y: Ints, temperature: float) -> float:
    probs = apply_temperature(logits, temperature)
    if probs.ndim == 1:
        probs = np.stack([1 - probs, probs], axis=1)
    return float(-np.log(probs[np.arange(len(y)), y]).mean())


def overconfident(n_classes: int, factor: float, seed: int = 0) -> tuple[Floats, Ints]:
    """Logits that are `factor` times too great."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(400, n_classes)) * 2
    probs = apply_temperature(logits, 1.0)
    y = np.array([rng.choice(n_classes, p=row) for row in probs])
    return logits * factor, y


class TestOrder:
    """No two images whose logits differ get the same probability."""

    def test_a_probability_changes_by_no_more_than_a_tenth_of_a_millionth(self) -> None:
        z = np.linspace(-60, 60, 4001)
        assert sigmoid(z) == pytest.approx(expit(z), rel=0, abs=NEAR_ONE)
        assert sigmoid(z[z < 16]) == pytest.approx(expit(z[z < 16]), rel=1e-12)

    def test_sure_images_of_two_classes_stay_in_order(self) -> None:
        z = np.arange(-680.0, 680.0, 0.25)
        probs = class_probabilities(z[:, None])
        assert (np.diff(probs[:, 1]) > 0).all()
        assert (np.diff(probs[:, 0]) < 0).all()
        assert probs.sum(axis=1) == pytest.approx(1, rel=0, abs=NEAR_ONE)

    def test_each_of_several_classes_ranks_as_its_log_odds_do(self) -> None:
        z = np.random.default_rng(0).normal(0, 40, (500, 4))
        probs = class_probabilities(z)
        assert probs.sum(axis=1) == pytest.approx(1, rel=0, abs=NEAR_ONE)
        for k in range(4):
            odds = z[:, k] - logsumexp(np.delete(z, k, axis=1), axis=1)
            assert np.array_equal(np.argsort(probs[:, k]), np.argsort(odds))

    def test_equal_shares_are_left_alone(self) -> None:
        assert softmax([[0.0, 0.0], [3.0, 3.0]]).tolist() == [[0.5, 0.5], [0.5, 0.5]]

    def test_log_odds_come_back(self) -> None:
        z = np.r_[np.linspace(-600, 16, 301), np.linspace(16, 600, 301)]
        assert log_odds(sigmoid(z)) == pytest.approx(z, rel=1e-3)
        near = np.abs(z) < 40
        assert log_odds(sigmoid(z[near])) == pytest.approx(z[near], abs=1e-5)
        # Single precision knows no more of these than that they are beyond 18.
        assert log_odds([0.0, 1.0]) == pytest.approx([-18.42, 18.42], abs=0.01)


class TestTemperature:
    def test_probabilities_by_hand(self) -> None:
        assert apply_temperature([0.0, math.log(3)], 1.0) == pytest.approx([0.5, 0.75])
        # ln 9 over a temperature of 2 is ln 3.
        assert apply_temperature([[0.0, math.log(9)]], 2.0)[0] == pytest.approx([0.25, 0.75])

    def test_great_logits_do_not_overflow(self) -> None:
        for logits in ([-1e4, 1e4], [[-1e4, 1e4]]):
            found = apply_temperature(logits, 1.0)
            assert found.ravel() == pytest.approx([0.0, 1.0], abs=1e-9)
            assert ((found > 0) & (found < 1)).all()

    @pytest.mark.parametrize(("n_classes", "factor"), [(2, 3.0), (2, 0.6), (5, 2.0)])
    def test_equals_a_grid_search(self, n_classes: int, factor: float) -> None:
        logits, y = overconfident(n_classes, factor)
        grid = np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 2000)

        def cost(temperature: float, n: int) -> float:
            loss = n * log_loss(logits[:n], y[:n], temperature)
            return loss + math.log(temperature) ** 2 / (2 * 0.5**2)

        for n in (20, len(y)):
            costs = [cost(t, n) for t in grid]
            found = fit_temperature(logits[:n], y[:n])
            assert found == pytest.approx(grid[int(np.argmin(costs))], rel=5e-3)
            assert cost(found, n) <= min(costs) + 1e-9
        assert found == pytest.approx(factor, rel=0.25)

    def test_many_images_have_their_say(self) -> None:
        """A hundred times the same images: as if nothing were thought beforehand."""
        logits, y = overconfident(2, 3.0)
        grid = np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 2000)
        best = grid[int(np.argmin([log_loss(logits, y, t) for t in grid]))]
        found = fit_temperature(np.tile(logits, (100, 1)), np.tile(y, 100))
        assert found == pytest.approx(best, rel=5e-3)

    def test_few_images_without_a_mistake_do_not_make_certain(self) -> None:
        y = np.repeat([0, 1], 12)
        found = fit_temperature(np.where(y == 1, 2.0, -2.0), y)
        assert 0.4 < found < 0.7

    def test_one_column_is_the_difference_of_two(self) -> None:
        logits, y = overconfident(2, 2.0)
        assert fit_temperature(logits[:, 1] - logits[:, 0], y) == pytest.approx(
            fit_temperature(logits, y)
        )

    def test_perfect_separation_stays_bounded(self) -> None:
        y = np.repeat([0, 1], 1500)
        found = fit_temperature(np.where(y == 1, 2.0, -2.0), y)
        assert found == pytest.approx(LEAST_TEMPERATURE)
        assert temperature_reason(found, y) == (
            "Sharper probabilities would fit the 3,000 validation images better still; they are "
            "sharpened only as far as the bound allows."
        )

    def test_tiny_logits_reach_the_bound_though_many_are_wrong(self) -> None:
        """After a short run: nothing is said of how many lie on the wrong side."""
        y = np.repeat([0, 1], 1500)
        wrong = np.arange(3000) % 5 == 0
        logits = np.where((y == 1) ^ wrong, 0.01, -0.01)
        found = fit_temperature(logits, y)
        assert found == pytest.approx(LEAST_TEMPERATURE)
        assert temperature_reason(found, y).startswith("Sharper probabilities would fit the 3,000")
        assert log_loss(logits, y, found / 2) < log_loss(logits, y, found)

    def test_logits_that_mean_nothing_are_flattened(self) -> None:
        y = np.tile([0, 1], 200)
        assert fit_temperature(np.where(y == 1, -5.0, 5.0), y) == pytest.approx(MOST_TEMPERATURE)

    @pytest.mark.parametrize("y", [[1] * 30, [0] * 30 + [1] * 2, []])
    def test_too_few_samples_change_nothing(self, y: list[int]) -> None:
        assert fit_temperature(np.linspace(-1, 1, len(y)), y) == 1.0
        assert temperature_reason(1.0, y) == (
            "Probabilities are left as they are: fewer than two classes have 3 validation images "
            "to correct them by."
        )

    def test_reasons(self) -> None:
        y = np.repeat([0, 1], 20)
        assert temperature_reason(1.7, y) == (
            "Fitted on 40 validation images (least log loss, the nearer to 1 the fewer they are): "
            "the network was too confident there."
        )
        assert temperature_reason(0.7, y).endswith("too cautious there.")

    def test_order_of_classes_by_probability_is_kept(self) -> None:
        logits, y = overconfident(4, 3.0)
        probs = apply_temperature(logits, fit_temperature(logits, y))
        assert (probs.argmax(axis=1) == logits.argmax(axis=1)).all()
        assert probs.sum(axis=1) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("logits", "y", "text"),
        [
            (
                [0.1, 0.2],
                [0, 1, 1],
                "y_true has 3 samples and logits has 2: give one of each for every sample.",
            ),
            (
                [[0.1, math.nan], [1, 2]],
                [0, 1],
                "logits is not finite at position 0 (1 of 2 samples): training went astray, or a "
                "sample was not predicted.",
            ),
            (
                [[0.1, 0.2]],
                [2],
                "y_true holds 2 at position 0: labels are whole numbers from 0 to 1.",
            ),
            (
                [[[0.1]]],
                [0],
                "logits has shape (1, 1, 1): give (n_samples,) or (n_samples, n_classes).",
            ),
        ],
    )
    def test_bad_data(self, logits: Any, y: Any, text: str) -> None:
        with pytest.raises(DataError) as caught:
            fit_temperature(logits, y)
        assert str(caught.value) == text

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
    def test_bad_temperature(self, temperature: float) -> None:
        with pytest.raises(SettingError, match=r"A temperature is a positive number; got"):
            apply_temperature([0.0], temperature)
