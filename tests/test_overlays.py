from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hilum.overlays import LEAST_SIDE, MOST_OPAQUE, colours, heat_png, overlay, with_legend

# Linear RGB as seen without one kind of cone (Viénot, Brettel and Mollon, 1999).
SEEN_WITHOUT = {
    "none": np.eye(3),
    "L cones": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "M cones": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


@pytest.mark.parametrize("missing", SEEN_WITHOUT)
def test_colours_rise_in_lightness_for_every_eye(missing: str) -> None:
    linear = (colours() / 255.0) ** 2.2
    seen = np.clip(linear @ np.array(SEEN_WITHOUT[missing]).T, 0, 1)
    lightness = np.cbrt(seen @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness[::5])
    assert (steps > 0).all()
    # Perceptually even: no part of the scale rises much faster than the rest.
    assert steps.max() < 3 * steps.mean()


def test_cold_places_stay_as_they_were_and_warm_ones_take_colour_by_their_heat() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 1), dtype=np.uint8)
    heat = np.zeros((4, 5), dtype=np.float32)
    heat[1, 2], heat[3, 3] = 1, 0.4
    drawn = overlay(picture, heat, contour=False)
    for row in range(4):
        for column in range(5):
            level = round(float(heat[row, column]) * 255)
            opacity = MOST_OPAQUE * level / 255
            for channel in range(3):
                below = float(picture[row, column, 0])
                expected = below + opacity * (float(colours()[level, channel]) - below)
                assert drawn[row, column, channel] == pytest.approx(expected, abs=0.51)


def test_the_line_lies_where_heat_is_half_and_not_along_the_edge() -> None:
    heat = np.zeros((9, 12), dtype=np.float32)
    heat[:, 5:] = 0.6
    drawn = overlay(np.full((9, 12, 3), 128, dtype=np.uint8), heat)
    assert (drawn[:, 5] == 255).all()
    assert (drawn[:, 4] == 0).all()
    assert (drawn[:, [0, 1, 2, 3]] == 128).all()
    assert len(np.unique(drawn[:, 6:].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(("height", "width"), [(28, 20), (300, 200), (60, 900)])
def test_the_picture_keeps_its_resolution_or_grows_by_a_whole_factor(
    height: int, width: int
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
    heat = np.zeros((height, width), dtype=np.float32)
    image = with_legend(picture, heat, ["One line.", "Another line that says much more " * 9])
    factor = -(-LEAST_SIDE // max(height, width)) if max(height, width) < LEAST_SIDE else 1
    drawn = np.asarray(image)[: height * factor, : width * factor]
    assert (drawn[::factor, ::factor, 0] == picture[..., 0]).all()
    assert image.height > height * factor + 40
    # Room is left to the right of the longest line.
    assert not np.asarray(image)[height * factor :, -3:].any()


def test_raw_heat_is_kept_in_16_bits() -> None:
    heat = np.array([[0, 0.25], [0.5, 1]], dtype=np.float32)
    with Image.open(io.BytesIO(heat_png(heat))) as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == [[0, 16384], [32768, 65535]]
