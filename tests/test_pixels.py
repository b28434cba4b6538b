"""Values to 8 bits, colour to channels, and resizing, each against a slow twin."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hilum.pixels import PixelSpec, ReducedImages, prepare, resize, to_8_bits, to_channels
from hilum.readers import Facts, Picture
from hilum.report.gallery import Album

BOUNDED = settings(max_examples=60, deadline=2000, derandomize=True)


def picture(pixels: NDArray[Any], low: float, high: float, range_from: Any = "type") -> Picture:
    return Picture(pixels, (low, high), Facts("TIFF", "I;16", 16, range_from=range_from))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 255), ("uint8", 3, 200), ("int8", -128, 127), ("uint16", 0, 65535),
        ("uint16", 0, 4095), ("int16", -160, 239), ("int16", -0.5, 7.25), ("int32", -5, 90_000),
        ("uint32", 0, 2**32 - 1), ("float32", -1.5, 2.5),
    ],
)  # fmt: skip
def test_to_8_bits_equals_its_definition(dtype: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    span = high - low
    values = rng.uniform(low - span / 4, high + span / 4, (300, 301))
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        values = np.clip(values, info.min, info.max)
    pixels = values.astype(dtype)  # large enough for the look-up table

    found = to_8_bits(pixels, low, high)

    for value, got in zip(pixels.ravel()[::97].tolist(), found.ravel()[::97].tolist(), strict=True):
        exact = min(max(255 * (value - low) / (high - low), 0), 255)
        assert abs(got - exact) <= 0.5 + 1e-9
    np.testing.assert_array_equal(found[:3], to_8_bits(pixels[:3], low, high))


def test_black_equal_to_white_is_a_step() -> None:
    pixels = np.array([[39, 40, 41]], np.int16)
    assert to_8_bits(pixels, 40, 40).tolist() == [[0, 0, 255]]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_ramp_keeps_all_grey_levels(bits: int) -> None:
    ramp = np.arange(2**bits, dtype=np.uint16).reshape(1, 1, -1, 1)
    assert len(np.unique(to_8_bits(ramp, 0, 2**bits - 1))) == 256


def test_ranges_of_the_model_replace_those_of_the_type_only() -> None:
    pixels = np.full((1, 8, 8, 1), 2048, np.uint16)
    spec = PixelSpec(height=8, width=8, ranges={"uint16": (0, 4095)})
    assert prepare(picture(pixels, 0, 65535), spec).max() == 128
    assert prepare(picture(pixels, 0, 65535, "window"), spec).max() == 8


@pytest.mark.parametrize(("range_from", "white"), [("type", 120), ("window", 200)])
def test_the_report_shows_the_range_that_the_network_sees(
    monkeypatch: pytest.MonkeyPatch, range_from: str, white: float
) -> None:
    pixels = np.full((1, 16, 16, 1), 50, np.uint8)
    seen = picture(pixels, 0, 200, range_from)
    ranges = {"uint8": (0.0, 120.0)}
    monkeypatch.setattr("hilum.report.gallery.open_picture", lambda *_: seen)
    image = Album(Path(), "folder", ranges).thumbnail("x.png")
    assert image is not None
    shown = Image.open(io.BytesIO(base64.b64decode(image.uri.partition(",")[2])))
    prepared = prepare(seen, PixelSpec(height=16, width=16, ranges=ranges))
    assert prepared.max() == round(50 * 255 / white)
    assert abs(int(np.asarray(shown).max()) - int(prepared.max())) <= 2  # JPEG


def test_colour_becomes_grey_by_luma_and_grey_stays_itself() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), np.uint8)
    found = to_channels(rgb, 1)[..., 0]
    exact = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found - exact).max() <= 0.51
    np.testing.assert_array_equal(found, np.asarray(Image.fromarray(rgb).convert("L")))
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_channels(to_channels(every, 3), 1), every)


@BOUNDED
@given(
    height=st.sampled_from([1, 2, 7, 31, 224, 501, 5000]),
    width=st.sampled_from([1, 2, 7, 31, 224, 501]),
    turned=st.booleans(),
    channels=st.sampled_from([1, 3]),
    how=st.sampled_from(["letterbox", "stretch", "crop"]),
    out=st.sampled_from([(8, 8), (224, 224), (33, 64)]),
)
def test_every_size_comes_out_as_asked(
    height: int, width: int, turned: bool, channels: int, how: Any, out: tuple[int, int]
) -> None:
    height, width = (width, height) if turned else (height, width)
    pixels = np.full((height, width, channels), 77, np.uint8)
    found = resize(pixels, PixelSpec(height=out[0], width=out[1], channels=channels, resize=how))
    assert found.shape == (*out, channels)
    assert found.dtype == np.uint8
    assert (found == 77).all()


@pytest.mark.parametrize("shape", [(40, 100), (100, 40), (500, 7), (7, 5000), (13, 13)])
def test_letterbox_cuts_nothing_and_keeps_proportions(shape: tuple[int, int]) -> None:
    # White ends of the longer side would be gone if anything were cut off.
    pixels = np.zeros(shape, np.uint8)
    along = int(np.argmax(shape))
    ends = np.swapaxes(pixels, 0, along)
    quarter = max(shape) // 4
    ends[:quarter] = ends[-quarter:] = 255

    found = resize(pixels[..., None], PixelSpec(height=64, width=64))[..., 0]

    line = np.swapaxes(found, 0, along)
    assert (line[0] == 255).all()
    assert (line[-1] == 255).all()
    assert abs(int((line[:, 32] > 127).sum()) - 64 * 2 * quarter / max(shape)) <= 1


def test_letterbox_repeats_the_border_and_centres() -> None:
    pixels = np.array([[10, 20], [30, 40]], np.uint8).repeat(8, 0).repeat(16, 1)[..., None]
    found = resize(pixels, PixelSpec(height=64, width=32))[..., 0]
    inner = pixels[..., 0]
    np.testing.assert_array_equal(found[24:40], inner)
    assert (found[:24] == inner[0]).all()
    assert (found[40:] == inner[-1]).all()


def test_crop_equals_resizing_everything_and_cutting() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((60, 97), (200, 33), (17, 18)):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        found = resize(pixels, PixelSpec(height=24, width=32, channels=3, resize="crop"))
        scale = max(24 / height, 32 / width)
        inner = round(height * scale), round(width * scale)
        whole = Image.fromarray(pixels).resize(inner[::-1], Image.Resampling.BILINEAR)
        top, left = (inner[0] - 24) // 2, (inner[1] - 32) // 2
        wanted = np.asarray(whole)[top : top + 24, left : left + 32].astype(int)
        assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_reduced_images_are_means_of_squares_rounded_to_even(factor: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 12, 3), dtype=np.uint8)
    reduced = ReducedImages(images, factor)
    assert reduced.shape == (6, 8 // factor, 12 // factor, 3)
    assert len(reduced) == 6
    for image, index in zip(reduced, range(6), strict=True):
        assert image.dtype == np.uint8
        for row, column, channel in np.ndindex(*image.shape):
            square = images[index, row * factor :, column * factor :, channel][:factor, :factor]
            assert image[row, column, channel] == round(float(square.mean()))
    some = np.array([4, 0, 4])
    assert np.array_equal(reduced[some], reduced[:][some])


def test_same_size_is_left_alone() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert resize(pixels, PixelSpec(height=8, width=8)) is pixels
