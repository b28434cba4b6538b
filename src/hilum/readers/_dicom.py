"""DICOM: stored values → modality LUT → VOI → polarity, or colour → RGB.

The order is that of PS3.3 and PS3.4 N.2. A linear window is not applied but handed on as the
picture's range, so that a CT keeps its Hounsfield units and nothing is rounded twice.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import (
    apply_color_lut,
    convert_color_space,
)
from pydicom.pixels.utils import pixel_array

from hilum.readers._dicom_structure import check_structure
from hilum.readers._jpeg import check_complete, parse_jpeg
from hilum.readers._limits import LIMITS, Limits, Refusal
from hilum.readers._picture import Facts, Picture, RangeFrom
from hilum.readers._values import float_range, to_float32

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
DICOMDIR = "1.2.840.10008.1.3.10"
BASELINE_JPEG, EXTENDED_JPEG = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_SYNTAXES = (BASELINE_JPEG, EXTENDED_JPEG, *LOSSLESS_JPEG)
JPEG_2000_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
JPEG_LS_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
# One decoder for each syntax, so that a refusal by one is not turned into a picture by another.
DECODERS = {
    BASELINE_JPEG: "pillow",
    EXTENDED_JPEG: "pillow",
    **dict.fromkeys(JPEG_2000_SYNTAXES, "pylibjpeg"),
    **dict.fromkeys(JPEG_LS_SYNTAXES, "pyjpegls"),
    "1.2.840.10008.1.2.5": "pydicom",
}
# Air to the densest bone, the 12 bits that scanners measure; for CT that states no window.
CT_RANGE = (-1024.0, 3071.0)
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

Window = int | tuple[float, float]


@dataclass(frozen=True)
class _Display:
    """How the stored values of some frames become values with a black and a white."""

    values: NDArray[Any]
    low: float
    high: float
    range_from: RangeFrom


def read_dicom(data: bytes, limits: Limits, *, window: Window = 0) -> Picture:
    """Read the frames of a DICOM file."""
    ds = _parse(data, limits)
    photometric = _check_header(ds, len(data), limits)
    _check_streams(ds)
    stored = _stored(ds)  # (frames, height, width, samples)
    notes: list[str] = []
    if photometric in GREY:
        display = _grey(ds, stored[..., 0], window, notes)
        if photometric == "MONOCHROME1":
            display = _inverted(display)
        values = _pad_black(ds, stored[..., 0], display)[..., None]
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
    from hilum.readers._read import with_file

    def header(data: bytes, form: str) -> dict[str, str]:
        ds = _parse_only(data, form)
        return {field: _text(ds.get(field)) for field in fields}

    return with_file(source, name, LIMITS, header)


def dicom_columns(source: str | Path | bytes, *, name: str | None) -> dict[str, str]:
    """See `hilum.readers.dicom_columns`."""
    from hilum.readers._read import with_file

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


def _check_streams(ds: pydicom.Dataset) -> None:
    """Compare each compressed frame with the header, and see that it is whole."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    if syntax not in JPEG_SYNTAXES + JPEG_2000_SYNTAXES + JPEG_LS_SYNTAXES:
        return
    try:
        frames = list(generate_frames(ds.PixelData, number_of_frames=_n_frames(ds)))
    except Exception as error:
        raise Refusal(f"damaged DICOM: its frames cannot be told apart ({_kind(error)})") from None
    for frame in frames:
        if syntax in JPEG_SYNTAXES:
            jpeg = parse_jpeg(frame)
            check_complete(jpeg)
            size = jpeg.height, jpeg.width
        elif syntax in JPEG_2000_SYNTAXES:
            size = _jpeg_2000_size(frame)
        else:
            size = _jpeg_ls_size(frame)
        if size != (int(ds.Rows), int(ds.Columns)):
            raise Refusal(
                f"damaged DICOM: a compressed frame of {size[0]} × {size[1]} pixels where the "
                f"header states {ds.Rows} × {ds.Columns}"
            )


