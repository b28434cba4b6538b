"""Calibrators against slow fits, the choice among them on data of known shape, and no new ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hilum.calibration import apply_temperature, fit_temperature
from hilum.calibrators import (
    MOST_SLOPE,
    Calibrator,
    choose_calibrator,
    choose_label_calibrators,
    fit_isotonic,
    fit_platt,
)
from hilum.operating_points import choose_operating_point
from hilum.ranking import Ranking

Floats = NDArray[np.float64]


def sigmoid(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-z))


def study(shape: str, n: int = 2000, seed: int = 0) -> tuple[Floats, Any, list[str]]:
    """Logits whose true log-odds are a known function of them; two images a patient."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n) * 3
    truth = {"temperature": z / 2, "platt": z / 2 - 1.5, "isotonic": 2.5 * np.tanh(z) - 0.5}[shape]
    y = (rng.random(n) < sigmoid(truth)).astype(int)
    return z[:, None], y, [f"p{i // 2}" for i in range(n)]


@pytest.mark.parametrize("shape", ["temperature", "platt", "isotonic"])
def test_auto_finds_the_shape_that_the_data_have(shape: str) -> None:
    z, y, groups = study(shape)
    found, reason = choose_calibrator(z, y, groups)
    assert found.method == shape
    assert "log loss in 5-fold cross-validation by patient: temperature 0." in reason
    assert reason.endswith(").")


@pytest.mark.parametrize("shape", ["platt", "isotonic"])
def test_what_was_chosen_is_nearer_to_the_truth_on_new_data(shape: str) -> None:
    z, y, groups = study(shape)
    new, labels, _ = study(shape, n=20_000, seed=1)

    def loss(calibrator: Calibrator) -> float:
        p = calibrator.probabilities(new)[np.arange(len(labels)), labels]
        return float(-np.log(p).mean())

    plain = choose_calibrator(z, y, groups, "temperature").calibrator
    assert loss(choose_calibrator(z, y, groups).calibrator) < loss(plain) - 0.01


def test_platt_is_logistic_regression_on_drawn_in_labels() -> None:
    z, y, _ = study("platt", n=400)
    found = fit_platt(z[:, 0], y)
    n_positive = int(y.sum())
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (len(y) - n_positive + 2)
    target = np.where(y == 1, high, low)
    slow = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.r_[z, z], np.r_[np.ones(len(z)), np.zeros(len(z))], np.r_[target, 1 - target]
    )
    assert found.slope == pytest.approx(slow.coef_[0, 0], abs=1e-3)
    assert found.intercept == pytest.approx(slow.intercept_[0], abs=1e-3)


def test_separated_classes_stay_bounded() -> None:
    z = np.r_[np.full(60, -2.0), np.full(60, 2.0)]
    y = np.repeat([0, 1], 60)
    assert fit_platt(z, y).slope <= 4
    backwards = fit_platt(-z, y)
    assert backwards.slope == pytest.approx(1 / 20)
    # Two values give two steps, or one where they are too near.
    for scale in (1.0, 1e-3):
        found = fit_isotonic(z * scale, y)
        p = found.probabilities((z * scale)[:, None])[:, 1]
        assert 0 < p.min() <= p.max() < 1


def test_isotonic_follows_isotonic_regression_without_its_ties() -> None:
    z, y, _ = study("isotonic", n=4000)
    found = fit_isotonic(z[:, 0], y)
    p = found.probabilities(z)[:, 1]
    slow = IsotonicRegression(out_of_bounds="clip").fit(z[:, 0], y).predict(z[:, 0])
    assert np.abs(p - slow).mean() < 0.02
    assert len(np.unique(slow)) < 100 < len(np.unique(p)) == len(y)
    ones = np.ones((1, len(y)))
    before, after = (Ranking.of(y == 1, s).areas(ones)[0] for s in (z[:, 0], p))
    assert after == pytest.approx(before)
    assert Ranking.of(y == 1, slow).areas(ones)[0] != pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("rule", ["youden", "sensitivity:0.95", "cost:5:1"])
def test_a_threshold_on_an_isotonic_curve_parts_the_images_as_one_on_logits_does(rule: str) -> None:
    z, y, _ = study("isotonic", n=1000)
    p = fit_isotonic(z[:, 0], y).probabilities(z)[:, 1]
    plain = choose_operating_point(y, sigmoid(z[:, 0]), rule)
    curved = choose_operating_point(y, p, rule)
    found, wanted = ((point.sensitivity, point.specificity) for point in (curved, plain))
    # Youden's is smoothed on the log-odds, which the curve bends.
    assert found == pytest.approx(wanted, abs=0.02 if rule == "youden" else 0)


def test_the_curve_by_hand() -> None:
    curve = Calibrator(method="isotonic", knots=((-1.0, 0.0), (0.0, 1.0), (2.0, 2.0)))
    z = [-21.0, -1.0, -0.5, 0.0, 1.0, 2.0, 22.0]
    assert curve.logits(z) == pytest.approx([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])


def test_curves_are_never_steeper_than_rounding_allows() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        z = rng.normal(size=500) * 0.01
        y = (z + rng.normal(size=500) * 0.003 > 0).astype(int)
        steps = np.diff(np.array(fit_isotonic(z, y).knots), axis=0)
        assert (steps[:, 1] / steps[:, 0] <= MOST_SLOPE * (1 + 1e-9)).all()


def test_temperature_is_that_of_calibration() -> None:
    z, y, groups = study("temperature")
    found = choose_calibrator(z, y, groups, "temperature").calibrator
    temperature = fit_temperature(z[:, 0], y)
    assert 1 / found.slope == pytest.approx(temperature)
    assert found.probabilities(z)[:, 1] == pytest.approx(apply_temperature(z[:, 0], temperature))


