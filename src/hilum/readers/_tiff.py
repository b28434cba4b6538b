"""TIFF: tifffile parses, imagecodecs decodes; this module checks before and translates after.

Some kinds of old TIFF that tifffile leaves out, the first JPEG compression, those of NeXT and
ThunderScan, and YCbCr with coarser colour outside JPEG, are decoded by libtiff.
"""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from hilum.readers._colour import cmyk_to_rgb, lab_to_rgb, over_black, upright
from hilum.readers._jpeg import Jpeg, check_complete, parse_jpeg
from hilum.readers._limits import Limits, Refusal
from hilum.readers._picture import Facts, Picture, RangeFrom
from hilum.readers._tiff_structure import check_structure
from hilum.readers._values import float_range, plain

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB, ICCLAB = (
    0, 1, 2, 3, 4, 5, 6, 8, 9,
)  # fmt: skip
N_COLOURS = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3,
             CIELAB: 3, ICCLAB: 3}  # fmt: skip
OLD_JPEG, JPEG = 6, 7
ONLY_LIBTIFF = (OLD_JPEG, 32766, 32809)  # and NeXT, ThunderScan
ORIENTATION, JPEG_TABLES, YCBCR_SUBSAMPLING = 274, 347, 530
MAX_SAMPLE, S_MIN_SAMPLE, S_MAX_SAMPLE = 281, 340, 341
THUMBNAIL_OR_MASK = 0b101  # bits of NewSubfileType
UNASSOCIATED_ALPHA = 2
MAX_SEGMENTS = 200_000


def read_tiff(data: bytes, limits: Limits) -> Picture:
    """Read all pages of a TIFF that are alike the first."""
    check_structure(data, limits)
    try:
        file = tifffile.TiffFile(io.BytesIO(data))
    except tifffile.TiffFileError as error:
        raise Refusal(f"damaged TIFF: {error}") from None
    with file as tiff:
        pages, notes = _pages(tiff, limits)
        first = pages[0]
        limits.check_size(
            first.imagelength,
            first.imagewidth,
            frames=len(pages) * first.imagedepth,
            pixel_bytes=_pixel_bytes(first),
            stored=len(data),
        )
        for page in pages:
            _check_segments(page, data, limits)
        orientation = _orientation(first)
        if _only_libtiff_reads(first):
            frames = [_by_libtiff(data, page) for page in pages]
        else:
            frames = [upright(frame, orientation) for page in pages for frame in _frames(page)]
        pixels = np.stack(frames)
        low, high, source = _range(first, pixels)
    facts = Facts(
        "TIFF",
        _mode(first),
        _bits(first),
        orientation=orientation,
        range_from=source,
        notes=tuple(notes),
    )
    return Picture(pixels, (low, high), facts)


def _pages(tiff: tifffile.TiffFile, limits: Limits) -> tuple[list[tifffile.TiffPage], list[str]]:
    """Return the pages to read, and notes on those left out."""
    pages: list[tifffile.TiffPage] = []
    seen: set[int] = set()
    n_small = n_other = 0
    for i, page in enumerate(tiff.pages):
        if page.offset in seen:
            break  # Directories in a circle.
        seen.add(page.offset)
        if i >= limits.max_frames:
            raise Refusal(f"more than {limits.max_frames:,} pages. Split the file")
        if not isinstance(page, tifffile.TiffPage):
            raise Refusal(f"damaged TIFF: page {i + 1} cannot be parsed")
        if page.subfiletype & THUMBNAIL_OR_MASK and i > 0:
            n_small += 1
        elif pages and _layout(page) != _layout(pages[0]):
            n_other += 1
        else:
            pages.append(page)
    if not pages:
        raise Refusal("damaged TIFF: it holds no page")
    notes = []
    if n_small:
        notes.append(f"pages left out that are thumbnails or masks: {n_small}")
    if n_other:
        notes.append(f"pages left out, of another size or kind than the first: {n_other}")
    return pages, notes


def _layout(page: tifffile.TiffPage) -> tuple[Any, ...]:
    return (page.shaped, page.bitspersample, page.sampleformat, page.photometric, page.dtype)


def _pixel_bytes(page: tifffile.TiffPage) -> float:
    size = page.dtype.itemsize if page.dtype is not None else 4
    return float(page.samplesperpixel * size)


