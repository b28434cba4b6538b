"""What a reader returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
        Distance of pixel centres (rows, columns) in millimetres.
    orientation : int
        EXIF orientation that was undone, 1 when there was none.
    burned_in : bool
        The header says that identifying text is drawn into the pixels.
    notes : tuple of str
        What a user should know of how the file was read.
    """

    format: str
    mode: str
    bits: int
    spacing_mm: tuple[float, float] | None = None
    orientation: int = 1
    burned_in: bool = False
    notes: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """Pixels of one file, with their range.

    Attributes
    ----------
    pixels : array of shape (frames, height, width, channels)
        1 channel for grey, 3 for RGB; uint8, uint16, int16, int32 or float32.
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
