"""Whether the anatomy in a set of images has a side: flips that would lie, told from the data.

A heart lies on the left, a jaw below. Where images line up well enough for that to show in their
mean, a mirrored image is one that no scanner made. The question is put to the training images: does
their mean, of all or of one class, differ from its own mirror image by more than it would had every
patient been mirrored at random?
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hilum.resampling import few_of_each

Kind = Literal["sided", "symmetric", "undecided"]
Mirror = Literal["horizontal", "vertical", "transpose"]

MIRRORS: tuple[Mirror, ...] = ("horizontal", "vertical", "transpose")

WHAT = {
    "horizontal": "left to right",
    "vertical": "top to bottom",
    "transpose": "rows to columns",
}

PLACES = 16
"""A side, at which looks are compared: what lies where, not its details."""

N_PERMUTATIONS = 999
LEVEL = 0.01

# Share of what the images show that a side must account for. Enough images make the slightest
# shading significant. Measured on training images: children's chests .033 and adults' .0055 from
# left to right, heads .010 from top to bottom; cells at most .0005, heads from left to right .0002.
LEAST_SHARE = 0.002

# Below this share the mean image says next to nothing of the images: they lie as they fell.
LEAST_ALIGNED = 0.05

# Of fewer patients no random mirroring is rare enough to tell; the same for those of a class.
LEAST_PATIENTS = 10

# Images that are looked at, so that the time is bounded; of patients with many only some, for what
# tells is the number of patients.
MOST_IMAGES = 5000


@dataclass(frozen=True)
class Side:
    """Whether images can be told from their mirror images by where things lie.

    Attributes
    ----------
    kind : str
        'sided', 'symmetric', or 'undecided' where the images are too few to tell.
    p : float or None
        Of the permutation test; None where it was not made.
    share : float or None
        What the side accounts for, of all that the images show; of the class where that is
        clearest. An unbiased estimate, which may fall below 0.
    reason : str
        One sentence.
    """

    kind: Kind
    p: float | None
    share: float | None
    reason: str


def find_sides(
    looks: NDArray[np.uint8],
    rows: NDArray[np.intp],
    groups: Sequence[str],
    classes: Sequence[Sequence[str]],
    *,
    seed: int = 0,
) -> dict[Mirror, Side]:
    """Test for each mirror whether the images have a side that it would exchange.

    The statistic is the squared distance between the mean image and its mirrored self, over what
    random mirroring of patients gives on average; the greatest of all images together and of each
    class, held against the greatest under each of the same random mirrorings, so that many classes
    do not make a side by chance.

    Parameters
    ----------
    looks : uint8 array of shape (n_looks, side, side)
    rows : int array of shape (n,)
        Which looks are of training images; no others are read.
    groups : sequence of str
        Patient of each of them; the images of one patient are mirrored together.
    classes : sequence of sequences of str
        Classes of each image, one or several.

    Returns
    -------
    dict
        By mirror.
    """
    rng = np.random.default_rng(seed)
    codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    some = _some_images(codes, rng)
    codes = np.unique(codes[some], return_inverse=True)[1]
    seen = compact(looks[rows[some]])
    members = _members([classes[place] for place in some], codes)
    n_patients = int(codes.max()) + 1 if len(some) else 0
    signs = rng.choice(np.array([-1, 1], np.float32), (N_PERMUTATIONS, n_patients))
    shown = float((seen**2).sum()) / max(1, len(seen))
    aligned = 0.0
    if n_patients >= LEAST_PATIENTS and shown > 0:
        aligned = _Sum(seen, codes, slice(None)).share(shown)
    found: dict[Mirror, Side] = {}
    for mirror in MIRRORS:
        if n_patients < LEAST_PATIENTS or shown == 0:
            found[mirror] = _too_few(mirror, n_patients)
            continue
        odd = (seen - mirrored(seen, mirror)) / np.float32(2)
        sums = [_Sum(odd, codes, rows_of) for rows_of in members]
        found[mirror] = _decide(mirror, sums, signs, shown, aligned)
    return found


def compact(looks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return looks at `PLACES` × `PLACES` places, each with mean 0 and variance 1.

    Brightness and contrast say nothing of a side. A look without contrast becomes zeros.
    """
    n, side, _ = looks.shape
    step = side // PLACES
    blocks: NDArray[np.float32] = looks.reshape(n, PLACES, step, PLACES, step).mean(
        axis=(2, 4), dtype=np.float32
    )
    blocks -= blocks.mean(axis=(1, 2), keepdims=True)
    spread = blocks.std(axis=(1, 2), keepdims=True)
    blocks /= np.maximum(spread, 1)
    blocks[spread[:, 0, 0] < 1] = 0
    return blocks


