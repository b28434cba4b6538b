"""Copies of one original that are no longer the same file.

Resized, recompressed, flipped, slightly turned or shifted, brighter or noisier copies. Three steps:
vectors in which copies lie close (`likeness`) give each image a few candidates; each pair is laid
over one another (`alignment`); and a pair counts when its fine detail agrees, over most of the
picture, far better than that of the images of this data set which are merely alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.alignment import (
    Floats,
    Laying,
    Motion,
    agreement,
    detail,
    joined,
    lay_roughly,
    spectral_weights,
)
from hilum.auditing.findings import N_EXAMPLES, Finding, Found, Severity, number_of
from hilum.auditing.likeness import learn_likeness, neighbours
from hilum.looks import averaged
from hilum.patients import patient_of_each
from hilum.progress import Progress
from hilum.splits import join_groups
from hilum.threads import in_threads

LEAST_IMAGES = 3
N_NEAREST = (5, 2)  # of other patients, of the same
N_USUAL = 300  # pairs by which it is learnt how well images agree that are merely alike
USUAL_RANKS = (20, 60)
N_SPECTRA = 500
PAIRS_AT_ONCE = 256  # of fewer, threads wait for Python's lock as long as they work
SMALL_STEPS, EARLY_STEPS, STEPS = 6, 4, 12
SMALL_BAND, BAND, FINE_BAND = (0.5, 2.5), (0.7, 4.0), (0.5, 2.0)  # standard deviations in pixels

ROUGH_LEAST = 0.6
QUICK_LEAST = 0.5
# After the first steps at full size; pairs that end above 0.75 had 0.29 at least by then, measured
# on phantoms, and of those that are merely alike three in four have less. On four further sets, of
# two seeds not looked at before, what was found with and without it was the same to the last pair.
EARLY_LEAST = 0.25
AGREEMENT_RANGE = (0.75, 0.97)
SAME_PATIENT_LEAST = 0.98  # two images of one person may agree well and be no copies
DEVIATIONS = 4.25
LEAST_USUAL = 30  # pairs; with fewer it is not learnt what is usual
CAUTIOUS_LEAST = 0.9
LEFT_OUT = 0.25  # share of the tiles that need not agree


def find_near_duplicates(
    samples: pd.DataFrame, looks: NDArray[np.uint8], *, progress: Progress
) -> Found:
    """Find images made from one original by software, in clusters.

    Parameters
    ----------
    samples : DataFrame
        Readable rows, as `scan` returns them.
    looks : uint8 array of shape (n_samples, side, side)

    Returns
    -------
    Found
        No finding or one, of kind 'near_duplicates'; its paths are the clusters, the gravest
        first. A cluster holds at least two files that differ; identical files alone are no near
        duplicates.
    """
    first = ~samples.duplicated("sha256").to_numpy(bool)
    rows = np.flatnonzero(first)
    if len(rows) < LEAST_IMAGES:
        return Found(not_looked_for={"near_duplicates": f"fewer than {LEAST_IMAGES} files differ"})
    aspects = (samples["width"] / samples["height"]).to_numpy(np.float64)
    owners = pd.factorize(patient_of_each(samples))[0].astype(np.int64)
    pairs = _find_pairs(looks, rows, owners, aspects, progress)
    if not len(pairs.agreement):
        return Found()
    return Found((_finding(samples, pairs),))


@dataclass(frozen=True)
class Pairs:
    """Pairs of copies, by their rows.

    Attributes
    ----------
    rows : int array of shape (n, 2)
    agreement : array of shape (n,)
    least : float
        Agreement that was asked for.
    motion : Motion
        How the first was moved to lie on the second.
    """

    rows: NDArray[np.int64]
    agreement: Floats
    least: float
    motion: Motion


# -- pairs --------------------------------------------------------------------------------------


def _find_pairs(
    looks: NDArray[np.uint8],
    rows: NDArray[np.int64],
    owners: NDArray[np.int64],
    aspects: NDArray[np.float64],
    progress: Progress,
) -> Pairs:
    # A stream of its own: the same data give the same findings.
    rng = np.random.default_rng(0)
    likeness = learn_likeness(looks, rows, rng)
    vectors = likeness.vectors(looks, rows)
    candidates = rows[neighbours(vectors, owners[rows], N_NEAREST, progress)]
    weights = spectral_weights(looks[np.sort(rng.permutation(rows)[:N_SPECTRA])])
    comparer = Comparer(looks, aspects, weights)
    usual = rows[_alike(vectors, rng)]
    with progress.task("Confirming copies", len(candidates) + len(usual)) as task:
        ordinary = []
        for agreed, _ in in_threads(comparer.compare_fully, _batches(usual)):
            ordinary.append(agreed)
            task.advance(len(agreed))
        least = least_agreement(np.concatenate(ordinary))
        found, motions = [], []
        batches = _batches(candidates)
        for batch, (agreed, motion) in zip(
            batches, in_threads(comparer.compare, batches), strict=True
        ):
            same = owners[batch[:, 0]] == owners[batch[:, 1]]
            good = agreed >= np.where(same, SAME_PATIENT_LEAST, least)
            found.append((batch[good], agreed[good]))
            motions.append(motion.take(good))
            task.advance(len(batch))
    pairs, agreements = (np.concatenate(each) for each in zip(*found, strict=True))
    return Pairs(pairs, agreements, least, joined(motions))


def _batches(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut pairs into portions, one at least."""
    return [pairs[:PAIRS_AT_ONCE]] + [
        pairs[start : start + PAIRS_AT_ONCE]
        for start in range(PAIRS_AT_ONCE, len(pairs), PAIRS_AT_ONCE)
    ]


