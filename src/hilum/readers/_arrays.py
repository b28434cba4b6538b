"""NPY and NPZ: arrays of plain numbers, never Python objects.

An NPZ is a ZIP of NPY files. Nothing is extracted to disk, and every member is inflated only as
far as its own header allows.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.readers._files import with_file
from hilum.readers._limits import LIMITS, Limits, Refusal
from hilum.readers._picture import Facts, Picture, RangeFrom
from hilum.readers._values import float_range, plain

MAX_MEMBERS = 1000
SPLITS = ("train", "val", "test")


def read_arrays(
    source: str | Path | bytes, *, name: str | None = None, limits: Limits = LIMITS
) -> dict[str, NDArray[Any]]:
    """Read all arrays of an NPZ, or the one of an NPY under the name 'array'.

    Images that come with labels (`train_images`, `train_labels`) must be as many as these.

    Raises
    ------
    UnreadableError
        If the file is damaged, too large, or holds Python objects.
    """

    def arrays(data: bytes, form: str) -> dict[str, NDArray[Any]]:
        if form == "NPY":
            return {"array": _parse_npy(data, limits)}
        if form != "NPZ":
            raise Refusal(f"{form} holds no named arrays. Give an NPZ or NPY file")
        found = _members(data, limits)
        _check_counts(found)
        return found

    return with_file(source, name, limits, arrays)


def read_npy(data: bytes, limits: Limits) -> Picture:
    """Read an NPY as frames; see `docs/formats.md` for how shapes are understood."""
    return _picture(_parse_npy(data, limits), "NPY", limits, len(data))


def read_npz(data: bytes, limits: Limits, *, array: str | None) -> Picture:
    """Read one array of an NPZ as frames."""
    arrays = _members(data, limits)
    _check_counts(arrays)
    if array is None:
        candidates = [
            key for key, value in arrays.items() if value.ndim >= 2 and key[-7:] != "_labels"
        ]
        if len(candidates) != 1:
            names = ", ".join(repr(key) for key in arrays) or "none"
            raise Refusal(
                f"the NPZ holds {len(candidates)} arrays that may be images (of {names}). "
                "Name the one wanted"
            )
        array = candidates[0]
    if array not in arrays:
        names = ", ".join(repr(key) for key in arrays) or "none"
        raise Refusal(f"the NPZ has no array {array!r}; it has {names}")
    return _picture(arrays[array], "NPZ", limits, len(data))


def _members(data: bytes, limits: Limits) -> dict[str, NDArray[Any]]:
    """Read the NPY members of an archive."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise Refusal("truncated or damaged NPZ: its table of contents is missing") from None
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_archive(infos, len(data), limits)
        arrays = {}
        for info in infos:
            try:
                body = _inflate(archive, info)
                arrays[info.filename[:-4]] = _parse_npy(body, limits)
            except Refusal as refusal:
                raise Refusal(f"array {info.filename[:-4]!r}: {refusal}") from None
    if not arrays:
        raise Refusal("the ZIP archive holds no arrays (.npy): not an NPZ")
    return arrays


def _check_archive(infos: list[zipfile.ZipInfo], stored: int, limits: Limits) -> None:
    if len(infos) > MAX_MEMBERS:
        raise Refusal(f"an archive of {len(infos):,} members; the limit is {MAX_MEMBERS:,}")
    names = [info.filename for info in infos]
    strange = [n for n in names if not n.endswith(".npy") or "/" in n or "\\" in n or ":" in n]
    if strange:
        raise Refusal(
            f"not an NPZ: the archive has a member {strange[0][:80]!r}, which is no plain array"
        )
    if len(set(names)) != len(names):
        raise Refusal("damaged NPZ: two arrays have the same name")
    if any(info.flag_bits & 1 for info in infos):
        raise Refusal("the NPZ is encrypted. Save it without a password")
    limits.check_bytes(sum(info.file_size for info in infos), stored)


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member's content, no longer than the archive says; its CRC is checked at the end."""
    try:
        with archive.open(info) as member:
            body = member.read(info.file_size)
            if len(body) != info.file_size or member.read(1):
                raise Refusal("damaged: not as long as the archive states")
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"damaged: {error}") from None
    return body


def _parse_npy(data: bytes, limits: Limits) -> NDArray[Any]:
    """Parse one NPY held in memory, without pickle."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = readers[version](file)
    except KeyError:
        raise Refusal("NPY of an unknown version") from None
    except Exception as error:
        words = " ".join(str(error).split())[:120]
        raise Refusal(f"damaged or truncated NPY header: {words}") from None
    if dtype.hasobject:
        raise Refusal(
            "it holds Python objects (a pickle), which could run code. Save plain numbers"
        )
    if dtype.kind not in "buif":
        raise Refusal(f"values of type {dtype} are no picture")
    if any(n < 0 for n in shape):
        raise Refusal(f"damaged NPY: the shape {shape} is impossible")
    n_values = int(np.prod(shape, dtype=object))
    limits.check_bytes(n_values * dtype.itemsize, len(data))
    n_bytes = len(data) - file.tell()
    if n_bytes != n_values * dtype.itemsize:
        what = "truncated" if n_bytes < n_values * dtype.itemsize else "damaged"
        raise Refusal(
            f"{what} NPY: {n_bytes:,} bytes of values where the shape {shape} needs "
            f"{n_values * dtype.itemsize:,}"
        )
    values = np.frombuffer(data, dtype, n_values, file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _check_counts(arrays: dict[str, NDArray[Any]]) -> None:
    """Refuse splits whose images and labels differ in number."""
    for split in SPLITS:
        images, labels = arrays.get(f"{split}_images"), arrays.get(f"{split}_labels")
        if images is None or labels is None or not images.ndim or not labels.ndim:
            continue
        if len(images) != len(labels):
            raise Refusal(f"{len(images):,} {split}_images but {len(labels):,} {split}_labels")


def _picture(values: NDArray[Any], form: str, limits: Limits, stored: int) -> Picture:
    """Understand an array as frames of grey or RGB."""
    shape = values.shape
    if values.ndim == 2:
        frames = values[None, :, :, None]
    elif values.ndim == 3 and shape[-1] in (1, 3):
        frames = values[None]
    elif values.ndim == 3:
        frames = values[..., None]
    elif values.ndim == 4 and shape[-1] in (1, 3):
        frames = values
    else:
        raise Refusal(
            f"an array of shape {shape} is no picture: expected (height, width), "
            "(frames, height, width), or either with 1 or 3 channels at the end"
        )
    n_frames, height, width, n_channels = frames.shape
    limits.check_size(
        height, width, frames=n_frames, pixel_bytes=n_channels * values.itemsize, stored=stored
    )
    pixels = np.ascontiguousarray(plain(frames))
    if values.dtype.kind == "b":
        pixels = pixels * np.uint8(255)
    low, high, source = _range(pixels)
    mode = str(values.dtype.name)
    bits = 1 if values.dtype.kind == "b" else 8 * values.itemsize
    return Picture(pixels, (low, high), Facts(form, mode, bits, range_from=source))


def _range(pixels: NDArray[Any]) -> tuple[float, float, RangeFrom]:
    if pixels.dtype.kind == "f":
        return float_range(pixels)
    if pixels.dtype.itemsize > 2:
        # Nobody fills 32 bits: such arrays are what a program computes with by default.
        return float(pixels.min()), float(pixels.max()), "file"
    limits = np.iinfo(pixels.dtype)
    return float(limits.min), float(limits.max), "type"
