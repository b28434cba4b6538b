"""Small pictures for the report, seen as the network's own pixel path sees them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from hilum.dataset import Kind, open_picture
from hilum.errors import HilumError, UnreadableError
from hilum.pixels import to_8_bits, value_range
from hilum.readers import Picture

SIDE = 160  # pixels of the longer side
QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass
class Album:
    """Opens the images of one data set, and remembers those that it could not open.

    Attributes
    ----------
    source : Path
        The data of the run: a folder, a table or an NPZ.
    ranges : mapping
        (black, white) by dtype name, for files that do not state their own.
    missing : dict
        Reason by path.
    """

    source: Path
    kind: Kind
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def picture(self, path: str) -> Picture | None:
        """Open the image; None where it is gone or damaged."""
        try:
            return open_picture(self.source, self.kind, path)
        except UnreadableError as error:
            self.missing[path] = error.reason
        except (HilumError, OSError) as error:
            self.missing[path] = str(error)
        return None

    def thumbnail(self, path: str) -> Thumbnail | None:
        """Return the image small, or None where it is gone or damaged."""
        picture = self.picture(path)
        if picture is None:
            return None
        low, high = value_range(picture, self.ranges)
        frame = to_8_bits(picture.pixels[0], low, high)
        image = Image.fromarray(frame[..., 0] if picture.is_grey else frame)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return as_thumbnail(image)


def as_thumbnail(image: Image.Image) -> Thumbnail:
    """Pack a small image for the page."""
    return Thumbnail(_data_uri(image), image.width, image.height)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
