"""Images and labels in a MedMNIST-style NPZ."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError, UnreadableError
from hilum.readers import LIMITS, Facts, Picture, read_arrays
from hilum.splits import SPLITS

# Greater numbers name no class, and the greatest are no longer told apart as floats.
MOST_NUMBER = 999_999_999

# A data set is larger than a picture. What memory is taken for is still bounded by the file:
# every array is as long as its header says, and no more than the readers' ratio of what is stored.
NPZ_LIMITS = dataclasses.replace(LIMITS, max_file_bytes=2**36, max_bytes=2**36)

_LOCK = threading.Lock()


def npz_labels(source: Path) -> NDArray[np.float64]:
    """Return the labels of every image, of shape (n, labels an image).

    Whole numbers where there is one an image; 0, 1 and NaN for unknown where there are several.

    Raises
    ------
    DataError
        If the NPZ is no data set, or its labels are others.
    """
    arrays = _arrays(source)
    labels = [_split_labels(arrays, split, source) for split in _splits(arrays)]
    widths = sorted({array.shape[1] for array in labels})
    if len(widths) != 1:
        raise DataError(
            f"{source}: the splits have different numbers of labels an image "
            f"({' and '.join(map(str, widths))}). Give each the same."
        )
    return np.concatenate(labels)


def npz_paths(source: Path) -> list[str]:
    """Name every image: 'split/row'."""
    arrays = _arrays(source)
    return [
        f"{split}/{row}"
        for split in _splits(arrays)
        for row in range(len(arrays[f"{split}_images"]))
    ]


def npz_picture(source: Path, path: str) -> Picture:
    """Return the image of that name."""
    arrays = _arrays(source)
    split, _, row = path.partition("/")
    images = arrays.get(f"{split}_images")
    if images is None or not row.isdecimal() or int(row) >= len(images):
        raise UnreadableError(path, f"there is no such image in {source.name}")
    pixels = images[int(row)]
    pixels = pixels[None, :, :, None] if pixels.ndim == 2 else pixels[None]
    bits = pixels.dtype.itemsize * 8
    pixels = pixels.astype(f"uint{bits}", copy=False)  # in this machine's byte order
    mode = "L" if pixels.shape[-1] == 1 else "RGB"
    return Picture(pixels, (0.0, float(2**bits - 1)), Facts("NPZ", mode, bits))


def named_labels(labels: Sequence[str], classes: Sequence[str], source: Path) -> list[str]:
    """Write the names of the classes 0, 1, … for their numbers."""
    numbers = sorted(set(labels), key=int)
    if numbers != [str(i) for i in range(len(classes))]:
        raise DataError(
            f"{source} has the labels {', '.join(numbers)}, which --classes {','.join(classes)} "
            f"does not name: it must name each of 0 to {numbers[-1]}."
        )
    return [classes[int(label)] for label in labels]


def _arrays(source: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays, checked; threads that ask at the same time wait for one loading."""
    with _LOCK:
        return _loaded_arrays(source, source.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _loaded_arrays(source: Path, mtime_ns: int) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    """Load and check all arrays; `mtime_ns` makes a changed file a new one."""
    arrays = read_arrays(source, limits=NPZ_LIMITS)
    if "train_images" not in arrays:
        raise DataError(
            f"{source} holds no array 'train_images'. A MedMNIST-style NPZ has train_images, "
            "train_labels and the same for val and test."
        )
    for split in _splits(arrays):
        _check_split(arrays, split, source)
    return arrays


def _splits(arrays: dict[str, NDArray[Any]]) -> list[str]:
    return [split for split in SPLITS if f"{split}_images" in arrays]


def _check_split(arrays: dict[str, NDArray[Any]], split: str, source: Path) -> None:
    images, labels = arrays[f"{split}_images"], arrays.get(f"{split}_labels")
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))):
        raise DataError(
            f"{source}: {split}_images has the shape {images.shape}; expected (n, height, width) "
            "or (n, height, width, 3)."
        )
    if 0 in images.shape:
        raise DataError(
            f"{source}: {split}_images has the shape {images.shape}, which is no image. Leave the "
            "split out or fill it."
        )
    if labels is None or not labels.ndim or len(labels) != len(images) or not labels.size:
        n_labels = "no" if labels is None or not labels.size else labels.size
        raise DataError(
            f"{source}: {split} has {len(images)} images and {n_labels} labels. Give each image "
            "its label."
        )
    if images.dtype.kind != "u" or images.dtype.itemsize > 2:
        raise DataError(
            f"{source}: {split}_images is of type {images.dtype}; uint8 and uint16 are read. "
            "Convert the images to one of these."
        )


def _split_labels(arrays: dict[str, NDArray[Any]], split: str, source: Path) -> NDArray[np.float64]:
    labels = arrays[f"{split}_labels"]
    labels = labels.reshape(len(labels), -1).astype(np.float64)
    if labels.shape[1] == 1:
        good = (labels >= 0) & (labels <= MOST_NUMBER)
        good[good] = labels[good] % 1 == 0
        wanted = f"whole numbers from 0 to {MOST_NUMBER:,} are read"
    else:
        good = np.isnan(labels) | (labels == 0) | (labels == 1)
        wanted = "with several labels an image, 0, 1 and NaN for unknown are read"
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise DataError(
            f"{source}: {split}_labels holds {labels[row, column]:g} in row {row}; {wanted}."
        )
    return labels
