"""The pixel store: every image decoded once, at the network's input size, in one mapped array.

A store is named by what it holds (the hashes of a data set's files, the pixel path's version, the
input specification), so that all runs on the data share it, whatever they draw for training, and a
changed file can never be served from it. It is filled as images are wanted: a test image that no
run has opened is not in it. Two runs may fill one store at once, since they write the same bytes
to the same place; a store that was left half filled is filled further.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hilum.cache_rooms import ROOMS, cache_folder, cache_room
from hilum.dataset import Dataset
from hilum.errors import HilumError
from hilum.files import read_json, write_json
from hilum.pixels import PIXEL_PATH_VERSION, Images, PixelSpec, load_prepared
from hilum.progress import Progress
from hilum.scan import unchanged_picture
from hilum.threads import in_threads, portion_of

DAY = 24 * 3600.0  # seconds

PIXELS, CHECKSUMS, ABOUT = "pixels.bin", "checksums.bin", "about.json"


@dataclass(frozen=True)
class StoredImages:
    """Images of a store, in an order of their own; read from the disk when indexed.

    Attributes
    ----------
    store : read-only uint8 array of shape (n_stored, height, width, channels)
        Mapped, so that it takes no memory of its own.
    rows : int array of shape (n,)
        Where each image lies in the store.
    """

    store: NDArray[np.uint8]
    rows: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.store.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Return one image, a read-only view, or a copy of those at a slice or array of indices."""
        return np.asarray(self.store[self.rows[index]])

    def take(self, index: NDArray[np.intp]) -> StoredImages:
        """Return some of the images, unread."""
        return StoredImages(self.store, self.rows[index])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))


def subset(images: Images, index: NDArray[np.intp]) -> Images:
    """Choose some images, without reading those of a store."""
    return images.take(index) if isinstance(images, StoredImages) else images[index]


def stored_images(
    dataset: Dataset,
    paths: Sequence[str],
    hashes: Sequence[str],
    spec: PixelSpec,
    progress: Progress,
    *,
    among: Sequence[str] | None = None,
) -> StoredImages:
    """Return the images at `paths`, decoding those that no earlier run has decoded.

    Parameters
    ----------
    paths, hashes : sequences of str
        Samples, and the SHA-256 of each as it was when the data were read.
    among : sequence of str, optional
        SHA-256 of every sample of the data set; runs that give the same share a store. The
        samples themselves by default.

    Returns
    -------
    StoredImages
        In the order of `paths`.

    Raises
    ------
    DataError
        If a file has changed since it was read first.
    HilumError
        If the store cannot be written.
    """
    places = {digest: row for row, digest in enumerate(dict.fromkeys(among or hashes))}
    rows = np.array([places[digest] for digest in hashes], dtype=np.intp)
    shape = (len(places), spec.height, spec.width, spec.channels)
    files = dict(zip(rows.tolist(), zip(paths, hashes, strict=True), strict=True))
    try:
        folder = cache_room("pixels") / _key(places, spec)
        _clear_leftovers(folder.parent)
        _make_store(folder, shape, dataset, spec)
        # Opened once: if another process empties the cache meanwhile, these files live on unnamed.
        with _Files(folder, shape) as store:
            missing = store.missing(np.unique(rows), progress)
            _fill(store, dataset, {row: files[row] for row in missing}, spec, progress)
            return StoredImages(store.pixels, rows)
    except OSError as error:
        raise HilumError(
            f"{cache_folder()} cannot be written: {error.strerror or error}. Free some space "
            "('hilum cache' shows what the cache holds), or name another folder by HILUM_CACHE."
        ) from error


