from __future__ import annotations

import pytest

from hilum.report.words import threshold


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
