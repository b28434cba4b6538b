"""PNG and JPEG: every mode to its pixels, every kind of damage refused."""

from __future__ import annotations

import io
import random
import struct
import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hilum.errors import UnreadableError
from hilum.pixels import PixelSpec, least_size, load_prepared, prepare
from hilum.readers import AtLeast, read, read_isolated

BOUNDED = settings(max_examples=60, deadline=2000, derandomize=True)
SIZES = st.one_of(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([(1, 1), (7, 5000), (5000, 7), (1, 300), (300, 1)]),
)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: tuple[int, ...], rows: bytes, *before: bytes, after: bytes = b"") -> bytes:
    """Assemble a PNG by the standard, independently of any library."""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    data = chunk(b"IDAT", zlib.compress(rows))
    return start + b"".join(before) + data + chunk(b"IEND", b"") + after


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(data, **options)
    return caught.value.reason


def flat(data: bytes) -> NDArray[Any]:
    (frame,) = read(data).pixels
    return np.asarray(frame)


# PNG ---------------------------------------------------------------------------------------------


@BOUNDED
@given(size=SIZES, mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]))
def test_png_of_every_mode_and_size(size: tuple[int, int], mode: str) -> None:
    rng = np.random.default_rng(size[0] * 7 + size[1])
    shape = (size[1], size[0])
    if mode == "I;16":
        values = rng.integers(0, 65536, shape).astype(np.uint16)
        image = Image.fromarray(values)
        wanted: NDArray[Any] = values[..., None]
    else:
        image = Image.fromarray(rng.integers(0, 256, (*shape, 4), np.uint8)).convert("RGB")
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(rng.integers(0, 256, shape, np.uint8)))
        image = image.convert(mode)
        wanted = over_black(image)
    picture = read(saved(image, "PNG"))
    np.testing.assert_array_equal(picture.pixels[0], wanted)
    assert picture.facts.format == "PNG"
    assert picture.facts.mode == mode


def over_black(image: Image.Image) -> NDArray[Any]:
    """Lay an image over black, pixel by pixel where it has alpha."""
    if image.mode in ("LA", "RGBA"):
        samples = np.asarray(image).astype(float)
        return np.asarray(np.floor(samples[..., :-1] * samples[..., -1:] / 255 + 0.5), np.uint8)
    shown = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return shown.reshape(*shown.shape[:2], -1)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_of_every_depth_with_a_transparent_value(depth: int) -> None:
    white = 2**depth - 1
    values = np.arange(2 ** min(depth, 4)) * (white // (2 ** min(depth, 4) - 1))
    if depth < 8:
        bits = "".join(f"{value:0{depth}b}" for value in values)
        row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    else:
        row = values.astype(">u2" if depth == 16 else "u1").tobytes()
    header = (len(values), 1, depth, 0, 0, 0, 0)
    out = 65535 if depth == 16 else 255
    wanted = values * out // white
    np.testing.assert_array_equal(flat(png(header, b"\0" + row)).ravel(), wanted)
    key = chunk(b"tRNS", struct.pack(">H", values[-1]))
    wanted[-1] = 0
    np.testing.assert_array_equal(flat(png(header, b"\0" + row, key)).ravel(), wanted)


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (13, 9)])
def test_16_bit_colour_keeps_16_bits_interlaced_or_not(colour: int, size: tuple[int, int]) -> None:
    n = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    width, height = size
    values = np.random.default_rng(0).integers(0, 65536, (height, width, n)).astype(np.uint16)
    if n in (2, 4):
        values[..., -1] = 65535
    plain = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    adam7 = b""
    for top, left, down, right in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):  # fmt: skip
        part = values[top::down, left::right]
        if part.size:
            adam7 += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
    for interlace, rows in ((0, plain), (1, adam7)):
        found = flat(png((width, height, 16, colour, 0, 0, interlace), rows))
        np.testing.assert_array_equal(found, values[..., : 3 if n > 2 else 1])
        assert found.dtype == np.uint16


