"""The pixel store: every image decoded once, at the network's input size, in one mapped array.

A store is named by what it holds (the files' hashes, the pixel path's version, the input
specification), so that runs share it and a changed file can never be served from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hilum.dataset import Dataset
from hilum.errors import HilumError
from hilum.files import writing
from hilum.pixels import PIXEL_PATH_VERSION, PixelSpec, prepare
from hilum.progress import Progress
from hilum.scan import unchanged_picture
from hilum.threads import in_threads

DAY = 24 * 3600.0  # seconds


def cache_folder() -> Path:
    """Return where stores are kept: HILUM_CACHE, or the user's cache folder."""
    chosen = os.environ.get("HILUM_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hilum"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hilum"


def pixel_store(
    dataset: Dataset,
    paths: Sequence[str],
    hashes: Sequence[str],
    spec: PixelSpec,
    progress: Progress,
) -> NDArray[np.uint8]:
    """Decode the images at `paths`, or map the store that an earlier run has made.

    Parameters
    ----------
    paths, hashes : sequences of str
        Samples, and the SHA-256 of each as it was when the data were read.

    Returns
    -------
    read-only uint8 array of shape (n, height, width, channels)

    Raises
    ------
    DataError
        If a file has changed since it was read first.
    """
    target = cache_folder() / "pixels" / f"{_key(hashes, spec)}.npy"
    shape = (len(paths), spec.height, spec.width, spec.channels)
    if target.exists():
        with contextlib.suppress(ValueError, OSError):  # one cut short is made anew
            store = np.lib.format.open_memmap(target, mode="r")
            if store.shape == shape and store.dtype == np.uint8:
                return store
    try:
        _make_room(target.parent)
        _build(target, dataset, paths, hashes, spec, progress)
    except HilumError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise HilumError(f"{error} HILUM_CACHE names the folder of the cache.") from error
    return np.lib.format.open_memmap(target, mode="r")


def _make_room(folder: Path) -> None:
    """Make the folder, for its owner alone (it holds patients' images), and clear what was left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise HilumError(f"{folder} cannot be made: {error.strerror or error}.") from error
    for partial in folder.glob(".*.tmp"):
        # A younger one may be another run's, at work on it.
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > DAY:
                partial.unlink()


def _key(hashes: Sequence[str], spec: PixelSpec) -> str:
    facts = {"version": PIXEL_PATH_VERSION, "spec": spec.model_dump(), "hashes": list(hashes)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _build(
    target: Path,
    dataset: Dataset,
    paths: Sequence[str],
    hashes: Sequence[str],
    spec: PixelSpec,
    progress: Progress,
) -> None:
    def one(sample: tuple[str, str]) -> NDArray[np.uint8]:
        path, expected = sample
        picture = unchanged_picture(dataset, path, expected)
        prepared: NDArray[np.uint8] = prepare(picture, spec)[0]
        return prepared

    shape = (len(paths), spec.height, spec.width, spec.channels)
    with (
        writing(target) as partial,
        progress.task("Decoding images", len(paths)) as task,
        partial.open("wb") as stream,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(stream, header)
        # Written as a stream and never held whole, so that memory stays flat.
        for pixels in in_threads(one, zip(paths, hashes, strict=True)):
            stream.write(np.ascontiguousarray(pixels).tobytes())
            task.advance()
