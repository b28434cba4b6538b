"""Recalibration and the parts of the Brier score against scikit-learn, SciPy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hilum import intervals, metrics, resampling
from hilum.reliability import decompose, recalibrate
from hilum.resampling import Clusters, Floats, Ints
from studies import study


def fitted(hit: Floats, p: Floats) -> tuple[float, float]:
    """Slope, and intercept with the slope fixed at 1, by a general minimiser."""
    from scipy.optimize import minimize, minimize_scalar

    x = np.log(p / (1 - p))

    def loss(eta: Floats) -> float:
        return float((np.logaddexp(0, eta) - hit * eta).sum())

    both = minimize(lambda b: loss(b[0] + b[1] * x), [0.0, 1.0], tol=1e-10)
    return float(both.x[1]), float(minimize_scalar(lambda a: loss(a + x), tol=1e-10).x)


class TestRecalibrate:
    def test_equals_a_general_minimiser(self) -> None:
        y, p, groups = study(50)
        found = recalibrate(y.astype(float), p, Clusters.of(groups, len(y)))
        slope, intercept = fitted(y.astype(float), p)
        assert found.slope.value == pytest.approx(slope, abs=1e-4)
        assert found.intercept.value == pytest.approx(intercept, abs=1e-4)

    def test_one_step_is_near_the_full_jackknife(self) -> None:
        y, p, groups = study(60)
        hit = y.astype(float)
        without = np.array([fitted(hit[groups != k], p[groups != k]) for k in range(60)])
        errors = np.sqrt(59 / 60 * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
        fewer = min(len(set(groups[y == k].tolist())) for k in (0, 1))
        found = recalibrate(hit, p, Clusters.of(groups, len(y)))
        for figure, moved, error in zip(found, without.T, errors, strict=True):
            half = (figure.interval.ci_high - figure.interval.ci_low) / 2
            assert half == pytest.approx(intervals.quantile_of(moved, fewer) * error, rel=0.1)

    def test_finds_what_was_done_to_the_probabilities(self) -> None:
        """Of 60 intervals that hold the truth with 95 %, fewer than 51 do so once in 1,000 runs."""
        held = np.zeros(2)
        for seed in range(60):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=400)
            y = (rng.random(400) < 1 / (1 + np.exp(-x))).astype(float)
            for k, (slope, shift) in enumerate(((2.0, 0.0), (1.0, 0.7))):
                stated = 1 / (1 + np.exp(-(slope * x + shift)))
                figure = recalibrate(y, stated, Clusters.of(None, len(y)))[k]
                truth = (1 / slope, -shift)[k]
                held[k] += figure.interval.ci_low < truth < figure.interval.ci_high
        assert held.min() >= 51

    @pytest.mark.parametrize(
        ("hit", "stated", "reason"),
        [
            ([], [], "there are no images"),
            ([1, 1], [0.2, 0.9], "all that was stated came true"),
            ([0, 0], [0.2, 0.9], "nothing that was stated came true"),
            ([0, 1, 0, 1], [0.5] * 4, "all stated probabilities are alike"),
            ([0, 0, 1, 1], [0.1, 0.2, 0.6, 1.0],
             "the probabilities rank without a mistake, and no finite slope fits"),
        ],
    )  # fmt: skip
    def test_no_slope_has_a_reason(self, hit: list[int], stated: list[float], reason: str) -> None:
        found = recalibrate(
            np.array(hit, dtype=float), np.array(stated, dtype=float), Clusters.of(None, len(hit))
        )
        assert math.isnan(found.slope.value)
        assert found.slope.reason == reason

    def test_probabilities_of_0_and_1_are_bounded(self) -> None:
        hit = np.array([0.0, 1, 1, 0] * 10)
        found = recalibrate(hit, np.array([0.0, 1, 0, 0.4] * 10), Clusters.of(None, 40))
        assert math.isfinite(found.slope.value)
        assert math.isfinite(found.intercept.value)


def slow_parts(y: Ints, p: Floats, n_bins: int) -> tuple[float, float, float]:
    order = np.argsort(p, kind="stable")
    share = y.mean()
    reliability = resolution = 0.0
    for mine in np.array_split(order, n_bins):
        reliability += len(mine) * (p[mine].mean() - y[mine].mean()) ** 2 / len(y)
        resolution += len(mine) * (y[mine].mean() - share) ** 2 / len(y)
    return reliability, resolution, share * (1 - share)


class TestDecompose:
    def test_equals_a_slow_loop_over_bins(self) -> None:
        rng = np.random.default_rng(0)
        p = rng.random(200)
        y = (rng.random(200) < p**2).astype(np.intp)
        assert metrics.brier_decomposition(y, p) == pytest.approx(slow_parts(y, p, 10))

    def test_adds_up_to_the_brier_score_where_bins_hold_one_probability(self) -> None:
        y = np.array([0, 0, 0, 1, 0, 1, 1, 1, 0, 1] * 4)
        p = np.tile(np.repeat([0.2, 0.7], [4, 6]), 4)
        found = metrics.brier_decomposition(y, p, n_bins=20)
        total = found.reliability - found.resolution + found.uncertainty
        assert total == pytest.approx(metrics.brier(y, p))
        both = metrics.brier_decomposition(y, np.stack([1 - p, p], axis=1), n_bins=20)
        assert both == pytest.approx(tuple(2 * part for part in found))

    def test_one_bin_tells_no_resolution(self) -> None:
        y, p = np.arange(39) % 2, np.linspace(0.1, 0.9, 39)
        weights = resampling.draw_patients(39, 50, 0), resampling.leave_out(39, 0)
        found = decompose(
            y[:, None].astype(float), p[:, None], Clusters.of(None, 39), *weights
        ).resolution
        assert math.isnan(found.value)
        assert found.reason == "fewer than 40 images cannot be parted into bins"
        with pytest.warns(metrics.UndefinedFigureWarning, match="fewer than 40 samples"):
            assert math.isnan(metrics.brier_decomposition(y, p).resolution)

    @pytest.mark.parametrize("n_columns", [1, 3])
    def test_values_are_those_of_metrics_within_their_intervals(self, n_columns: int) -> None:
        rng = np.random.default_rng(1)
        y, groups = rng.integers(0, 3, 150), rng.integers(0, 60, 150)
        probs = rng.dirichlet([1, 1, 1], 150) + np.eye(3)[y]
        probs /= probs.sum(axis=1, keepdims=True)
        truth, stated = np.eye(3)[y], probs
        expected = metrics.brier_decomposition(y, probs)
        if n_columns == 1:
            truth, stated = truth[:, :1], probs[:, :1]
            expected = metrics.brier_decomposition(y == 0, probs[:, 0])
        clusters = Clusters.of(groups, 150)
        n = clusters.n
        found = decompose(
            truth, stated, clusters, resampling.draw_patients(n, 300, 0), resampling.leave_out(n, 0)
        )
        for figure, value in zip(found, expected, strict=True):
            assert figure.value == pytest.approx(value)
            assert figure.interval.ci_low <= value <= figure.interval.ci_high


def test_diagram_of_the_description_holds_all_images() -> None:
    from hilum.estimates import describe

    y, p, groups = study(60)
    found = describe(
        y,
        np.stack([1 - p, p], axis=1),
        class_names=("normal", "pneumonia"),
        positive=1,
        threshold=0.5,
        groups=groups,
        n_resamples=50,
    )
    diagram = found["reliability_diagram"]
    assert diagram["of"] == "probability of pneumonia"
    assert sum(row["n"] for row in diagram["bins"]) == len(y)
    gaps = [abs(row["stated"] - row["observed"]) * row["n"] for row in diagram["bins"]]
    assert sum(gaps) / len(y) == pytest.approx(found["ece"]["value"])
