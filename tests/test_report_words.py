from __future__ import annotations

import pytest

from hilum.report.facts import Estimate
from hilum.report.words import THIN, estimate, threshold, times


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (0.70891, "0.709"),
        (0.001, "0.001"),
        (0.000048, "0.000048"),
        (0.99996, "0.999960"),
        (0.0, "0.000"),
        (1.0, "1.000"),
    ],
)
def test_a_threshold_near_0_or_1_does_not_read_as_either(value: float, text: str) -> None:
    assert threshold(value) == text


@pytest.mark.parametrize(
    ("value", "share", "percent"),
    [
        (1.0, "1.000", "100.0"), (0.0, "0.000", "0.0"), (0.9996, ">0.999", ">99.9"),
        (0.0004, "<0.001", "<0.1"), (0.9994, "0.999", "99.9"), (1.2, "1.200", "120.0"),
    ],
)  # fmt: skip
def test_what_is_not_perfect_does_not_read_so(value: float, share: str, percent: str) -> None:
    figure = Estimate(value, None, None, 10)
    assert estimate(figure, percent=False) == share
    assert estimate(figure, percent=True) == f"{percent}{THIN}%"


def test_times() -> None:
    assert [times(n) for n in (1, 2, 3)] == ["once", "twice", "3 times"]
