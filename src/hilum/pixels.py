"""Picture → the array a network sees. The one pixel path of training, prediction and service.

Four steps, always in this order: values to 8 bits by the stated range, colour to the wanted
channels, resize with antialiasing, done. A JPEG far larger than the network's input is decoded at
a reduced scale to begin with. Normalisation happens inside the network, so the arrays here are
plain uint8 images that a person can look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from hilum.readers import AtLeast, Picture, Reduction

PIXEL_PATH_VERSION = 4
"""Raised whenever the same file would give other pixels; stored with caches and models."""

Resize = Literal["letterbox", "stretch", "crop"]

MARGIN = 2
"""How many times the network's input a picture that is decoded smaller must still measure."""

# Rec. 601 luma, the weights that JPEG and Pillow use; integer so that every machine agrees.
LUMA = (19595, 38470, 7471)


class Images(Protocol):
    """uint8 images of shape (n, height, width, channels), in memory or read when indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[np.uint8]: ...

    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...


@dataclass(frozen=True)
class ReducedImages:
    """Images made smaller when indexed: each pixel the mean of factor × factor, rounded.

    `networks.reduce` does the same to tensors, to the last bit.

    Attributes
    ----------
    images : Images
        Height and width are multiples of the factor.
    factor : int
        A power of two, so that means are exact.
    """

    images: Images
    factor: int

    @property
    def shape(self) -> tuple[int, ...]:
        n, height, width, channels = self.images.shape
        return n, height // self.factor, width // self.factor, channels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        found, factor = self.images[index], self.factor
        # Image by image or many at once: rows and columns are the axes before the last.
        sums = sum(
            found[..., row::factor, column::factor, :].astype(np.uint16)
            for row in range(factor)
            for column in range(factor)
        )
        return np.rint(sums / factor**2).astype(np.uint8)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))


class PixelSpec(BaseModel):
    """How pictures become network input; stored inside the model.

    Attributes
    ----------
    height, width : int
        Size of the network's input, in pixels.
    channels : int
        1 for grey, 3 for RGB.
    resize : str
        'letterbox' keeps the aspect ratio and repeats the image's border; 'stretch' does not keep
        it; 'crop' keeps it and cuts the longer side.
    ranges : dict
        (black, white) by dtype name, in place of the range of the type, for images whose files do
        not use all of it and do not say so (12 bits in a 16-bit PNG).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 1
    resize: Resize = "letterbox"
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Opener(Protocol):
    """What reads one image, such as `functools.partial(hilum.read, path)`."""

    def __call__(self, *, at_least: AtLeast | None = None) -> Picture: ...


def load_prepared(opener: Opener, spec: PixelSpec) -> NDArray[np.uint8]:
    """Read an image, no larger than needed, and turn it into network input.

    Returns
    -------
    uint8 array of shape (frames, height, width, channels)
    """
    return prepare(opener(at_least=least_size(spec)), spec)


def least_size(spec: PixelSpec) -> AtLeast:
    """Return how large a picture must be decoded at least.

    Where the aspect ratio is kept and borders are added, the side that fills the input decides.
    """
    both = spec.resize != "letterbox"
    return AtLeast(MARGIN * spec.height, MARGIN * spec.width, both)


def prepare(picture: Picture, spec: PixelSpec) -> NDArray[np.uint8]:
    """Turn a picture into network input.

    `load_prepared` does the same from a file. For a JPEG that is large enough to be decoded at a
    reduced scale, it differs from this on the whole picture by a fraction of a grey level.

    Returns
    -------
    uint8 array of shape (frames, height, width, channels)
    """
    low, high = value_range(picture, spec.ranges)
    return np.stack(
        [
            resize(to_channels(to_8_bits(frame, low, high), spec.channels), spec, picture.reduction)
            for frame in picture.pixels
        ]
    )


