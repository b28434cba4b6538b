"""Every file read once: its hash and facts, or the reason why it cannot be read.

Done before anything else, so that a bad image is named at the start and not in the last hour.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

from hilum.dataset import FACTS, Dataset
from hilum.errors import DataError, UnreadableError
from hilum.files import sha256
from hilum.progress import Progress
from hilum.readers import Picture
from hilum.threads import in_threads

__all__ = ["FACTS", "content_hash", "scan", "unchanged_picture"]


def scan(dataset: Dataset, progress: Progress) -> pd.DataFrame:
    """Read every sample.

    Returns
    -------
    DataFrame
        The data set's table with, for each sample, `sha256` (of the file; of the pixels in an
        NPZ), format, mode, bits, height, width, grey, dtype, low and high (least and greatest
        value), `range_from` (what says how values show), `burned_in`, `excluded` and `reason`.
    """

    def one(path: str) -> dict[str, Any]:
        return _facts(dataset, path)

    paths = list(dataset.table["path"])
    with progress.task("Reading images", len(paths)) as task:
        rows = []
        for row in in_threads(one, paths):
            rows.append(row)
            task.advance()
    facts = pd.DataFrame(rows, columns=[*FACTS, "excluded", "reason"], index=dataset.table.index)
    return dataset.table.join(facts)


def _facts(dataset: Dataset, path: str) -> dict[str, Any]:
    try:
        picture = dataset.picture(path)
        _check_single(picture, path)
    except UnreadableError as error:
        return {"sha256": content_hash(dataset, path), "excluded": True, "reason": error.reason}
    _, height, width, _ = picture.pixels.shape
    return {
        "sha256": content_hash(dataset, path, picture),
        "format": picture.facts.format,
        "mode": picture.facts.mode,
        "bits": picture.facts.bits,
        "height": height,
        "width": width,
        "grey": picture.is_grey,
        "dtype": picture.pixels.dtype.name,
        "low": float(picture.pixels.min()),
        "high": float(picture.pixels.max()),
        "range_from": picture.facts.range_from,
        "burned_in": picture.facts.burned_in,
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


def content_hash(dataset: Dataset, path: str, picture: Picture | None = None) -> str:
    """Return the SHA-256 of a sample's file; of its pixels in an NPZ; '' where there is none."""
    if dataset.kind == "npz":
        return hashlib.sha256(picture.pixels.tobytes()).hexdigest() if picture else ""
    base = dataset.source if dataset.kind == "folder" else dataset.source.parent
    try:
        return sha256(base / path)
    except OSError:
        return ""


def unchanged_picture(dataset: Dataset, path: str, expected: str) -> Picture:
    """Read a sample that was scanned before, as long as it still is what was scanned.

    Raises
    ------
    DataError
        If its content has another hash.
    UnreadableError
        If it cannot be read.
    """
    picture = dataset.picture(path)
    if content_hash(dataset, path, picture) != expected:
        raise DataError(
            f"{path} has changed since the data were read. Start a new run on the data as they "
            "are now."
        )
    return picture
