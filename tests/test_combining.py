"""Intervals of differences and ratios by hand, and where a part is 0."""

from __future__ import annotations

import math

import pytest

from hilum import combining
from hilum.intervals import Interval


def test_difference_of_independent_figures() -> None:
    found = combining.difference(0.8, Interval(0.7, 0.88), 0.6, Interval(0.5, 0.69), 0.0)
    assert found.ci_low == pytest.approx(0.2 - math.hypot(0.1, 0.09))
    assert found.ci_high == pytest.approx(0.2 + math.hypot(0.08, 0.1))


def test_what_goes_together_differs_less() -> None:
    parts = (0.8, Interval(0.7, 0.9), 0.6, Interval(0.5, 0.7))
    wide, narrow = (combining.difference(*parts, r) for r in (0.0, 0.9))
    assert narrow.ci_low > wide.ci_low
    assert combining.difference(*parts, 1.0)[:2] == pytest.approx((0.2, 0.2))


def test_ratio_by_the_closed_form_of_donner_and_zou() -> None:
    a, l1, u1, b, l2, u2 = 0.9, 0.8, 0.95, 0.2, 0.12, 0.31
    found = combining.ratio(a, Interval(l1, u1), b, Interval(l2, u2), 0.0)
    low = (a * b - math.sqrt((a * b) ** 2 - l1 * u2 * (2 * a - l1) * (2 * b - u2))) / (
        u2 * (2 * b - u2)
    )
    high = (a * b + math.sqrt((a * b) ** 2 - u1 * l2 * (2 * a - u1) * (2 * b - l2))) / (
        l2 * (2 * b - l2)
    )
    assert found[:2] == pytest.approx((low, high))


def test_ratio_to_nothing_has_a_lower_bound() -> None:
    found = combining.ratio(0.9, Interval(0.8, 0.95), 0.0, Interval(0.0, 0.1), 0.0)
    assert found.ci_low == pytest.approx(math.sqrt(0.8 * (1.8 - 0.8)) / 0.1)
    assert found.ci_high == math.inf
    assert combining.ratio(0.0, Interval(0.0, 0.1), 0.5, Interval(0.4, 0.6), 0.0).ci_low == 0


def test_a_part_without_an_interval_leaves_none() -> None:
    lost = Interval.missing("too few")
    for combine in (combining.difference, combining.ratio):
        found = combine(0.5, lost, 0.5, Interval(0.4, 0.6), 0.0)
        assert math.isnan(found.ci_low)
        assert found.reason == "too few"
