"""DICOM: check the header, decode the frames, turn them into grey or RGB."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut

from hilum.readers._dicom_frames import check_streams, stored_values
from hilum.readers._dicom_light import (
    Window,
    finite_numbers,
    grey_display,
    inverted,
    with_padding_black,
)
from hilum.readers._dicom_structure import check_structure
from hilum.readers._files import with_file
from hilum.readers._limits import LIMITS, Limits, Refusal
from hilum.readers._picture import Facts, Picture, RangeFrom

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
DICOMDIR = "1.2.840.10008.1.3.10"
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_dicom(data: bytes, limits: Limits, *, window: Window = 0) -> Picture:
    """Read the frames of a DICOM file."""
    ds = _parse(data, limits)
    photometric = _check_header(ds, len(data), limits)
    check_streams(ds)
    stored = stored_values(ds)  # (frames, height, width, samples)
    notes: list[str] = []
    if photometric in GREY:
        display = grey_display(ds, stored[..., 0], window, notes)
        if photometric == "MONOCHROME1":
            display = inverted(display)
        values = with_padding_black(ds, stored[..., 0], display)[..., None]
        low, high, source = display.low, display.high, display.range_from
    elif photometric == "PALETTE COLOR":
        values, low, high, source = _palette(ds, stored[..., 0])
    else:
        values, source = stored, "bits"
        low, high = 0.0, 2.0 ** int(ds.BitsStored) - 1
    if ds.get("BurnedInAnnotation", "") == "YES":
        notes.append("the header says that identifying text is burned into the pixels")
    facts = Facts(
        "DICOM",
        photometric,
        int(ds.get("BitsStored", 32)),
        spacing_mm=_spacing(ds),
        burned_in=str(ds.get("BurnedInAnnotation", "")).upper() == "YES",
        range_from=source,
        notes=tuple(notes),
    )
    return Picture(np.ascontiguousarray(values), (low, high), facts)


def read_header(
    source: str | Path | bytes, fields: Sequence[str], *, name: str | None
) -> dict[str, str]:
    """See `hilum.readers.read_header`."""

    def header(data: bytes, form: str) -> dict[str, str]:
        ds = _parse_only(data, form)
        return {field: _text(ds.get(field)) for field in fields}

    return with_file(source, name, LIMITS, header)


def dicom_columns(source: str | Path | bytes, *, name: str | None) -> dict[str, str]:
    """See `hilum.readers.dicom_columns`."""

    def columns(data: bytes, form: str) -> dict[str, str]:
        ds = _parse_only(data, form)
        return {
            "patient": _text(ds.get("PatientID")),
            "study": _text(ds.get("StudyInstanceUID")),
            "laterality": _text(ds.get("ImageLaterality")) or _text(ds.get("Laterality")),
            "view": _text(ds.get("ViewPosition")) or _view_code(ds),
            "modality": _text(ds.get("Modality")),
            "manufacturer": _text(ds.get("Manufacturer")),
        }

    return with_file(source, name, LIMITS, columns)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _view_code(ds: pydicom.Dataset) -> str:
    codes = ds.get("ViewCodeSequence") or []
    return _text(codes[0].get("CodeMeaning")) if codes else ""


def _parse_only(data: bytes, form: str) -> pydicom.Dataset:
    if form != "DICOM":
        raise Refusal(f"a {form} file has no DICOM header")
    return _parse(data, LIMITS)


def _parse(data: bytes, limits: Limits) -> pydicom.Dataset:
    check_structure(data, limits)
    try:
        return pydicom.dcmread(io.BytesIO(data))
    except Exception as error:
        # The library's words may quote the header, and so a person.
        raise Refusal(f"damaged DICOM: its header cannot be parsed ({_kind(error)})") from None


def _kind(error: Exception) -> str:
    return type(error).__name__


def _check_header(ds: pydicom.Dataset, stored: int, limits: Limits) -> str:
    """Refuse what is no picture or too large; return the photometric interpretation."""
    if ds.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
        raise Refusal("a DICOMDIR, an index of other files. Give the files that it lists")
    present = [keyword for keyword in PIXEL_KEYWORDS if keyword in ds]
    if not present:
        kind = getattr(ds.get("SOPClassUID"), "name", "")
        raise Refusal("the DICOM file holds no pixel data" + (f" ({kind})" if kind else ""))
    if not ds[present[0]].value:
        raise Refusal("the DICOM file's pixel data are empty")
    try:
        rows, columns = int(ds.Rows), int(ds.Columns)
        n_frames = int(ds.get("NumberOfFrames") or 1)
        n_samples, allocated = int(ds.SamplesPerPixel), int(ds.BitsAllocated)
        photometric = str(ds.PhotometricInterpretation)
    except (AttributeError, TypeError, ValueError):
        raise Refusal(
            "damaged DICOM: rows, columns, samples, bits or photometric interpretation are missing"
        ) from None
    if photometric not in (*GREY, *COLOUR, "PALETTE COLOR"):
        raise Refusal(f"photometric interpretation {photometric[:16]!r} is not supported")
    if n_samples != (3 if photometric in COLOUR else 1):
        raise Refusal(f"damaged DICOM: {photometric} with {n_samples} samples a pixel")
    if allocated not in (1, 8, 16, 32, 64):
        raise Refusal(f"damaged DICOM: {allocated} bits allocated")
    if "PixelData" in ds and not 1 <= int(ds.get("BitsStored") or 0) <= allocated <= 32:
        raise Refusal("damaged DICOM: impossible numbers of bits stored and allocated")
    pixel_bytes = n_samples * max(allocated, 8) // 8
    limits.check_size(rows, columns, frames=n_frames, pixel_bytes=pixel_bytes, stored=stored)
    return photometric


def _palette(
    ds: pydicom.Dataset, stored: NDArray[Any]
) -> tuple[NDArray[Any], float, float, RangeFrom]:
    try:
        rgb = apply_color_lut(stored, ds)[..., :3]
        depth = int(ds.RedPaletteColorLookupTableDescriptor[2])
    except Exception as error:
        raise Refusal(f"damaged DICOM: its palette cannot be applied ({_kind(error)})") from None
    # Tables of 16-bit entries that announce 8 bits exist both with and without shifting.
    white = 65535.0 if rgb.dtype.itemsize == 2 and (depth > 8 or rgb.max() > 255) else 255.0
    return rgb, 0.0, white, "bits"


def _spacing(ds: pydicom.Dataset) -> tuple[float, float] | None:
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    measures = shared[0].get("PixelMeasuresSequence") or [] if shared else []
    for place, keyword in (
        (ds, "PixelSpacing"),
        *((item, "PixelSpacing") for item in measures[:1]),
        (ds, "ImagerPixelSpacing"),
        (ds, "NominalScannedPixelSpacing"),
    ):
        numbers = finite_numbers(place.get(keyword))
        if len(numbers) == 2 and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None
