"""TIFF of every layout against the arrays that were written, and its damage."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hilum.errors import UnreadableError
from hilum.readers import Limits, Picture, read

BOUNDED = settings(max_examples=80, deadline=3000, derandomize=True)


def written(pixels: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(data, **options)
    return caught.value.reason


def numbers(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-3, 9, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def minimal(tags: dict[int, tuple[str, Any]], strip: bytes) -> bytes:
    """Assemble a little-endian TIFF of one strip by the standard, independently of any library."""
    tags = tags | {273: ("I", 8), 279: ("I", len(strip))}
    directory = 8 + len(strip) + len(strip) % 2
    end = directory + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, (form, value) in sorted(tags.items()):
        several = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(several)}{form}", *several)
        kind = {"B": 1, "H": 3, "I": 4}[form]
        if len(packed) > 4:
            place, values = struct.pack("<I", end + len(values)), values + packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, len(several)) + place
    head = struct.pack("<2sHI", b"II", 42, directory) + strip + bytes(len(strip) % 2)
    return head + struct.pack("<H", len(tags)) + entries + bytes(4) + values


def grey_tags(width: int, height: int, bits: int, photometric: int) -> dict[int, tuple[str, Any]]:
    return {
        256: ("I", width), 257: ("I", height), 258: ("H", bits), 259: ("H", 1),
        262: ("H", photometric), 277: ("H", 1), 278: ("I", height),
    }  # fmt: skip


@BOUNDED
@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]),
    size=st.sampled_from([(1, 1), (3, 5), (37, 18), (5000, 7), (7, 5000)]),
    colour=st.booleans(),
    planar=st.booleans(),
    tiled=st.booleans(),
    byteorder=st.sampled_from(["<", ">"]),
    big=st.booleans(),
    compression=st.sampled_from([None, "zlib", "lzw", "packbits", "zstd", "lzma"]),
    predictor=st.booleans(),
)
def test_tiff_of_every_layout(
    dtype: str,
    size: tuple[int, int],
    colour: bool,
    planar: bool,
    tiled: bool,
    byteorder: Any,
    big: bool,
    compression: str | None,
    predictor: bool,
) -> None:
    pixels = numbers((*size, 3) if colour else size, dtype)
    options: dict[str, Any] = {"byteorder": byteorder, "bigtiff": big}
    if tiled:
        options["tile"] = (16, 16)
    if compression:
        options |= {
            "compression": compression,
            "predictor": predictor and compression != "packbits",
        }
    if colour:
        options["photometric"] = "rgb"
        options["planarconfig"] = "separate" if planar else "contig"
    else:
        options["photometric"] = "minisblack"
    stored = np.moveaxis(pixels, -1, 0) if colour and planar else pixels
    picture = read(written(stored, **options))
    np.testing.assert_array_equal(picture.pixels[0], pixels.reshape(*size, -1))
    assert picture.pixels.dtype == dtype
    assert picture.pixels.dtype.isnative


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_of_any_number_of_bits(bits: int, white_is_zero: bool) -> None:
    white = 2**bits - 1
    values = np.linspace(0, white, 16).astype(int)
    if bits == 16:
        row = values.astype("<u2").tobytes()
    else:
        text = "".join(f"{value:0{bits}b}" for value in values)
        row = int(text, 2).to_bytes(len(text) // 8, "big")
    picture = read(minimal(grey_tags(16, 1, bits, 0 if white_is_zero else 1), row))
    wanted = white - values if white_is_zero else values
    if bits == 1:
        wanted, white = wanted * 255, 255
    np.testing.assert_array_equal(picture.pixels.ravel(), wanted)
    assert list(picture.value_range) == [0, white]
    assert picture.facts.bits == bits


def test_largest_sample_that_is_stated_sets_the_range() -> None:
    tags = grey_tags(4, 1, 16, 1)
    row = np.array([0, 5, 4000, 3817], "<u2").tobytes()
    assert read(minimal(tags, row)).value_range == (0, 65535)
    stated = read(minimal(tags | {281: ("H", 4000)}, row))
    assert list(stated.value_range) == [0, 4095]
    assert stated.facts.range_from == "bits"


def test_palette_of_16_and_of_8_bits() -> None:
    colours = [(10, 20, 30), (40, 50, 60), (70, 80, 90), (255, 0, 128)]
    for scale in (257, 1):
        table = [0] * 768
        for i, colour in enumerate(colours):
            for channel in range(3):
                table[256 * channel + i] = colour[channel] * scale
        data = minimal(grey_tags(4, 1, 8, 3) | {320: ("H", tuple(table))}, bytes(range(4)))
        assert [tuple(c) for c in read(data).pixels[0, 0].tolist()] == colours


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_alpha_and_other_extra_channels(dtype: str, kind: str) -> None:
    white = np.iinfo(dtype).max
    pixels = numbers((6, 5, 4), dtype)
    found = read(written(pixels, photometric="rgb", extrasamples=[kind])).pixels[0]
    wanted = pixels[..., :3].astype(float)
    if kind == "unassalpha":
        wanted = np.floor(wanted * pixels[..., 3:] / white + 0.5)
    np.testing.assert_array_equal(found, wanted)


def test_alpha_of_floats_is_a_share() -> None:
    pixels = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    found = read(written(pixels, photometric="rgb", extrasamples=["unassalpha"])).pixels[0]
    np.testing.assert_allclose(found, pixels[..., :3] * pixels[..., 3:], atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cmyk_by_the_simple_rule(dtype: str) -> None:
    white = float(np.iinfo(dtype).max)
    ink = numbers((6, 5, 4), dtype)
    picture = read(written(ink, photometric="separated"))
    wanted = (white - ink[..., :3]) * (white - ink[..., 3:]) / white
    np.testing.assert_array_equal(picture.pixels[0], np.floor(wanted + 0.5))
    assert picture.facts.mode == "CMYK"


def test_lab_by_known_colours() -> None:
    lab = np.array([[[255, 0, 0], [0, 0, 0], [138, 81, 70]]], np.uint8)
    white, black, red = read(written(lab, photometric="cielab")).pixels[0, 0].tolist()
    assert white == [255, 255, 255]
    assert black == [0, 0, 0]
    # L* 54.1, a* 81, b* 70 is close to the reddest that sRGB can show.
    assert red[0] > 245
    assert max(red[1:]) < 25


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(orientation: int) -> None:
    pixels = numbers((5, 3), "uint8")
    tags = grey_tags(3, 5, 8, 1) | {274: ("H", orientation)}
    data = minimal(tags, pixels.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        wanted = np.asarray(image)  # Pillow turns TIFF while loading.
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels[0, ..., 0], wanted)
    assert picture.facts.orientation == orientation


def test_jpeg_and_fax_inside_tiff_as_pillow_reads_them() -> None:
    image = Image.fromarray(numbers((33, 47, 3), "uint8"))
    for mode, compression in (("RGB", "jpeg"), ("L", "jpeg"), ("1", "group3"), ("1", "group4")):
        file = io.BytesIO()
        image.convert(mode).save(file, "TIFF", compression=compression)
        with Image.open(file) as opened:
            wanted = np.asarray(opened.convert("RGB" if mode == "RGB" else "L"))
        picture = read(file.getvalue())
        np.testing.assert_array_equal(np.squeeze(picture.pixels), wanted)
        assert picture.facts.mode == mode


def test_pages_are_frames_and_odd_pages_are_noted() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for value in (1, 2, 3):
            tiff.write(np.full((4, 6), value, np.uint8), photometric="minisblack", metadata=None)
        for width in (3, 5):
            tiff.write(np.zeros((2, width), np.uint8), photometric="minisblack", metadata=None)
        tiff.write(np.zeros((1, 1), np.uint8), subfiletype=1, metadata=None)
    picture = read(file.getvalue())
    assert picture.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert picture.facts.notes == (
        "pages left out that are thumbnails or masks: 1",
        "pages left out, of another size or kind than the first: 2",
    )


def test_grey_has_one_further_channel_at_most_and_colour_any_number() -> None:
    def channels(n: int, kind: str, n_extra: int) -> bytes:
        extra = ["unspecified"] * n_extra
        pixels = numbers((6, 5, n), "uint8")
        return written(pixels, photometric=kind, planarconfig="contig", extrasamples=extra)

    assert read(channels(2, "minisblack", 1)).pixels.shape == (1, 6, 5, 1)
    assert read(channels(9, "rgb", 6)).pixels.shape == (1, 6, 5, 3)
    assert refusal(channels(3, "minisblack", 2)) == (
        "TIFF with 3 channels a pixel is neither grey nor colour"
    )


def test_float_ranges() -> None:
    def ranged(pixels: NDArray[Any]) -> Picture:
        return read(written(pixels, photometric="minisblack"))

    unit = ranged(np.array([[0.2, 0.8]], np.float32))
    assert (unit.value_range, unit.facts.range_from) == ((0, 1), "type")
    other = ranged(np.array([[-3, 250]], np.float64))
    assert (other.value_range, other.facts.range_from) == ((-3, 250), "file")
    assert other.pixels.dtype == np.float32
    half = ranged(np.array([[0.5, 0.25]], np.float16))
    assert half.pixels.dtype == np.float32


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((2, 2), np.nan, np.float32), "4 of 4 values are not finite numbers"),
        (np.array([[1, np.inf]], np.float32), "1 of 2 values are not finite numbers"),
        (np.array([[1e300, 0]]), "its values are too large for 32-bit floating point"),
        (
            np.full((2, 2), 2**40, np.uint64),
            "its whole numbers do not fit into 32 bits. Convert them to floating point",
        ),
        (np.zeros((2, 2), np.complex64), "values of type complex64 are no picture"),
    ],
)
def test_values_that_are_no_picture(pixels: NDArray[Any], reason: str) -> None:
    assert refusal(written(pixels, photometric="minisblack")) == reason


def test_directories_in_a_circle_are_read_once() -> None:
    data = bytearray(minimal(grey_tags(1, 1, 8, 1), b"\7"))
    directory = struct.unpack_from("<I", data, 4)[0]
    at = directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0]
    struct.pack_into("<I", data, at, directory)
    assert read(bytes(data)).pixels.ravel().tolist() == [7]


def test_coarse_colour_that_only_libtiff_reads() -> None:
    # Uncompressed YCbCr with one colour for two by two pixels: four luma, then Cb and Cr.
    strip = bytes([0, 255, 128, 60, 128, 128])
    tags = grey_tags(2, 2, 8, 6) | {
        258: ("H", (8, 8, 8)), 277: ("H", 3), 530: ("H", (2, 2)),
    }  # fmt: skip
    picture = read(minimal(tags, strip))
    assert picture.pixels[0, ..., 0].tolist() == [[0, 255], [128, 60]]
    assert picture.is_grey


def test_too_many_pages() -> None:
    data = written(np.zeros((5, 2, 2), np.uint8), photometric="minisblack")
    assert refusal(data, limits=Limits(max_frames=4)) == "more than 4 pages. Split the file"


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "jpeg", "zstd", "lzma"])
def test_truncations_are_refused(compression: str | None) -> None:
    options: dict[str, Any] = {"photometric": "rgb", "description": "x" * 50}
    if compression:
        options["compression"] = compression
    data = written(numbers((16, 16, 3), "uint8"), **options)
    rng = random.Random(0)
    for n in {rng.randrange(len(data)) for _ in range(60)}:
        refusal(data[:n])
