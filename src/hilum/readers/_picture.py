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
class AtLeast:
    """How small a picture may be decoded, where its format can decode it smaller than it is.

    Attributes
    ----------
    height, width : float
        In pixels, of the upright picture.
    both : bool
        Both sides must be at least as long as this; otherwise one of them.
    """

    height: float
    width: float
    both: bool = True

    def factor(self, height: int, width: int) -> int:
        """Return the largest of 8, 4, 2 and 1 by which these sides may be divided."""
        needed = all if self.both else any
        for factor in (8, 4, 2):
            if needed((height >= factor * self.height, width >= factor * self.width)):
                return factor
        return 1


@dataclass(frozen=True)
class Reduction:
    """How pixels that were decoded smaller lie in the picture that the file holds.

    Attributes
    ----------
    factor : int
        Both sides are divided by it, and rounded up.
    height, width : int
        The whole picture, upright.
    top, left : float
        Where the picture begins, in reduced pixels: the first row or column of a turned picture
        may lie in it in part only, as the last one of others.
    """

    factor: int
    height: int
    width: int
    top: float = 0.0
    left: float = 0.0


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
    reduction : Reduction or None
        Only where the reader was asked for fewer pixels than the file holds.
    """

    pixels: NDArray[Any]
    value_range: tuple[float, float]
    facts: Facts
    reduction: Reduction | None = None

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