def test_palette_colours_not_indices_and_its_transparency() -> None:
    palette = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
    header = (2, 1, 8, 3, 0, 0, 0)
    assert flat(png(header, b"\0\0\1", palette)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    half = chunk(b"tRNS", bytes([255, 128]))
    assert flat(png(header, b"\0\0\1", palette, half)).tolist() == [[[10, 20, 30], [100, 50, 25]]]
    assert refusal(png(header, b"\0\0\2", palette)) == (
        "damaged PNG: a pixel points beyond the palette"
    )


def test_grey_stored_as_rgb_is_recognised() -> None:
    grey = Image.linear_gradient("L").resize((9, 7))
    assert read(saved(grey.convert("RGB"), "PNG")).is_grey
    assert read(saved(grey.convert("RGB"), "JPEG")).is_grey
    assert not read(saved(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG")).is_grey


def test_animated_png_gives_its_still_picture_and_says_so() -> None:
    frames = [Image.new("L", (4, 3), value) for value in (50, 90)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    picture = read(data)
    assert (picture.pixels == 50).all()
    assert picture.facts.notes == ("animated PNG of 2 frames: its still picture was read",)


GREY = Image.fromarray(np.arange(240, dtype=np.uint8).reshape(12, 20))
ROWS = b"\0\1\2" * 2
WRONG_SIZE = "it holds more or fewer pixels than its header states"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png((2, 2, 8, 0, 0, 0, 0), ROWS + b"\0"), WRONG_SIZE),
        (png((2, 2, 8, 0, 0, 0, 0), ROWS[:-1]), WRONG_SIZE),
        (png((2, 2, 7, 0, 0, 0, 0), ROWS), "colour type 0 with 7 bits does not exist"),
        (png((2, 2, 8, 3, 0, 0, 0), ROWS), "its palette is missing"),
        (png((2, 2, 8, 0, 0, 0, 2), ROWS), "unknown compression, filter or interlacing"),
        (png((2, 2, 8, 0, 0, 0, 0), ROWS, chunk(b"ABCD", b"")), "unknown critical chunk 'ABCD'"),
    ],
)  # fmt: skip
def test_png_against_its_own_standard(data: bytes, reason: str) -> None:
    assert refusal(data) == f"damaged PNG: {reason}"


def test_bytes_after_a_png_are_noted() -> None:
    data = png((2, 2, 8, 0, 0, 0, 0), ROWS, after=b"tail")
    assert read(data).facts.notes == ("4 bytes after the end of the PNG were ignored",)


def test_each_single_bit_of_a_png_is_guarded() -> None:
    data = saved(GREY, "PNG")
    for at in range(len(data) * 8):
        broken = bytearray(data)
        broken[at // 8] ^= 1 << at % 8
        refusal(bytes(broken))


def test_each_truncation_of_a_png_is_refused() -> None:
    data = saved(GREY, "PNG")
    for n in range(len(data)):
        refusal(data[:n])


# JPEG --------------------------------------------------------------------------------------------


def jpeg(size: tuple[int, int] = (40, 24), mode: str = "L", **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return saved(Image.fromarray(noise).convert(mode), "JPEG", **options)


@BOUNDED
@given(
    size=SIZES,
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    progressive=st.booleans(),
    restart=st.sampled_from([0, 1, 3]),
    subsampling=st.sampled_from([0, 1, 2]),
)
def test_jpeg_of_every_kind_as_pillow_reads_it(
    size: tuple[int, int], mode: str, progressive: bool, restart: int, subsampling: int
) -> None:
    data = jpeg(
        size,
        mode,
        progressive=progressive,
        restart_marker_blocks=restart,
        subsampling=subsampling,
    )
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image.convert("L" if mode == "L" else "RGB"))
    picture = read(data)
    np.testing.assert_array_equal(np.squeeze(picture.pixels), np.squeeze(wanted))
    assert (picture.facts.format, picture.facts.mode) == ("JPEG", mode)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_truncated_and_closed_again_is_refused(mode: str, options: dict[str, Any]) -> None:
    data = jpeg((64, 48), mode, **options)
    start = data.rindex(b"\xff\xda") + 14
    rng = random.Random(0)
    for _ in range(50):
        n = rng.randrange(start, len(data) - 12)
        refusal(data[:n])
        refusal(data[:n] + b"\xff\xd9")
        # Fewer bytes than the decoder looks ahead cannot be told from a sound end.
        n = min(n, len(data) - 40)
        refusal(data[:n] + bytes(len(data) - 2 - n) + b"\xff\xd9")


def test_each_truncation_of_a_jpeg_is_refused() -> None:
    data = jpeg((16, 16), "RGB")
    for n in range(len(data)):
        refusal(data[:n])


def test_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = jpeg((32, 32), "L", progressive=True)
    scans = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    assert refusal(data[: scans[2]] + b"\xff\xd9") == (
        "truncated JPEG: some of its scans are missing"
    )


def test_bytes_after_a_jpeg_are_noted() -> None:
    notes = read(jpeg() + b"tail").facts.notes
    assert notes == ("4 bytes after the end of the JPEG were ignored",)


def test_long_runs_of_fill_bytes_take_time_by_their_length() -> None:
    """Read in a child that is killed: by the square of this length it would take hours."""
    whole, fill = jpeg(), b"\xff" * 2**20
    padded = read_isolated(whole[:2] + fill + whole[2:], timeout_s=60)
    assert padded.facts.notes == ()
    np.testing.assert_array_equal(padded.pixels, read(whole).pixels)
    after_jfif = 20
    stray = read_isolated(whole[:after_jfif] + b"words" + fill + whole[after_jfif:], timeout_s=60)
    assert stray.facts.notes == ("5 stray bytes between markers were ignored",)
    with pytest.raises(UnreadableError) as caught:
        read_isolated(whole[:2] + fill, timeout_s=60)
    assert caught.value.reason == "truncated JPEG: it stops before its end marker"


def test_12_bit_and_lossless_jpeg() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).integers(0, 4096, (16, 24)).astype(np.uint16)
    data = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=12)
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels[0, ..., 0], values)
    assert picture.value_range == (0, 4095)


