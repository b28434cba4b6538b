"""Thresholds chosen by a rule, against trying every one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import DataError, SettingError
from hilum.operating_points import OperatingPoint, choose_operating_point, lock

# Two negatives and two positives overlap; midpoints .15 .25 .35 .45 .6.
Y = [0, 0, 1, 0, 1, 1]
P = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]


def point(rule: str, y: Any = None, p: Any = None) -> OperatingPoint:
    return choose_operating_point(Y if y is None else y, P if p is None else p, rule)


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
        assert "have scores too close together to be parted" in found.reason

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
