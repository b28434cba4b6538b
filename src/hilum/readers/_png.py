"""PNG: every checksum and size is verified here, then a library decodes what is left.

The decoder is given a PNG of the picture's own chunks alone, so that no text, profile or
animation chunk can reach it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hilum.readers._colour import over_black, upright
from hilum.readers._exif import exif_orientation, xmp_orientation
from hilum.readers._inflate import Inflation
from hilum.readers._limits import Limits, Refusal
from hilum.readers._picture import Facts, Picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
N_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
MODES = {2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
# Start and step of rows and columns in each of the seven passes of Adam7.
PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2),
          (1, 2, 0, 1))  # fmt: skip
WRONG_SIZE = "damaged PNG: it holds more or fewer pixels than its header states"
MAX_TEXT_BYTES = 2**22


@dataclass
class _Png:
    """What the chunks say, all of them checked."""

    width: int = 0
    height: int = 0
    depth: int = 0
    colour: int = 0
    interlaced: bool = False
    palette: bytes = b""
    transparency: bytes | None = None
    orientation: int = 1
    data: list[memoryview] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_png(data: bytes, limits: Limits) -> Picture:
    """Read the still picture of a PNG."""
    png = _parse(data, limits)
    _check_inflates(png)
    pixels = _decode(png)
    white = 65535 if png.depth == 16 else 255
    if pixels.shape[-1] in (2, 4):
        pixels = over_black(pixels[..., :-1], pixels[..., -1], white)
    pixels = upright(pixels, png.orientation)
    mode = MODES.get(png.colour) or {1: "1", 16: "I;16"}.get(png.depth, "L")
    facts = Facts("PNG", mode, png.depth, orientation=png.orientation, notes=tuple(png.notes))
    return Picture(pixels[None], (0.0, float(white)), facts)


def _parse(data: bytes, limits: Limits) -> _Png:
    """Walk through the chunks; refuse what breaks the standard where it matters to pixels."""
    png = _Png()
    n_frames, previous, exif_up, other_up = 0, b"", 0, 0
    for kind, body, end in _chunks(data):
        if (kind == b"IHDR") != (previous == b""):
            raise Refusal("damaged PNG: IHDR must be its first chunk, once")
        if kind == b"IHDR":
            _read_header(png, body, len(data), limits)
        elif kind == b"PLTE":
            if png.palette or png.data or len(body) % 3 or not 3 <= len(body) <= 768:
                raise Refusal("damaged PNG: its palette is misplaced or of a wrong size")
            png.palette = bytes(body)
        elif kind == b"tRNS":
            png.transparency = bytes(body)
        elif kind == b"IDAT":
            if png.data and previous != b"IDAT":
                raise Refusal("damaged PNG: its picture data are interrupted")
            png.data.append(body)
        elif kind == b"eXIf":
            exif_up = exif_orientation(bytes(body))
        elif kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            name, text = _text(kind, bytes(body))
            if name == b"XML:com.adobe.xmp":
                other_up = other_up or xmp_orientation(text)
            elif name in (b"Raw profile type exif", b"Raw profile type APP1"):
                other_up = _raw_profile_orientation(text) or other_up
        elif kind == b"acTL" and len(body) == 8:
            n_frames = struct.unpack(">I", body[:4])[0]
        elif kind == b"IEND":
            if len(body):
                raise Refusal("damaged PNG: its end chunk is not empty")
            if end < len(data):
                n_after = len(data) - end
                png.notes.append(f"{n_after:,} bytes after the end of the PNG were ignored")
            previous = kind
            break
        elif not kind[0] & 0x20:
            raise Refusal(f"damaged PNG: unknown critical chunk {kind.decode()!r}")
        previous = kind
    if previous != b"IEND":
        raise Refusal("truncated PNG: it stops before its end chunk")
    if not png.data:
        raise Refusal("damaged PNG: it holds no picture data")
    if png.colour == 3 and not png.palette:
        raise Refusal("damaged PNG: its palette is missing")
    if n_frames > 1:
        png.notes.append(f"animated PNG of {n_frames} frames: its still picture was read")
    png.orientation = exif_up or other_up or 1
    return png


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield type, body and end of each chunk, its checksum verified."""
    view, at = memoryview(data), len(SIGNATURE)
    while at < len(data):
        if at + 12 > len(data):
            raise Refusal("truncated PNG: it stops inside a chunk")
        (length,) = struct.unpack_from(">I", data, at)
        kind = bytes(view[at + 4 : at + 8])
        if not kind.isalpha() or not kind.isascii():
            raise Refusal("damaged PNG: a chunk has no valid name")
        end = at + 12 + length
        if end > len(data):
            raise Refusal(f"truncated PNG: it stops inside its chunk {kind.decode()}")
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[at + 4 : end - 4]) != crc:
            raise Refusal(f"damaged PNG: wrong checksum in its chunk {kind.decode()}")
        yield kind, view[at + 8 : end - 4], end
        at = end