def _n_frames(ds: pydicom.Dataset) -> int:
    return int(ds.get("NumberOfFrames") or 1)


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    """Return (height, width) of a codestream whose tile parts are all there."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 24 > len(frame):
        raise Refusal("damaged DICOM: a JPEG 2000 frame has no header")
    width, height, left, top = (
        int.from_bytes(frame[start + at : start + at + 4], "big") for at in (8, 12, 16, 20)
    )
    at = start + 2
    while True:
        marker, length = frame[at : at + 2], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == b"\xff\xd9":
            break
        if marker == b"\xff\x90" and at + 12 <= len(frame):  # SOT: Psot covers the tile part
            length = int.from_bytes(frame[at + 6 : at + 10], "big") - 2
            if length == -2:  # up to the end of the codestream
                break
        if len(marker) < 2 or length < 2 or at + 2 + length > len(frame):
            if marker in (b"", b"\0") or not frame[at:].strip(b"\0"):
                break  # All tile parts were whole; only the end marker is missing.
            raise Refusal("truncated DICOM: a JPEG 2000 frame stops early")
        at += 2 + length
    return height - top, width - left


def _jpeg_ls_size(frame: bytes) -> tuple[int, int]:
    """Return (height, width) of a JPEG-LS stream that has its end marker."""
    at = frame.find(b"\xff\xf7")
    if at < 0 or b"\xff\xd9" not in frame[-16:]:
        raise Refusal("truncated DICOM: a JPEG-LS frame has no header or no end")
    return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(
        frame[at + 7 : at + 9], "big"
    )


def _stored(ds: pydicom.Dataset) -> NDArray[Any]:
    """Decode all frames; colour comes as RGB."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    try:
        if syntax in LOSSLESS_JPEG or (syntax == EXTENDED_JPEG and int(ds.BitsStored) > 8):
            values = _by_libjpeg(ds)
        else:
            values = pixel_array(ds, raw=False, decoding_plugin=DECODERS.get(syntax, ""))
    except Refusal:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:160]
        raise Refusal(f"its pixel data cannot be decoded: {words}") from None
    shape = (_n_frames(ds), int(ds.Rows), int(ds.Columns), int(ds.SamplesPerPixel))
    if values.size != np.prod(shape):
        raise Refusal("damaged DICOM: it holds more or fewer pixels than its header states")
    values = values.reshape(shape)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _by_libjpeg(ds: pydicom.Dataset) -> NDArray[Any]:
    """Decode 12-bit and lossless JPEG.

    Of pydicom's decoders under a permissive licence only GDCM knows the lossless kind and none
    the other; GDCM also writes to the terminal.
    """
    frames = [
        imagecodecs.jpeg8_decode(
            parse_jpeg(frame).whole,
            colorspace="GRAYSCALE" if ds.SamplesPerPixel == 1 else "RGB",
            outcolorspace="GRAYSCALE" if ds.SamplesPerPixel == 1 else "RGB",
        )
        for frame in generate_frames(ds.PixelData, number_of_frames=_n_frames(ds))
    ]
    values = np.stack(frames)
    if str(ds.PhotometricInterpretation) == "YBR_FULL":
        return convert_color_space(values, "YBR_FULL", "RGB")
    if int(ds.get("PixelRepresentation") or 0) == 0:
        return values
    bits = int(ds.BitsStored)
    sign = 1 << (bits - 1)
    return np.asarray(((values.astype(np.int32) & (2**bits - 1)) ^ sign) - sign, np.int16)


def _grey(ds: pydicom.Dataset, stored: NDArray[Any], window: Window, notes: list[str]) -> _Display:
    """Apply modality and VOI transformations, frame by frame where they differ."""
    if not ds.get("PerFrameFunctionalGroupsSequence"):
        return _display(ds, stored, window, notes)
    groups = [_frame_view(ds, i) for i in range(len(stored))]
    keys = [str(_settings(view)) for view in groups]
    if len(set(keys)) == 1:
        return _display(groups[0], stored, window, notes)
    parts = [
        _display(view, stored[i : i + 1], window, notes if i == 0 else [])
        for i, view in enumerate(groups)
    ]
    first = parts[0]
    frames = [_brought_to(part, first) for part in parts]
    return _Display(np.concatenate(frames), first.low, first.high, first.range_from)


def _brought_to(part: _Display, first: _Display) -> NDArray[Any]:
    """Map a frame so that its own black and white become those of the first frame."""
    if (part.low, part.high) == (first.low, first.high):
        return part.values
    scale = (first.high - first.low) / ((part.high - part.low) or 1.0)
    return to_float32((part.values.astype(np.float64) - part.low) * scale + first.low)


FRAME_FIELDS = (
    ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")),
    ("FrameVOILUTSequence", ("WindowCenter", "WindowWidth", "VOILUTFunction")),
)
VALUE_FIELDS = ("PixelRepresentation", "BitsStored", "ModalityLUTSequence", "VOILUTSequence")


