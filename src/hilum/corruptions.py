"""Corruptions of images: what other scanners, exposures and archives do to them, in degrees.

They are made on purpose, to see how a model bears them (Hendrycks and Dietterich, Benchmarking
neural network robustness to common corruptions and perturbations, ICLR 2019).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hilum.pixels import Images
from hilum.threads import in_threads

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt an image; level 0 leaves it as it is.

    Attributes
    ----------
    unit : str
        What a level counts.
    levels : tuple of float
        Rising; without 0.
    apply : function
        (pixels of shape (h, w, c), level, seed) → pixels.
    """

    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Pixels, float, int], Pixels]


def blur(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Blur with a Gaussian whose sigma is a share of the shorter side."""
    del seed
    sigma = level / 100 * min(pixels.shape[:2])
    return _array(_image(pixels).filter(ImageFilter.GaussianBlur(sigma)), pixels)


def add_noise(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Add Gaussian noise; the same image gets the same noise, stronger at a higher level."""
    drawn = np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    return _clipped(pixels + drawn * np.float32(level / 100 * 255))


def scale_contrast(pixels: Pixels, level: float, seed: int, *, sign: int) -> Pixels:
    """Stretch or squeeze grey values about the image's mean."""
    del seed
    mean = float(pixels.mean())
    return _clipped((np.arange(256) - mean) * (1 + sign * level / 100) + mean)[pixels]


def shift_brightness(pixels: Pixels, level: float, seed: int, *, sign: int) -> Pixels:
    """Add a share of the range to every value."""
    del seed
    return _clipped(np.arange(256) + sign * level / 100 * 255)[pixels]


def bend_gamma(pixels: Pixels, level: float, seed: int, *, sign: int) -> Pixels:
    """Raise values, as shares of the range, to a power: 1 + level, or its inverse."""
    del seed
    power = (1 + level / 100) ** sign
    return _clipped(255 * (np.arange(256) / 255) ** power)[pixels]


def rotate(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Turn by some degrees, every second image the other way; borders are repeated."""
    height, width = pixels.shape[:2]
    # A border this wide holds all that a turn of up to 45 degrees brings into the picture.
    rim = max(height, width) // 4 + 1
    wide = np.pad(pixels, ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    angle = level if seed % 2 else -level
    turned = _array(_image(wide).rotate(angle, Image.Resampling.BILINEAR), wide)
    return turned[rim : rim + height, rim : rim + width]


def enlarge(pixels: Pixels, level: float, seed: int, *, across: bool, down: bool) -> Pixels:
    """Enlarge about the centre, along one axis or both, and cut off what no longer fits."""
    del seed
    height, width = pixels.shape[:2]
    cut = (1 - 1 / (1 + level / 100)) / 2
    left, top = cut * width * across, cut * height * down
    box = (left, top, width - left, height - top)
    return _array(_image(pixels).resize((width, height), Image.Resampling.BILINEAR, box), pixels)


def recompress(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Save as a JPEG of quality 100 - level."""
    del seed
    stream = io.BytesIO()
    _image(pixels).save(stream, "JPEG", quality=int(100 - level))
    with Image.open(stream) as image:
        return _array(image, pixels)


def coarsen(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Make smaller by a share of the side, and large again."""
    del seed
    height, width = pixels.shape[:2]
    factor = 1 - level / 100
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = _image(pixels).resize(small, Image.Resampling.BILINEAR)
    return _array(image.resize((width, height), Image.Resampling.BILINEAR), pixels)


CORRUPTIONS: dict[str, Corruption] = {
    "blur": Corruption("sigma, % of the side", (0.5, 1, 2), blur),
    "noise": Corruption("standard deviation, % of the range", (2, 5, 10), add_noise),
    "less_contrast": Corruption("%", (20, 40, 60), partial(scale_contrast, sign=-1)),
    "more_contrast": Corruption("%", (20, 40, 80), partial(scale_contrast, sign=1)),
    "darker": Corruption("% of the range", (10, 20, 30), partial(shift_brightness, sign=-1)),
    "brighter": Corruption("% of the range", (10, 20, 30), partial(shift_brightness, sign=1)),
    "gamma_above_1": Corruption("% above 1", (20, 50, 100), partial(bend_gamma, sign=1)),
    "gamma_below_1": Corruption("% above 1, inverted", (20, 50, 100), partial(bend_gamma, sign=-1)),
    "rotation": Corruption("degrees", (5, 10, 20), rotate),
    "larger": Corruption("%", (10, 20, 30), partial(enlarge, across=True, down=True)),
    "wider": Corruption("%", (10, 20, 30), partial(enlarge, across=True, down=False)),
    "taller": Corruption("%", (10, 20, 30), partial(enlarge, across=False, down=True)),
    "jpeg": Corruption("100 - quality", (50, 75, 90), recompress),
    "resolution": Corruption("% of the side lost", (50, 65, 80), coarsen),
}


def corrupt(pixels: Images, name: str, level: float) -> Pixels:
    """Corrupt prepared images.

    Parameters
    ----------
    pixels : uint8 images of shape (n, height, width, channels)
    name : str
        One of `CORRUPTIONS`.
    level : float
        As `CORRUPTIONS` lists them, or any between.

    Returns
    -------
    uint8 array of shape (n, height, width, channels)
        The same for the same input.
    """
    apply = CORRUPTIONS[name].apply
    seeds = range(len(pixels))
    return np.stack(list(in_threads(lambda seed: apply(pixels[seed], level, seed), seeds)))


def middle_level(name: str) -> float:
    """Return the level that is seen in practice: neither slight nor the greatest."""
    levels = CORRUPTIONS[name].levels
    return levels[len(levels) // 2]


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _array(image: Image.Image, like: Pixels) -> Pixels:
    return np.asarray(image).reshape(like.shape)


def _clipped(values: NDArray[Any]) -> Pixels:
    clipped: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped
