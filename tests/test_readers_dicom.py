"""DICOM from stored values to light, against slow twins of the standard's formulas."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from hilum.errors import UnreadableError
from hilum.pixels import to_8_bits
from hilum.readers import Picture, dicom_columns, read, read_header

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def dataset(
    pixels: NDArray[Any], *, syntax: UID = ExplicitVRLittleEndian, **fields: Any
) -> Dataset:
    """Make a data set of frames (frames, rows, columns) or (frames, rows, columns, 3)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=["1"])
    ds.PatientID, ds.PatientName = "secret-7", "Secret^Name"
    ds.Rows, ds.Columns = pixels.shape[1:3]
    if len(pixels) > 1:
        ds.NumberOfFrames = len(pixels)
    ds.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    if pixels.ndim == 4:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    swapped = syntax == ExplicitVRBigEndian
    ds.PixelData = (pixels.byteswap() if swapped else pixels).tobytes()
    ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in fields.items():
        setattr(ds, name, value)
    if "BitsStored" in fields:
        ds.HighBit = ds.BitsStored - 1
    return ds


def encoded(ds: Dataset) -> bytes:
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def opened(pixels: NDArray[Any], **fields: Any) -> Picture:
    return read(encoded(dataset(pixels, **fields)))


def shown(picture: Picture) -> NDArray[np.uint8]:
    return to_8_bits(picture.pixels, *picture.value_range)


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(data, **options)
    assert "ecret" not in str(caught.value)
    return caught.value.reason


RAMP = np.arange(-300, 300, dtype=np.int16).reshape(1, 20, 30)


# Windows -----------------------------------------------------------------------------------------