def mirrored(looks: NDArray[np.float32], mirror: Mirror) -> NDArray[np.float32]:
    """Mirror looks of shape (n, side, side)."""
    match mirror:
        case "horizontal":
            return looks[:, :, ::-1]
        case "vertical":
            return looks[:, ::-1]
        case "transpose":
            return looks.transpose(0, 2, 1)


def _some_images(codes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Choose `MOST_IMAGES` at most: of each patient as many as that allows, or one of some."""
    counts = np.bincount(codes, minlength=1)
    if len(counts) > MOST_IMAGES:
        chosen = rng.permutation(len(counts))[:MOST_IMAGES]
        return few_of_each(codes, np.isin(codes, chosen).astype(np.intp))
    most = bisect_right(
        range(1, counts.max() + 1),
        MOST_IMAGES,
        key=lambda of_each: int(np.minimum(counts, of_each).sum()),
    )
    return few_of_each(codes, most)


def _members(
    classes: Sequence[Sequence[str]], codes: NDArray[np.intp]
) -> list[slice | NDArray[np.intp]]:
    """Return what is tested: all images, and the rows of each class with patients enough."""
    rows_of: dict[str, list[int]] = {}
    for row, names in enumerate(classes):
        for name in names:
            rows_of.setdefault(name, []).append(row)
    found: list[slice | NDArray[np.intp]] = [slice(None)]
    for _, rows in sorted(rows_of.items()):
        if len(rows) < len(classes) and len(np.unique(codes[rows])) >= LEAST_PATIENTS:
            found.append(np.array(rows))
    return found


class _Sum:
    """Images of some rows summed by patient, as the permutations need them."""

    def __init__(
        self, images: NDArray[np.float32], codes: NDArray[np.intp], rows: slice | NDArray[np.intp]
    ) -> None:
        flat = images[rows].reshape(-1, PLACES * PLACES)
        self.patients, places = np.unique(codes[rows], return_inverse=True)
        self.n = len(flat)
        self.by_patient = np.zeros((len(self.patients), flat.shape[1]), np.float32)
        np.add.at(self.by_patient, places, flat)
        # What random signs give on average, since they cancel all products between patients.
        self.expected = float((self.by_patient.astype(np.float64) ** 2).sum())
        self.observed = float((self.by_patient.sum(axis=0, dtype=np.float64) ** 2).sum())

    def ratio(self, squares: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(squares) / max(self.expected, 1e-12)

    def permuted(self, signs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the squared sum under each row of signs."""
        sums = signs[:, self.patients] @ self.by_patient
        squares: NDArray[np.float64] = (sums.astype(np.float64) ** 2).sum(axis=1)
        return squares

    def share(self, shown: float, squares: float | None = None) -> float:
        """Return what the mean accounts for, of all that an image shows, without chance's part."""
        observed = self.observed if squares is None else squares
        return (observed - self.expected) / self.n**2 / shown


def _decide(
    mirror: Mirror, sums: list[_Sum], signs: NDArray[np.float32], shown: float, aligned: float
) -> Side:
    permuted = [part.permuted(signs) for part in sums]
    ratios = [float(part.ratio(part.observed)) for part in sums]
    highest = np.max([part.ratio(each) for part, each in zip(sums, permuted, strict=True)], axis=0)
    p = float((1 + (highest >= max(ratios)).sum()) / (1 + N_PERMUTATIONS))
    share = sums[int(np.argmax(ratios))].share(shown)
    # The smallest side of all images together that this test would have found.
    visible = sums[0].share(shown, float(np.quantile(permuted[0], 1 - LEVEL)))
    way = WHAT[mirror]
    if p < LEVEL and share >= LEAST_SHARE:
        return Side(
            "sided",
            p,
            share,
            f"The training images differ from themselves mirrored {way} (p = {p:.3f}; the side is "
            f"{share:.1%} of what they show).",
        )
    if p < LEVEL and visible <= LEAST_SHARE:
        why = (
            f"Mirrored {way}, the training images differ by {share:.2%} of what they show: too "
            "little to matter."
        )
        return Side("symmetric", p, share, why)
    if visible <= LEAST_SHARE:
        why = (
            f"The training images have no side {way} (p = {p:.2f}; one of {visible:.2%} of what "
            "they show would have been seen)."
        )
        return Side("symmetric", p, share, why)
    if aligned < LEAST_ALIGNED:
        return Side(
            "symmetric",
            p,
            share,
            f"The training images do not line up: what they show lies anywhere, mirrored {way} or "
            "not.",
        )
    return Side(
        "undecided",
        p,
        share,
        f"The training images line up, and are too few to tell whether they have a side {way}.",
    )


def _too_few(mirror: Mirror, n_patients: int) -> Side:
    return Side(
        "undecided",
        None,
        None,
        f"{n_patients} training patients with anything to see are too few to tell whether the "
        f"images have a side {WHAT[mirror]}.",
    )