def _frame_view(ds: pydicom.Dataset, index: int) -> pydicom.Dataset:
    """Gather what applies to one frame: its own group, else the shared one, else the top level."""
    view = pydicom.Dataset()
    view.file_meta = ds.file_meta
    names = [name for _, fields in FRAME_FIELDS for name in fields]
    for name in (*VALUE_FIELDS, *names):
        if name in ds:
            view[name] = ds[name]
    own = ds.PerFrameFunctionalGroupsSequence
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    for group in (*shared[:1], *own[index : index + 1]):
        for macro, fields in FRAME_FIELDS:
            for item in (group.get(macro) or [])[:1]:
                for name in fields:
                    if name in item:
                        view[name] = item[name]
    return view


def _settings(view: pydicom.Dataset) -> tuple[Any, ...]:
    return tuple(str(view.get(name)) for _, fields in FRAME_FIELDS for name in fields)


def _display(
    ds: pydicom.Dataset, stored: NDArray[Any], window: Window, notes: list[str]
) -> _Display:
    if stored.dtype.kind == "f":
        values = to_float32(stored)
        low, high, source = float_range(values)
        modality = _Display(values, low, high, source)
    else:
        modality = _modality(ds, stored, notes)
    return _voi(ds, modality, window, notes)


def _modality(ds: pydicom.Dataset, stored: NDArray[Any], notes: list[str]) -> _Display:
    """Stored values → units of the modality, with the range that the stored bits allow."""
    if ds.get("ModalityLUTSequence"):
        return _through_table(ds, stored, ds.ModalityLUTSequence[0], "bits")
    bits, signed = int(ds.BitsStored), int(ds.get("PixelRepresentation") or 0) == 1
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = (
        _number(ds.get("RescaleSlope"), 1.0),
        _number(ds.get("RescaleIntercept"), 0.0),
    )
    if slope == 0:
        notes.append("the header states a rescale slope of 0, which was ignored")
        slope, intercept = 1.0, 0.0
    low, high = sorted((lowest * slope + intercept, highest * slope + intercept))
    values = _rescaled(stored, slope, intercept, fits=max(-low, high) < 2**31)
    if str(ds.get("Modality")) == "CT" and ds.get("RescaleIntercept") is not None and bits > 12:
        notes.append("CT without a window: shown from -1024 to 3071 Hounsfield units")
        return _Display(values, *CT_RANGE, "modality")
    whole_type = values is stored and bits == 8 * stored.dtype.itemsize
    return _Display(values, float(low), float(high), "type" if whole_type else "bits")


def _rescaled(stored: NDArray[Any], slope: float, intercept: float, *, fits: bool) -> NDArray[Any]:
    """Apply slope and intercept, in whole numbers where these `fit` into 32 bits."""
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if fits and slope.is_integer() and intercept.is_integer():
        return _narrow(stored.astype(np.int64) * int(slope) + int(intercept))
    return to_float32(stored.astype(np.float64) * slope + intercept)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Return the smallest of int16 and int32 that holds the values."""
    small = np.iinfo(np.int16)
    fits = values.size and small.min <= values.min() and values.max() <= small.max
    return values.astype(np.int16 if fits else np.int32)


def _voi(ds: pydicom.Dataset, modality: _Display, window: Window, notes: list[str]) -> _Display:
    """Choose black and white: the user's window, else the file's VOI LUT, else its window."""
    if isinstance(window, tuple):
        return _windowed(modality, *window, "LINEAR", notes)
    if ds.get("VOILUTSequence"):
        return _voi_lut(ds, modality, window)
    centres, widths = _numbers(ds.get("WindowCenter")), _numbers(ds.get("WindowWidth"))
    if not centres or len(centres) != len(widths):
        if window:
            raise Refusal(f"window {window} was asked for, but the file states none")
        return modality
    if not 0 <= window < len(centres):
        raise Refusal(f"window {window} was asked for, but the file states {len(centres)}")
    function = str(ds.get("VOILUTFunction") or "LINEAR").upper()
    return _windowed(modality, centres[window], widths[window], function, notes)


def _windowed(
    modality: _Display, centre: float, width: float, function: str, notes: list[str]
) -> _Display:
    """Apply PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID" and width > 0:
        exponent = -4 * (modality.values.astype(np.float64) - centre) / width
        values = 1 / (1 + np.exp(np.clip(exponent, -700, 700)))
        return _Display(to_float32(values), 0.0, 1.0, "window")
    if function == "LINEAR_EXACT" and width > 0:
        return _Display(modality.values, centre - width / 2, centre + width / 2, "window")
    if width >= 1:
        half = (width - 1) / 2
        return _Display(modality.values, centre - 0.5 - half, centre - 0.5 + half, "window")
    notes.append(f"the header states a window of width {width:g}, which was ignored")
    return modality