def linear(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.2.1, as written there, for an output of 0 to 255."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 255
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


def linear_exact(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.3.2."""
    if x <= c - w / 2:
        return 0
    return 255 if x > c + w / 2 else ((x - c) / w + 0.5) * 255


def sigmoid(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.3.1."""
    with np.errstate(over="ignore"):
        return float(255 / (1 + np.exp(np.float64(-4 * (x - c) / w))))


@pytest.mark.parametrize(
    ("function", "formula"),
    [("LINEAR", linear), ("LINEAR_EXACT", linear_exact), ("SIGMOID", sigmoid)],
)
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (0.5, 3), (-100, 1), (7, 80.5)])
def test_windows_by_the_standard(function: str, formula: Any, centre: float, width: float) -> None:
    picture = opened(RAMP, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    wanted = [formula(x, centre, width) for x in RAMP.ravel().tolist()]
    assert np.abs(shown(picture).ravel() - np.array(wanted)).max() <= 0.5 + 1e-4
    assert picture.facts.range_from == "window"


def test_the_usual_ct_window() -> None:
    stored = (np.array([[[-128, 66, 194]]]) + 1024).astype(np.uint16)
    picture = opened(
        stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400
    )
    assert picture.pixels.ravel().tolist() == [-128, 66, 194]
    assert shown(picture).ravel().tolist() == [20, 144, 226]


def test_the_first_window_unless_asked_otherwise() -> None:
    data = encoded(dataset(RAMP, WindowCenter=[40, -50], WindowWidth=[400, 101]))
    assert list(read(data).value_range) == [-160, 239]
    assert list(read(data, window=1).value_range) == [-100.5, -0.5]
    assert list(read(data, window=(10, 21)).value_range) == [-0.5, 19.5]
    assert refusal(data, window=2) == "window 2 was asked for, but the file states 2"


def test_a_window_of_no_width_is_ignored_and_noted() -> None:
    picture = opened(RAMP, WindowCenter=40, WindowWidth=0)
    assert picture.facts.range_from == "type"
    assert picture.facts.notes == ("the header states a window of width 0, which was ignored",)


def test_without_a_window_the_stored_bits_decide() -> None:
    for bits in (10, 12, 16):
        ramp = np.arange(2**bits, dtype=np.uint16).reshape(1, -1, 32)
        picture = opened(ramp, BitsStored=bits, Modality="DX")
        assert list(picture.value_range) == [0, 2**bits - 1]
        assert len(np.unique(shown(picture))) == 256
    rescaled = opened(RAMP, RescaleSlope=-2, RescaleIntercept=5, BitsStored=10)
    assert list(rescaled.value_range) == [-2 * 511 + 5, 2 * 512 + 5]
    np.testing.assert_array_equal(rescaled.pixels.ravel(), 5 - 2 * RAMP.astype(int).ravel())
    fraction = opened(RAMP, RescaleSlope="0.25", RescaleIntercept=1)
    assert fraction.pixels.dtype == np.float32
    np.testing.assert_array_equal(fraction.pixels.ravel(), RAMP.ravel() * 0.25 + 1)


def test_ct_without_a_window_shows_the_range_of_scanners() -> None:
    picture = opened(RAMP, RescaleSlope=1, RescaleIntercept=-1024, Modality="CT")
    assert list(picture.value_range) == [-1024, 3071]
    assert picture.facts.notes == (
        "CT without a window: shown from -1024 to 3071 Hounsfield units",
    )


# Look-up tables, polarity, padding ---------------------------------------------------------------


def lut(values: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", "US", values)
    item.ModalityLUTType = "US"
    return item


def test_voi_lut_before_window_and_modality_lut_before_both() -> None:
    stored = np.array([[[0, 1, 2, 3, 9]]], np.uint16)
    modality = opened(stored, ModalityLUTSequence=[lut([10, 11, 900, 4095], 0, 12)])
    assert modality.pixels.ravel().tolist() == [10, 11, 900, 4095, 4095]
    assert list(modality.value_range) == [0, 4095]
    voi = opened(
        stored,
        VOILUTSequence=[lut([0, 400, 1023], 1, 10)],
        WindowCenter=1,
        WindowWidth=2,
    )
    assert voi.pixels.ravel().tolist() == [0, 0, 400, 1023, 1023]
    assert list(voi.value_range) == [0, 1023]


@pytest.mark.parametrize(("function", "centre"), [("LINEAR", 41), ("SIGMOID", 41.3)])
def test_monochrome1_is_inverted_after_the_window(function: str, centre: float) -> None:
    fields = {"WindowCenter": centre, "WindowWidth": 100, "VOILUTFunction": function}
    plain = shown(opened(RAMP, **fields))
    inverted = shown(opened(RAMP, **fields, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(255 - plain.astype(int), inverted)


def test_padding_is_black_in_either_polarity() -> None:
    stored = np.array([[[-2000, -100, 40, 150]]], np.int16)
    fields = {"WindowCenter": 40, "WindowWidth": 400, "PixelPaddingValue": -2000}
    for photometric, wanted in (
        ("MONOCHROME2", [0, 38, 128, 198]),
        ("MONOCHROME1", [0, 217, 127, 57]),
    ):
        picture = opened(stored, **fields, PhotometricInterpretation=photometric)
        assert shown(picture).ravel().tolist() == wanted
    ranged = opened(stored, **fields, PixelPaddingRangeLimit=-100)
    assert shown(ranged).ravel().tolist() == [0, 0, 128, 198]


def test_frames_with_windows_of_their_own() -> None:
    stored = np.array([[[0, 50, 100]], [[0, 500, 1000]]], np.uint16)
    groups = []
    for centre, width in ((50.5, 101), (500.5, 1001)):
        group, item = Dataset(), Dataset()
        item.WindowCenter, item.WindowWidth = centre, width
        group.FrameVOILUTSequence = [item]
        groups.append(group)
    values = Dataset()
    values.RescaleSlope, values.RescaleIntercept = 2, 0
    shared = Dataset()
    shared.PixelValueTransformationSequence = [values]
    picture = opened(
        stored,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )
    assert list(picture.value_range) == [0, 100]
    assert shown(picture)[:, 0, :, 0].tolist() == [[0, 255, 255], [0, 255, 255]]
    fifth = opened(
        stored // 5,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )
    assert shown(fifth)[:, 0, :, 0].tolist() == [[0, 51, 102], [0, 51, 102]]


def test_palette_colour() -> None:
    stored = np.array([[[0, 1, 2]]], np.uint8)
    tables = {"Red": [0, 128, 255], "Green": [10, 20, 30], "Blue": [9, 8, 7]}
    ds = dataset(stored, PhotometricInterpretation="PALETTE COLOR")
    for name, values in tables.items():
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [3, 0, 16])
        words = np.array(values, "<u2") * 257
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", words.tobytes())
    picture = read(encoded(ds))
    assert shown(picture)[0, 0].tolist() == [[0, 10, 9], [128, 20, 8], [255, 30, 7]]


def test_ybr_becomes_rgb() -> None:
    rgb = np.array([[[[255, 0, 0], [0, 255, 0], [10, 20, 30], [90, 90, 90]]]], float)
    matrix = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    ycc = np.rint(np.clip(rgb @ matrix.T + [0, 128, 128], 0, 255)).astype(np.uint8)
    picture = opened(ycc, PhotometricInterpretation="YBR_FULL")
    assert np.abs(picture.pixels - rgb).max() <= 2
    assert picture.facts.mode == "YBR_FULL"


# Encodings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
@pytest.mark.parametrize("shape", [(1, 3, 5), (3, 2, 2), (2, 3, 3, 3)])
def test_native_encodings(syntax: str, dtype: str, shape: tuple[int, ...]) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    pixels = rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    if pixels.ndim == 4 and dtype == "int16":
        pytest.skip("colour is unsigned")
    picture = opened(pixels, syntax=syntax)
    np.testing.assert_array_equal(picture.pixels.reshape(shape), pixels)
    assert picture.pixels.dtype == dtype


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_compressed_without_loss(syntax: str, dtype: str) -> None:
    ds = dataset(np.sort(np.random.default_rng(0).integers(0, 250, (1, 40, 34))).astype(dtype))
    wanted = np.frombuffer(ds.PixelData, dtype).reshape(40, 34)
    ds.compress(syntax)
    np.testing.assert_array_equal(read(encoded(ds)).pixels[0, ..., 0], wanted)


def jpeg_dataset(pixels: NDArray[Any], syntax: UID, frames: list[bytes], **fields: Any) -> Dataset:
    ds = dataset(pixels, **fields)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    return ds


@pytest.mark.parametrize("signed", [False, True])
def test_lossless_jpeg(signed: bool) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).integers(-2048 if signed else 0, 2047, (1, 9, 8))
    pixels = values.astype(np.int16 if signed else np.uint16)
    frame = imagecodecs.jpeg8_encode(pixels[0].view(np.uint16), lossless=True, bitspersample=16)
    ds = jpeg_dataset(pixels, JPEGLosslessSV1, [frame], BitsStored=12)
    np.testing.assert_array_equal(read(encoded(ds)).pixels[..., 0], pixels)


def test_baseline_jpeg_in_colour_is_rgb() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.full((1, 16, 16, 3), (200, 40, 90), np.uint8)
    frame = imagecodecs.jpeg8_encode(pixels[0], level=95)
    ds = jpeg_dataset(pixels, JPEGBaseline8Bit, [frame], PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(read(encoded(ds)).pixels.astype(int) - pixels).max() <= 2


def test_a_frame_of_another_size_than_the_header_states() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    frame = imagecodecs.jpeg8_encode(np.zeros((64, 64), np.uint8))
    ds = jpeg_dataset(np.zeros((1, 16, 16), np.uint8), JPEGBaseline8Bit, [frame])
    assert refusal(encoded(ds)) == (
        "damaged DICOM: a compressed frame of 64 × 64 pixels where the header states 16 × 16"
    )


# Damage, privacy, header -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_truncations_are_refused(syntax: UID) -> None:
    pixels = np.arange(1024, dtype=np.uint16).astype(np.uint8).reshape(1, 32, 32)
    if syntax in NATIVE:
        ds = dataset(pixels, syntax=syntax)
    else:
        ds = dataset(pixels)
        ds.compress(syntax)
    data = encoded(ds)
    rng = random.Random(0)
    for n in {rng.randrange(len(data)) for _ in range(100)}:
        refusal(data[:n])


def test_frames_cut_inside_an_intact_file_are_refused() -> None:
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32)).astype(np.uint8)
        ds = dataset(pixels)
        ds.compress(syntax)
        frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
        for share in (0.3, 0.6, 0.9):
            cut = frame[: int(len(frame) * share) // 2 * 2]
            refusal(encoded(jpeg_dataset(pixels, syntax, [cut])))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"PixelData": b""}, "the DICOM file's pixel data are empty"),
        (
            {"Rows": 65535, "Columns": 65535},
            "65535 × 65535 pixels exceed the limit of 67,108,864 pixels a frame. "
            "Shrink the picture",
        ),
        (
            {"PhotometricInterpretation": None},
            "photometric interpretation '' is not supported",
        ),
        ({"SamplesPerPixel": 2}, "damaged DICOM: MONOCHROME2 with 2 samples a pixel"),
        ({"BitsStored": 17}, "damaged DICOM: impossible numbers of bits stored and allocated"),
    ],
)
def test_headers_that_cannot_be_right(fields: dict[str, Any], reason: str) -> None:
    ds = dataset(RAMP)
    for name, value in fields.items():
        setattr(ds, name, value)
    assert refusal(encoded(ds)) == reason


def test_files_without_a_picture_say_what_they_are() -> None:
    ds = dataset(RAMP)
    del ds.PixelData
    assert refusal(encoded(ds)) == "the DICOM file holds no pixel data (CT Image Storage)"


def test_deep_nesting_is_refused() -> None:
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = encoded(dataset(RAMP))
    start = data.index(b"\x08\x00\x16\x00UI")
    for depth in (60, 100_000):
        nested = data[:start] + (sequence + item) * depth + data[start:]
        assert refusal(nested) == "DICOM sequences nested more than 32 deep"


def test_nothing_that_identifies_leaves_by_itself() -> None:
    data = encoded(dataset(RAMP, BurnedInAnnotation="YES", PixelSpacing=[0.5, 0.25]))
    picture = read(data)
    assert "ecret" not in repr(picture.facts)
    assert picture.facts.burned_in
    assert picture.facts.spacing_mm == (0.5, 0.25)
    assert read_header(data, ["PatientID", "PatientName", "Modality"]) == {
        "PatientID": "secret-7",
        "PatientName": "Secret^Name",
        "Modality": "",
    }
    columns = dicom_columns(
        encoded(dataset(RAMP, Modality="MG", ViewPosition="CC", Laterality="L"))
    )
    assert columns == {
        "patient": "secret-7", "study": "", "laterality": "L", "view": "CC", "modality": "MG",
        "manufacturer": "",
    }  # fmt: skip


# Independent readers -----------------------------------------------------------------------------


def test_same_values_as_simpleitk(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / "a.dcm"
    path.write_bytes(encoded(dataset(RAMP, RescaleSlope=3, RescaleIntercept=-7)))
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read(path).pixels[..., 0], theirs)


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_same_light_as_dcmtk_within_its_rounding(tmp_path: Path, photometric: str) -> None:
    from PIL import Image

    path, out = tmp_path / "a.dcm", tmp_path / "a.pgm"
    fields: dict[str, Any] = {"WindowCenter": 40, "WindowWidth": 400}
    fields["PhotometricInterpretation"] = photometric
    path.write_bytes(encoded(dataset(RAMP, **fields)))
    subprocess.run(["dcm2pnm", "-q", "+Wi", "1", "+op", str(path), str(out)], check=True)
    with Image.open(out) as image:
        theirs = np.asarray(image).astype(int)
    # dcm2pnm cuts fractions off where we round.
    assert np.abs(shown(read(path))[0, ..., 0] - theirs).max() <= 1