def _check_segments(page: tifffile.TiffPage, data: bytes, limits: Limits) -> None:
    """Refuse strips and tiles that are missing, empty or beyond the end of the file."""
    if page.is_tiled:
        limits.check_size(
            page.tilelength, page.tilewidth, pixel_bytes=_pixel_bytes(page), stored=len(data)
        )
    offsets, counts = page.dataoffsets, page.databytecounts
    if not offsets or len(offsets) != len(counts):
        raise Refusal("damaged TIFF: it does not say where its pixels are")
    if len(offsets) > MAX_SEGMENTS:
        raise Refusal(f"TIFF of more than {MAX_SEGMENTS:,} strips or tiles. Save it anew")
    if any(offset < 8 or count < 1 for offset, count in zip(offsets, counts, strict=True)):
        raise Refusal("damaged TIFF: parts of the picture are missing")
    if any(offset + count > len(data) for offset, count in zip(offsets, counts, strict=True)):
        raise Refusal("truncated TIFF: parts of the picture lie beyond the end of the file")
    if page.compression == JPEG:
        tables = page.tags.valueof(JPEG_TABLES)
        for offset, count in zip(offsets, counts, strict=True):
            check_complete(_embedded_jpeg(data[offset : offset + count], tables))


def _embedded_jpeg(stream: bytes, tables: bytes | None) -> Jpeg:
    """Parse a strip or tile, the tables that it shares with others put before its own."""
    if tables and tables[:2] == b"\xff\xd8" and tables[-2:] == b"\xff\xd9":
        stream = tables[:-2] + stream[2:]
    return parse_jpeg(stream)


def _only_libtiff_reads(page: tifffile.TiffPage) -> bool:
    coarse_colour = (
        page.photometric == YCBCR
        and page.compression != JPEG
        and tuple(page.tags.valueof(YCBCR_SUBSAMPLING, (2, 2))) != (1, 1)
    )
    return page.compression in ONLY_LIBTIFF or coarse_colour


def _by_libtiff(data: bytes, page: tifffile.TiffPage) -> NDArray[Any]:
    """Decode one page into (height, width, 1 or 3), spread over 0 to 255."""
    if _orientation(page) != 1:
        raise Refusal("an old kind of colour TIFF stored turned. Save it as PNG or plain TIFF")
    try:
        rgba = imagecodecs.tiff_decode(data, index=page.index, asrgb=True)
    except imagecodecs.TiffError as error:
        raise Refusal(f"damaged or unsupported TIFF: {error}") from None
    n = 1 if page.photometric in (MIN_IS_WHITE, MIN_IS_BLACK) else 3
    return np.ascontiguousarray(rgba[..., :n])


def _frames(page: tifffile.TiffPage) -> list[NDArray[Any]]:
    """Decode one page into frames of shape (height, width, 1 or 3), one for each depth."""
    try:
        stored = page.asarray(maxworkers=1)
    except (tifffile.TiffFileError, NotImplementedError, ValueError, RuntimeError) as error:
        raise Refusal(f"damaged or unsupported TIFF: {error}") from None
    # (planes, depth, height, width, interleaved): one of the first and last is 1.
    stored = stored.reshape(page.shaped)
    planes = np.moveaxis(stored, 0, -1) if page.shaped[0] > 1 else stored[0][..., None, :]
    planes = planes.reshape(*page.shaped[1:4], -1)
    return [_to_light(plain(frame), page) for frame in planes]


def _to_light(pixels: NDArray[Any], page: tifffile.TiffPage) -> NDArray[Any]:
    """Turn samples of any photometric kind into grey or RGB, larger being brighter."""
    kind, n = int(page.photometric), pixels.shape[-1]
    n_colours = N_COLOURS.get(kind)
    if n_colours is None:
        raise Refusal(f"TIFF of photometric kind {page.photometric!s} is not supported")
    if n < n_colours or (n_colours == 1 and n > 2):
        raise Refusal(f"TIFF with {n} channels a pixel is neither grey nor colour")
    white = 1 if pixels.dtype.kind == "f" else 2 ** _bits(page) - 1
    colour = pixels[..., :n_colours]
    if kind == PALETTE:
        colour = _through_palette(colour[..., 0], page)
        white = 255
    elif kind == CMYK:
        colour = cmyk_to_rgb(colour, white)
    elif kind in (CIELAB, ICCLAB):
        colour = _lab(colour, kind)
    elif kind == YCBCR and page.compression != JPEG:
        colour = _ycbcr(colour)
    elif kind == MIN_IS_WHITE:
        colour = _inverted(colour, white)
    if n > n_colours and tuple(page.extrasamples[:1]) == (UNASSOCIATED_ALPHA,):
        colour = over_black(colour, pixels[..., n_colours], white)
    # Other extra channels are left out: premultiplied alpha is laid over black already, and what
    # has no stated meaning cannot be shown.
    if _bits(page) == 1 and kind != PALETTE:
        colour = colour * np.uint8(255)
    return colour


