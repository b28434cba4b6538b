"""Stored grey values of DICOM → values with a black and a white, larger being brighter.

The order is that of PS3.3 C.11 and PS3.4 N.2: modality LUT, VOI LUT or window, polarity. A linear
window is not applied but handed on as the range, so that a CT keeps its Hounsfield units and
nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from hilum.readers._limits import Refusal
from hilum.readers._picture import RangeFrom
from hilum.readers._values import float_range, to_float32

Window = int | tuple[float, float]

# Air to the densest bone, the 12 bits that scanners measure; for CT that states no window.
CT_RANGE = (-1024.0, 3071.0)
FRAME_FIELDS = (
    ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")),
    ("FrameVOILUTSequence", ("WindowCenter", "WindowWidth", "VOILUTFunction")),
)
VALUE_FIELDS = (
    "BitsStored", "Modality", "ModalityLUTSequence", "PixelRepresentation", "VOILUTSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Display:
    """How the stored values of some frames become values with a black and a white."""

    values: NDArray[Any]
    low: float
    high: float
    range_from: RangeFrom


def grey_display(
    ds: pydicom.Dataset, stored: NDArray[Any], window: Window, notes: list[str]
) -> Display:
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
    return Display(np.concatenate(frames), first.low, first.high, first.range_from)


def _brought_to(part: Display, first: Display) -> NDArray[Any]:
    """Map a frame so that its own black and white become those of the first frame."""
    if (part.low, part.high) == (first.low, first.high):
        return part.values
    scale = (first.high - first.low) / ((part.high - part.low) or 1.0)
    return to_float32((part.values.astype(np.float64) - part.low) * scale + first.low)


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
) -> Display:
    if stored.dtype.kind == "f":
        values = to_float32(stored)
        low, high, source = float_range(values)
        modality = Display(values, low, high, source)
    else:
        modality = _modality(ds, stored, notes)
    return _voi(ds, modality, window, notes)


def _modality(ds: pydicom.Dataset, stored: NDArray[Any], notes: list[str]) -> Display:
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
        return Display(values, *CT_RANGE, "modality")
    whole_type = values is stored and bits == 8 * stored.dtype.itemsize
    return Display(values, float(low), float(high), "type" if whole_type else "bits")


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


def _voi(ds: pydicom.Dataset, modality: Display, window: Window, notes: list[str]) -> Display:
    """Choose black and white: the user's window, else the file's VOI LUT, else its window."""
    if isinstance(window, tuple):
        return _windowed(modality, *window, "LINEAR", notes)
    if ds.get("VOILUTSequence"):
        return _voi_lut(ds, modality, window)
    centres, widths = finite_numbers(ds.get("WindowCenter")), finite_numbers(ds.get("WindowWidth"))
    if not centres or len(centres) != len(widths):
        if window:
            raise Refusal(f"window {window} was asked for, but the file states none")
        return modality
    if not 0 <= window < len(centres):
        raise Refusal(f"window {window} was asked for, but the file states {len(centres)}")
    function = str(ds.get("VOILUTFunction") or "LINEAR").upper()
    return _windowed(modality, centres[window], widths[window], function, notes)


def _windowed(
    modality: Display, centre: float, width: float, function: str, notes: list[str]
) -> Display:
    """Apply PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID" and width > 0:
        exponent = -4 * (modality.values.astype(np.float64) - centre) / width
        values = 1 / (1 + np.exp(np.clip(exponent, -700, 700)))
        return Display(to_float32(values), 0.0, 1.0, "window")
    if function == "LINEAR_EXACT" and width > 0:
        return Display(modality.values, centre - width / 2, centre + width / 2, "window")
    if width >= 1:
        half = (width - 1) / 2
        return Display(modality.values, centre - 0.5 - half, centre - 0.5 + half, "window")
    notes.append(f"the header states a window of width {width:g}, which was ignored")
    return modality


def _voi_lut(ds: pydicom.Dataset, modality: Display, index: int) -> Display:
    n = len(ds.VOILUTSequence)
    if not 0 <= index < n:
        raise Refusal(f"VOI LUT {index} was asked for, but the file states {n}")
    values = modality.values
    if values.dtype.kind == "f":
        values = np.rint(values).astype(np.int32)
    return _through_table(ds, values, ds.VOILUTSequence[index], "window")


def _through_table(
    ds: pydicom.Dataset, values: NDArray[Any], item: pydicom.Dataset, source: RangeFrom
) -> Display:
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
        raise Refusal(f"damaged DICOM: its LUT cannot be parsed ({type(error).__name__})") from None
    n_entries = n_entries or 2**16
    if bits <= 8 and len(table) < n_entries <= 2 * len(table):
        table = table.astype("<u2").view(np.uint8)  # two entries to a word
    if not 1 <= bits <= 16 or len(table) < n_entries:
        raise Refusal("damaged DICOM: its LUT has fewer entries than it states")
    if first > 32767 and values.dtype.kind == "i":
        first -= 65536
    places = np.clip(values.astype(np.int64) - first, 0, n_entries - 1)
    return Display(table[places], 0.0, 2.0**bits - 1, source)


def inverted(display: Display) -> Display:
    """Mirror values within their range, so that larger is brighter."""
    total = display.low + display.high
    if display.values.dtype.kind == "f" or not total.is_integer():
        values: NDArray[Any] = (total - display.values.astype(np.float64)).astype(np.float32)
    else:
        values = _narrow(int(total) - display.values.astype(np.int64))
    # No longer the range of a type, which a data set's own range could replace.
    source: RangeFrom = "bits" if display.range_from == "type" else display.range_from
    return Display(values, display.low, display.high, source)


def with_padding_black(ds: pydicom.Dataset, stored: NDArray[Any], display: Display) -> NDArray[Any]:
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


def _number(value: Any, default: float) -> float:
    numbers = finite_numbers(value)
    return numbers[0] if numbers else default


def finite_numbers(value: Any) -> list[float]:
    """Return the finite numbers of a header value that may be absent, single or several."""
    if value is None or value == "":
        return []
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        numbers = [float(v) for v in several]
    except (TypeError, ValueError):
        return []
    return numbers if all(np.isfinite(numbers)) else []
