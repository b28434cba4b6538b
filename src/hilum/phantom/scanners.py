"""Two scanners: attenuation → the grey values and the file that each would write."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hilum.phantom.chest import Plane


@dataclass(frozen=True)
class Scanner:
    """How a scanner shows what the beam met.

    Attributes
    ----------
    name : str
    size : tuple of int
        Height and width of its images, in pixels.
    suffix : str
        '.png' or '.jpg'.
    steepness, bend : float
        Of its contrast curve.
    noise : float
        Standard deviation of the noise where the image is black, in grey values.
    blur : float
        Radius of its point spread, in pixels of an image 256 wide.
    """

    name: str
    size: tuple[int, int]
    suffix: str
    steepness: float
    bend: float
    noise: float
    blur: float


SCANNERS = (
    Scanner("A", (256, 256), ".png", steepness=1.25, bend=1.25, noise=2.0, blur=0.0),
    Scanner("B", (288, 240), ".jpg", steepness=1.75, bend=1.05, noise=3.5, blur=0.7),
)
JPEG_QUALITY = 90
THICKEST = 1.1  # attenuation that comes close to white at a middling dose


def expose(plane: Plane, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn attenuation into grey values, under- or overexposed at random.

    Returns
    -------
    uint8 array of the shape of `plane`
    """
    dose, gain, offset = rng.uniform(0.85, 1.2), rng.uniform(0.90, 1.0), rng.uniform(0, 12)
    bent = np.power(np.clip(plane, 0, None), scanner.bend)
    full = 1 - math.exp(-scanner.steepness * THICKEST)
    shown: Plane = 1 - np.exp(-scanner.steepness * dose * bent)
    grey = _blurred(235 * gain / full * shown + offset, scanner.blur * plane.shape[1] / 256)
    # Fewer photons come through where more is absorbed, so noise grows with brightness.
    noise = rng.standard_normal(plane.shape, dtype=np.float32) * scanner.noise
    return _bytes(grey + noise * (0.6 + grey * (0.8 / 255)))


def encode(pixels: NDArray[np.uint8], suffix: str, *, quality: int = JPEG_QUALITY) -> bytes:
    """Write a grey image as the bytes of a PNG or JPEG."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    if suffix == ".png":
        image.save(stream, "PNG", compress_level=3)
    else:
        image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))


def mark(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the letter L into the upper right corner, as a lead marker beside the shoulder."""
    image = Image.fromarray(pixels)
    width = image.width
    left, top, tall, thick = 0.905 * width, 0.035 * width, 0.075 * width, round(0.018 * width)
    letter = [(left, top), (left, top + tall), (left + 0.055 * width, top + tall)]
    ImageDraw.Draw(image).line(letter, fill=235, width=max(1, thick))
    return np.asarray(image)


def _blurred(grey: Plane, radius: float) -> Plane:
    if radius == 0:
        return grey
    # Pillow blurs bytes only; the half grey value lost in rounding is far below the noise.
    image = Image.fromarray(_bytes(grey))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)


def _bytes(grey: Plane) -> NDArray[np.uint8]:
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
