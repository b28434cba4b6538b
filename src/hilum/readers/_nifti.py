"""NIfTI: nibabel checks the header; the pixels are cut from the file by its own numbers."""

from __future__ import annotations

import io
import zlib
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from hilum.readers._inflate import Inflation
from hilum.readers._limits import Limits, Refusal
from hilum.readers._picture import Facts, Picture, RangeFrom
from hilum.readers._values import float_range, to_float32, to_plain_integers

UNIT_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def gunzip(data: bytes, limits: Limits) -> bytes:
    """Inflate a gzip file of one or more members, its checksums verified, within the limits."""
    parts: list[bytes] = []
    size = at = 0
    while at < len(data):
        inflation = Inflation(wbits=31)
        try:
            for part in inflation.feed(data, at):
                parts.append(part)
                size += len(part)
                limits.check_bytes(size, len(data))
        except zlib.error:
            raise Refusal("damaged gzip file: its data or checksum are corrupt") from None
        if not inflation.done:
            raise Refusal("truncated gzip file: it stops before its end")
        at = inflation.end
        while data[at : at + 1] == b"\0":  # Padding between and after members.
            at += 1
    return b"".join(parts)


def read_nifti(data: bytes, limits: Limits, *, axis: int = 2) -> Picture:
    """Read a NIfTI volume as frames along one of its axes."""
    header = _header(data)
    shape = tuple(int(n) for n in header.get_data_shape())
    if not shape or min(shape) < 1:
        raise Refusal(f"damaged NIfTI: its header states the shape {shape}")
    dtype = header.get_data_dtype()
    volume = _volume(data, header, shape, dtype, limits)  # (x, y, z, all others)
    if not 0 <= axis <= 2:
        raise Refusal(f"axis {axis} does not exist. Choose 0, 1 or 2")
    notes = []
    codes = _codes(header)
    if codes is None:
        notes.append("the header states no orientation: slices are shown as stored")
    else:
        volume = _face(volume, codes, axis)
    volume = _scaled(volume, header, notes)
    # Frames run over the other dimensions first, then along the axis.
    moved = np.moveaxis(volume, axis, 2)  # (columns, rows, slices, others, channels)
    frames = np.ascontiguousarray(np.transpose(moved, (3, 2, 1, 0, 4)))
    frames = frames.reshape(-1, *frames.shape[2:])
    if frames.shape[0] > limits.max_frames:
        raise Refusal(f"{frames.shape[0]:,} slices exceed the limit of {limits.max_frames:,}")
    low, high, source = _range(frames, header, dtype)
    facts = Facts(
        "NIfTI",
        "RGB" if frames.shape[-1] == 3 else str(dtype.name),
        8 if frames.shape[-1] == 3 else 8 * dtype.itemsize,
        spacing_mm=_spacing(header, shape, axis),
        range_from=source,
        notes=tuple(notes),
    )
    return Picture(frames, (low, high), facts)


def _header(data: bytes) -> Any:
    kind = nibabel.Nifti2Header if data[4:8] == b"n+2\0" else nibabel.Nifti1Header
    if len(data) < kind.template_dtype.itemsize:
        raise Refusal("truncated NIfTI: it stops inside its header")
    try:
        return kind.from_fileobj(io.BytesIO(data))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise Refusal(f"damaged NIfTI header: {error}") from None


def _volume(
    data: bytes, header: Any, shape: tuple[int, ...], dtype: np.dtype[Any], limits: Limits
) -> NDArray[Any]:
    """Return the stored values with shape (x, y, z, all further dimensions, channels)."""
    width, height, *others = shape + (1,) * (3 - len(shape))
    limits.check_size(
        height, width, frames=int(np.prod(others)), pixel_bytes=dtype.itemsize, stored=len(data)
    )
    if max(shape) > limits.max_edge:
        raise Refusal(f"the shape {shape} exceeds the limit of {limits.max_edge:,} a side")
    n_values, offset = int(np.prod(shape, dtype=object)), int(header.get_data_offset())
    if offset < 0 or offset + n_values * dtype.itemsize > len(data):
        raise Refusal("truncated NIfTI: it holds fewer values than its header states")
    values = np.frombuffer(data, dtype, n_values, offset)
    if dtype == RGB24:
        values = values.view(np.uint8).reshape(-1, 3)
    elif dtype.kind not in "uif":
        raise Refusal(f"NIfTI with values of type {dtype} is no picture")
    else:
        values = values.reshape(-1, 1)
    # Fortran order on all but the channels.
    stacked = values.reshape(int(np.prod(others[1:], dtype=int)), others[0], height, width, -1)
    return np.transpose(stacked, (3, 2, 1, 0, 4))


def _codes(header: Any) -> tuple[str, ...] | None:
    """Return towards where each stored axis runs, None if the header does not say."""
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        return None
    affine = header.get_best_affine()
    if not np.isfinite(affine).all():
        raise Refusal("damaged NIfTI header: its orientation is not a number")
    return tuple(nibabel.aff2axcodes(affine))  # type: ignore[no-untyped-call]


def _face(volume: NDArray[Any], codes: tuple[str, ...], axis: int) -> NDArray[Any]:
    """Turn slices along an axis as DICOM shows them; never exchange axes.

    Each axis runs towards left, posterior or head, but rows that follow each other along the body
    run towards the feet, so that the head is at the top.
    """
    rows = 1 if axis == 2 else 2
    for i, code in enumerate(codes):
        if code in ("R", "A", "S" if i == rows else "I"):
            volume = np.flip(volume, i)
    return volume


def _scaled(volume: NDArray[Any], header: Any, notes: list[str]) -> NDArray[Any]:
    """Apply the header's slope and intercept; bring the values to a plain type."""
    slope, intercept = (float(header[key]) for key in ("scl_slope", "scl_inter"))
    scales = np.isfinite(slope) and slope != 0 and volume.shape[-1] == 1
    if volume.dtype.kind != "f" and (not scales or (slope, intercept) == (1.0, 0.0)):
        return to_plain_integers(volume)
    values = volume.astype(np.float64)
    if scales:
        values = values * slope + (intercept if np.isfinite(intercept) else 0.0)
    # Not before: a negative slope makes the least of the stored values the brightest.
    return to_float32(_outside_darkest(values, notes))


def _outside_darkest(volume: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Give NaN, by which NIfTI tools mark what lies outside the scan, the darkest value."""
    outside = np.isnan(volume)
    n_outside = int(np.count_nonzero(outside))
    if n_outside in (0, volume.size):
        return volume  # A volume of nothing but NaN is refused with other infinities.
    notes.append(f"{n_outside:,} of {volume.size:,} values are NaN and shown as the darkest")
    return np.where(outside, np.nanmin(volume), volume)


def _range(
    frames: NDArray[Any], header: Any, dtype: np.dtype[Any]
) -> tuple[float, float, RangeFrom]:
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if np.isfinite([low, high]).all() and low < high:
        return low, high, "header"
    if frames.dtype == np.uint8:
        return 0.0, 255.0, "type"
    if frames.dtype.kind == "f" and dtype.kind == "f":
        return float_range(frames)
    return float(frames.min()), float(frames.max()), "file"


def _spacing(header: Any, shape: tuple[int, ...], axis: int) -> tuple[float, float] | None:
    zooms = [abs(float(z)) for z in header.get_zooms()[:3]] + [1.0] * (3 - len(shape))
    unit = UNIT_MM.get(header.get_xyzt_units()[0], 1.0)
    columns, rows = [zooms[i] * unit for i in range(3) if i != axis]
    return (rows, columns) if np.isfinite([rows, columns]).all() and rows and columns else None
