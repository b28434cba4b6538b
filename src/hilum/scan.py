"""Every file read once: its hash and facts, or the reason why it cannot be read.

Done before anything else, so that a bad image is named at the start and not in the last hour.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from hilum.dataset import Dataset
from hilum.errors import UnreadableError
from hilum.progress import Progress
from hilum.readers import Picture

In = TypeVar("In")
Out = TypeVar("Out")

FACTS = ("sha256", "format", "mode", "bits", "height", "width", "grey", "dtype", "low", "high")


def scan(dataset: Dataset, progress: Progress) -> pd.DataFrame:
    """Read every sample.

    Returns
    -------
    DataFrame
        The data set's table with, for each sample, `sha256` (of the file; of the pixels in an
        NPZ), format, mode, bits, height, width, grey, dtype, low and high (least and greatest
        value), `excluded` and `reason`.
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


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Map in order over as many threads as there are cores, a bounded number of items ahead.

    Decoding releases the interpreter's lock, so threads use all cores; the bound keeps the
    results that wait from filling the memory.
    """
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    iterator = iter(items)
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = [pool.submit(function, item) for item in islice(iterator, 4 * (n_threads or 1))]
        while waiting:
            result = waiting.pop(0).result()
            waiting += [pool.submit(function, item) for item in islice(iterator, 1)]
            yield result


def _facts(dataset: Dataset, path: str) -> dict[str, Any]:
    try:
        picture = dataset.picture(path)
        _check_single(picture, path)
    except UnreadableError as error:
        return {"sha256": _hash(dataset, path), "excluded": True, "reason": error.reason}
    _, height, width, _ = picture.pixels.shape
    return {
        "sha256": _hash(dataset, path, picture),
        "format": picture.facts.format,
        "mode": picture.facts.mode,
        "bits": picture.facts.bits,
        "height": height,
        "width": width,
        "grey": picture.is_grey,
        "dtype": picture.pixels.dtype.name,
        "low": float(picture.pixels.min()),
        "high": float(picture.pixels.max()),
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


def _hash(dataset: Dataset, path: str, picture: Picture | None = None) -> str:
    if dataset.kind == "npz":
        return hashlib.sha256(picture.pixels.tobytes()).hexdigest() if picture else ""
    base = dataset.source if dataset.kind == "folder" else dataset.source.parent
    return _file_hash(base / path)


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
