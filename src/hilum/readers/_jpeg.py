"""JPEG: the stream is walked through before it is decoded, because decoders fill what is missing.

JPEG has no checksums. libjpeg pads a stream that ends early with grey, skips what it cannot
explain, and tells only through warnings, which most programs hide. Three things notice that here:

- every marker up to the end of the image is checked;
- libjpeg's warnings are errors: data that end early, codes that do not exist, bytes left over;
- streams with restart markers, which hide damage because decoding is in step again after each, and
  of several scans, are parsed by a stricter parser, libjxl's, which accepts no bit that it cannot
  explain.

A picture may be decoded at half, a quarter or an eighth of its size, from the coefficients.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hilum.readers._colour import cmyk_to_rgb, upright
from hilum.readers._exif import exif_orientation, xmp_orientation
from hilum.readers._limits import Limits, Refusal
from hilum.readers._picture import AtLeast, Facts, Picture, Reduction

SOI, EOI, SOS, DRI, DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
TABLES = (0xC4, 0xCC, 0xDB, DRI)  # Huffman, arithmetic, quantisation, restart interval
FRAMES = {
    0xC0: "baseline", 0xC1: "sequential", 0xC2: "progressive", 0xC3: "lossless",
    0xC9: "arithmetic", 0xCA: "progressive arithmetic",
}  # fmt: skip
UNKNOWN_FRAMES = (0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
MODES = {1: "L", 3: "RGB", 4: "CMYK"}
COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}
MAX_SCANS = 200
# libjxl needs about 25 bytes a pixel and 90 ns a pixel.
MAX_STRICT_PIXELS = 2**24
# The next marker, not stuffed and not a restart. That 0xFF may be repeated before it is left to the
# caller: asking for it here takes time by the square of a long run of them.
NEXT_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
IS_MARKER = np.zeros(256, np.bool_)
IS_MARKER[0x01:0xD0] = IS_MARKER[0xD8:0xFF] = True
CHUNK = 2**18
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
# As much as the decoder looks ahead, so that whole streams never run dry; two kinds, because a
# stream that lacks a few bytes only would be decoded from the padding, and differently.
PADDINGS = (bytes(8), b"\xaa" * 8)
USUAL_SAMPLING = ((2, 1), (2, 2), (1, 2), (4, 1), (1, 4))
SHORT = "damaged JPEG: its picture data stop before the picture is whole"
LONG = "damaged JPEG: it holds more data than its picture needs"
# libjpeg's words, and ours.
WARNINGS = (("premature end", SHORT), ("extraneous bytes", LONG))
EMPTY_COMMENT = b"\xff\xfe\x00\x02"
START, END = b"\xff\xd8", b"\xff\xd9"


@dataclass
class Jpeg:
    """A stream's structure, all of it checked.

    Attributes
    ----------
    parts : list of bytes
        The segments that decoding needs, from the first after SOI up to the end of the last scan.
    """

    process: str = ""
    bits: int = 0
    height: int = 0
    width: int = 0
    n_channels: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart_interval: int = 0
    n_scans: int = 0
    missing: dict[int, set[int]] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    n_pictures: int = 1
    is_gain_mapped: bool = False
    exif: int = 0
    xmp: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bytes:
        """The stream without metadata."""
        return b"".join((START, *self.parts, END))

    @property
    def counted(self) -> bytes:
        """The same, with one more marker, at which libjpeg reports all that it skipped."""
        return b"".join((START, *self.parts, EMPTY_COMMENT, END))


def read_jpeg(
    data: bytes, limits: Limits, *, at_least: AtLeast | None = None, verified: bool = False
) -> Picture:
    """Read a JPEG; one `verified` before is decoded once and not parsed a second time."""
    jpeg = parse_jpeg(data)
    if jpeg.n_pictures > 1 and not jpeg.is_gain_mapped:
        raise Refusal("MPO, several JPEG pictures in one file. Save the wanted one as JPEG or PNG")
    if jpeg.n_channels not in MODES:
        raise Refusal(f"JPEG with {jpeg.n_channels} channels is neither grey, RGB nor CMYK")
    n_bytes = 2 if jpeg.bits > 8 else 1
    limits.check_size(
        jpeg.height, jpeg.width, pixel_bytes=jpeg.n_channels * n_bytes, stored=len(data)
    )
    white = 2**jpeg.bits - 1
    orientation = jpeg.exif or jpeg.xmp or 1
    factor = _factor(jpeg, orientation, at_least)
    if not verified:
        _check_strictly(jpeg)
    pixels = decode_jpeg(jpeg, factor)
    if pixels.shape[-1] == 4:
        pixels = cmyk_to_rgb(pixels, white)
    facts = Facts(
        "JPEG",
        MODES[jpeg.n_channels],
        jpeg.bits,
        orientation=orientation,
        range_from="type" if jpeg.bits == 8 else "bits",
        notes=tuple(jpeg.notes),
    )
    upright_pixels = upright(pixels, orientation)[None]
    reduction = _reduction(jpeg, orientation, factor) if factor > 1 else None
    return Picture(upright_pixels, (0.0, float(white)), facts, reduction)


def _factor(jpeg: Jpeg, orientation: int, at_least: AtLeast | None) -> int:
    """Choose by how much to divide both sides: 1, 2, 4 or 8."""
    if at_least is None or not _is_common(jpeg):
        return 1
    return at_least.factor(*_turned(jpeg.height, jpeg.width, orientation))


def _turned(height: int, width: int, orientation: int) -> tuple[int, int]:
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _reduction(jpeg: Jpeg, orientation: int, factor: int) -> Reduction:
    """Say where the picture lies: its last row and column may be parts, and turn to the front."""
    height, width = _turned(jpeg.height, jpeg.width, orientation)
    top = -height % factor / factor if orientation in (3, 4, 7, 8) else 0.0
    left = -width % factor / factor if orientation in (2, 3, 6, 7) else 0.0
    return Reduction(factor, height, width, top, left)


def parse_jpeg(data: bytes) -> Jpeg:
    """Walk through the markers of one image; refuse a stream without its end."""
    jpeg, at = Jpeg(), 2
    while True:
        found = NEXT_MARKER.search(data, at)
        if found is None:
            raise Refusal("truncated JPEG: it stops before its end marker")
        n_stray = len(data[at : found.start()].rstrip(b"\xff"))
        if n_stray:
            jpeg.notes.append(f"{n_stray:,} stray bytes between markers were ignored")
        marker, at = found.group(1)[0], found.end()
        if marker == EOI:
            break
        if marker in (SOI, 0x01):
            continue
        at = _read_segment(jpeg, marker, data, at)
    _check_whole(jpeg)
    if data[at:].strip(b"\0\xff"):
        jpeg.notes.append(f"{len(data) - at:,} bytes after the end of the JPEG were ignored")
    return jpeg


def _read_segment(jpeg: Jpeg, marker: int, data: bytes, at: int) -> int:
    """Take in one segment and return where it ends."""
    if at + 2 > len(data):
        raise Refusal("truncated JPEG: it stops inside its header")
    end = at + int.from_bytes(data[at : at + 2], "big")
    if end < at + 2:
        raise Refusal("damaged JPEG: a segment has a size below its own")
    if end > len(data):
        raise Refusal("truncated JPEG: it stops inside its header")
    body = data[at + 2 : end]
    if marker == SOS:
        end = _read_scan(jpeg, body, data, end)
    elif marker in FRAMES:
        _read_frame(jpeg, marker, body)
    elif marker in UNKNOWN_FRAMES:
        raise Refusal("JPEG of a hierarchical or differential kind, which no common tool reads")
    elif marker == DNL:
        raise Refusal("JPEG that states its height after its pixels, which no common tool reads")
    elif marker == DRI and len(body) == 2:
        jpeg.restart_interval = int.from_bytes(body, "big")
    elif marker == APP1:
        _read_app1(jpeg, body)
    elif marker == APP2 and body[:4] == b"MPF\0":
        jpeg.n_pictures = _n_pictures(body[4:])
    wanted = marker in (SOS, *FRAMES, *TABLES)
    if wanted or (marker == APP0 and body[:4] == b"JFIF") or (marker == APP14):
        jpeg.parts.append(bytes((0xFF, marker)) + data[at:end])
    return end


def _read_frame(jpeg: Jpeg, marker: int, body: bytes) -> None:
    if jpeg.process:
        raise Refusal("damaged JPEG: it has more than one frame header")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise Refusal("damaged JPEG: its frame header has a wrong size")
    jpeg.process = FRAMES[marker]
    jpeg.bits, jpeg.height, jpeg.width, jpeg.n_channels = struct.unpack(">BHHB", body[:6])
    for i in range(jpeg.n_channels):
        name, factors, _ = body[6 + 3 * i : 9 + 3 * i]
        jpeg.sampling[name] = (factors >> 4, factors & 15)
        jpeg.missing[name] = set(range(64))
    factors_fit = all(1 <= h <= 4 and 1 <= v <= 4 for h, v in jpeg.sampling.values())
    if not factors_fit or len(jpeg.sampling) != jpeg.n_channels:
        raise Refusal("damaged JPEG: impossible sampling factors or channels")


def _read_scan(jpeg: Jpeg, body: bytes, data: bytes, at: int) -> int:
    """Check one scan and return where its entropy-coded data end."""
    if not body or len(body) != 4 + 2 * body[0] or not jpeg.process:
        raise Refusal("damaged JPEG: a scan header has a wrong size or comes too early")
    jpeg.n_scans += 1
    if jpeg.n_scans > MAX_SCANS:
        raise Refusal(f"JPEG of more than {MAX_SCANS} scans, which only hostile files have")
    names = [body[1 + 2 * i] for i in range(body[0])]
    first, last, low_bit = body[-3], body[-2], body[-1] & 15
    progressive = jpeg.process.startswith("progressive")
    for name in names:
        if name not in jpeg.missing:
            raise Refusal("damaged JPEG: a scan names a channel that does not exist")
        if not progressive:
            jpeg.missing[name].clear()
        elif low_bit == 0:
            jpeg.missing[name] -= set(range(first, last + 1))
    end, restarts = _end_of_scan(data, at)
    _check_restarts(jpeg, names, restarts)
    return end


def _end_of_scan(data: bytes, at: int) -> tuple[int, NDArray[np.uint8]]:
    """Find where entropy-coded data end, and the restart markers among them."""
    restarts = []
    for start in range(at, len(data) - 1, CHUNK):
        chunk = np.frombuffer(data, np.uint8, min(CHUNK + 1, len(data) - start), start)
        after = np.flatnonzero(chunk[:-1] == 0xFF) + 1
        codes = chunk[after]
        ends = np.flatnonzero(IS_MARKER[codes])
        inside = codes[: ends[0]] if ends.size else codes
        restarts.append(inside[(inside >= 0xD0) & (inside <= 0xD7)])
        if ends.size:
            end = start + int(after[ends[0]]) - 1
            while end > at and data[end - 1] == 0xFF:  # A marker may begin with more of them.
                end -= 1
            return end, np.concatenate(restarts)
    raise Refusal("truncated JPEG: it stops inside its picture data")


def _check_restarts(jpeg: Jpeg, names: list[int], seen: NDArray[np.uint8]) -> None:
    """Compare the restart markers of a scan with the number that its size asks for."""
    if np.any(seen != 0xD0 + np.arange(len(seen)) % 8):
        raise Refusal("damaged JPEG: its restart markers are out of order")
    if jpeg.process == "lossless":
        return  # Its units are single pixels, and its decoder checks them.
    n_units = _n_units(jpeg, names)
    wanted = (n_units - 1) // jpeg.restart_interval if jpeg.restart_interval else 0
    if len(seen) != wanted:
        raise Refusal("damaged JPEG: restart markers are missing or too many")


def _n_units(jpeg: Jpeg, names: list[int]) -> int:
    """Number of coding units (MCU) in a scan of these channels."""
    h_max = max(h for h, _ in jpeg.sampling.values())
    v_max = max(v for _, v in jpeg.sampling.values())
    h, v = jpeg.sampling[names[0]] if len(names) == 1 else (1, 1)
    # A scan of one channel counts blocks of that channel, others count interleaved units.
    if len(names) == 1:
        width, height = -(-jpeg.width * h // h_max), -(-jpeg.height * v // v_max)
        return -(-width // 8) * -(-height // 8)
    return -(-jpeg.width // (8 * h_max)) * -(-jpeg.height // (8 * v_max))


def _read_app1(jpeg: Jpeg, body: bytes) -> None:
    if body[:6] in (b"Exif\0\0", b"Exif\0\xff") and not jpeg.exif:
        jpeg.exif = exif_orientation(body[6:])
    elif body[:28] == b"http://ns.adobe.com/xap/1.0/":
        jpeg.xmp = xmp_orientation(body)
        jpeg.is_gain_mapped = jpeg.is_gain_mapped or b"hdrgm:Version" in body


def _n_pictures(mpf: bytes) -> int:
    """Number of pictures that a multi-picture header states."""
    order = {b"II": "<", b"MM": ">"}.get(mpf[:2])
    if order is None or len(mpf) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", mpf, 4)
    for at in range(start + 2, min(len(mpf) - 11, start + 2 + 12 * 16), 12):
        tag, _, _, value = struct.unpack_from(order + "HHII", mpf, at)
        if tag == 0xB001:
            return int(value)
    return 1


def _check_whole(jpeg: Jpeg) -> None:
    if not jpeg.process or not jpeg.n_scans:
        raise Refusal("damaged JPEG: it holds no picture")
    if any(jpeg.missing.values()):
        raise Refusal("truncated JPEG: some of its scans are missing")


def check_complete(jpeg: Jpeg) -> None:
    """Refuse picture data that stop early or late; for streams inside other files."""
    _check_strictly(jpeg)
    if _is_common(jpeg):
        decode_jpeg(jpeg)


def decode_jpeg(jpeg: Jpeg, factor: int = 1) -> NDArray[Any]:
    """Decode into (height, width, channels), both sides divided by 1, 2, 4 or 8 and rounded up."""
    if _is_common(jpeg):
        return _by_turbo(jpeg, factor) if _has_usual_sampling(jpeg) else _decode_in_step(jpeg)
    if jpeg.bits == 8 and jpeg.process != "lossless":
        return _by_pillow(jpeg.whole)
    import imagecodecs

    pixels = imagecodecs.jpeg8_decode(jpeg.whole)
    return np.asarray(pixels.reshape(jpeg.height, jpeg.width, jpeg.n_channels))


def _is_common(jpeg: Jpeg) -> bool:
    huffman = jpeg.process in ("baseline", "sequential", "progressive")
    return huffman and jpeg.bits == 8


def _has_usual_sampling(jpeg: Jpeg) -> bool:
    """Whether simplejpeg, which knows a few kinds by name, decodes it."""
    first, *others = jpeg.sampling.values()
    same = all(factors == first for factors in others)
    if jpeg.n_channels == 4:
        return same and first == (1, 1)
    halved = first in USUAL_SAMPLING and all(factors == (1, 1) for factors in others)
    return jpeg.n_channels == 1 or (same and first == (1, 1)) or (jpeg.n_channels == 3 and halved)


def _by_turbo(jpeg: Jpeg, factor: int = 1) -> NDArray[np.uint8]:
    """Decode by libjpeg-turbo, whose warnings are errors."""
    import simplejpeg  # type: ignore[import-untyped]

    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            jpeg.counted,
            COLOURS.get(jpeg.n_channels, "RGB"),
            min_height=-(-jpeg.height // factor),
            min_width=-(-jpeg.width // factor),
            strict=True,
        )
    except ValueError as error:
        raise Refusal(_in_our_words(str(error))) from None
    # Ink is stored inverted, as Adobe began and all do.
    return np.uint8(255) - pixels if jpeg.n_channels == 4 else pixels


def _in_our_words(warning: str) -> str:
    for words, ours in WARNINGS:
        if words in warning:
            return ours
    return f"damaged JPEG: {warning}"


def _decode_in_step(jpeg: Jpeg) -> NDArray[np.uint8]:
    """Decode by Pillow, which hides warnings, and see that the picture ends where its data end.

    Without an end marker the decoder stops, and Pillow refuses, if it wants more data than there
    are. Two kinds of padding must make no difference, and the last bytes must not be spare.
    """
    if jpeg.n_scans > 1:
        return _by_pillow(jpeg.whole)  # It is decoded after its last scan, out of step.
    try:
        pixels, again = (_by_pillow(_padded(jpeg, padding)) for padding in PADDINGS)
    except OSError:
        raise Refusal(SHORT) from None
    if not np.array_equal(pixels, again):
        raise Refusal(SHORT)  # The last pixels were made of padding.
    try:
        _by_pillow(jpeg.whole[: -len(END) - 2])
    except OSError:
        return pixels
    raise Refusal(LONG)


def _padded(jpeg: Jpeg, padding: bytes) -> bytes:
    """Put padding after the data and after each restart interval, where decoders skip it."""
    parts = []
    for part in jpeg.parts:
        if part[1] == SOS:
            start = 2 + int.from_bytes(part[2:4], "big")
            part = part[:start] + RESTART.sub(lambda mark: padding + mark[0], part[start:])
        parts.append(part)
    return b"".join((START, *parts, padding))


def _by_pillow(stream: bytes) -> NDArray[Any]:
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _check_strictly(jpeg: Jpeg) -> None:
    """Let libjxl parse a stream in which libjpeg would miss damage.

    Measured on 376 damaged hospital JPEGs with restart markers: libjpeg's warnings miss 7 of the
    170 that libjxl notices; on 11,500 damaged ones of a single scan without them, none.
    """
    if jpeg.n_scans == 1 and not jpeg.restart_interval:
        return
    if not (_is_common(jpeg) and jpeg.n_channels in (1, 3)):
        return
    if jpeg.height * jpeg.width > MAX_STRICT_PIXELS:
        return
    import imagecodecs

    try:
        imagecodecs.jpegxl_encode_jpeg(jpeg.whole, numthreads=1)
    except imagecodecs.JpegxlError:
        raise Refusal("damaged JPEG: its picture data are corrupt or stop early") from None
