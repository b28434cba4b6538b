"""`read`: find out what a file is and hand it to its reader."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hilum.errors import UnreadableError
from hilum.readers._picture import Facts, Picture

FORMATS = ("PNG", "JPEG", "TIFF")


def read(source: str | Path | bytes, *, name: str | None = None) -> Picture:
    """Read one image file."""
    if isinstance(source, bytes):
        label, data = name or "image", source
    else:
        label = name or str(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise UnreadableError(label, error.strerror or str(error)) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            mode, form = image.mode, image.format or ""
            image.load()
            image = ImageOps.exif_transpose(image)
            image = image.convert("L" if image.mode in ("L", "1", "LA") else "RGB")
    except Exception as error:
        raise UnreadableError(label, str(error)) from None
    pixels = np.asarray(image)
    pixels = pixels[None, :, :, None] if pixels.ndim == 2 else pixels[None]
    return Picture(pixels, (0.0, 255.0), Facts(form, mode, 8))
