"""Stored values → finite numbers of a plain type, and the range of those that state none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.readers._limits import Refusal
from hilum.readers._picture import RangeFrom


def plain(values: NDArray[Any]) -> NDArray[Any]:
    """Bring truth values to 0 and 1, integers to at most 32 bits, floats to float32."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        return to_float32(values)
    if values.dtype.kind in "ui":
        return to_plain_integers(values)
    raise Refusal(f"values of type {values.dtype} are no picture")


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32, or refuse what is not finite."""
    n_bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if n_bad:
        raise Refusal(f"{n_bad:,} of {values.size:,} values are not finite numbers")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        raise Refusal("its values are too large for 32-bit floating point")
    return single


def to_plain_integers(values: NDArray[Any]) -> NDArray[Any]:
    """Return native integers of at most 32 bits, or refuse what does not fit."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if native.dtype.itemsize <= 4:
        return native
    lowest, highest = int(native.min()), int(native.max())
    for kind in (np.int32, np.uint32):
        if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
            return native.astype(kind)
    raise Refusal("its whole numbers do not fit into 32 bits. Convert them to floating point")


def float_range(
    pixels: NDArray[Any], low: Any = None, high: Any = None
) -> tuple[float, float, RangeFrom]:
    """Return the range of floating-point pixels: as stated, else 0 to 1, else the file's own."""
    stated = [float(np.ravel(v)[0]) for v in (low, high) if np.size(v) and v is not None]
    if len(stated) == 2 and np.isfinite(stated).all() and stated[0] < stated[1]:
        return stated[0], stated[1], "header"
    lowest, highest = float(pixels.min()), float(pixels.max())
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0, "type"
    return lowest, highest, "file"