def test_several_pictures_in_one_jpeg_are_refused() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), value) for value in ("red", "blue")]
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:])
    assert refusal(file.getvalue()) == (
        "MPO, several JPEG pictures in one file. Save the wanted one as JPEG or PNG"
    )


# Orientation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone_as_pillow_does(form: str, orientation: int) -> None:
    image = Image.fromarray(np.arange(24 * 16, dtype=np.uint16).reshape(16, 24).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, form, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        turned = ImageOps.exif_transpose(opened)
        wanted = np.asarray(turned)
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels[0, ..., 0], wanted)
    assert picture.facts.orientation == orientation


def test_damaged_exif_does_not_stop_reading() -> None:
    for block in (b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(9)):
        data = saved(Image.new("L", (4, 4)), "JPEG", exif=b"Exif\0\0" + block)
        assert read(data).facts.orientation == 1


def test_orientation_from_xmp_and_from_a_raw_profile() -> None:
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    jpeg_file = saved(GREY, "JPEG", xmp=packet)
    assert read(jpeg_file).facts.orientation == 6
    exif = Image.Exif()
    exif[0x0112] = 3
    lines = (
        b"\nexif\n 8\n" + (b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")).hex().encode()
    )
    raw = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(lines))
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    header = (2, 2, 8, 0, 0, 0, 0)
    assert read(png(header, ROWS, raw)).facts.orientation == 3
    assert read(png(header, ROWS, xmp)).facts.orientation == 6