def _alike(vectors: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw pairs that are alike, but have many that are more so, and thus are no copies."""
    n = len(vectors)
    low, high = (min(rank, n // part) for rank, part in zip(USUAL_RANKS, (10, 4), strict=True))
    some = np.sort(rng.permutation(n)[:N_USUAL])
    # Copied, lest the places of all images be kept for each of them.
    nearest = [np.argsort(-cosines)[: high + 1].copy() for cosines in vectors[some] @ vectors.T]
    ranked = np.stack(nearest)
    rank = rng.integers(low, high + 1, len(some))
    return np.sort(np.stack([some, ranked[np.arange(len(some)), rank]], axis=1), axis=1)


def least_agreement(usual: Floats) -> float:
    """Say from which agreement on a pair is held for copies.

    Parameters
    ----------
    usual : array of shape (n,)
        Agreement of pairs that are alike and no copies.

    Returns
    -------
    float
        `DEVIATIONS` standard deviations above what is usual (on Fisher's z scale, in which
        correlations spread evenly; from the upper half of them), within `AGREEMENT_RANGE`.
    """
    low, high = AGREEMENT_RANGE
    judged = usual[usual > -1]
    if len(judged) < LEAST_USUAL:
        return CAUTIOUS_LEAST
    middle, upper = np.arctanh(np.clip(np.quantile(judged, (0.5, 0.9)), -0.99, 0.99))
    deviation = (upper - middle) / 1.2816  # the 90th percentile of a normal distribution
    return float(np.clip(math.tanh(middle + DEVIATIONS * deviation), low, high))


@dataclass(frozen=True)
class Comparer:
    """Says how well images agree once laid over one another.

    Attributes
    ----------
    looks : uint8 array of shape (n_samples, side, side)
    aspects : array of shape (n_samples,)
        Width / height.
    weights : array
        As `spectral_weights` gives them.
    """

    looks: NDArray[np.uint8]
    aspects: NDArray[np.float64]
    weights: Floats

    def compare(self, pairs: NDArray[np.int64]) -> tuple[Floats, Motion]:
        """Compare pairs of rows, giving up on those that disagree early on (-1)."""
        return self._compare(pairs, ROUGH_LEAST, QUICK_LEAST, EARLY_LEAST)

    def compare_fully(self, pairs: NDArray[np.int64]) -> tuple[Floats, Motion]:
        return self._compare(pairs, -1, -1, -1)

    def _compare(
        self,
        pairs: NDArray[np.int64],
        rough_least: float,
        quick_least: float,
        early_least: float,
    ) -> tuple[Floats, Motion]:
        agreed = np.full(len(pairs), -1, np.float32)
        firsts, owner = np.unique(pairs[:, 0], return_inverse=True)
        seconds = averaged(self.looks[pairs[:, 1]], 2)
        images = averaged(self.looks[firsts], 2)
        motion, height = lay_roughly(images, owner, seconds, self.aspects[firsts], self.weights)
        left = np.flatnonzero(height >= rough_least)
        one, other = detail(images[owner[left]], *SMALL_BAND), detail(seconds[left], *SMALL_BAND)
        motion = motion.put(left, Laying(one, other, motion.take(left)).go_on(SMALL_STEPS))
        quick = agreement(one, other, motion.take(left), LEFT_OUT)
        left = left[quick >= quick_least]
        first, second = (self.looks[pairs[left, side]].astype(np.float32) for side in (0, 1))
        laying = Laying(detail(first, *BAND), detail(second, *BAND), motion.take(left))
        one, other = detail(first, *FINE_BAND), detail(second, *FINE_BAND)
        early = agreement(one, other, laying.go_on(EARLY_STEPS), LEFT_OUT)
        near = early >= early_least
        left = left[near]
        motion = motion.put(left, laying.take(near).go_on(STEPS - EARLY_STEPS))
        agreed[left] = agreement(one[near], other[near], motion.take(left), LEFT_OUT)
        return agreed, motion


# -- clusters -----------------------------------------------------------------------------------


def _finding(samples: pd.DataFrame, pairs: Pairs) -> Finding:
    clusters = _clusters(samples, pairs)
    n_images = sum(len(cluster.rows) for cluster in clusters)
    counts = {
        what: sum(getattr(cluster, what) for cluster in clusters)
        for what in ("across_splits", "across_classes", "across_patients")
    }
    return Finding(
        "near_duplicates",
        _severity(counts),
        len(clusters),
        _message(len(clusters), n_images, counts),
        tuple(cluster.example for cluster in clusters[:N_EXAMPLES]),
        tuple(cluster.paths for cluster in clusters),
        {
            "n_clusters": len(clusters),
            "n_images": n_images,
            **{f"n_{what}": count for what, count in counts.items()},
            "least_agreement": round(pairs.least, 3),
            "clusters": [cluster.to_dict() for cluster in clusters],
        },
    )


@dataclass(frozen=True)
class Cluster:
    """Files made from one original, and what they cross."""

    rows: tuple[int, ...]
    paths: tuple[str, ...]
    agreement: float
    across_splits: bool
    across_classes: bool
    across_patients: bool
    example: str

    def to_dict(self) -> dict[str, object]:
        return {
            "n": len(self.rows),
            "agreement": round(self.agreement, 3),
            "across_splits": self.across_splits,
            "across_classes": self.across_classes,
            "across_patients": self.across_patients,
        }


def _clusters(samples: pd.DataFrame, pairs: Pairs) -> list[Cluster]:
    """Join pairs that share a file, the gravest clusters first."""
    hashes = samples["sha256"].to_numpy(str)
    ends = hashes[pairs.rows]
    keys = np.unique(ends)
    # Each pair is a twin of both its ends; what is joined bears one name.
    names = join_groups(
        [*keys, *ends[:, 0], *ends[:, 1]],
        [*keys, *(f"pair {n}" for n in (*range(len(ends)), *range(len(ends))))],
    )
    cluster_of = dict(zip(keys, names[: len(keys)], strict=True))
    members: dict[str, list[int]] = {}
    for row, digest in enumerate(hashes):
        if digest in cluster_of:
            members.setdefault(cluster_of[digest], []).append(row)
    own: dict[str, list[int]] = {}
    for place, digest in enumerate(ends[:, 0]):
        own.setdefault(cluster_of[digest], []).append(place)
    clusters = [_cluster(samples, rows, pairs, own[name]) for name, rows in members.items()]
    return sorted(
        clusters,
        key=lambda c: (-c.across_splits, -c.across_classes, -c.across_patients, -c.agreement),
    )


def _cluster(samples: pd.DataFrame, rows: list[int], pairs: Pairs, own: list[int]) -> Cluster:
    found = samples.iloc[rows]
    splits, patients = set(found["given_split"]) - {""}, list(found["patient"])
    best = max(own, key=lambda place: pairs.agreement[place])
    first, second = (str(samples["path"].iloc[row]) for row in pairs.rows[best])
    return Cluster(
        rows=tuple(rows),
        paths=tuple(found["path"]),
        agreement=float(min(pairs.agreement[own])),
        across_splits=len(splits) > 1,
        across_classes=found["label"].nunique() > 1,
        # Without a name, every image is a patient of its own.
        across_patients=len(set(patients) - {""}) + patients.count("") > 1,
        example=f"{first} ~ {second} ({pairs.motion.words(best)})"
        + (f" and {len(rows) - 2} more" if len(rows) > 2 else ""),
    )


def _severity(counts: dict[str, int]) -> Severity:
    if counts["across_splits"] or counts["across_classes"]:
        return "high"
    return "medium" if counts["across_patients"] else "low"


def _message(n_clusters: int, n_images: int, counts: dict[str, int]) -> str:
    message = (
        f"{number_of(n_clusters, 'cluster')} of images made from one original ({n_images:,} images "
        "in all): resized, recompressed, flipped, turned, shifted or changed in brightness. They "
        "weigh more than other images in training and in figures."
    )
    if counts["across_splits"]:
        message += (
            f" {_these(counts['across_splits'])} across splits that came with the data: where "
            "these are kept, what is tested was learnt. Draw a new split with --new-split, which "
            "keeps copies together."
        )
    if counts["across_classes"]:
        message += (
            f" {_these(counts['across_classes'])} across classes: if they are copies, at "
            "least one label is wrong. Look at them; correct or remove what is wrong."
        )
    if counts["across_patients"]:
        message += (
            f" {_these(counts['across_patients'])} across what counts as patients; a split drawn "
            "here takes them for one patient. Look at them: if they are not copies, say so with a "
            "table that names patients."
        )
    else:
        message += " All are within one patient, as repeated or processed images of a patient are."
    return message


def _these(n: int) -> str:
    return f"{number_of(n, 'cluster')} {'lies' if n == 1 else 'lie'}"