def _voi_lut(ds: pydicom.Dataset, modality: _Display, index: int) -> _Display:
    n = len(ds.VOILUTSequence)
    if not 0 <= index < n:
        raise Refusal(f"VOI LUT {index} was asked for, but the file states {n}")
    values = modality.values
    if values.dtype.kind == "f":
        values = np.rint(values).astype(np.int32)
    return _through_table(ds, values, ds.VOILUTSequence[index], "window")


def _through_table(
    ds: pydicom.Dataset, values: NDArray[Any], item: pydicom.Dataset, source: RangeFrom
) -> _Display:
    """Apply a modality or VOI LUT by PS3.3 C.11.1.1 and C.11.2.1.1.

    By hand, because pydicom refuses modality tables of other than 8 or 16 bits.
    """
    try:
        n_entries, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        if isinstance(data, bytes):
            order = "<" if ds.file_meta.TransferSyntaxUID.is_little_endian else ">"
            table = np.frombuffer(data, f"{order}u2").astype(np.uint16)
        else:
            table = np.atleast_1d(np.array(data, np.uint16))
    except Exception as error:
        raise Refusal(f"damaged DICOM: its LUT cannot be parsed ({_kind(error)})") from None
    n_entries = n_entries or 2**16
    if bits <= 8 and len(table) < n_entries <= 2 * len(table):
        table = table.astype("<u2").view(np.uint8)  # two entries to a word
    if not 1 <= bits <= 16 or len(table) < n_entries:
        raise Refusal("damaged DICOM: its LUT has fewer entries than it states")
    if first > 32767 and values.dtype.kind == "i":
        first -= 65536
    places = np.clip(values.astype(np.int64) - first, 0, n_entries - 1)
    return _Display(table[places], 0.0, 2.0**bits - 1, source)


def _inverted(display: _Display) -> _Display:
    """Mirror values within their range, so that larger is brighter."""
    total = display.low + display.high
    if display.values.dtype.kind == "f" or not total.is_integer():
        values: NDArray[Any] = (total - display.values.astype(np.float64)).astype(np.float32)
    else:
        values = _narrow(int(total) - display.values.astype(np.int64))
    # No longer the range of a type, which a data set's own range could replace.
    source: RangeFrom = "bits" if display.range_from == "type" else display.range_from
    return _Display(values, display.low, display.high, source)


def _pad_black(ds: pydicom.Dataset, stored: NDArray[Any], display: _Display) -> NDArray[Any]:
    """Show padding, which is no part of the picture, as black."""
    value = ds.get("PixelPaddingValue")
    if value is None or stored.dtype.kind == "f":
        return display.values
    limit = ds.get("PixelPaddingRangeLimit")
    first, last = sorted(
        (_stored_number(ds, value), _stored_number(ds, value if limit is None else limit))
    )
    padding = (stored >= first) & (stored <= last)
    if not padding.any():
        return display.values
    black = display.low if display.low.is_integer() else np.ceil(display.low)
    values = display.values.copy()
    if values.dtype.kind == "f":
        values[padding] = display.low
    else:
        info = np.iinfo(values.dtype)
        values[padding] = int(np.clip(black, info.min, info.max))
    return values


def _stored_number(ds: pydicom.Dataset, value: Any) -> int:
    """Read a padding value by the pixels' own sign, whatever sign it was parsed with."""
    number = value if isinstance(value, int) else int.from_bytes(value[:2], "little")
    signed = int(ds.get("PixelRepresentation") or 0) == 1
    if signed and number > 32767:
        return int(number) - 65536
    if not signed and number < 0:
        return int(number) + 65536
    return int(number)


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


def _number(value: Any, default: float) -> float:
    numbers = _numbers(value)
    return numbers[0] if numbers else default


def _numbers(value: Any) -> list[float]:
    """Return the finite numbers of a header value that may be absent, single or several."""
    if value is None or value == "":
        return []
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        numbers = [float(v) for v in several]
    except (TypeError, ValueError):
        return []
    return numbers if all(np.isfinite(numbers)) else []


def _spacing(ds: pydicom.Dataset) -> tuple[float, float] | None:
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    measures = shared[0].get("PixelMeasuresSequence") or [] if shared else []
    for place, keyword in (
        (ds, "PixelSpacing"),
        *((item, "PixelSpacing") for item in measures[:1]),
        (ds, "ImagerPixelSpacing"),
        (ds, "NominalScannedPixelSpacing"),
    ):
        numbers = _numbers(place.get(keyword))
        if len(numbers) == 2 and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None