def test_none_changes_nothing() -> None:
    z, y, groups = study("temperature", n=100)
    found, reason = choose_calibrator(z, y, groups, "none")
    assert (found, reason) == (Calibrator(), "Calibration is off.")
    assert found.probabilities(z)[:, 1] == pytest.approx(sigmoid(z[:, 0]))


def test_what_cannot_be_had_gives_way_to_the_temperature_and_says_so() -> None:
    z, y, groups = study("temperature", n=150)
    found, reason = choose_calibrator(z, y, groups, "isotonic")
    n = int(np.bincount(y).min())
    assert found.method == "temperature"
    assert reason.endswith(
        f" Not isotonic: it needs 200 validation images of each class, and there are {n}."
    )
    three = np.random.default_rng(0).normal(size=(90, 3))
    found, reason = choose_calibrator(three, np.arange(90) % 3, list(range(90)), "platt")
    assert found.method == "temperature"
    assert reason.endswith(" Not platt: it is for two classes, and there are 3.")
    assert choose_calibrator(three, np.arange(90) % 3, list(range(90))).calibrator == found
    found, reason = choose_calibrator(z[:60], y[:60], groups[:60])
    assert reason.endswith(
        " Not platt or isotonic: fewer than 50 validation images are of one class."
    )
    found, reason = choose_calibrator(z, y, [str(i % 4) for i in range(150)])
    assert reason.endswith(" Not platt or isotonic: only 4 patients are there to try them on.")
    found, reason = choose_calibrator(z[:5], y[:5], groups[:5])
    assert found == Calibrator()
    assert reason.startswith("Probabilities are left as they are:")


def test_what_the_user_asks_for_is_done() -> None:
    z, y, groups = study("temperature")
    for wanted in ("platt", "isotonic"):
        found, reason = choose_calibrator(z, y, groups, wanted)
        assert found.method == wanted
        assert reason.endswith(", as the user asked, on 2,000 images.")


def weighted(n: int = 4000) -> tuple[Floats, Any, Floats, Floats]:
    """Logits as a network gives them that learnt all three classes as equally frequent."""
    rng = np.random.default_rng(0)
    shares = np.array([0.8, 0.15, 0.05])
    y = rng.choice(3, size=n, p=shares)
    seen = 1.5 * np.eye(3)[y] + rng.normal(size=(n, 3))
    truth = np.exp(1.5 * seen) * shares  # Bayes: normal distributions of deviation 1
    return 3 * seen, y, np.log(shares), truth / truth.sum(axis=1, keepdims=True)


def test_what_weights_took_from_classes_is_given_back() -> None:
    z, y, priors, truth = weighted()
    groups = [str(i) for i in range(len(y))]
    found, reason = choose_calibrator(z, y, groups, priors=priors)
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert np.abs(found.probabilities(z) - truth).max() < 0.05
    assert reason.endswith("how frequent each one was is taken into account again.")
    plain = choose_calibrator(z, y, groups).calibrator
    assert np.abs(plain.probabilities(z) - truth).max() > 0.3


@pytest.mark.parametrize("wanted", ["none", "temperature", "platt"])
def test_what_weights_took_from_one_of_two_classes_is_given_back(wanted: str) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.1).astype(int)
    z = 2 * y + rng.normal(size=4000)
    logit, prior = 2 * z - 2, np.log(0.1 / 0.9)
    groups = [str(i) for i in range(4000)]
    found = choose_calibrator(logit[:, None], y, groups, wanted, priors=[prior]).calibrator
    assert found.method == wanted
    assert (found.intercept, found.slope) == pytest.approx((prior, 1), abs=0.15)
    # Too few images to fit anything still know how frequent the classes were.
    few = choose_calibrator(logit[:5, None], y[:5], groups[:5], wanted, priors=[prior]).calibrator
    assert few == Calibrator(intercept=prior)


@pytest.mark.parametrize(
    "fields",
    [
        {"slope": 0},
        {"method": "isotonic"},
        {"knots": [(0, 1)]},
        {"method": "isotonic", "knots": [(0, 1), (0, 2)]},
        {"method": "isotonic", "knots": [(0, 1), (1, 1)]},
        {"method": "isotonic", "knots": [(0, float("nan"))]},
        {"method": "isotonic", "knots": [(i, i) for i in range(1001)]},
        {"method": "isotonic", "knots": [(0, 1), (1, 2)], "priors": [-1.0, -2.0, -3.0]},
    ],
)
def test_calibrators_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Calibrator"):
        Calibrator(**fields)


def test_each_label_is_calibrated_on_the_images_of_which_it_is_known() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2)) * 2
    truth = (rng.random((400, 2)) < 1 / (1 + np.exp(-z / 2))).astype(float)
    truth[:200, 1] = np.nan
    groups = [str(i) for i in range(400)]
    found, reasons = choose_label_calibrators(z, truth, groups, ["a", "b"], "temperature")
    weighed, _ = choose_label_calibrators(
        z, truth, groups, ["a", "b"], "temperature", priors=np.array([-1.0, -2.0])
    )
    assert [part.intercept for part in weighed.parts.values()] == [-1, -2]
    alone = choose_calibrator(z[200:, 1:], truth[200:, 1].astype(int), groups[200:], "temperature")
    assert found.parts["b"] == alone.calibrator
    assert reasons == {
        "a": choose_calibrator(z[:, :1], truth[:, 0].astype(int), groups, "temperature").reason,
        "b": alone.reason,
    }
    expected = 1 / (1 + np.exp(-found.parts["b"].slope * z[:, 1]))
    np.testing.assert_allclose(found.probabilities(z)[:, 1], expected)