def test_padding_inside_the_picture_data_is_noted() -> None:
    start = png((2, 2, 8, 0, 0, 0, 0), ROWS)
    padded = start[: start.index(b"IDAT") - 4]
    padded += chunk(b"IDAT", zlib.compress(ROWS) + bytes(9)) + chunk(b"IEND", b"")
    assert read(padded).facts.notes == ("9 bytes after the compressed picture data were ignored",)


# JPEG at a reduced scale -------------------------------------------------------------------------


def smooth(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Return an image without detail, so that every way of shrinking it agrees."""
    rows, columns = np.mgrid[:height, :width]
    channels = [rows / height, columns / width, (rows + columns) / (height + width)]
    pixels = np.stack(channels, axis=-1) * 200 + 20
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("height", "width", "at_least", "factor"),
    [
        (160, 240, AtLeast(20, 30), 8),
        (160, 240, AtLeast(21, 30), 4),
        (160, 240, AtLeast(21, 30, both=False), 8),
        (160, 240, AtLeast(80, 120), 2),
        (160, 240, AtLeast(81, 120), 1),
        (160, 240, AtLeast(300, 300, both=False), 1),
        (159, 240, AtLeast(80, 8), 1),
    ],
)
def test_factor_is_the_largest_that_leaves_enough(
    height: int, width: int, at_least: AtLeast, factor: int
) -> None:
    picture = read(saved(smooth(height, width), "JPEG"), at_least=at_least)
    assert (picture.reduction.factor if picture.reduction else 1) == factor
    assert picture.pixels.shape == (1, -(-height // factor), -(-width // factor), 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduced_pixels_are_means_of_blocks(mode: str, factor: int) -> None:
    data = saved(smooth(64, 96, mode), "JPEG", quality=95, progressive=factor == 4)
    whole = read(data).pixels.astype(float)
    n_channels = whole.shape[-1]
    blocks = whole.reshape(64 // factor, factor, 96 // factor, factor, n_channels)
    reduced = read(data, at_least=AtLeast(64 / factor, 96 / factor)).pixels[0]
    assert np.abs(reduced - blocks.mean(axis=(1, 3))).max() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_reduced_pictures_lie_where_whole_ones_do(orientation: int, resize: Any) -> None:
    # Sides that no factor divides: the last block is a part only, and turning brings it forward.
    rows, columns = np.mgrid[:391, :617]
    waves = 128 + 60 * np.sin(rows / 15) + 60 * np.sin(columns / 17)
    image = Image.fromarray(waves.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, "JPEG", quality=98, exif=exif)
    spec = PixelSpec(height=24, width=24, resize=resize)
    reduced = read(data, at_least=least_size(spec))
    assert reduced.reduction is not None
    assert reduced.reduction.factor >= 4
    whole = read(data)
    assert (reduced.reduction.height, reduced.reduction.width) == whole.pixels.shape[1:3]
    difference = prepare(reduced, spec).astype(int) - prepare(whole, spec)
    assert np.abs(difference).max() <= 3
    np.testing.assert_array_equal(load_prepared(partial(read, data), spec), prepare(reduced, spec))


def test_what_is_small_or_not_jpeg_is_never_reduced() -> None:
    assert read(saved(smooth(64, 64), "PNG"), at_least=AtLeast(8, 8)).reduction is None
    assert read(saved(smooth(64, 64), "JPEG"), at_least=AtLeast(64, 64)).reduction is None
    assert read(saved(smooth(64, 64), "JPEG")).reduction is None


def test_damage_is_noticed_at_a_reduced_scale_and_in_verified_files() -> None:
    for options in ({}, {"restart_marker_blocks": 4}, {"progressive": True}):
        data = saved(smooth(160, 160, "L"), "JPEG", **options)
        n = len(data) * 2 // 3
        for verified in (False, True):
            with pytest.raises(UnreadableError):
                read(data[:n] + b"\xff\xd9", at_least=AtLeast(20, 20), verified=verified)