def value_range(picture: Picture, ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Return the values that show as black and white: the file's own, or the data set's.

    A window or a number of bits that the file states knows better than the data set.
    """
    if picture.facts.range_from != "type":
        return picture.value_range
    return ranges.get(picture.pixels.dtype.name, picture.value_range)


def to_8_bits(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map `low` to 0 and `high` to 255, linearly and rounded; values outside are clipped.

    Where both are equal, as in a window of width 1, values above turn white and others black.
    """
    if pixels.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2 and pixels.size > 2**16:
        info = np.iinfo(pixels.dtype)
        every = np.arange(info.min, info.max + 1)
        # A negative index counts from the end, which is where negative values belong.
        table: NDArray[np.uint8] = np.roll(_scaled(every, low, high), info.min)
        return np.asarray(table[pixels])
    return _scaled(pixels, low, high)


def _scaled(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    # 64 bits, because 32 cannot tell large whole numbers apart.
    values = pixels.astype(np.float64)
    if low == high:
        return np.where(values > low, np.uint8(255), np.uint8(0))
    values -= low
    values *= 255.0 / (high - low)
    np.rint(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def to_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Turn (height, width, 1 or 3) into the wanted number of channels."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    red, green, blue = (pixels[..., i].astype(np.uint32) * LUMA[i] for i in range(3))
    # Equal channels give exactly their value: the weights add up to 65536.
    return ((red + green + blue + 32768) >> 16).astype(np.uint8)[..., None]


def resize(
    pixels: NDArray[np.uint8], spec: PixelSpec, reduction: Reduction | None = None
) -> NDArray[np.uint8]:
    """Resize (height, width, channels) with a triangle filter widened to the scale.

    All sizes follow from the whole picture, also where a reduced one was decoded.
    """
    whole = reduction or Reduction(1, *pixels.shape[:2])
    height, width = whole.height, whole.width
    if (height, width) == (spec.height, spec.width):
        return pixels
    if spec.resize == "stretch":
        return _resample(pixels, spec.height, spec.width, (0, 0, width, height), whole)
    scales = spec.height / height, spec.width / width
    scale = min(scales) if spec.resize == "letterbox" else max(scales)
    inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
    if spec.resize == "letterbox":
        inner = _resample(pixels, inner_height, inner_width, (0, 0, width, height), whole)
        return _pad_to(inner, spec.height, spec.width)
    # The part to keep, in pixels of the original: long pictures would grow huge before the cut.
    down, right = height / inner_height, width / inner_width
    top, left = (inner_height - spec.height) // 2 * down, (inner_width - spec.width) // 2 * right
    box = (left, top, left + spec.width * right, top + spec.height * down)
    return _resample(pixels, spec.height, spec.width, box, whole)


def _resample(
    pixels: NDArray[np.uint8],
    height: int,
    width: int,
    box: tuple[float, float, float, float],
    whole: Reduction,
) -> NDArray[np.uint8]:
    """Resize the part in `box` (left, top, right, bottom), in pixels of the whole picture."""
    left, top, right, bottom = (edge / whole.factor for edge in box)
    # Rounding must not put the box a hair outside.
    right = min(right + whole.left, pixels.shape[1])
    bottom = min(bottom + whole.top, pixels.shape[0])
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    # Rows before columns: which Pillow takes first hangs on its version and on the sizes, grey
    # levels are rounded in between, and the exported model has to round alike.
    across = (left + whole.left, 0, right, image.height)
    image = image.resize((width, image.height), Image.Resampling.BILINEAR, across)
    down = (0, top + whole.top, width, bottom)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, down))
    return resized.reshape(height, width, pixels.shape[-1])


def _pad_to(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Centre the image and repeat its outermost pixels, so that no edge appears that it lacks."""
    rows, columns = height - pixels.shape[0], width - pixels.shape[1]
    top, left = rows // 2, columns // 2
    return np.pad(pixels, ((top, rows - top), (left, columns - left), (0, 0)), mode="edge")
