"""Heat drawn over the picture it belongs to, with a legend that says what it is and is not.

Colours rise in lightness from purple to yellow, so that their order shows to colour-blind readers
and in grey print; opacity rises with heat, so that cold places stay as they were; a line runs
where heat is half of its greatest.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hilum.pixels import to_channels

COLOURS = "inferno"
COLOURS_SPAN = (0.3, 0.9)  # darker ones are lost on a dark picture, lighter ones on a white one
MOST_OPAQUE = 0.7
CONTOUR = 0.5
"""Share of the greatest heat where the line runs."""

LEAST_SIDE = 256
"""Smaller pictures are enlarged by a whole factor, so that heat and legend can be read."""

LEAST_WIDTH = 360


def overlay(
    picture: NDArray[np.uint8], heat: NDArray[np.floating[Any]], *, contour: bool = True
) -> NDArray[np.uint8]:
    """Draw heat over a picture.

    Parameters
    ----------
    picture : uint8 array of shape (height, width, 1 or 3)
    heat : float array of shape (height, width)
        In [0, 1]; 0 leaves the picture as it is.
    contour : bool
        Draw the line at `CONTOUR`.

    Returns
    -------
    uint8 array of shape (height, width, 3)
    """
    below = to_channels(picture, 3)
    level = np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    opacity = (np.arange(256, dtype=np.float32) * (MOST_OPAQUE / 255))[level][..., None]
    drawn = below + opacity * (colours()[level] - below.astype(np.float32))
    drawn = np.asarray(np.rint(drawn), dtype=np.uint8)
    if contour:
        # Light within dark, so that the line shows on any picture.
        hot = heat >= CONTOUR
        drawn[_outline(~hot)] = 0
        drawn[_outline(hot)] = 255
    return np.asarray(drawn)


@functools.cache
def colours() -> NDArray[np.float32]:
    """Return the colours of heat 0 to 1 as a float32 array of shape (256, 3), in [0, 255]."""
    from matplotlib import colormaps

    table = colormaps[COLOURS](np.linspace(*COLOURS_SPAN, 256))[:, :3]
    return np.asarray(np.rint(table * 255), dtype=np.float32)


def _outline(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of an area that touch its outside; the picture's edge is none."""
    wide = np.pad(area, 1, mode="edge")
    inner = wide[1:-1, 1:-1] & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return area & ~inner


def with_legend(
    picture: NDArray[np.uint8], heat: NDArray[np.floating[Any]], lines: Sequence[str]
) -> Image.Image:
    """Draw heat over a picture at its own resolution, and a legend below it.

    Parameters
    ----------
    picture : uint8 array of shape (height, width, 1 or 3)
    heat : float array of shape (height, width)
        In [0, 1].
    lines : sequence of str
        What the legend says, beside the scale.

    Returns
    -------
    Image
        The picture's size and the legend below; whole multiples of it where that is small.
    """
    factor = max(1, -(-LEAST_SIDE // max(picture.shape[:2])))
    drawn = overlay(_enlarged(picture, factor), _enlarged(heat, factor))
    height, width = drawn.shape[:2]
    legend = _legend(max(width, LEAST_WIDTH), lines)
    canvas = Image.new("RGB", (legend.width, height + legend.height))
    canvas.paste(Image.fromarray(drawn), (0, 0))
    canvas.paste(legend, (0, height))
    return canvas


def _enlarged(plane: NDArray[Any], factor: int) -> NDArray[Any]:
    return plane.repeat(factor, axis=0).repeat(factor, axis=1)


def _legend(width: int, lines: Sequence[str]) -> Image.Image:
    """Draw the scale of colours, as they look over black, and lines of text."""
    size = max(12, min(48, width // 45))
    gap = size // 2
    font = ImageFont.truetype(_font_file(), size)
    wrapped = [part for line in lines for part in _wrap(line, font, width - 2 * gap)]
    image = Image.new("RGB", (width, gap * 3 + size * 2 + round(1.35 * size) * len(wrapped)))
    draw = ImageDraw.Draw(image)
    left, right = "no heat", "most"
    bar_left = gap * 2 + round(font.getlength(left))
    bar_right = width - gap * 2 - round(font.getlength(right))
    ramp = np.linspace(0, 1, max(2, bar_right - bar_left))[None].repeat(size, axis=0)
    grey = np.full((*ramp.shape, 1), 96, dtype=np.uint8)
    image.paste(Image.fromarray(overlay(grey, ramp)), (bar_left, gap))
    draw.text((gap, gap), left, fill="white", font=font)
    draw.text((bar_right + gap, gap), right, fill="white", font=font)
    for row, line in enumerate(wrapped):
        draw.text((gap, gap * 2 + size + round(1.35 * size) * row), line, fill="white", font=font)
    return image


def _wrap(line: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a line where it would be wider than `width`; a word that is wider stands alone."""
    found: list[str] = []
    for word in line.split():
        if found and font.getlength(f"{found[-1]} {word}") <= width:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


@functools.cache
def _font_file() -> str:
    """DejaVu, which matplotlib brings: it writes Latin, Greek and Cyrillic class names."""
    from matplotlib import get_data_path

    return str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def as_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def heat_png(heat: NDArray[np.floating[Any]]) -> bytes:
    """Write heat in [0, 1] as a grey PNG of 16 bits: 65535 is 1."""
    return as_png(Image.fromarray(np.rint(np.clip(heat, 0, 1) * 65535).astype(np.uint16)))
