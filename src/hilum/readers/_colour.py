"""Alpha, CMYK, palettes and orientation → upright grey or RGB, the same for every format.

Arrays here have shape (height, width, channels) and keep their integer type. `white` is the
largest value of a sample, such as 255 or 65535.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bradford-adapted D50 → linear sRGB (Lindbloom, RGB/XYZ matrices), because CIELAB in TIFF and
# ICC files is relative to D50.
XYZ_TO_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
WHITE_D50 = np.array([0.96422, 1.0, 0.82521])


def over_black(pixels: NDArray[Any], alpha: NDArray[Any], white: int) -> NDArray[Any]:
    """Lay pixels of shape (height, width, channels) with their alpha over black."""
    if alpha.size and alpha.min() == white:
        return pixels
    return _times(pixels, alpha[..., None], white)


def cmyk_to_rgb(pixels: NDArray[Any], white: int) -> NDArray[Any]:
    """Turn ink (0 none, `white` full) into light, without a colour profile."""
    inverse = np.asarray(white - pixels[..., :4], pixels.dtype)
    return _times(inverse[..., :3], inverse[..., 3:], white)


def _times(values: NDArray[Any], share: NDArray[Any], white: int) -> NDArray[Any]:
    """Return values × share / white, rounded, in the type of `values`."""
    if values.dtype.kind == "f":
        return np.asarray(values * (share / np.float32(white)))
    wide = np.uint64 if white > 65535 else np.uint32
    product = values.astype(wide) * share.astype(wide)
    return np.asarray((product + wide(white // 2)) // wide(white), values.dtype)


def lab_to_rgb(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Turn CIELAB (L* 0 to 100, a* and b* signed; D50) into sRGB, clipped to its gamut."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * WHITE_D50
    linear = np.clip(xyz @ XYZ_TO_SRGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), np.uint8)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF or TIFF orientation of 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
