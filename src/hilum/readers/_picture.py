"""What a reader returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RangeFrom = Literal["type", "bits", "header", "window", "modality", "file"]


@dataclass(frozen=True)
class Facts:
    """What a file says of itself, nothing that identifies a person.

    Attributes
    ----------
    format : str
        'PNG', 'JPEG', 'TIFF', 'DICOM', 'NIfTI', 'NPZ' or 'NPY'.
    mode : str
        The file's own name for its pixel layout, such as 'L', 'RGBA' or 'MONOCHROME1'.
    bits : int
        Bits that carry information in one channel.
    spacing_mm : tuple of float or None
        Distance of pixel centres (rows, columns) in millimetres, where the format states it for
        the object pictured (DICOM, NIfTI), not for paper or screen.
    orientation : int
        EXIF or TIFF orientation that was undone, 1 when there was none.
    burned_in : bool
        The header says that identifying text is drawn into the pixels.
    range_from : str
        Where `Picture.value_range` comes from: the sample's 'type', the 'bits' that the header
        says are used, a 'header' field, a display 'window', the usual range of the 'modality', or
        the values of this 'file'.
    notes : tuple of str
        What a user should know of how the file was read.
    """

    format: str
    mode: str
    bits: int
    spacing_mm: tuple[float, float] | None = None
    orientation: int = 1
    burned_in: bool = False
    range_from: RangeFrom = "type"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """Pixels of one file, with their range.

    Attributes
    ----------
    pixels : array of shape (frames, height, width, channels)
        1 channel for grey, 3 for RGB; integers of at most 32 bits or float32, all finite. Larger
        is brighter, whatever the file's polarity.
    value_range : tuple of float
        (black, white): the values that show as black and as white.
    facts : Facts
    """

    pixels: NDArray[Any]
    value_range: tuple[float, float]
    facts: Facts

    @property
    def n_frames(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def is_grey(self) -> bool:
        """Whether every pixel has equal channels, as in grey images stored as RGB."""
        pixels = self.pixels
        if pixels.shape[-1] == 1:
            return True
        return bool(np.array_equal(pixels[..., 0], pixels[..., 1])) and bool(
            np.array_equal(pixels[..., 0], pixels[..., 2])
        )