def _key(hashes: Iterable[str], spec: PixelSpec) -> str:
    facts = {"version": PIXEL_PATH_VERSION, "spec": spec.model_dump(), "hashes": list(hashes)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _clear_leftovers(folder: Path) -> None:
    """Remove what a run left that was killed while it made a store."""
    for partial in folder.glob(".*.tmp"):
        # A younger one may be another run's, at work on it.
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > DAY:
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def _make_store(folder: Path, shape: tuple[int, ...], dataset: Dataset, spec: PixelSpec) -> None:
    """Make an empty store, unless there is a sound one; in one step, so that two runs may try."""
    if _is_sound(folder, shape):
        os.utime(folder / ABOUT)  # tells when it was used last
        return
    partial = _leftover(folder)
    partial.mkdir()
    for name, size in _sizes(shape).items():
        with (partial / name).open("wb") as stream:
            stream.truncate(size)  # zeros that take no space until they are written
    about = {
        "source": str(dataset.source.resolve()),
        "n_images": shape[0],
        "pixel_path_version": PIXEL_PATH_VERSION,
        **spec.model_dump(mode="json"),
    }
    write_json(partial / ABOUT, about)
    if folder.exists() and not _is_sound(folder, shape):
        # Renamed first: what is removed bit by bit must not bear the name of a store.
        damaged = _leftover(folder)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not _is_sound(folder, shape):  # otherwise another run was faster
            raise


def _leftover(folder: Path) -> Path:
    """Name a folder beside a store that `_clear_leftovers` removes if nobody else does."""
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")


def _sizes(shape: tuple[int, ...]) -> dict[str, int]:
    return {PIXELS: math.prod(shape), CHECKSUMS: 4 * shape[0]}


def _is_sound(folder: Path, shape: tuple[int, ...]) -> bool:
    try:
        return (folder / ABOUT).is_file() and all(
            (folder / name).stat().st_size == size for name, size in _sizes(shape).items()
        )
    except OSError:
        return False


class _Files:
    """The open files of a store.

    Attributes
    ----------
    pixels : read-only uint8 array
        Mapped; stays when the files are closed.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        # Unbuffered writes, not the map: where a disk is full they tell, and a map kills the
        # process.
        with contextlib.ExitStack() as stack:
            self._pixels = stack.enter_context((folder / PIXELS).open("r+b", buffering=0))
            self._checksums = stack.enter_context((folder / CHECKSUMS).open("r+b", buffering=0))
            # An ndarray, whose indexing is faster than a memmap's.
            mapped = np.memmap(self._pixels, np.uint8, "r", shape=shape)
            self.pixels: NDArray[np.uint8] = np.asarray(mapped)
            self._closing = stack.pop_all()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def missing(self, wanted: NDArray[np.intp], progress: Progress) -> list[int]:
        """Name the wanted rows that are not there, or are not what was written."""
        self._checksums.seek(0)
        checksums = np.frombuffer(self._checksums.read(), dtype="<u4")
        present = wanted[checksums[wanted] != 0]
        sums = in_threads(lambda row: _checksum(self.pixels[row]), present)
        damaged = [row for row, found in zip(present, sums, strict=True) if found != checksums[row]]
        if damaged:
            number = "1 image" if len(damaged) == 1 else f"{len(damaged):,} images"
            verb = "is" if len(damaged) == 1 else "are"
            progress.say(f"{number} of the cache {verb} damaged and {verb} decoded again.")
        return [int(row) for row in sorted((*wanted[checksums[wanted] == 0], *damaged))]

    def write(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Write one image, then the checksum that says it is there."""
        _write_at(self._pixels, row * pixels.size, pixels.tobytes())
        _write_at(self._checksums, row * 4, _checksum(pixels).to_bytes(4, "little"))


def _checksum(pixels: NDArray[np.uint8]) -> int:
    """Return a CRC-32 that is never 0, which stands for an image that is not there."""
    return zlib.crc32(np.ascontiguousarray(pixels).data) or 1


def _write_at(stream: IO[bytes], at: int, data: bytes) -> None:
    stream.seek(at)
    while data:  # a nearly full disk takes a part
        data = data[stream.write(data) :]


def _fill(
    store: _Files,
    dataset: Dataset,
    wanted: dict[int, tuple[str, str]],
    spec: PixelSpec,
    progress: Progress,
) -> None:
    """Decode the wanted rows, each given by the path and hash of its file."""
    if not wanted:
        return

    def one(sample: tuple[str, str]) -> NDArray[np.uint8]:
        path, expected = sample
        opener = functools.partial(unchanged_picture, dataset, path, expected)
        return np.ascontiguousarray(load_prepared(opener, spec)[0])

    with progress.task("Decoding images", len(wanted)) as task:
        decoded = in_threads(one, wanted.values(), portion=portion_of(len(wanted)))
        for row, pixels in zip(wanted, decoded, strict=True):
            store.write(row, pixels)
            task.advance()


# -- to see and to empty -------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """What the cache holds of one data set at one input size.

    Attributes
    ----------
    source : str
        The data set's place when the store was made.
    height, width, channels, n_images : int
    n_decoded : int
        Images of it that are there.
    n_bytes : int
        Space on the disk.
    last_used : float
        Seconds since 1970.
    """

    source: str
    height: int
    width: int
    channels: int
    n_images: int
    n_decoded: int
    n_bytes: int
    last_used: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_cache() -> list[Store]:
    """List what the cache holds, the last used first."""
    found = [
        store for path in (cache_folder() / "pixels").glob("*/" + ABOUT) if (store := _store(path))
    ]
    return sorted(found, key=lambda store: -store.last_used)


def _store(about: Path) -> Store | None:
    """Describe a store; None where another process has just removed it."""
    try:
        facts = read_json(about)
        checksums = np.fromfile(about.with_name(CHECKSUMS), dtype="<u4")
        return Store(
            **{name: facts[name] for name in ("source", "height", "width", "channels", "n_images")},
            n_decoded=int((checksums != 0).sum()),
            n_bytes=_space(about.parent),
            last_used=about.stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def empty_cache() -> int:
    """Remove all that the cache holds, and return how many bytes that was.

    A run at work loses nothing: what it has opened stays until it ends.

    Raises
    ------
    HilumError
        If something cannot be removed.
    """
    removed = 0
    for name in ROOMS:
        folder = cache_folder() / name
        if not folder.is_dir():
            continue
        n_bytes = _space(folder)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise HilumError(
                f"{folder} cannot be removed: {error.strerror or error}. Remove it by hand."
            ) from error
        removed += n_bytes
    return removed


def _space(folder: Path) -> int:
    """Return the bytes that the files of a folder take on the disk; stores have holes."""
    facts = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(int(getattr(fact, "st_blocks", fact.st_size / 512) * 512) for fact in facts)