def _text(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return name and content of a text or profile chunk, inflated; refuse one that explodes."""
    name, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return name, rest
    compressed = kind != b"iTXt" or rest[:1] == b"\1"
    content = rest[1:]
    if kind == b"iTXt":  # compression flag and method, language, translated name
        content = rest[2:].split(b"\0", 2)[-1]
    if not compressed:
        return name, content
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(content, MAX_TEXT_BYTES)
    except zlib.error:
        return name, b""  # Damage there does not touch the picture.
    if inflater.unconsumed_tail:
        raise Refusal(
            f"a PNG with text or a profile of more than {MAX_TEXT_BYTES // 2**20} MiB: "
            "a decompression bomb"
        )
    return name, content


def _raw_profile_orientation(text: bytes) -> int:
    """Return the orientation of EXIF that ImageMagick wrote as hexadecimal text."""
    try:
        block = bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return 0
    return exif_orientation(block.removeprefix(b"Exif\0\0"))


def _read_header(png: _Png, body: memoryview, stored: int, limits: Limits) -> None:
    if len(body) != 13:
        raise Refusal("damaged PNG: its header has a wrong size")
    png.width, png.height, png.depth, png.colour, compression, filters, interlace = struct.unpack(
        ">IIBBBBB", body
    )
    png.interlaced = interlace == 1
    if png.depth not in DEPTHS.get(png.colour, ()):
        raise Refusal(f"damaged PNG: colour type {png.colour} with {png.depth} bits does not exist")
    if compression or filters or interlace > 1:
        raise Refusal("damaged PNG: unknown compression, filter or interlacing")
    n_channels = 3 if png.colour == 3 else N_SAMPLES[png.colour]
    pixel_bytes = n_channels * (2 if png.depth == 16 else 1)
    limits.check_size(png.height, png.width, pixel_bytes=pixel_bytes, stored=stored)


def _check_inflates(png: _Png) -> None:
    """Inflate piece by piece and compare the size with what the header promises."""
    wanted, got = _filtered_size(png), 0
    inflation = Inflation()
    n_unused = 0
    try:
        for body in png.data:
            if inflation.done:
                n_unused += len(body)
                continue
            for part in inflation.feed(body):
                got += len(part)
                if got > wanted:
                    raise Refusal(WRONG_SIZE)
            n_unused += len(body) - inflation.end if inflation.done else 0
    except zlib.error:
        raise Refusal("damaged PNG: its compressed picture data are corrupt") from None
    if not inflation.done:
        raise Refusal("truncated PNG: its compressed picture data stop early")
    if got != wanted:
        raise Refusal(WRONG_SIZE)
    if n_unused:
        png.notes.append(f"{n_unused:,} bytes after the compressed picture data were ignored")


def _filtered_size(png: _Png) -> int:
    """Bytes of all rows, each with its filter byte."""
    bits = png.depth * N_SAMPLES[png.colour]
    return sum(height * (1 + (width * bits + 7) // 8) for height, width, _ in _passes(png))


def _passes(png: _Png) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Yield height, width and place of each pass that holds pixels."""
    for row, row_step, column, column_step in PASSES if png.interlaced else ((0, 1, 0, 1),):
        height = -((row - png.height) // row_step)
        width = -((column - png.width) // column_step)
        if height > 0 and width > 0:
            yield height, width, (slice(row, None, row_step), slice(column, None, column_step))


def _decode(png: _Png) -> NDArray[Any]:
    """Decode into (height, width, 1 to 4 channels); a last second or fourth is alpha."""
    if png.depth == 16:
        return _decode_16(png)
    plain = _plain_png(png, png.height, png.width, b"".join(png.data), int(png.interlaced))
    with Image.open(io.BytesIO(plain), formats=("PNG",)) as image:
        if png.colour == 3:
            _check_palette(image, png)
            pixels = np.array(image.convert("RGBA" if png.transparency else "RGB"))
        else:
            pixels = np.array(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    # Pillow spreads 2 and 4 bits over 0 to 255, and the transparent value must follow.
    return _add_key_alpha(pixels, png, 255 // (2**png.depth - 1), 255)


def _decode_16(png: _Png) -> NDArray[Any]:
    # Pillow cuts 16-bit colour to 8 bits; libpng keeps it.
    import imagecodecs

    n = N_SAMPLES[png.colour]
    pixels = np.empty((png.height, png.width, n), np.uint16)
    if png.interlaced:
        # Each pass is a small picture of its own; libpng would complain about the whole on the
        # terminal.
        rows = zlib.decompress(b"".join(png.data))
        for height, width, where in _passes(png):
            size = height * (1 + 2 * n * width)
            part = imagecodecs.png_decode(
                _plain_png(png, height, width, zlib.compress(rows[:size], 1))
            )
            pixels[where], rows = part.reshape(height, width, n), rows[size:]
    else:
        data = b"".join(png.data)
        pixels[:] = imagecodecs.png_decode(_plain_png(png, png.height, png.width, data)).reshape(
            pixels.shape
        )
    return _add_key_alpha(pixels, png, 1, 65535)


def _check_palette(image: Image.Image, png: _Png) -> None:
    """Refuse indices beyond the palette, which decoders show as black."""
    _, highest = image.getextrema()
    if int(highest) >= len(png.palette) // 3:  # type: ignore[arg-type]
        raise Refusal("damaged PNG: a pixel points beyond the palette")


def _add_key_alpha(pixels: NDArray[Any], png: _Png, scale: int, white: int) -> NDArray[Any]:
    """Append an alpha channel where the file names one value or colour as transparent."""
    if png.colour not in (0, 2) or png.transparency is None:
        return pixels
    n = N_SAMPLES[png.colour]
    if len(png.transparency) != 2 * n:
        raise Refusal("damaged PNG: its transparent colour has a wrong size")
    key = np.array(struct.unpack(f">{n}H", png.transparency), np.int64) * scale
    seen = np.any(pixels != key, axis=-1, keepdims=True)
    alpha = seen.astype(pixels.dtype) * pixels.dtype.type(white)
    return np.concatenate([pixels, alpha], axis=-1)


def _plain_png(png: _Png, height: int, width: int, data: bytes, interlace: int = 0) -> bytes:
    """Write a PNG of the picture's own chunks."""
    header = struct.pack(">IIBBBBB", width, height, png.depth, png.colour, 0, 0, interlace)
    chunks = [(b"IHDR", header)]
    if png.palette:
        chunks.append((b"PLTE", png.palette))
    if png.transparency and png.colour == 3:
        chunks.append((b"tRNS", png.transparency))
    chunks += [(b"IDAT", data), (b"IEND", b"")]
    parts = [SIGNATURE]
    for kind, body in chunks:
        parts += [struct.pack(">I", len(body)), kind, body]
        parts.append(struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))
    return b"".join(parts)
