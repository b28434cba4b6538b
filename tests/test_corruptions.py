from __future__ import annotations

import numpy as np
import pytest

from hilum.corruptions import CORRUPTIONS, corrupt
from making import pictures


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_corruption_grows_with_its_level_and_repeats(name: str, channels: int) -> None:
    images = pictures(4, channels=channels)
    before = images.copy()
    far = []
    for level in CORRUPTIONS[name].levels:
        found = corrupt(images, name, level)
        assert found.shape == images.shape
        assert found.dtype == np.uint8
        assert np.array_equal(found, corrupt(images, name, level))
        far.append(float(np.abs(found.astype(int) - images).mean()))
    assert far[0] > 0
    # Turning noise further makes it no more unlike itself.
    assert far == sorted(far) or name == "rotation"
    assert np.array_equal(images, before)


def test_brightness_contrast_and_gamma_by_hand() -> None:
    image = np.array([[[[10], [100]], [[200], [250]]]], dtype=np.uint8)  # mean 140
    assert corrupt(image, "darker", 20).ravel().tolist() == [0, 49, 149, 199]
    assert corrupt(image, "brighter", 20).ravel().tolist() == [61, 151, 251, 255]
    assert corrupt(image, "less_contrast", 40).ravel().tolist() == [62, 116, 176, 206]
    expected = np.rint(255 * (image / 255) ** 2).ravel().tolist()
    assert corrupt(image, "gamma_above_1", 100).ravel().tolist() == expected


def test_enlarging_by_hand() -> None:
    rows, columns = np.mgrid[:100, :100] + 0.5 - 50
    image = (255 * (np.hypot(rows, columns) < 20)).astype(np.uint8)[None, ..., None]

    def extent(name: str) -> list[int]:
        disc = corrupt(image, name, 20)[0, ..., 0] > 127
        return [int(disc.any(axis=axis).sum()) for axis in (0, 1)]

    found = {name: extent(name) for name in ("larger", "wider", "taller")}
    assert found == {"larger": [48, 48], "wider": [48, 40], "taller": [40, 48]}


def test_what_no_longer_fits_is_cut_off() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None], (1, 100, 100))[..., None]
    shown = corrupt(ramp, "larger", 25)[0, :, 50, 0].astype(int)
    # Row i shows what lay at 50 + (i - 50) / 1.25.
    assert np.abs(shown - (50 + (np.arange(100) + 0.5 - 50) / 1.25 - 0.5)).max() <= 1
