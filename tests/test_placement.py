from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hilum.pixels import PixelSpec, resize
from hilum.placement import place

SIZES = ((24, 32), (9, 7), (60, 60), (31, 120), (150, 40), (64, 48))


def spec_of(mode: Any) -> PixelSpec:
    return PixelSpec(height=24, width=32, resize=mode)


def response(shape: tuple[int, int], axis: int, at: int, mode: str) -> NDArray[np.float64]:
    """Resize a picture that is black but for one row or column; return the profile across it."""
    picture = np.zeros((*shape, 1), dtype=np.uint8)
    picture[(at, slice(None)) if axis == 0 else (slice(None), at)] = 255
    return np.asarray(resize(picture, spec_of(mode))[..., 0].astype(float).max(axis=1 - axis))


@pytest.mark.parametrize("mode", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("shape", SIZES)
def test_every_row_and_column_lies_where_resizing_puts_it(
    mode: str, shape: tuple[int, int]
) -> None:
    for axis, placed in enumerate(place(shape, spec_of(mode))):
        for at in range(shape[axis]):
            position = placed.positions[at]
            profile = response(shape, axis, at, mode)
            # A stripe near an end is repeated over the padding or cut off: no centre to compare.
            reach = max(1.0, placed.scale)
            first, last = np.flatnonzero(placed.is_picture)[[0, -1]]
            if first + reach <= position <= last - reach:
                centre = (profile * np.arange(len(profile))).sum() / profile.sum()
                assert centre == pytest.approx(position, abs=0.12)
            if profile.max() == 0:
                assert not placed.is_seen[at]
            elif not placed.is_seen[at]:
                # A filter reaches a little beyond the cut.
                assert min(abs(position + 0.5), abs(position - placed.target + 0.5)) <= reach


@pytest.mark.parametrize("shape", SIZES)
def test_padding_is_what_repeats_the_outermost_rows_and_columns(shape: tuple[int, int]) -> None:
    for axis, placed in enumerate(place(shape, spec_of("letterbox"))):
        for end, at in ((0, 0), (-1, shape[axis] - 1)):
            outermost = np.flatnonzero(placed.is_picture)[end]
            profile = response(shape, axis, at, "letterbox")
            padding = profile[: outermost + 1] if end == 0 else profile[outermost:]
            assert set(padding) == {padding[end]}
            assert padding[end] == profile.max() > 0


def test_nothing_is_cut_or_padded_by_stretching() -> None:
    for axis in place((10, 500), spec_of("stretch")):
        assert axis.is_seen.all()
        assert axis.is_picture.all()


def test_cropping_hides_the_ends_of_the_longer_side() -> None:
    rows, columns = place((24, 64), spec_of("crop"))
    assert rows.is_seen.all()
    assert columns.is_seen.tolist() == [False] * 16 + [True] * 32 + [False] * 16
