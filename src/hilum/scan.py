"""Every file read once: its hash, facts and look, or the reason why it cannot be read.

Done before anything else, so that a bad image is named at the start and not in the last hour.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.dataset import FACTS, Dataset
from hilum.errors import DataError, UnreadableError
from hilum.jpeg_quality import jpeg_quality
from hilum.looks import empty_looks, make_look
from hilum.progress import Progress
from hilum.readers import AtLeast, Picture, read, read_bytes
from hilum.threads import in_threads, portion_of

__all__ = ["FACTS", "Scan", "reading_notes", "scan", "unchanged_picture"]

BETWEEN_NOTES = "; "

NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[-+]\d+)?")


@dataclass(frozen=True)
class Scan:
    """All samples as they were read.

    Attributes
    ----------
    samples : DataFrame
        The data set's table with, for each sample, `sha256` (of the file; of the pixels in an
        NPZ), format, mode, bits, height, width, grey, dtype, low and high (least and greatest
        value), `range_from` (what says how values show), `burned_in`, `spacing_mm` (between rows;
        '' where the file does not say), `notes` (of its reader, joined by '; '), `file_size`
        (bytes; 0 in an NPZ), `jpeg_quality` (1 to 100 by the quantisation table; '' in other
        formats), `excluded` and `reason`.
    looks : uint8 array of shape (n_samples, 64, 64)
        Each image small and grey, as `make_look` shows it; zeros where it cannot be read.
    """

    samples: pd.DataFrame
    looks: NDArray[np.uint8]

    def without_given_splits(self) -> Scan:
        """Return the same samples as if no split had come with them."""
        return replace(self, samples=self.samples.assign(given_split=""))


def scan(dataset: Dataset, progress: Progress) -> Scan:
    """Read every sample, each once."""

    def one(path: str) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        return _read(dataset, path)

    paths = list(dataset.table["path"])
    looks = empty_looks(len(paths))
    # By column: a dict for each image would take as much again as the table made of them.
    found: dict[str, list[Any]] = {name: [] for name in (*FACTS, "excluded", "reason")}
    with progress.task("Reading images", len(paths)) as task:
        for place, (row, look) in enumerate(in_threads(one, paths, portion=portion_of(len(paths)))):
            for name, values in found.items():
                values.append(row.get(name, np.nan))
            if look is not None:
                looks[place] = look
            task.advance()
    facts = pd.DataFrame(found, index=dataset.table.index)
    return Scan(dataset.table.join(facts), looks)


def _read(dataset: Dataset, path: str) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """Return a sample's facts and look."""
    file = sample_file(dataset, path)
    of_file = {"sha256": "", "file_size": 0, "jpeg_quality": ""}
    try:
        if file is None:
            picture = dataset.picture(path)
            of_file["sha256"] = _pixel_hash(picture)
        else:
            # Once, so that what is hashed is what was decoded.
            data = read_bytes(file, name=path)
            of_file["sha256"] = hashlib.sha256(data).hexdigest()
            picture = read(data, name=path)
            quality = jpeg_quality(data) if picture.facts.format == "JPEG" else ""
            of_file |= {"file_size": len(data), "jpeg_quality": quality}
            del data  # before the look takes memory
        _check_single(picture, path)
    except UnreadableError as error:
        return {"sha256": of_file["sha256"], "excluded": True, "reason": error.reason}, None
    return _facts(picture) | of_file, make_look(picture)


def _facts(picture: Picture) -> dict[str, Any]:
    _, height, width, _ = picture.pixels.shape
    spacing = picture.facts.spacing_mm
    return {
        "format": picture.facts.format,
        "mode": picture.facts.mode,
        "bits": picture.facts.bits,
        "height": height,
        "width": width,
        "grey": picture.is_grey,
        "dtype": sys.intern(picture.pixels.dtype.name),  # made anew each time it is asked for
        "low": float(picture.pixels.min()),
        "high": float(picture.pixels.max()),
        "range_from": picture.facts.range_from,
        "burned_in": picture.facts.burned_in,
        "spacing_mm": "" if spacing is None else float(spacing[0]),
        "notes": sys.intern(BETWEEN_NOTES.join(picture.facts.notes)),  # alike for many images
        "excluded": False,
        "reason": "",
    }


def _check_single(picture: Picture, path: str) -> None:
    if picture.n_frames != 1:
        raise UnreadableError(
            path,
            f"it holds {picture.n_frames} frames, and a label belongs to one image: write each "
            "frame that is meant into a file of its own",
        )


def _pixel_hash(picture: Picture) -> str:
    return hashlib.sha256(picture.pixels.tobytes()).hexdigest()


def reading_notes(samples: pd.DataFrame) -> tuple[str, ...]:
    """Say what the readers noted of the samples, a sentence for each kind, the commonest first.

    Notes that differ in numbers alone are of one kind. The readers have about a dozen sentences,
    so these are few whatever the number of images.
    """
    if "notes" not in samples:
        return ()  # read back from a run of before notes were kept
    noted = samples[~samples["excluded"] & (samples["notes"] != "")]
    kinds: dict[str, list[tuple[str, str]]] = {}
    for path, notes in zip(noted["path"], noted["notes"], strict=True):
        for note in notes.split(BETWEEN_NOTES):
            kinds.setdefault(NUMBER.sub("0", note), []).append((path, note))
    lines = [_of_kind(found) for found in kinds.values()]
    return tuple(line for _, line in sorted(lines, key=lambda each: -each[0]))


def _of_kind(found: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Return of how many images notes of one kind are, and the sentence that says so."""
    n = len({path for path, _ in found})
    whose = f"1 image, {found[0][0]}" if n == 1 else f"{n:,} images, such as {found[0][0]}"
    return n, f"{whose}: {_as_one([note for _, note in found])}."


def _as_one(notes: Sequence[str]) -> str:
    """Write notes that differ in numbers alone as one, with the least and greatest of each."""
    words = NUMBER.split(notes[0])
    numbers = [_span(each) for each in zip(*map(NUMBER.findall, notes), strict=True)]
    return words[0] + "".join(
        number + word for number, word in zip(numbers, words[1:], strict=True)
    )


def _span(numbers: Sequence[str]) -> str:
    ordered = sorted(set(numbers), key=lambda number: float(number.replace(",", "")))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def sample_file(dataset: Dataset, path: str) -> Path | None:
    """Return where a sample lies; None in an NPZ."""
    if dataset.kind == "npz":
        return None
    return (dataset.source if dataset.kind == "folder" else dataset.source.parent) / path


def unchanged_picture(
    dataset: Dataset, path: str, expected: str, *, at_least: AtLeast | None = None
) -> Picture:
    """Read a sample that was scanned before, as long as it still is what was scanned.

    The scan read these very bytes with every check, so the costliest are not made again.

    Parameters
    ----------
    expected : str
        The sample's SHA-256.
    at_least : AtLeast, optional
        As in `hilum.read`.

    Raises
    ------
    DataError
        If its content has another hash.
    UnreadableError
        If it cannot be read.
    """
    file = sample_file(dataset, path)
    if file is None:
        picture = dataset.picture(path)
        _check_unchanged(_pixel_hash(picture), expected, path)
        return picture
    # Read once, so that what is decoded is what was hashed.
    data = read_bytes(file, name=path)
    _check_unchanged(hashlib.sha256(data).hexdigest(), expected, path)
    return read(data, name=path, at_least=at_least, verified=True)


def _check_unchanged(found: str, expected: str, path: str) -> None:
    if found != expected:
        raise DataError(
            f"{path} has changed since the data were read. Start a new run on the data as they "
            "are now."
        )
