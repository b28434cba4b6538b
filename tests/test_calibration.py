"""Temperature against a grid search, thresholds against trying every one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit as sigmoid
from scipy.special import ndtr

from hilum.calibration import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    Changed,
    OperatingPoint,
    apply_temperature,
    choose_operating_point,
    fit_temperature,
    lock,
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


class TestTemperature:
    def test_probabilities_by_hand(self) -> None:
        assert apply_temperature([0.0, math.log(3)], 1.0) == pytest.approx([0.5, 0.75])
        # ln 9 over a temperature of 2 is ln 3.
        assert apply_temperature([[0.0, math.log(9)]], 2.0)[0] == pytest.approx([0.25, 0.75])

    def test_great_logits_do_not_overflow(self) -> None:
        assert apply_temperature([-1e4, 1e4], 1.0).tolist() == [0.0, 1.0]
        assert apply_temperature([[-1e4, 1e4]], 1.0).tolist() == [[0.0, 1.0]]

    @pytest.mark.parametrize(("n_classes", "factor"), [(2, 3.0), (2, 0.6), (5, 2.0)])
    def test_equals_a_grid_search(self, n_classes: int, factor: float) -> None:
        logits, y = overconfident(n_classes, factor)
        grid = np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 2000)
        losses = [log_loss(logits, y, t) for t in grid]
        found = fit_temperature(logits, y)
        assert found == pytest.approx(grid[int(np.argmin(losses))], rel=5e-3)
        assert log_loss(logits, y, found) <= min(losses) + 1e-12
        assert found == pytest.approx(factor, rel=0.25)

    def test_one_column_is_the_difference_of_two(self) -> None:
        logits, y = overconfident(2, 2.0)
        assert fit_temperature(logits[:, 1] - logits[:, 0], y) == pytest.approx(
            fit_temperature(logits, y)
        )

    def test_perfect_separation_stays_bounded(self) -> None:
        y = np.repeat([0, 1], 15)
        found = fit_temperature(np.where(y == 1, 2.0, -2.0), y)
        assert found == pytest.approx(LEAST_TEMPERATURE)
        assert temperature_reason(found, y) == (
            "Hardly any of the 30 validation images is on the wrong side; the probabilities are "
            "sharpened only as far as the bound allows."
        )

    def test_logits_that_mean_nothing_are_flattened(self) -> None:
        y = np.tile([0, 1], 20)
        assert fit_temperature(np.where(y == 1, -5.0, 5.0), y) == pytest.approx(MOST_TEMPERATURE)

    @pytest.mark.parametrize("y", [[1] * 30, [0] * 30 + [1] * 9, []])
    def test_too_few_samples_change_nothing(self, y: list[int]) -> None:
        assert fit_temperature(np.linspace(-1, 1, len(y)), y) == 1.0
        assert temperature_reason(1.0, y) == (
            "Probabilities are left as they are: fewer than two classes have 10 validation images "
            "to correct them by."
        )

    def test_reasons(self) -> None:
        y = np.repeat([0, 1], 20)
        assert temperature_reason(1.7, y) == (
            "Fitted on 40 validation images (least log loss): the network was too confident there."
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


# Two negatives and two positives overlap; midpoints .15 .25 .35 .45 .6.
Y = [0, 0, 1, 0, 1, 1]
P = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]


def point(rule: str, y: Any = None, p: Any = None) -> OperatingPoint:
    return choose_operating_point(Y if y is None else y, P if p is None else p, rule)


def bells(n: int, *, separation: float, ratio: float, seed: int) -> tuple[Any, Any]:
    """Log-odds of n negatives, standard normal, and n positives, apart and `ratio` as wide."""
    rng = np.random.default_rng(seed)
    z = np.r_[rng.normal(0, 1, n), rng.normal(separation, ratio, n)]
    return z, np.repeat([0, 1], n)


class TestRules:
    def test_youden_prefers_the_higher_sensitivity(self) -> None:
        # .25 (1 + 2/3) and .45 (2/3 + 1) give the same sum.
        found = point("youden")
        assert found.threshold == pytest.approx(0.25)
        assert (found.sensitivity, found.specificity) == (1.0, 2 / 3)
        assert (found.n, found.n_positive, found.rule) == (6, 3, "youden")
        assert found.reason == (
            "It gives the greatest sum of sensitivity and specificity on 6 validation images."
        )

    def test_youden_uses_normal_distributions_where_they_fit(self) -> None:
        """With equal deviations the best cut of two normal distributions is midway."""
        z, y = bells(400, separation=2.0, ratio=1.0, seed=0)
        found = point("youden", y, sigmoid(z))
        midway = (z[y == 0].mean() + z[y == 1].mean()) / 2
        assert math.log(found.threshold / (1 - found.threshold)) == pytest.approx(midway, abs=0.15)
        assert "normally distributed" in found.reason

    @pytest.mark.parametrize("ratio", [1.0, 1.6])
    def test_the_smooth_choice_errs_less_than_the_counted_one(self, ratio: float) -> None:
        """What either loses of the true sum, on small validation sets whose truth is known."""
        lost: dict[str, list[float]] = {"smooth": [], "counted": []}

        def true_sum(cut: float) -> float:
            return float(ndtr((2.0 - cut) / ratio) + ndtr(cut))

        best = max(true_sum(cut) for cut in np.linspace(-3, 5, 2001))
        for seed in range(60):
            z, y = bells(30, separation=2.0, ratio=ratio, seed=seed)
            p = sigmoid(z)
            smooth = point("youden", y, p).threshold
            cuts = (np.sort(p)[1:] + np.sort(p)[:-1]) / 2
            sums = [(p >= c)[y == 1].mean() + (p < c)[y == 0].mean() for c in cuts]
            for name, cut in (("smooth", smooth), ("counted", cuts[int(np.argmax(sums))])):
                lost[name].append(best - true_sum(math.log(cut / (1 - cut))))
        assert np.mean(lost["smooth"]) < 0.6 * np.mean(lost["counted"])

    def test_youden_counts_where_normal_distributions_do_not_fit(self) -> None:
        """Most positives far off, the rest just above all negatives: the bells meet elsewhere."""
        z = np.r_[np.linspace(-1, 0, 50), np.linspace(0.1, 0.4, 25), np.linspace(9, 12, 75)]
        y = np.r_[np.zeros(50, int), np.ones(100, int)]
        found = point("youden", y, sigmoid(z))
        assert found.sensitivity == found.specificity == 1
        assert "normally" not in found.reason

    def test_is_the_default(self) -> None:
        assert choose_operating_point(Y, P) == point("youden")

    def test_sensitivity(self) -> None:
        assert point("sensitivity:0.6").threshold == pytest.approx(0.45)
        assert point("sensitivity:1").threshold == pytest.approx(0.25)

    def test_specificity(self) -> None:
        assert point("specificity:0.95").threshold == pytest.approx(0.45)
        assert point("specificity:0.3").threshold == pytest.approx(0.25)

    def test_cost(self) -> None:
        assert point("cost:5:1").threshold == pytest.approx(0.25)
        found = point("cost:1:5")
        assert found.threshold == pytest.approx(0.45)
        assert found.reason == (
            "It gives the least cost on 6 validation images, a missed positive counting 1 and a "
            "false alarm 5."
        )

    def test_costs_that_want_no_classifier_are_named(self) -> None:
        assert point("cost:30:1").reason.endswith("30 and a false alarm 1.")
        # Any threshold misses the lowest image, which is positive: 30 against 3 for all called so.
        assert point("cost:30:1", [1, 0, 1, 0, 0, 1]).reason.endswith(
            "; to call every image positive would cost less still."
        )
        assert point("cost:1:30", [0, 1, 0, 1, 1, 0]).reason.endswith(
            "; to call every image negative would cost less still."
        )

    def test_fixed(self) -> None:
        found = point("fixed:0.5")
        assert (found.threshold, found.sensitivity, found.specificity) == (0.5, 2 / 3, 1.0)
        assert found.reason == "The threshold was given, not chosen."

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=25),
        st.sampled_from(["youden", "sensitivity:0.8", "specificity:0.7", "cost:3:1", "cost:1:2.5"]),
    )
    def test_no_other_threshold_is_better(self, samples: list[tuple[int, int]], rule: str) -> None:
        y = np.array([label for label, _ in samples])
        p = np.array([score / 12 for _, score in samples])
        if len(set(y.tolist())) < 2 or len(set(p.tolist())) < 2:
            return
        scores = sorted(set(p.tolist()))
        tried = [(a + b) / 2 for a, b in itertools.pairwise(scores)]
        best: tuple[float, ...] | None = None
        for threshold in tried:
            sens = float((p[y == 1] >= threshold).mean())
            spec = float((p[y == 0] < threshold).mean())
            missed, alarms = (1 - sens) * y.sum(), (1 - spec) * (1 - y).sum()
            key: tuple[float, ...] | None
            kind, *numbers = rule.split(":")
            if kind == "youden":
                key = (round(sens + spec, 9), sens)
            elif kind == "cost":
                key = (-round(float(numbers[0]) * missed + float(numbers[1]) * alarms, 9), sens)
            elif kind == "sensitivity":
                key = (spec, sens) if sens >= float(numbers[0]) - 1e-9 else None
            else:
                key = (sens, spec) if spec >= float(numbers[0]) - 1e-9 else None
            if key is not None and (best is None or key > best):
                best, wanted = key, (threshold, sens, spec)
        if best is None:
            assert choose_operating_point(y, p, rule).reason.startswith("No threshold keeps")
            return
        found = choose_operating_point(y, p, rule)
        assert (found.threshold, found.sensitivity, found.specificity) == pytest.approx(wanted)

    def test_robust_lies_where_the_changed_samples_are_parted_too(self) -> None:
        """Three changes of four move every score up; in a wide gap this costs nothing as it is."""
        z, y = bells(200, separation=8.0, ratio=1.0, seed=0)
        moved = np.stack([z, z + 2, z + 2, z + 2])
        own = point("youden", y, sigmoid(z))
        found = choose_operating_point(y, sigmoid(z), "robust", changed=Changed(y, sigmoid(moved)))
        assert own.threshold < found.threshold
        log_odds = math.log(found.threshold / (1 - found.threshold))
        means = [(row[y == 0].mean() + row[y == 1].mean()) / 2 for row in (z, *moved)]
        assert min(means) < log_odds < max(means)
        called = sigmoid(moved) >= found.threshold
        assert (called == y).mean() > ((sigmoid(moved) >= own.threshold) == y).mean()
        assert found.reason == (
            "It gives the greatest sum of sensitivity and specificity on 400 validation images as "
            "they are and the same under 4 changes of exposure, sharpness and place, as the mean "
            "of all these; no less on those as they are than the binomial standard error allows."
        )

    def test_robust_pays_no_more_than_a_standard_error(self) -> None:
        z, y = bells(100, separation=2.0, ratio=1.0, seed=1)
        moved = np.stack([z + 3] * 9)
        found = choose_operating_point(y, sigmoid(z), "robust", changed=Changed(y, sigmoid(moved)))
        cuts = np.sort(sigmoid(z))
        best = max(
            (sigmoid(z) >= c)[y == 1].mean() - (sigmoid(z) >= c)[y == 0].mean() for c in cuts
        )
        sens, spec = found.sensitivity, found.specificity
        error = math.sqrt((sens * (1 - sens) + spec * (1 - spec)) / 100)
        lost = best - (sens + spec - 1)
        assert 0.5 * error < lost <= error + 1e-6

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=2, max_size=16),
        st.lists(st.integers(-3, 3), min_size=1, max_size=3),
    )
    def test_no_other_threshold_is_more_robust(
        self, samples: list[tuple[int, int]], moves: list[int]
    ) -> None:
        """But for a standard error that smoothing may cost: every threshold is tried by hand."""
        y = np.repeat([label for label, _ in samples], 10)
        p = np.repeat([score / 10 for _, score in samples], 10)
        rows = np.clip(np.array([p + move / 10 for move in moves]), 0, 1)
        if len(set(y.tolist())) < 2 or len(set(p.tolist())) < 2:
            return

        def index(scores: Floats, threshold: float) -> tuple[float, float]:
            sens = float((scores[y == 1] >= threshold).mean())
            spec = float((scores[y == 0] < threshold).mean())
            error = sens * (1 - sens) / y.sum() + spec * (1 - spec) / (1 - y).sum()
            return sens + spec - 1, math.sqrt(error)

        scores = sorted({*p.tolist(), *rows.ravel().round(9).tolist()})
        tried = [(a + b) / 2 for a, b in itertools.pairwise(scores)]
        tried = [t for t in tried if p.min() < t < p.max()]
        greatest = max(index(p, t)[0] for t in tried)
        means = [
            float(np.mean([index(row, t)[0] for row in (p, *rows)]))
            for t in tried
            if index(p, t)[0] >= greatest - index(p, t)[1] - 1e-9
        ]
        found = choose_operating_point(y, p, "robust", changed=Changed(y, rows)).threshold
        reached = float(np.mean([index(row, found)[0] for row in (p, *rows)]))
        own, error = index(p, found)
        assert max(means) - error - 1e-9 <= reached <= max(means) + 1e-9
        assert own >= greatest - error - 1e-6

    def test_robust_counts_where_normal_distributions_do_not_fit(self) -> None:
        """Most positives far off, the rest just above all negatives, as they are and changed."""
        z = np.r_[np.linspace(-1, 0, 50), np.linspace(0.1, 0.4, 25), np.linspace(9, 12, 75)]
        y = np.r_[np.zeros(50, int), np.ones(100, int)]
        found = choose_operating_point(
            y, sigmoid(z), "robust", changed=Changed(y, sigmoid(np.stack([z, z])))
        )
        assert found.sensitivity == found.specificity == 1

    @pytest.mark.parametrize("n_positive", [0, 1, 9])
    def test_a_few_changed_samples_do_not_outweigh_all_others(self, n_positive: int) -> None:
        z, y = bells(100, separation=2.0, ratio=1.0, seed=0)
        some = np.r_[np.arange(50), 100 + np.arange(n_positive)]
        moved = sigmoid(np.stack([z[some] + 5] * 4))
        found = choose_operating_point(y, sigmoid(z), "robust", changed=Changed(y[some], moved))
        own = point("youden", y, sigmoid(z))
        assert (found.threshold, found.rule) == (own.threshold, "youden")
        assert found.reason == (
            f"{own.reason} The rule 'robust' needs 10 images of each class that were changed; "
            f"there were {n_positive} positive and 50 negative ones."
        )

    @pytest.mark.parametrize(
        ("y_true", "y_scores", "text"),
        [
            ([0, 1], [0.2, 0.4], "y_scores has shape (2,): give (n_changes, n_samples)."),
            (
                [0, 1, 1],
                [[0.2, 0.4]],
                "y_true has 3 samples and y_scores has 2: give one of each for every sample.",
            ),
            (
                [0, 1],
                [[0.2, 4.0]],
                "y_scores reaches from 0.2 to 4: give probabilities in [0, 1], not logits.",
            ),
            (
                [0, 3],
                [[0.2, 0.4]],
                "y_true holds 3 at position 1: labels are whole numbers from 0 to 1.",
            ),
            (
                [0, 1],
                [[0.2, math.nan]],
                "y_scores is not finite at position 1 (1 of 2 samples): training went astray, or a "
                "sample was not predicted.",
            ),
        ],
    )
    def test_changed_samples_are_checked(self, y_true: Any, y_scores: Any, text: str) -> None:
        with pytest.raises(DataError) as caught:
            choose_operating_point(Y, P, "robust", changed=Changed(y_true, y_scores))
        assert str(caught.value) == text

    def test_robust_without_changes_is_youden(self) -> None:
        z, y = bells(50, separation=2.0, ratio=1.0, seed=0)
        assert point("robust", y, sigmoid(z)).threshold == point("youden", y, sigmoid(z)).threshold

    def test_order_of_samples_does_not_matter(self) -> None:
        rng = np.random.default_rng(0)
        y, p = rng.integers(0, 2, 40), np.round(rng.random(40), 1)
        order = rng.permutation(40)
        for rule in ("youden", "sensitivity:0.9", "cost:2:1"):
            assert point(rule, y, p) == point(rule, y[order], p[order])

    def test_rounding_does_not_turn_a_decision(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 200)
        p = np.clip(0.5 + 0.2 * (y - 0.5) + rng.normal(size=200) * 0.15, 0, 1)
        threshold = point("youden", y, p).threshold
        noisy = p + rng.uniform(-4e-7, 4e-7, size=200)
        assert ((p >= threshold) == (noisy >= threshold)).all()

    def test_scores_that_differ_by_rounding_are_not_parted(self) -> None:
        found = point("sensitivity:0.9", [0, 1], [0.5, 0.5 + 1e-9])
        assert "all have the same score" in found.reason

    def test_neighbouring_floats_stay_apart(self) -> None:
        p = [0.2, 0.2 + 3e-6]
        found = point("youden", [0, 1], p)
        assert p[0] < found.threshold < p[1]


class TestCannotChoose:
    @pytest.mark.parametrize(
        ("y", "p", "reason"),
        [
            ([0, 0], [0.1, 0.2], "None of the 2 validation images is positive"),
            ([1, 1], [0.1, 0.2], "None of the 2 validation images is negative"),
            ([0, 1], [0.3, 0.3], "The 2 validation images all have the same score"),
        ],
    )
    def test_youden_and_cost_stay_at_a_half(self, y: Any, p: Any, reason: str) -> None:
        for rule in ("youden", "cost:2:1", "sensitivity:0.9", "specificity:0.9"):
            found = point(rule, y, p)
            assert found.threshold == 0.5
            assert found.reason == f"{reason}; the threshold stays at 0.5."

    def test_missing_class_is_nan(self) -> None:
        found = point("youden", [0, 0], [0.1, 0.6])
        assert math.isnan(found.sensitivity)
        assert found.specificity == 0.5

    def test_takes_the_nearest_that_can_be_had_and_says_so(self) -> None:
        found = point("specificity:0.9", [0, 0, 1, 0], [0.1, 0.9, 0.9, 0.1])
        assert found.specificity == pytest.approx(2 / 3)
        assert found.threshold == pytest.approx(0.5)
        assert found.reason == (
            "No threshold keeps 'specificity:0.9' on the 3 negative validation images without "
            "calling all images alike; the most that can be had, 0.667, was taken."
        )


ALLOWED = (
    "Allowed are 'youden', 'robust', 'sensitivity:0.95', 'specificity:0.9', 'fixed:0.5' and "
    "'cost:FN:FP' such as 'cost:5:1'."
)


class TestBadInput:
    @pytest.mark.parametrize(
        ("rule", "text"),
        [
            ("yuden", f"Unknown rule 'yuden'. Did you mean 'youden'? {ALLOWED}"),
            ("F1", f"Unknown rule 'F1'. {ALLOWED}"),
            (
                "sensitivity",
                f"The rule 'sensitivity' has 0 numbers and 'sensitivity' takes 1. {ALLOWED}",
            ),
            ("youden:1", f"The rule 'youden:1' has 1 numbers and 'youden' takes 0. {ALLOWED}"),
            ("cost:a:b", f"The rule 'cost:a:b' holds what is no number. {ALLOWED}"),
            ("cost:0:1", f"The rule 'cost:0:1' needs costs above 0. {ALLOWED}"),
            ("cost:nan:1", f"The rule 'cost:nan:1' needs costs above 0. {ALLOWED}"),
            (
                "specificity:90",
                f"The rule 'specificity:90' needs a share above 0 and at most 1. {ALLOWED}",
            ),
            ("fixed:2", f"The rule 'fixed:2' needs a threshold from 0 to 1. {ALLOWED}"),
        ],
    )
    def test_rules(self, rule: str, text: str) -> None:
        with pytest.raises(SettingError) as caught:
            point(rule)
        assert str(caught.value) == text

    @pytest.mark.parametrize(
        ("y", "p", "text"),
        [
            (
                [0, 1],
                [0.5],
                "y_true has 2 samples and y_score has 1: give one of each for every sample.",
            ),
            (
                [0, 1],
                [0.5, math.nan],
                "y_score is not finite at position 1 (1 of 2 samples): training went astray, or a "
                "sample was not predicted.",
            ),
            (
                [0, 1],
                [-2.5, 3],
                "y_score reaches from -2.5 to 3: give probabilities in [0, 1], not logits.",
            ),
            (
                [0, 3],
                [0.1, 0.2],
                "y_true holds 3 at position 1: labels are whole numbers from 0 to 1.",
            ),
        ],
    )
    def test_samples(self, y: Any, p: Any, text: str) -> None:
        with pytest.raises(DataError) as caught:
            point("youden", y, p)
        assert str(caught.value) == text


class TestLock:
    def test_repeats_and_notices_a_change(self) -> None:
        found = point("youden")
        assert lock(found) == lock(point("youden"))
        assert len(lock(found)) == 64
        assert lock(found) != lock(point("cost:1:5"))

    def test_is_the_hash_of_canonical_json(self) -> None:
        import hashlib

        locked = OperatingPoint("fixed:0.5", 0.5, math.nan, 0.75, 8, 0, "Given.")
        text = '{"n":8,"rule":"fixed:0.5","sensitivity":null,"specificity":0.75,"threshold":0.5}'
        assert lock(locked) == hashlib.sha256(text.encode()).hexdigest()
