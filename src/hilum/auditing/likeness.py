"""Vectors in which copies of one original lie close together, learnt from the data themselves.

The amplitudes of a windowed spectrum hardly change when an image is shifted. Which combinations of
them survive rotation, flips, brightness and noise as well, and still tell the images of this very
data set apart, is found by linear discriminant analysis on copies made for the purpose (Fisher's
criterion: spread between images against spread between copies). Chest radiographs, which all look
alike, so get other vectors than photographs do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from hilum.auditing.alignment import Motion, moved
from hilum.looks import LOOK_SIDE, averaged
from hilum.progress import Progress
from hilum.threads import in_threads

Floats = NDArray[np.float32]

SIDE = LOOK_SIDE // 2
RADIUS = 10  # spatial frequencies up to this, in cycles an image
N_VALUES = 64
N_FIT = 500
N_COPIES = 6
N_SPREAD = 3000
BLOCK = 1024
MOST_CELLS = 2**22  # of the table of likenesses held at once, however many images there are
LEAST_COSINE = 0.2  # hardly any copy has less; of unrelated images one in twenty has more
N_TO_BOUND = 4096  # images among which it is seen how alike the nearest of all are at least


@dataclass(frozen=True)
class Likeness:
    """How looks become vectors.

    Attributes
    ----------
    mean : array of shape (n_features,)
    projection : array of shape (n_features, n_values)
    """

    mean: Floats
    projection: Floats

    def vectors(self, looks: NDArray[np.uint8], rows: NDArray[np.int64]) -> Floats:
        """Return unit vectors of shape (n_rows, n_values)."""

        def of(block: NDArray[np.int64]) -> Floats:
            return _unit((features(looks[block]) - self.mean) @ self.projection)

        return np.concatenate(list(in_threads(of, _blocks(rows))))


def learn_likeness(
    looks: NDArray[np.uint8], rows: NDArray[np.int64], rng: np.random.Generator
) -> Likeness:
    """Learn from copies made of some of the looks what copies have in common."""
    known = _blocks(np.sort(rng.permutation(rows)[:N_SPREAD]))
    spread = np.concatenate(list(in_threads(lambda block: features(looks[block]), known)))
    mean = spread.mean(axis=0)
    between = np.cov(spread.T)
    originals = looks[np.sort(rng.permutation(rows)[:N_FIT])]
    base = features(originals)
    # One after another, as they are drawn, each described while the next is made.
    copies = (_copies(originals, rng) for _ in range(N_COPIES))
    change = np.concatenate([each - base for each in in_threads(features, copies, most=2)])
    within = change.T @ change / len(change)
    within += np.eye(len(within)) * (0.01 * np.trace(within) / len(within) + 1e-6)
    n = len(within)
    _, found = eigh(between, within, subset_by_index=[n - N_VALUES, n - 1])
    projection = found.astype(np.float32)
    return Likeness(mean, projection)


def neighbours(
    vectors: Floats, owners: NDArray[np.int64], n_nearest: tuple[int, int], progress: Progress
) -> NDArray[np.int64]:
    """Return the pairs (i < j) of which one is among the nearest of the other, in rising order.

    Parameters
    ----------
    owners : array of shape (n,)
        A number for each patient.
    n_nearest : tuple of int
        How many of other patients to take, and how many of the same, which would crowd them out.

    Returns
    -------
    array of shape (n_pairs, 2)
    """
    order = np.argsort(owners, kind="stable")
    names, first = np.unique(owners[order], return_index=True)
    groups = dict(zip(names.tolist(), np.split(order, first[1:]), strict=False))

    def of(start: int) -> list[NDArray[np.int64]]:
        block = vectors[start : start + size]
        return list(_nearest(block @ vectors.T, start, owners, groups, n_nearest))

    with progress.task("Comparing images", len(vectors)) as task:
        found: list[NDArray[np.int64]] = []
        size = max(1, MOST_CELLS // len(vectors)) if len(vectors) else 1
        for pairs in in_threads(of, range(0, len(vectors), size), most=2):
            found += pairs
            task.advance(size)
    if not found:
        return np.empty((0, 2), np.int64)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _nearest(
    cosines: Floats,
    start: int,
    owners: NDArray[np.int64],
    groups: dict[int, NDArray[np.int64]],
    n_nearest: tuple[int, int],
) -> Iterator[NDArray[np.int64]]:
    """Give the pairs of each row of a block; `groups` holds the images of each patient."""
    inside = np.arange(len(cosines))
    cosines[inside, start + inside] = -1
    own = [groups[owner] for owner in owners[start : start + len(cosines)].tolist()]
    n_other, n_own = n_nearest
    least = _bounds(cosines, n_other + max(map(len, own)))
    # Of the raveled table: the same places, fifteen times as fast.
    rows, columns = np.divmod(np.flatnonzero(cosines >= least[:, None]), cosines.shape[1])
    splits = np.searchsorted(rows, inside[1:])
    for row, (alike, group) in enumerate(zip(np.split(columns, splits), own, strict=True)):
        others = alike[owners[alike] != owners[start + row]]
        same = group[cosines[row, group] > LEAST_COSINE]
        for some, n in ((others, n_other), (same, n_own)):
            best = some
            if len(some) > n:
                best = some[np.argpartition(cosines[row, some], -n)[-n:]]
            if len(best):
                yield np.stack([np.full(len(best), start + row), best], axis=1)


def _bounds(cosines: Floats, n: int) -> Floats:
    """Return for each row what its `n` greatest reach, `LEAST_COSINE` or more.

    The `n` greatest of some columns are no greater than those of all. Without this bound one image
    in twenty would have to be looked at, for each image.
    """
    some = cosines[:, :: max(1, cosines.shape[1] // N_TO_BOUND)]
    least = np.full(len(cosines), np.nextafter(np.float32(LEAST_COSINE), np.float32(1)), np.float32)
    if n >= some.shape[1]:
        return least
    return np.maximum(least, np.partition(some, -n, axis=1)[:, -n])


def _blocks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def features(looks: NDArray[np.uint8] | Floats) -> Floats:
    """Describe looks so that neither a shift nor a flip nor brightness and contrast matter."""
    n = len(looks)
    amplitudes = np.abs(np.fft.rfft2(windowed(averaged(looks, 2))))
    power = np.square(amplitudes).mean(axis=(1, 2), keepdims=True)
    logs = np.log(amplitudes / np.sqrt(power + 1e-6) + 0.5).astype(np.float32)
    ahead = np.arange(RADIUS + 1)
    one, mirrored = logs[:, ahead, : RADIUS + 1], logs[:, -ahead % SIDE, : RADIUS + 1]
    # A flip exchanges the two, which changes neither their sum nor their distance.
    return np.concatenate(
        [(one + mirrored).reshape(n, -1), np.abs(one - mirrored).reshape(n, -1)], axis=1
    )


def windowed(small: Floats) -> Floats:
    """Fade images out towards their border, and take the mean of what is left away."""
    edge = np.hanning(small.shape[1] + 2)[1:-1].astype(np.float32)
    window = np.outer(edge, edge)
    mean = (small * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    faded: Floats = (small - mean) * window
    return faded


def _copies(looks: NDArray[np.uint8], rng: np.random.Generator) -> Floats:
    """Make a copy of each, as augmentation does."""
    n = len(looks)
    motion = Motion(
        angle=np.deg2rad(rng.uniform(-10, 10, n)),
        zoom=rng.uniform(-0.1, 0.1, n),
        shift=rng.uniform(-0.1, 0.1, (n, 2)),
        flipped=rng.integers(0, 2, n).astype(bool),
        aspect=np.ones(n),
    )
    copies = moved(np.asarray(looks, np.float32), motion)
    changed = copies * rng.uniform(0.8, 1.2, (n, 1, 1)) + rng.normal(0, 4, copies.shape)
    return np.clip(changed, 0, 255).astype(np.float32)


def _unit(vectors: NDArray[np.floating[Any]]) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
