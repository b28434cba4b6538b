"""Patients as the unit of chance: whose each image is; bootstrap and jackknife over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

# Jackknife: with more patients than this, blocks of them are left out. The spread of 1,000 values
# is known to 2 %, and time grows with patients times images.
MAX_BLOCKS = 1000

# Weights held at once while resampling: 2 million float64 are 16 MB, which a cache still helps.
_CHUNK_ELEMENTS = 2_000_000

# Weights of images held at once: ranking them takes half a dozen arrays of their size, which at
# 2 MB each stay in a cache. Larger portions take more time and, with many images, 100 MB more.
_WEIGHTS_AT_ONCE = 250_000


@dataclass(frozen=True)
class Clusters:
    """Which patient each image is of.

    Attributes
    ----------
    index : int array of shape (n_samples,)
        Patient of each image, counted from 0.
    n : int
        Number of patients.
    known : bool
        False where no patient is known and every image counts as a patient of its own, or with
        the copies of its file.
    """

    index: Ints
    n: int
    known: bool

    @classmethod
    def of(cls, groups: ArrayLike | None, n_samples: int) -> Clusters:
        """Number the patients.

        Raises
        ------
        DataError
            If the lengths differ or an image has no patient.
        """
        if groups is None:
            return cls(np.arange(n_samples), n_samples, known=False)
        # As objects: a list of names with a NaN would otherwise become one with the name 'nan'.
        names = np.asarray(groups, dtype=object)
        if names.shape != (n_samples,):
            raise DataError(
                f"groups has shape {names.shape} and there are {n_samples} samples: give one "
                "patient for each sample."
            )
        without = [
            i
            for i, name in enumerate(names.tolist())
            if name is None or name in ("", math.inf) or name != name
        ]
        if without:
            raise DataError(
                f"groups names no patient for {len(without)} of {n_samples} samples, the first at "
                f"position {without[0]}: give such a sample a name of its own, or pass groups=None "
                "when no patient is known."
            )
        whole = all(isinstance(name, int) for name in names.tolist())
        index = np.unique(names.astype(np.int64 if whole else str), return_inverse=True)[1]
        return cls(index.astype(np.intp), int(index.max()) + 1 if len(index) else 0, known=True)

    def of_part(self, inside: Bools) -> Clusters:
        """Patients that have images in a part."""
        _, index = np.unique(self.index[inside], return_inverse=True)
        n = int(index.max()) + 1 if len(index) else 0
        return Clusters(index.astype(np.intp), n, self.known)

    def totals(self, values: ArrayLike) -> Floats:
        """Add up the values (n_samples, ...) of each patient to (n_clusters, ...)."""
        array = np.asarray(values, dtype=np.float64)
        sums = np.zeros((self.n, *array.shape[1:]))
        np.add.at(sums, self.index, array)
        return sums


class Weightings:
    """Weights of patients in resamples, (n_resamples, n_clusters), held small.

    They become floats some resamples at a time: all of them, for 100,000 patients, take 1.6 GB.
    """

    def __init__(self, shape: tuple[int, int], rows: Callable[[slice | int], NDArray[Any]]) -> None:
        self.shape = shape
        self._rows = rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | int) -> Floats:
        return self._rows(rows).astype(np.float64)

    def __iter__(self) -> Iterator[Floats]:
        return (self[row] for row in range(len(self)))

    def sum(self, axis: int) -> Floats:
        return np.asarray(self[:].sum(axis=axis))

    def __matmul__(self, values: Floats) -> Floats:
        step = max(1, _CHUNK_ELEMENTS // max(1, self.shape[1]))
        parts = [self[start : start + step] @ values for start in range(0, len(self), step)]
        return np.concatenate(parts)


def mean_error(values: Floats, groups: ArrayLike) -> float:
    """Return the standard error of a mean (n_samples,), with the patient as the unit of chance."""
    totals = Clusters.of(groups, len(values)).totals(values - values.mean())
    n = max(2, len(totals))  # of one patient alone the spread is not known
    return math.sqrt(n / (n - 1) * float((totals**2).sum())) / len(values)


def draw_patients(n_clusters: int, n_resamples: int, seed: int) -> Weightings:
    """Draw patients with replacement.

    Returns
    -------
    Weightings of shape (n_resamples, n_clusters)
        How often each patient was drawn; each row adds up to `n_clusters`.
    """
    rng = np.random.default_rng(seed)
    # To draw one of more than 255 patients 256 times has a probability below 1 in 256!.
    counts = np.empty((n_resamples, n_clusters), dtype=np.uint8)
    for row in counts:  # row by row, so that memory stays small with many patients
        row[:] = np.bincount(rng.integers(n_clusters, size=n_clusters), minlength=n_clusters)
    return Weightings((n_resamples, n_clusters), counts.__getitem__)


def leave_out(n_clusters: int, seed: int) -> Weightings:
    """Leave out each patient in turn, or one of 1,000 random blocks when there are more patients.

    Returns
    -------
    Weightings of shape (n_blocks, n_clusters)
        0 for the patients that are left out, 1 for the others.
    """
    return leave_out_blocks(*blocks(n_clusters, seed))


def leave_out_blocks(block: Ints, n_blocks: int) -> Weightings:
    """Leave out each block of patients in turn; `block` (n_clusters,) holds that of each."""
    number = np.arange(n_blocks)[:, None]
    return Weightings((n_blocks, len(block)), lambda rows: block != number[rows])


def blocks(n_clusters: int, seed: int) -> tuple[Ints, int]:
    """Return the block (n_clusters,) that `leave_out` puts each patient in, and their number."""
    block = np.arange(n_clusters)
    if n_clusters > MAX_BLOCKS:
        block = np.random.default_rng(seed).permutation(n_clusters) % MAX_BLOCKS
    return block, min(n_clusters, MAX_BLOCKS)


def sample_weights(counts: Weightings, clusters: Clusters) -> Iterator[tuple[slice, Floats]]:
    """Turn counts of patients into weights of images, some resamples at a time.

    Yields
    ------
    (rows, weights)
        The resamples, and their weights (n_rows, n_samples).
    """
    step = max(1, _WEIGHTS_AT_ONCE // max(1, len(clusters.index)))
    for start in range(0, len(counts), step):
        rows = slice(start, start + step)
        yield rows, np.take(counts[rows], clusters.index, axis=1)


def kish(sizes: Floats) -> float:
    """Return how many independent images as good as fully alike ones of these clusters count."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def few_of_each(index: ArrayLike, most: ArrayLike) -> Ints:
    """Take of each patient at most so many images, evenly spaced, rather than fewer patients.

    Parameters
    ----------
    index : int array of shape (n_samples,)
        Patient of each image, counted from 0.
    most : int, or int array of shape (n_samples,)
        The same for all images of a patient.

    Returns
    -------
    int array, rising
    """
    patient = np.asarray(index, dtype=np.intp)
    sizes = np.bincount(patient)
    order = np.argsort(patient, kind="stable")
    place = np.empty(len(patient), dtype=np.intp)  # among the images of the patient
    place[order] = np.arange(len(patient)) - (np.cumsum(sizes) - sizes)[patient[order]]
    size, wanted = sizes[patient], np.asarray(most)

    def n_taken(n_passed: Ints) -> Ints:  # rounded, so that one of many is from their middle
        return np.asarray((2 * n_passed * wanted + size) // (2 * size))

    return np.flatnonzero(n_taken(place + 1) > n_taken(place))
