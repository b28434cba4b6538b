from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import grey_closing, grey_opening

from hilum.auditing.marks import MARK, mark_contrast
from looks_made import make_looks
from test_auditing_shortcuts import find, of_clue

Looks = NDArray[np.uint8]
LETTER = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=bool)


def stamp(look: Looks, row: int, column: int, grey: int = 235) -> None:
    look[row : row + 4, column : column + 3][LETTER] = grey


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("grey", [235, 0])
def test_a_mark_on_a_part_of_one_class_is_found(share: float, grey: int) -> None:
    samples, looks, y = make_looks(120)
    marked = (y == 1) & (np.random.default_rng(1).uniform(size=len(y)) < share)
    for i in np.flatnonzero(marked):
        stamp(looks[i], 3, 57, grey)
    found = of_clue(find(samples, looks), "mark")
    assert found.severity == "high"
    assert found.details["class"] == "class 1"
    [paths] = found.paths
    expected = set(samples["path"][marked])
    assert len(expected & set(paths)) >= 0.9 * len(expected)
    assert len(set(paths) - expected) <= 0.1 * len(paths)
    assert found.count == len(paths)


def test_a_mark_in_changing_corners_is_found() -> None:
    samples, looks, y = make_looks(120)
    rng = np.random.default_rng(2)
    marked = (y == 0) & (rng.uniform(size=len(y)) < 0.5)
    for i in np.flatnonzero(marked):
        stamp(looks[i], *((3, 3), (3, 57), (56, 3), (56, 57))[rng.integers(4)])
    found = of_clue(find(samples, looks), "mark")
    assert found.details["class"] == "class 0"
    assert "corner" in found.details["place"] or "anywhere" in found.details["place"]


def test_the_plainest_marks_stand_first() -> None:
    samples, looks, y = make_looks(120)
    ill = np.flatnonzero(y == 1)
    for i in ill:
        stamp(looks[i], 4, 55, 190)
    plain = ill[-10:]  # the last in the table
    for i in plain:
        stamp(looks[i], 4, 55, 255)
    found = of_clue(find(samples, looks), "mark")
    assert set(found.paths[0][:8]) <= set(samples["path"].iloc[plain])
    assert found.examples == found.paths[0][:10]


def test_a_mark_on_both_classes_alike_is_none() -> None:
    samples, looks, _ = make_looks(100)
    for look in looks[::3]:
        stamp(look, 3, 57)
    assert find(samples, looks) == []


def test_contrast_of_marks_is_large_where_they_are() -> None:
    looks = np.full((2, 64, 64), 100, np.uint8)
    stamp(looks[0], 3, 57, grey=200)
    contrast = mark_contrast(looks)
    # The letter has six pixels.
    assert contrast["bright, upper right corner"] == pytest.approx([100, 0])
    assert contrast["bright, any corner"] == pytest.approx([100, 0])
    assert contrast["bright, lower left corner"] == pytest.approx([0, 0])
    assert contrast["dark, upper right corner"][1] == 0


def test_marks_stand_out_by_opening_and_closing() -> None:
    looks = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    window = (1, MARK, MARK)
    bright = (looks - grey_opening(looks, size=window))[:, :16, :16].reshape(5, -1)
    dark = (grey_closing(looks, size=window) - looks)[:, :16, :16].reshape(5, -1)
    found = mark_contrast(looks)
    for kind, expected in (("bright", bright), ("dark", dark)):
        six = np.sort(expected, axis=1)[:, -6:].mean(axis=1)
        assert found[f"{kind}, upper left corner"] == pytest.approx(six)
