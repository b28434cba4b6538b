"""Where each pixel of a picture lies in the network's input: `pixels.resize` as coordinates.

Coordinates count pixels from the first one's centre, so the first pixel's outer edge is at -0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hilum.pixels import PixelSpec


@dataclass(frozen=True)
class Axis:
    """How one axis of a picture lies along the same axis of the network's input.

    Attributes
    ----------
    length, target : int
        Pixels of the picture, and of the input.
    scale : float
        Pixels of the input for one of the picture.
    shift : float
        Pixels of the input before the picture begins; negative where its beginning was cut off.
    """

    length: int
    target: int
    scale: float
    shift: float

    @property
    def positions(self) -> NDArray[np.float64]:
        """Where the centre of each pixel of the picture lies in the input."""
        edges = np.arange(self.length, dtype=np.float64)
        return np.asarray((edges + 0.5) * self.scale + self.shift - 0.5)

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Which pixels of the picture the network sees; cutting hides the others."""
        return (self.positions >= -0.5) & (self.positions <= self.target - 0.5)

    @property
    def is_picture(self) -> NDArray[np.bool_]:
        """Which pixels of the input show the picture; the others are padding."""
        centres = np.arange(self.target) + 0.5
        return (centres > self.shift) & (centres < self.shift + self.length * self.scale)


def place(shape: Sequence[int], spec: PixelSpec) -> tuple[Axis, Axis]:
    """Return how the rows and the columns of a picture lie in the input that `spec` describes.

    Parameters
    ----------
    shape : sequence of int
        Of the picture; height and width come first.
    """
    height, width = shape[:2]
    if spec.resize == "stretch":
        return (
            Axis(height, spec.height, spec.height / height, 0),
            Axis(width, spec.width, spec.width / width, 0),
        )
    scales = spec.height / height, spec.width / width
    scale = min(scales) if spec.resize == "letterbox" else max(scales)
    return _centred(height, spec.height, scale), _centred(width, spec.width, scale)


def _centred(length: int, target: int, scale: float) -> Axis:
    inner = max(1, round(length * scale))
    room = target - inner
    # Both halve what is left over or cut off towards zero.
    shift = room // 2 if room >= 0 else -(-room // 2)
    return Axis(length, target, inner / length, shift)
