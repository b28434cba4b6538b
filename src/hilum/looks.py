"""A small grey look at every image, kept from the one time that each file is decoded.

What compares images with each other (copies, marks, wrong labels) works on looks, so that no file
is decoded for it again. Looks lie in a mapped file without a name, so that memory stays flat
however many there are, and nothing is left behind.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hilum.cache_rooms import cache_folder, cache_room
from hilum.errors import HilumError
from hilum.pixels import PixelSpec, prepare
from hilum.readers import Picture

LOOK_SIDE = 64
"""Height and width of a look, in pixels."""

SPEC = PixelSpec(height=LOOK_SIDE, width=LOOK_SIDE, channels=1, resize="stretch")


def make_look(picture: Picture) -> NDArray[np.uint8]:
    """Return the first frame in grey, stretched to a square.

    Values are shown as the pixel path shows them; but a deep picture whose file does not say which
    of its values are used is shown from its least to its greatest, because the data set's range
    is not known yet.

    Returns
    -------
    uint8 array of shape (LOOK_SIDE, LOOK_SIDE)
    """
    first = dataclasses.replace(picture, pixels=picture.pixels[:1])
    if picture.facts.range_from == "type" and picture.pixels.dtype.itemsize > 1:
        values = float(first.pixels.min()), float(first.pixels.max())
        spec = SPEC.model_copy(update={"ranges": {first.pixels.dtype.name: values}})
    else:
        spec = SPEC
    look: NDArray[np.uint8] = prepare(first, spec)[0, :, :, 0]
    return look


def averaged(looks: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Average images of shape (n, height, width) over squares of `factor` pixels a side."""
    # Line by line: the mean over two axes of the squares takes numpy 25 times as long.
    rows = looks[:, ::factor].astype(np.float32)
    for place in range(1, factor):
        rows += looks[:, place::factor]
    means = rows[:, :, ::factor].copy()
    for place in range(1, factor):
        means += rows[:, :, place::factor]
    means *= np.float32(1 / factor**2)
    return means


def empty_looks(n: int) -> NDArray[np.uint8]:
    """Return zeros of shape (n, LOOK_SIDE, LOOK_SIDE), mapped to a file that ends with them.

    Raises
    ------
    HilumError
        If the cache folder cannot hold them.
    """
    shape = (n, LOOK_SIDE, LOOK_SIDE)
    if n == 0:
        return np.zeros(shape, np.uint8)
    folder = cache_folder() / "looks"
    try:
        cache_room("looks")
        # It has no name, or loses it when closed (Windows); the mapping keeps it open.
        with tempfile.TemporaryFile(dir=folder) as stream:
            _reserve(stream, math.prod(shape))
            return np.memmap(stream, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise HilumError(
            f"{folder} cannot hold {math.prod(shape) / 2**20:,.0f} MiB of small pictures: "
            f"{error.strerror or error}. Free some space, or name another folder by HILUM_CACHE."
        ) from error


def _reserve(stream: IO[bytes], n_bytes: int) -> None:
    """Take room for zeros on the disk; one that is full while mapped would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, n_bytes)
        return
    block = bytes(2**20)
    for start in range(0, n_bytes, len(block)):
        stream.write(block[: n_bytes - start])
    stream.flush()