def _through_palette(indices: NDArray[Any], page: tifffile.TiffPage) -> NDArray[np.uint8]:
    palette = page.colormap
    if palette is None:
        raise Refusal("damaged TIFF: its palette is missing")
    if int(indices.max(initial=0)) >= palette.shape[1]:
        raise Refusal("damaged TIFF: a pixel points beyond the palette")
    # The standard asks for 16 bits; some writers stored 8.
    eight = palette if palette.max() < 256 else palette >> 8
    return np.asarray(eight.T[indices], np.uint8)


def _lab(lab: NDArray[Any], kind: int) -> NDArray[np.uint8]:
    if lab.dtype.itemsize > 2 or lab.dtype.kind == "f":
        raise Refusal(f"CIELAB of type {lab.dtype} is not supported")
    size = 8 * lab.dtype.itemsize
    values = lab.astype(np.float64)
    if kind == CIELAB:  # a* and b* are signed
        values[..., 1:] = lab[..., 1:].view(f"i{size // 8}")
    else:
        values[..., 1:] -= 2.0 ** (size - 1)
    values[..., 0] *= 100 / (2**size - 1)
    values[..., 1:] /= 2.0 ** (size - 8)
    return lab_to_rgb(values)


def _ycbcr(ycc: NDArray[Any]) -> NDArray[np.uint8]:
    """Turn full-range Rec. 601 YCbCr into RGB as JPEG does."""
    if ycc.dtype != np.uint8:
        raise Refusal(f"YCbCr of type {ycc.dtype} is not supported")
    image = Image.fromarray(np.ascontiguousarray(ycc), mode="YCbCr")
    return np.array(image.convert("RGB"))


def _inverted(pixels: NDArray[Any], white: int) -> NDArray[Any]:
    if pixels.dtype.kind == "f":
        return np.asarray(pixels.max() + pixels.min() - pixels)
    if pixels.dtype.kind == "i":
        return ~pixels  # −1 − x: the ends of a signed range change places.
    return np.asarray(pixels.dtype.type(white) - pixels)


def _range(page: tifffile.TiffPage, pixels: NDArray[Any]) -> tuple[float, float, RangeFrom]:
    """Return black, white and where they come from."""
    if _only_libtiff_reads(page):
        return 0.0, 255.0, "type"
    if pixels.dtype.kind == "f":
        return float_range(pixels, page.tags.valueof(S_MIN_SAMPLE), page.tags.valueof(S_MAX_SAMPLE))
    if pixels.dtype == np.uint8 and (_bits(page) in (1, 8) or pixels.shape[-1] == 3):
        if int(page.photometric) == RGB and _bits(page) < 8:
            return 0.0, float(2 ** _bits(page) - 1), "bits"
        return 0.0, 255.0, "type"
    if pixels.dtype.kind == "i":
        half = 2.0 ** (8 * pixels.dtype.itemsize - 1)
        return -half, half - 1, "type"
    used = _stated_bits(page)
    full = 8 * pixels.dtype.itemsize
    # An inverted picture has no use for a range that was learnt from values as stored.
    plain_type = used == full and int(page.photometric) != MIN_IS_WHITE
    return 0.0, float(2**used - 1), "type" if plain_type else "bits"


def _stated_bits(page: tifffile.TiffPage) -> int:
    """Bits in use: those of the largest sample that the file states, if it states one."""
    bits = _bits(page)
    stated = page.tags.valueof(MAX_SAMPLE)
    largest = int(np.max(stated)) if stated is not None and np.size(stated) else 0
    return min(bits, max(largest.bit_length(), 8)) if largest > 1 else bits


def _bits(page: tifffile.TiffPage) -> int:
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else max(bits))


def _orientation(page: tifffile.TiffPage) -> int:
    value = page.tags.valueof(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _mode(page: tifffile.TiffPage) -> str:
    kind, bits = int(page.photometric), _bits(page)
    has_alpha = page.samplesperpixel > N_COLOURS.get(kind, 9) and tuple(page.extrasamples[:1]) in (
        (1,),
        (2,),
    )
    if kind in (MIN_IS_WHITE, MIN_IS_BLACK):
        if page.dtype is not None and page.dtype.kind == "f":
            return "F"
        if bits > 16 or (bits > 8 and page.dtype is not None and page.dtype.kind == "i"):
            return "I"
        return "1" if bits == 1 else "I;16" if bits > 8 else "LA" if has_alpha else "L"
    if kind in (RGB, YCBCR):
        return "RGBA" if has_alpha else "RGB"
    return {PALETTE: "P", CMYK: "CMYK", CIELAB: "LAB", ICCLAB: "LAB"}.get(kind, str(kind))
